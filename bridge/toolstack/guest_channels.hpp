// The PV channels of one guest as the tool stacks describe them: a name, and the path of the Unix
// socket that QEMU offers for it on the host. xl's and libvirt's files are read into this and
// written from it, and so is the host's configuration.
#pragma once

#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/channel/name.hpp"
#include "bridge/toolstack/findings.hpp"

namespace xenlane::bridge {

/// Most PV channels of one guest.
inline constexpr std::size_t guest_channels_max = 256;
/// Longest domain name; the longest glob that the host's configuration takes.
inline constexpr std::size_t domain_name_bytes_max = 128;

/// Valid UTF-8 without control characters: what may stand in a TOML text, an XML attribute and on
/// a terminal.
bool is_plain_text(std::string_view untrusted);

/// A domain's name that means one guest in our configuration, where it is a glob. Checked.
class DomainName {
 public:
  /// Plain text of 1 to domain_name_bytes_max bytes without '/', '*' and '?', which neither begins
  /// nor ends with a blank.
  static boost::system::result<DomainName, ParseError> parse(std::string_view untrusted);

  const std::string& text() const { return text_; }

  friend bool operator==(const DomainName&, const DomainName&) = default;

 private:
  explicit DomainName(std::string_view checked) : text_(checked) {}

  std::string text_;
};

/// The path of a Unix socket on the host. Checked.
class SocketPath {
 public:
  /// Plain text, absolute, no folder, at most unix_path_bytes_max bytes (target.hpp), and without
  /// "{guest}", which our configuration replaces by the guest's name.
  static boost::system::result<SocketPath, ParseError> parse(std::string_view untrusted);

  const std::string& text() const { return text_; }

  friend bool operator==(const SocketPath&, const SocketPath&) = default;

 private:
  explicit SocketPath(std::string_view checked) : text_(checked) {}

  std::string text_;
};

struct PvChannel {
  ChannelName name;
  SocketPath path;
  std::uint32_t line = 0;  ///< of the file that it comes from, 0: none

  /// The line is no part of what a channel is.
  friend bool operator==(const PvChannel& a, const PvChannel& b) {
    return a.name == b.name && a.path == b.path;
  }
};

struct GuestChannels {
  DomainName guest;
  std::vector<PvChannel> channels;  ///< in the order of the file, no name and no path twice

  friend bool operator==(const GuestChannels&, const GuestChannels&) = default;
};

/// A file as read. With any error there are no channels.
struct ChannelsRead {
  std::optional<GuestChannels> guest;
  Findings findings;
};

/// What a reader gathers. Everything is checked on its way in, and what is wrong becomes an error.
class ChannelsDraft {
 public:
  explicit ChannelsDraft(Findings& findings) : findings_(findings) {}

  void set_guest(Place where, std::string_view untrusted_name);

  /// A value and where it stands.
  struct Text {
    Place where;
    std::string_view untrusted;
  };
  void add(Text name, Text path);

  /// Nothing if there has been an error, or no guest.
  std::optional<GuestChannels> finish();

 private:
  Findings& findings_;
  std::optional<DomainName> guest_;
  std::vector<PvChannel> channels_;
  bool is_full_ = false;
};

}  // namespace xenlane::bridge
