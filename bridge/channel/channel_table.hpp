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
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "bridge/channel/channel.hpp"
#include "bridge/channel/connection.hpp"
#include "bridge/channel/dialer.hpp"
#include "bridge/channel/log_budget.hpp"
#include "bridge/daemon/config.hpp"
#include "bridge/events/event.hpp"
#include "bridge/forward/desk.hpp"
#include "bridge/session/driver.hpp"
#include "transport/base/signal.hpp"

namespace xenlane::bridge {

/// How long connections may wait for a session before they are refused.
inline constexpr std::chrono::milliseconds session_wait_max{2000};

/// How long no bridge of the other side must have answered since this one began, before channels
/// that can do without one go to their PV channel. It is the handshake that tells, and never what a
/// channel carries.
inline constexpr std::chrono::milliseconds raw_after{10000};

/// What is kept of all the peer's ends without a partner together, for which it may go on sending:
/// what comes behind that stays within its windows.
inline constexpr std::uint64_t set_aside_bytes_max = 16 * 1024 * 1024;

/// How long the other side may take to accept or refuse a stream: its own dialling has dial_ms.
inline constexpr std::chrono::milliseconds answer_wait_max{10000};

/// What the host knows of its guest; a guest knows nothing of its host.
struct PeerIdentity {
  std::optional<transport::Domid> domid;
  std::string uuid;
};

class ChannelTable final : public StreamOwner, private ConnectionOwner {
 public:
  /// `session` is what carries streams; it must outlive the table.
  ChannelTable(const boost::asio::any_io_executor& executor, Session& session,
               std::string peer_name, std::chrono::milliseconds dial_deadline,
               std::chrono::milliseconds answer_wait = answer_wait_max);
  /// Who is told what happens; must outlive the table.
  void set_events(EventSink* events) { events_ = events; }
  /// What there is now, as events.
  std::vector<Event> events_now() const;
  ~ChannelTable();

  /// Adds a channel; `listener` is its listening socket if its end has one. Starts accepting.
  void add(ChannelConfig config, std::string socket_path, transport::UniqueFd listener);
  /// A channel of that name is there: new connections are made on the new terms, those there are go
  /// on. Without a `listener` the socket stays as it is. When the end or its sockets are of another
  /// kind, the channel is another one: it is removed and added. Else it is added.
  void set(ChannelConfig config, std::string socket_path, transport::UniqueFd listener);
  /// The channel's connections break, and there is none of that name any more. False when there
  /// was none.
  bool remove(const ChannelName& name);

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

