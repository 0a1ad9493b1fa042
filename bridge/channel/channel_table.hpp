// The channels of one peer: joins local Unix sockets to the session's streams by name.
//
// A channel's end here either listens (connections made here are dialled on the other side), dials
// (the reverse), or is a port (both sides listen; the n-th connection of one side is paired with
// the n-th of the other). Ports are paired on the host, so that two ends that appear at the same
// moment cannot miss each other: the guest's end always opens the stream.
//
// Sessions come and go below; listeners stay. Without a session a connection waits for one for a
// short while and is then refused: nobody hangs.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "bridge/channel/connection.hpp"
#include "bridge/channel/dialer.hpp"
#include "bridge/channel/log_budget.hpp"
#include "bridge/daemon/config.hpp"
#include "bridge/session/driver.hpp"
#include "transport/base/signal.hpp"

namespace xenlane::bridge {

/// Unpaired connections that one port keeps on each side; more wait in the socket's own backlog.
inline constexpr std::size_t port_waiting_max = 64;

/// How long connections may wait for a session before they are refused.
inline constexpr std::chrono::milliseconds session_wait_max{2000};

/// How long the other side may take to accept or refuse a stream: its own dialling has dial_ms.
inline constexpr std::chrono::milliseconds answer_wait_max{10000};

/// Connections that ended badly which a channel remembers, for the tool to find its own among them.
inline constexpr std::size_t bad_endings_max = 32;

/// How a local connection ended that did not end well. A Unix socket can tell its reader no more
/// than "end of file", so this is where the reason is to be had.
struct BadEnding {
  bool refused = false;  ///< never carried a byte; otherwise it broke on the way
  pid_t pid = 0;         ///< of the program that made the connection; 0 for one dialled here
  int error = 0;         ///< errno value
  std::string message;
};

struct ChannelStats {
  std::uint64_t open = 0;
  std::uint64_t opened = 0;
  std::uint64_t refused = 0;
  std::uint64_t broken = 0;  ///< ended by a reset or by the session's end, not by both applications
  std::uint64_t bytes_in = 0;         ///< from the peer
  std::uint64_t bytes_out = 0;        ///< to the peer
  std::deque<BadEnding> bad_endings;  ///< newest last, at most bad_endings_max
};

/// A connection that was made to us, and by whom.
struct LocalEnd {
  transport::UniqueFd socket;
  pid_t pid = 0;  ///< 0 when the kernel does not say
  std::uint32_t uid = uid_unknown;
  std::string greeting = {};  ///< what it is told before all else, once the other side has accepted

  /// Asks the kernel who made it.
  static LocalEnd of(transport::UniqueFd socket);
};

/// What the host knows of its guest; a guest knows nothing of its host.
struct PeerIdentity {
  std::optional<transport::Domid> domid;
  std::string uuid;
};

/// One configured channel at run time.
struct Channel {
  Channel(const boost::asio::any_io_executor& executor, ChannelConfig channel_config)
      : config(std::move(channel_config)), may_accept(executor) {}

  ChannelConfig config;
  std::string socket_path;       ///< empty when this end does not listen
  transport::UniqueFd listener;  ///< listening socket, if this end has one
  ChannelStats stats;
  transport::Signal may_accept;         ///< raised when a connection that had to wait may go on
  std::deque<LocalEnd> waiting_local;   ///< host ports: connections without a partner
  std::deque<StreamId> waiting_remote;  ///< host ports: streams without a partner
};

class ChannelTable final : public StreamOwner, private ConnectionOwner {
 public:
  /// `session` is what carries streams; it must outlive the table.
  ChannelTable(const boost::asio::any_io_executor& executor, Session& session,
               std::string peer_name, std::chrono::milliseconds dial_deadline,
               std::chrono::milliseconds answer_wait = answer_wait_max);
  ~ChannelTable();

  /// Adds a channel; `listener` is its listening socket if its end has one. Starts accepting.
  void add(ChannelConfig config, std::string socket_path, transport::UniqueFd listener);

  /// What connections are told that are refused because there is no session.
  void set_down_reason(std::string reason) { down_reason_ = std::move(reason); }
  /// What connects to the built-in service; without it, channels that are dialled there refuse.
  void set_bench(Dialer::BuiltIn start) { dialer_.set_bench(std::move(start)); }
  /// What targets are told of the peer besides its name.
  void set_peer_identity(PeerIdentity identity) { identity_ = std::move(identity); }
  /// The programs of exec targets.
  Programs& programs() { return dialer_.programs(); }

