// The daemons' configuration: what is in the files, checked, with every fault found in one pass.
// A faulty channel only disables that channel; a fault elsewhere in a file is the daemon's, which
// must not start then. Nothing here opens a socket; docs/configuration.md is the users' page.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/channel/connect_request.hpp"
#include "bridge/channel/name.hpp"
#include "bridge/channel/run_as.hpp"
#include "bridge/channel/target.hpp"
#include "bridge/forward/rule.hpp"
#include "bridge/forward/spec.hpp"
#include "bridge/session/lane_policy.hpp"
#include "bridge/wire/frame.hpp"
#include "bridge/wire/limits.hpp"

namespace xenlane::bridge {

/// Which daemon's files are read.
enum class Side { host, guest };

/// A place in a configuration file; line 0 is the whole file.
struct SourceLocation {
  std::string file;
  std::uint32_t line = 0;

  friend bool operator==(const SourceLocation&, const SourceLocation&) = default;
};

enum class EndKind {
  listen,  ///< this side listens on the named socket, the other side dials
  dial,    ///< connections made on the other side are dialled here, to `target`
  port,    ///< both sides listen; the n-th connections of the two sides are paired
  raw      ///< listens; its one connection at a time has the bytes of a PV channel, unframed
};

/// What a channel's connections want of the lane.
enum class LanePreference {
  any,     ///< what the policy chooses; its bytes count
  vchan,   ///< an open connection is reason enough for a vchan
  console  ///< its bytes are no reason for a vchan, however many
};

/// What a lone port's end may have said, unless it is configured.
inline constexpr std::uint64_t port_bytes_default = 64 * 1024;
/// Users, and groups, that one channel names.
inline constexpr std::size_t channel_users_max = 256;
/// Processes of one exec channel at a time, unless it is configured.
inline constexpr std::uint32_t exec_max_default = 64;

struct ChannelConfig {
  ChannelName name;
  EndKind end = EndKind::listen;
  std::optional<Target> target = {};  ///< set for dial, unless `error` is set
  std::string guest = "*";            ///< glob of guest names; only used on the host
  mode_t socket_mode = 0600;
  std::string owner = {};  ///< as written: a user's name or number; empty: the daemon's
  std::string group = {};
  uid_t uid = static_cast<uid_t>(-1);  ///< `owner` resolved; -1: leave as it is
  gid_t gid = static_cast<gid_t>(-1);
  LanePreference lane = LanePreference::any;
  /// The PV channel of a raw end, or of one that does without a bridge at the other side. Host:
  /// QEMU's socket, with "{guest}" for the guest's name; guest: the tty.
  std::string console = {};
  std::string link = {};  ///< absolute path of a symbolic link to the socket; "{guest}" as above
  /// Who may use the socket, beyond what its permissions say. Both empty: whoever can open it.
  std::vector<uid_t> users = {};
  std::vector<gid_t> groups = {};
  /// Of a port's end that has no partner yet: whether what it says is kept, and how much, for ends
  /// in the guest and on the host.
  bool cache_buffers = true;
  std::uint64_t byte_limit = port_bytes_default;
  std::uint64_t guest_byte_limit = port_bytes_default;
  SourceLocation where = {};
  std::string error = {};                  ///< not empty: the channel is disabled, and why
  SocketKind socket = SocketKind::stream;  ///< of the listening socket, or of what is dialled
  bool proxy_protocol = false;             ///< unix and tcp targets are told who asks
  std::uint32_t exec_max = exec_max_default;
  std::optional<RunAs> run_as = {};  ///< exec: another user than the daemon's
  ForwardRules allow = {};           ///< forward: what may be dialled
  ForwardRules allow_listen = {};    ///< forward: what may be listened on

