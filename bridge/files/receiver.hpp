// The receiving half of a transfer: decides for each entry where it goes, whether it is wanted, and
// whether what arrived is what was sent. Trusts nothing that the sender says.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "bridge/files/incoming.hpp"
#include "bridge/files/names.hpp"
#include "bridge/files/report.hpp"
#include "bridge/files/source.hpp"
#include "bridge/files/tree.hpp"
#include "bridge/files/wire.hpp"

namespace xenlane::bridge::files {

/// Hard links that wait for the end, and files that such links may be made to; about 200 bytes
/// each.
inline constexpr std::size_t links_max = 262'144;

/// What may still come; each entry that is let in takes from it.
struct Quota {
  std::uint64_t bytes = UINT64_MAX;
  std::uint64_t entries = UINT64_MAX;
  std::size_t depth = depth_max;

  /// What is in the deepest folder is still counted by usage_of().
  static constexpr std::size_t depth_max = source_depth_max - 1;
};

struct ReceiveRules {
  NameRule names = NameRule::printable;
  DigestKind digest = DigestKind::xxh3;
  bool checksum = false;
  bool dry_run = false;
  bool verify = false;
  bool xattrs = false;
  bool owner = false;
  bool to_stdout = false;  ///< one file, and nothing else
  Quota quota;
  /// The name that the one entry without a folder gets, whatever the sender calls it.
  std::optional<std::string> only_name;
  /// Else the names that such entries may have; none: any.
  std::optional<std::set<std::string>> top_names;
};

/// What a request says of it; the rest is the receiver's own.
ReceiveRules receive_rules(const Request& request);

class Receiver {
 public:
  Receiver(WireReader& in, WireWriter& out, Tree tree, ReceiveRules rules, Report& report);

  /// Until the sender has sent everything and knows how it went. WireBroken if it does not get so
  /// far; then what is whole is in place, and of a large file what came is kept.
  void run();

 private:
  /// A file that was asked for.
  struct Wanted {
    std::uint32_t parent = 0;
    std::string name;
    Attributes attributes;
    std::uint64_t size = 0;
    bool size_known = true;
    bool has_links = false;
    bool basis_is_final = false;  ///< the basis is the file under its own name
    std::optional<Basis> basis;
  };
  struct Place {
    std::uint32_t parent = 0;
    std::string name;
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
  };
  struct LateLink {
    std::uint32_t id = 0;
    std::uint32_t link_to = 0;
    Place place;
  };
  /// The file whose content is coming.
  struct Current {
    std::uint32_t id = 0;
    Wanted wanted;
    std::optional<Hasher> hasher;
    std::optional<Incoming> file;  ///< none: what comes is thrown away
    std::uint64_t bytes = 0;
  };

  void handle(const Header& header);
  // receiver.cpp: content
  void begin_file(const FileBegin& begin);
  void take_data();
  void take_hole(std::uint64_t length);
  bool charge(std::uint64_t length);
  void end_file(const Digest& digest);
  void place(Current& current);
  void fail_current(Trouble trouble, int error, const std::string& text = {});
  void give_up(const FileFailed& failed);
  void finish();
  // receiver_entries.cpp: what is announced
  void take_entry(Entry entry);
  std::string fault_of(const Entry& entry) const;
  bool has_room(const Entry& entry);
  void take_folder(const Entry& entry);
  void take_symlink(const Entry& entry);
  void take_hard_link(const Entry& entry);
  void take_file(const Entry& entry);
  bool is_there(const Entry& entry, int folder);
  void want(const Entry& entry, Wanted wanted, int folder);
  void make_link(const LateLink& link);
  int link_to(const Place& from, const Place& to);
  int symlink_at(int folder, const Entry& entry, bool& is_same);

  void done(std::uint32_t id, const std::string& path);
  void same(std::uint32_t id);
  void fail(std::uint32_t id, Trouble trouble, int error, const std::string& text = {});
  void remember(std::uint32_t id, const Wanted& wanted, std::uint64_t device, std::uint64_t inode);

  WireReader& in_;
  WireWriter& out_;
  Tree tree_;
  ReceiveRules rules_;
  Report& report_;
  Counts counts_;
  Result result_;
  bool over_ = false;
  std::uint32_t last_id_ = 0;
  std::size_t at_the_top_ = 0;
  std::unordered_map<std::uint32_t, Wanted> wanted_;
  std::optional<Current> current_;
  std::unordered_map<std::uint32_t, Place> places_;  ///< of files that links may be made to
  std::vector<LateLink> late_links_;
};

/// The trouble that an error while writing is.
Trouble trouble_of(int error);

}  // namespace xenlane::bridge::files