  // --- for connections that do not come over a channel's own socket (connect_door.hpp)
  Channel* find(const std::string& name);
  /// Until another connection may be made over the channel, or refused for want of a session; no
  /// longer than `limit`. False: not within that, or there is no such channel any more.
  boost::asio::awaitable<bool> await_room(std::string name, std::chrono::milliseconds limit);
  /// As if it had been made over the channel's own socket; behind await_room().
  void connect(Channel& channel, LocalEnd local);
  /// Counts one that is not let in, and keeps the reason for the program that made it.
  void turn_away(Channel* channel, pid_t pid, int error, std::string message);
  /// Of those that were turned away, all.
  std::uint64_t turned_away() const { return turned_away_; }

  /// Connections of channels whose configuration asks for the vchan lane.
  bool wants_vchan() const { return eager_ > 0; }

  const std::vector<std::unique_ptr<Channel>>& channels() const { return channels_; }
  std::size_t connection_count() const { return connections_.size(); }

  // StreamOwner
  void handle_session_up() override;
  void handle_session_ended(int error, const std::string& reason) override;
  void handle_event(const InputEvent& event) override;
  SourceBytes read_source(StreamId id, const transport::WritableSpans& to) override;
  void deliver(StreamId id, const transport::ReadableSpans& untrusted_payload) override;
  void handle_pass_over() override;

 private:
  struct Joined {
    std::shared_ptr<Connection> connection;
    Channel* channel;
    pid_t pid;                  ///< of the local program if it connected to us, else 0
    bool answered = true;       ///< false while the other side has neither accepted nor refused
    std::string greeting = {};  ///< sent when it accepts
    std::shared_ptr<Program> program = {};  ///< that was started for this connection
  };
  /// A stream of the peer's whose local end is not there yet: what came behind its OPEN.
  struct Incoming {
    Channel* channel;
    std::uint32_t untrusted_uid;
    ByteQueue early;
    bool finished = false;
    bool stopped = false;  ///< the peer reads no more
  };

  // ConnectionOwner
  void handle_readable(StreamId id) override;
  void handle_delivered(StreamId id, std::size_t bytes) override;
  void handle_reader_gone(StreamId id) override;
  void handle_broken(StreamId id, int error) override;
  void handle_closed(StreamId id) override;

  Mux* mux() { return session_.mux(); }
  Mux* mux_of(StreamId id);
  bool may_accept(const Channel& channel);
  void raise_all();
  void limit_session_wait();
  boost::asio::awaitable<void> accept_connections(Channel& channel);
  boost::asio::awaitable<void> dial(StreamId id, Channel& channel, std::uint64_t session);
  void handle_open(const OpenRequested& open);
  void join(StreamId id, Channel& channel, LocalEnd local, std::shared_ptr<Program> program = {});
  void join_incoming(StreamId id, LocalEnd local, std::shared_ptr<Program> program = {});
  bool greet(StreamId id);
  Caller caller_of(const Channel& channel, StreamId id, std::uint32_t untrusted_uid) const;
  static void break_off(const Joined& joined);
  void refuse_incoming(StreamId id, int error, const std::string& message);
  Joined part(StreamId id);
  void end_badly(Channel& channel, BadEnding ending);
  void pair_port(Channel& channel);
  void log_refusal(std::string_view untrusted_name, const std::string& why);
  void break_stream(StreamId id, int error, const std::string& message);
  void expect_answer(StreamId id);
  bool awaits_answer(StreamId id) const;
  void limit_answer_wait();
  void refuse_unanswered();

  boost::asio::any_io_executor executor_;
  Session& session_;
  std::string peer_name_;
  Dialer dialer_;
  std::chrono::milliseconds answer_wait_limit_;
  std::vector<std::unique_ptr<Channel>> channels_;
  std::unordered_map<std::string, Channel*> by_name_;
  std::size_t accepts_held_ = 0;  ///< channels, and visitors_, whose connection has to wait
  std::list<transport::Signal*> visitors_;  ///< raised when one of them may go on
  std::uint64_t turned_away_ = 0;
  PeerIdentity identity_;
  std::unordered_map<StreamId, Joined> connections_;
  std::unordered_map<StreamId, Incoming> incoming_;
  std::uint64_t session_count_ = 0;
  std::uint64_t eager_ = 0;
  bool refusing_ = false;
  std::string down_reason_ = "not connected yet";
  boost::asio::steady_timer session_wait_;
  /// Streams opened here, oldest first, and when their answer is due; answered ones leave the
  /// front.
  std::deque<std::pair<std::chrono::steady_clock::time_point, StreamId>> answers_due_;
  boost::asio::steady_timer answer_wait_;
  LogBudget peer_lines_;  ///< what the peer alone decides the number of
  bool answer_timed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace xenlane::bridge