  friend bool operator==(const ChannelConfig&, const ChannelConfig&) = default;
};

/// "There is no such channel", said on purpose, or for what a file that cannot be read may have
/// said.
struct Denial {
  std::string name = "*";  ///< globs
  std::string guest = "*";
  std::size_t position = 0;  ///< how many channels come before it
  SourceLocation where = {};
  std::string why = {};  ///< empty: on purpose
};

/// What `xenlane forward --configured` is to run; the daemons only check it.
struct ForwardConfig {
  std::optional<ForwardSpec> spec;  ///< none: it is disabled
  SourceLocation where;
  std::string error;  ///< why
};

using Limits = MuxLimits;

struct VchanConfig {
  std::uint32_t ring_bytes_max = 1024 * 1024;  ///< powers of two, 4 KiB to 1 MiB
  std::uint32_t ring_bytes_min = 4 * 1024;
  std::uint32_t poll_us_max = 100;  ///< of looking for work before a sleep; 0: never look
};

struct LanesConfig {
  LanePolicySettings policy;
  std::uint32_t idle_ms = 30000;        ///< becomes policy.idle
  std::uint32_t rings_per_minute = 60;  ///< host: vchans of one guest that are attached to
};

/// The PV channel that carries the console lane.
struct ConsoleConfig {
  /// Host: QEMU's socket, with "{guest}" for the guest's name; "none": no console lane.
  std::string socket = "/run/xen/xenlane-{guest}.sock";
  /// Guest: "auto" finds the hvc device of the channel of that name, "none" is no console lane,
  /// else a path.
  std::string device = "auto";
  std::string channel = "org.xenlane.lane.0";
  /// Nothing else reads or writes the device, so that the peer may send any byte. Unset: true for a
  /// device that was found by its channel's name, and on the host.
  std::optional<bool> own_device;
  bool zstd = true;
  std::uint32_t give_up_ms = 15000;  ///< without an answer
};

/// The connect socket.
struct ConnectConfig {
  mode_t mode = 0600;
  ConnectNumbers numbers;  ///< "CONNECT 22" means which channel
};

struct Timeouts {
  std::uint32_t handshake_ms = 5000;
  std::uint32_t xenstore_ms = 5000;
  std::uint32_t dial_ms = 2000;
  std::uint32_t peer_stall_ms = 60000;
  std::uint32_t retry_ms_min = 100;
  std::uint32_t retry_ms_max = 3000;
  std::uint32_t resume_ms = 5000;  ///< a session may be without a lane
};

enum class LogLevel { error, warn, info, debug };

struct BridgeConfig {
  std::string run_dir;  ///< absolute, without a closing slash
  LogLevel log_level = LogLevel::info;
  mode_t events_mode = 0600;  ///< of the events sockets
  std::string events_group = {};
  gid_t events_gid = static_cast<gid_t>(-1);
  std::vector<std::string> guests = {"*"};  ///< host only: globs of the domains that are served
  /// A file that cannot be read may have said which guests are served, and none behind it does:
  /// `guests` is empty then.
  bool guests_unknown = false;
  Limits limits;
  VchanConfig vchan;
  LanesConfig lanes;
  ConsoleConfig console;
  ConnectConfig connect;
  Timeouts timeouts;
  std::vector<ChannelConfig> channels;  ///< in the order of the files, disabled ones included
  std::vector<Denial> denials;          ///< in the order of the files
  std::vector<ForwardConfig> forwards;  ///< in the order of the files, disabled ones included
  std::string file;                     ///< the main file that was asked for, read or not
  std::string drop_in_dir;              ///< the drop-in folder; empty when there is none
  std::string settings;  ///< all sections but the channels, as one TOML text that has the same
};

enum class Severity { error, warning };

/// What an error disables.
enum class Scope { daemon, file, channel };

struct Diagnostic {
  SourceLocation where;
  Severity severity = Severity::error;
  Scope scope = Scope::daemon;
  std::string message;
};

struct ConfigLoad {
  BridgeConfig config;
  std::vector<Diagnostic> diagnostics;  ///< in the order of the files and lines

  bool has_errors() const;
  /// True when an error is the daemon's own: it must not start with `config`.
  bool is_fatal() const;
};

/// Largest configuration file that is read.
inline constexpr std::size_t config_file_bytes_max = 1024 * 1024;
/// Most files of one drop-in folder, and most channels of one daemon.
inline constexpr std::size_t drop_in_files_max = 1000;
inline constexpr std::size_t channels_max = 4096;
/// Most forwards of a configuration.
inline constexpr std::size_t forwards_max = 1000;

/// `path` with the guest's name in place of "{guest}".
std::string path_for_guest(std::string path, std::string_view guest);

/// Where the host finds the console channel of a guest; empty when it is to have none.
std::string console_socket_of(const BridgeConfig& config, std::string_view guest);

/// The run folder without a configuration: $XENLANE_RUN_DIR, else /run/xenlane.
std::string default_run_dir();

/// Where a guest's PV channels are found by name, as xen-pv-channel(7) has it: "/dev/xen-channel",
/// or below $XENLANE_DEV_DIR.
std::string channel_device_dir();

/// "/etc/xenlane/host.toml" or "/etc/xenlane/guest.toml".
std::string default_config_path(Side side);

/// Reads `path` and then its drop-in folder (FILE.toml has FILE.d), files in byte order. Without
/// `path` the side's default file is read, and its absence means defaults and no channels; a
/// `path` that is given must exist. Never stops at the first fault and does not throw.
ConfigLoad load_config(Side side, const std::optional<std::string>& path);

/// What the files say of a name and a guest: the first match decides. Of the two at most one is
/// set; neither: nothing matched.
struct Decision {
  const ChannelConfig* channel = nullptr;  ///< disabled or not
  const Denial* denial = nullptr;
};
Decision decide(const BridgeConfig& config, std::string_view name, std::string_view guest);

/// The first channel of that name whose guest glob matches, disabled or not: a disabled match means
/// that there is no such channel for this guest. Null when none matches, or a denial comes first.
/// On the guest side pass "".
const ChannelConfig* find_channel(const BridgeConfig& config, const ChannelName& name,
                                  std::string_view guest);

/// What find_channel() finds for this guest, over all names, in the order of the files. The
/// pointers live as long as `config` is unchanged.
std::vector<const ChannelConfig*> channels_for(const BridgeConfig& config, std::string_view guest);

/// Whether the host serves a domain of this name.
bool guest_is_served(const BridgeConfig& config, std::string_view guest);

std::string_view to_string(EndKind end);

/// "file:line: error: message", one line.
std::string format_diagnostic(const Diagnostic& diagnostic);

/// The `--check` output: every diagnostic on a line, then a summary line. Returns the exit code,
/// exit_configuration when there is any error, else exit_ok.
int print_check(const ConfigLoad& load, std::FILE* out);

}  // namespace xenlane::bridge
