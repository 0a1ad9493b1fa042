// Where the hostile peers of the file service appear: a folder with things outside that nobody may
// touch, a base that files may be put into, a source that may be read; and the real programs, each
// as a process with its connection in the test's hands.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/bridge/files/hostile/ways.hpp"
#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge::files::hostile {

/// What can be seen of each thing below a folder, by path: type, mode, owner, size, links, time,
/// content, attributes' names.
std::map<std::string, std::string> look_at(const std::string& folder);

struct Ended {
  int exit_code = -1;  ///< 128 + signal when it was killed; -1 when it did not end by itself
  std::string err;
  long peak_kib = 0;  ///< most memory that it had (ru_maxrss)
};

/// A program that is running. It is killed with the object.
class Victim {
 public:
  Victim(std::vector<std::string> words, std::vector<std::string> environment, int in);
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim();

  /// Waits for its end, as long as patience() lasts.
  Ended wait();

 private:
  TempDir logs_;
  pid_t pid_ = -1;
};

class Scene {
 public:
  /// `with_source`: there is something to be read.
  explicit Scene(bool with_source = true);

  /// Where the programs may put something: of the service, the guest's own folder.
  std::string base() const { return dir_ / "top/incoming/evil"; }
  std::string top() const { return dir_ / "top"; }
  std::string source() const { return dir_ / "source"; }
  std::string outside() const { return dir_ / "outside"; }

  /// `xenlane serve-files`, as the host starts it for the guest "evil".
  std::unique_ptr<Victim> start_service(const std::vector<std::string>& options,
                                        transport::UniqueFd& connection);
  /// `xenlane cp` in a guest, whose host is the hostile one.
  std::unique_ptr<Victim> start_client(const std::vector<std::string>& arguments,
                                       transport::UniqueFd& connection);

  /// Nothing but the base has changed, and what is in it is a file with one of these contents, a
  /// folder, or a link that stays inside. `is_over`: nor is there anything that is not whole.
  void check(const std::set<std::string>& contents, bool is_over) const;

 private:
  void check_base(const std::set<std::string>& contents, bool is_over) const;

  TempDir dir_;
  TempDir run_;
  std::map<std::string, std::string> before_;
};

/// Greets as a client or a service does, up to where the transfer begins.
void greet_as_client(Talk& talk, const Request& request);
void greet_as_service(Talk& talk, const Ready& ready);

}  // namespace xenlane::bridge::files::hostile
