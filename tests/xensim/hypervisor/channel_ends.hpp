// The two ends of a channel as programs have them: a client of the socket on the host, and a
// program that has the tty open in the guest. Both without blocking.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/xensim/hypervisor/simulator.hpp"
#include "transport/base/unique_fd.hpp"

namespace xensim_test {

class ChannelEnd {
 public:
  /// Takes what is there now.
  std::string read_now();
  /// Reads exactly so many bytes, or fewer if no more come.
  std::string read(std::size_t bytes);
  /// Writes what there is room for and returns how much that was.
  std::size_t write_now(std::string_view bytes);
  /// Writes everything.
  void write(std::string_view bytes);
  /// End of file or an error: nothing will come any more.
  bool has_ended();

  int fd() const { return fd_.get(); }
  void close() { fd_.reset(); }

 protected:
  explicit ChannelEnd(int fd) : fd_(fd) {}

 private:
  xenlane::transport::UniqueFd fd_;
};

/// Connects to the socket of the channel.
class HostEnd : public ChannelEnd {
 public:
  HostEnd(const Simulator& sim, const std::string& guest, const std::string& channel);
  bool is_connected() const { return is_connected_; }

 private:
  bool is_connected_ = false;
};

/// Opens hvcK of the domain; as it comes, cooked.
class GuestEnd : public ChannelEnd {
 public:
  GuestEnd(const Simulator& sim, std::uint32_t domid, int hvc);
  void make_raw() const;
  bool echoes() const;
};

/// How `xensim list --json` shows a channel of domain 1, the first one or another.
struct Listed {
  std::string name;
  std::string device;
  std::string path;
  bool client = false;
  bool guest_open = false;
  std::uint64_t bytes_to_guest = 0;
  std::uint64_t bytes_to_host = 0;
  std::uint64_t backlog = 0;
  std::uint64_t dropped = 0;
};
Listed listed_channel(const Simulator& sim, std::size_t index = 0);

}  // namespace xensim_test
