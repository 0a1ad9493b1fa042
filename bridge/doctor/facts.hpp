// What the doctor has seen of this domain: plain values, gathered once (gather.hpp) and judged
// without looking again (examine.hpp). Whatever could not be seen says why, so that no judgement is
// a guess.
//
// Texts come from files, other processes and other domains; they are shown escaped and compared,
// and nothing else is done with them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bridge/daemon/config.hpp"
#include "transport/base/domid.hpp"
#include "transport/vchan/vchan_lane.hpp"

namespace xenlane::bridge::doctor {

using transport::Domid;

enum class FileKind : std::uint8_t {
  missing,
  hidden,
  socket,
  device,
  folder,
  regular,
  link,
  other
};

/// A file as stat() shows it. A link is followed unless it is the link that matters.
struct FileFact {
  std::string path;
  FileKind kind = FileKind::missing;
  int error = 0;  ///< errno value of a `hidden` file: one that may not be looked at
  uid_t owner = 0;
  mode_t mode = 0;          ///< permission bits only
  bool usable = false;      ///< this user may read and write it
  std::string target = {};  ///< where a link points to
};

/// A kernel module, or what stands for it in the kernel.
enum class ModuleState : std::uint8_t {
  loaded,
  built_in,
  available,  ///< installed for the running kernel, and not loaded
  absent,     ///< not installed
  unknown     ///< the kernel's lists of modules cannot be read
};

struct DeviceFact {
  FileFact file;
  std::string module;  ///< as in /sys/module: with underscores
  ModuleState state = ModuleState::unknown;
};

/// An attempt to get what a lane needs, given back at once.
struct Trial {
  bool made = false;
  std::optional<transport::LaneFailure> failure = {};
};

/// A xenstore node. `error` is an errno value: ENOENT when there is no such node.
struct NodeFact {
  std::string path;
  int error = 0;
  std::string value = {};
  int permissions_error = 0;
  std::vector<std::string> permissions = {};  ///< as xenstore spells them, the owner first
};

/// A console in xenstore beside the domain's own, as its frontend or backend describes it.
struct ConsoleNode {
  std::string number;
  std::string name;
  std::string socket;  ///< backend only: where QEMU listens
};

struct XenstoreFacts {
  std::string path;
  int error = 0;  ///< errno value of what failed: to connect, or to read `domid`
  std::chrono::microseconds answer_time{};
  std::optional<Domid> domid;

  // In a domain that is bound by quotas; unset where that was not tried.
  std::optional<int> write_error;
  std::optional<int> watch_error;
};

struct ChannelFact {
  std::string name;
  std::string error;  ///< why it is disabled; empty when it is not
  std::uint64_t refused = 0;
  std::optional<std::uint64_t> last_refused_s;  ///< seconds ago
  std::string last_refusal;
};

/// What a bridge says of itself: the guest's own, or the worker of one guest.
struct BridgeFact {
  std::string session_state;
  std::string session_reason;
  std::uint64_t session_s = 0;  ///< in this state
  std::optional<std::uint64_t> protocol_version;
  std::uint64_t peer_version = 0;
  std::string lane;
  std::string lane_why;
  std::string lane_set;
  std::uint64_t ring_bytes = 0;  ///< the smaller of the two rings; 0 without a vchan
  bool console_open = false;     ///< the other end of the console lane answers
  std::vector<ChannelFact> channels;
};

/// The daemon behind a control socket.
struct DaemonFact {
  enum class Answer : std::uint8_t { answers, absent, forbidden, failed };
  Answer answer = Answer::absent;
  std::string control;  ///< the socket's path
  std::string trouble;  ///< why it does not answer
  std::string role;
  std::string version;
  pid_t pid = 0;
};

/// Host: one guest that runs, or that the broker believes to run.
struct GuestFact {
  Domid domid = 0;
  std::string name;
  bool runs = false;     ///< xenstore has it
  bool matches = false;  ///< [daemon] guests names it
  bool known = false;    ///< the broker serves it
  std::string state;     ///< what the broker says of its worker
  std::uint64_t worker_restarts = 0;
  DaemonFact worker;
  std::optional<BridgeFact> bridge;
  NodeFact host_node;  ///< /local/domain/N/xenlane/host
  NodeFact wanted_node;

  FileFact console_socket;  ///< empty path: the configuration wants none
  /// Connections to it in /proc/net/unix: taken by QEMU, and waiting to be. Unset: not readable.
  std::optional<std::size_t> console_taken;
  std::size_t console_waiting = 0;
  std::vector<ConsoleNode> consoles;  ///< that this domain is the backend of
  /// Names of the channels that the toolstack was told of, in its order; unset when its record of
  /// the domain cannot be read.
  std::optional<std::vector<std::string>> told_channels;
};

/// A program that has a terminal open.
struct Reader {
  pid_t pid = 0;
  std::string name;
};

/// Guest: the device of the console lane.
struct ConsoleFact {
  std::vector<ConsoleNode> nodes;
  FileFact device;  ///< empty path: no channel of the configured name
  bool readers_seen = false;
  std::vector<Reader> readers;  ///< but for xenlane's own daemon
  FileFact link;
};

struct Facts {
  Side side = Side::guest;
  uid_t user = 0;
  std::string version;         ///< of this tool
  std::optional<bool> is_xen;  ///< what the kernel says; unset when it does not tell
  unsigned kernel_major = 0;   ///< 0: not known
  unsigned kernel_minor = 0;
  std::vector<DeviceFact> devices;              ///< those that this side needs
  std::optional<std::uint64_t> gntalloc_limit;  ///< pages
  std::optional<std::uint64_t> gntdev_limit;    ///< pages
  Trial client;                                 ///< host: what a vchan client needs
  Trial smallest;                               ///< guest: rings of ring_bytes_min
  Trial largest;                                ///< guest: rings of ring_bytes_max

  XenstoreFacts xenstore;
  NodeFact host_node;  ///< guest: xenlane/host
  NodeFact wanted_node;
  NodeFact data_node;  ///< guest: data

  ConfigLoad config;
  std::vector<FileFact> config_files;  ///< those that were read, and their folders
  std::string run_dir;
  FileFact run_folder;
  FileFact control;
  std::vector<std::string> sockets;  ///< in the run folder, without the control socket

  DaemonFact daemon;
  std::optional<BridgeFact> bridge;  ///< guest
  std::vector<GuestFact> guests;     ///< host
  ConsoleFact console;               ///< guest
};

}  // namespace xenlane::bridge::doctor