  const std::vector<std::shared_ptr<Channel>>& channels() const { return channels_; }
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
    bool eager = false;         ///< it is reason enough for a vchan
    std::uint64_t told = 0;     ///< bytes to come out that the peer was told are delivered already
    bool answered = true;       ///< false while the other side has neither accepted nor refused
    std::string greeting = {};  ///< sent when it accepts
    std::shared_ptr<Program> program = {};  ///< that was started for this connection
    bool silent = false;                    ///< only an answer: no event, and not counted
  };
  /// Raises a signal when it goes, so that nobody waits on for what is no more.
  struct RaiseAtEnd {
    RaiseAtEnd(std::shared_ptr<transport::Signal> raised = {}) : signal(std::move(raised)) {}
    RaiseAtEnd(RaiseAtEnd&&) = default;
    RaiseAtEnd& operator=(RaiseAtEnd&&) = default;
    ~RaiseAtEnd() {
      if (signal) signal->raise();
    }
    std::shared_ptr<transport::Signal> signal;
  };
  /// A stream of the peer's whose local end is not there yet: what came behind its OPEN.
  struct Incoming {
    Channel* channel;
    std::uint32_t untrusted_uid;
    ByteQueue early;
    bool finished = false;
    bool stopped = false;    ///< the peer reads no more
    std::uint64_t told = 0;  ///< of `early`, that the peer was told is delivered
    RaiseAtEnd news = {};    ///< a forward's, whose first line is waited for
    bool silent = false;     ///< see Joined
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
  boost::asio::awaitable<void> accept_connections(std::shared_ptr<Channel> channel);
  boost::asio::awaitable<void> dial(StreamId id, Channel& channel, std::uint64_t session);
  bool accept_one(Channel& channel);
  void handle_open(const OpenRequested& open);
  void join(StreamId id, Channel& channel, LocalEnd local, std::shared_ptr<Program> program = {},
            bool silent = false);
  void join_incoming(StreamId id, LocalEnd local, ByteQueue first,
                     std::shared_ptr<Program> program = {});
  bool greet(StreamId id);
  Caller caller_of(const Channel& channel, StreamId id, std::uint32_t untrusted_uid) const;
  static void break_off(const Joined& joined);
  bool refuse_stranger(Channel& channel, int socket);
  void deliver_early(StreamId id, Incoming& stream, const transport::ReadableSpans& bytes);
  std::uint64_t untold_bytes(Joined& joined, std::uint64_t bytes);
  // forward_ends.cpp
  void start_forward(StreamId id, Channel& channel);
  std::function<bool()> still_incoming(StreamId id);
  std::optional<std::string> take_forward_line(StreamId id);
  boost::asio::awaitable<void> serve_forward(StreamId id, std::shared_ptr<transport::Signal> news);
  boost::asio::awaitable<void> connect_forward(StreamId id, ForwardAddress address);
  ForwardTerms terms_of(const Channel& channel);
  void join_forward(StreamId id, transport::UniqueFd socket, bool is_connection);
  void refuse_forward(StreamId id, const ForwardError& error);
  void note_forward_refusal(Channel& channel, int error, const std::string& why);
  void reset_forward(StreamId id);
  // raw_ends.cpp
  bool is_raw_now(const Channel& channel) const;
  bool may_become_raw(const Channel& channel) const;
  void limit_raw_wait();
  void start_raw(Channel& channel, LocalEnd local);
  boost::asio::awaitable<void> run_raw(std::shared_ptr<Channel> channel, pid_t pid);
  // notices.cpp
  void publish(std::string_view kind, const Channel& channel,
               std::vector<std::pair<std::string, std::string>> details = {});
  void tell_peer(const Channel& channel);
  void tell_peer_of_port(const Channel& channel);
  void handle_notice(const PeerNotices& notice);
  void refuse_incoming(StreamId id, int error, const std::string& message);
  Joined part(StreamId id);
  void end_badly(Channel& channel, BadEnding ending);
  void pair_port(Channel& channel);
  void wait_for_partner(Channel& channel, LocalEnd local);
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
  ForwardDesk forwards_;
  std::chrono::milliseconds dial_deadline_;
  std::chrono::milliseconds answer_wait_limit_;
  std::vector<std::shared_ptr<Channel>> channels_;
  std::unordered_map<std::string, Channel*> by_name_;
  std::size_t accepts_held_ = 0;  ///< channels, and visitors_, whose connection has to wait
  std::list<transport::Signal*> visitors_;  ///< raised when one of them may go on
  std::uint64_t turned_away_ = 0;
  PeerIdentity identity_;
  std::unordered_map<StreamId, Joined> connections_;
  std::unordered_map<StreamId, Incoming> incoming_;
  std::uint64_t session_count_ = 0;
  std::uint64_t eager_ = 0;
  std::uint64_t set_aside_ = 0;  ///< bytes, of all `told`
  bool refusing_ = false;
  bool was_up_ = false;   ///< there was a session once
  bool raw_due_ = false;  ///< raw_after has passed without one
  boost::asio::steady_timer raw_wait_;
  EventSink* events_ = nullptr;
  std::string down_reason_ = "not connected yet";
  boost::asio::steady_timer session_wait_;
  /// Streams opened here, oldest first, and when their answer is due; answered ones leave the
  /// front.
  std::deque<std::pair<std::chrono::steady_clock::time_point, StreamId>> answers_due_;
  boost::asio::steady_timer answer_wait_;
  LogBudget peer_lines_;   ///< what the peer alone decides the number of
  LogBudget peer_events_;  ///< of channels that are not here
  LogBudget local_lines_;  ///< and what local programs do
  bool answer_timed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace xenlane::bridge
