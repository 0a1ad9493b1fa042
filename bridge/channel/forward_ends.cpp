// Streams of a channel with target = "builtin:forward": each says in its first line what it wants
// (docs/forward.md), and is joined to that. The bridge itself dials and listens, as for any other
// target, so that bytes go between the ring and the wanted socket with nothing in between.
#include <fmt/format.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <cerrno>
#include <cstring>

#include "bridge/channel/channel_table.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using std::chrono::steady_clock;
using transport::UniqueFd;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

ByteQueue queue_of(const ForwardAnswer& answer) {
  ByteQueue queue;
  queue.append(bytes_of(format_forward(answer)));
  return queue;
}

/// "localhost" is this machine's without asking anybody (RFC 6761, section 6.3).
std::vector<std::string> targets_of(const ForwardAddress& address) {
  if (address.is_unix() || address.host() != "localhost") return {address.uri()};
  return {fmt::format("tcp:127.0.0.1:{}", address.port()),
          fmt::format("tcp:[::1]:{}", address.port())};
}

}  // namespace

void ChannelTable::start_forward(StreamId id, Channel& channel) {
  // What it is to be joined to may take its time, and the answer says how it went.
  mux()->accept(id);
  const auto news = std::make_shared<transport::Signal>(executor_);
  incoming_.emplace(id, Incoming{&channel, uid_unknown, {}, false, false, 0, {news}});
  asio::co_spawn(executor_, serve_forward(id, news), transport::or_throw);
}

std::function<bool()> ChannelTable::still_incoming(StreamId id) {
  return [this, alive = alive_, id, session = session_count_] {
    return *alive && session == session_count_ && incoming_.contains(id) && mux_of(id) != nullptr;
  };
}

// The first line of what has come; nothing while it is not whole.
std::optional<std::string> ChannelTable::take_forward_line(StreamId id) {
  Incoming& stream = incoming_.at(id);
  const auto front = stream.early.front();
  const std::string_view text(reinterpret_cast<const char*>(front.data()),
                              std::min(front.size(), forward_line_bytes_max));
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  std::string line(text.substr(0, end));
  stream.early.drop(end + 1);
  mux()->delivered(id, end + 1);
  session_.wake();
  return line;
}

asio::awaitable<void> ChannelTable::serve_forward(StreamId id,
                                                  std::shared_ptr<transport::Signal> news) {
  const auto wanted = still_incoming(id);
  const auto end = steady_clock::now() + forward_request_wait;
  std::optional<std::string> line;
  while (wanted()) {
    line = take_forward_line(id);
    if (line) break;
    const Incoming& stream = incoming_.at(id);
    if (stream.finished || stream.early.size() >= forward_line_bytes_max) {
      co_return refuse_forward(id, {EPROTO, "it does not begin with a request"});
    }
    const bool raised = co_await news->wait_for(end - steady_clock::now());
    if (!raised && wanted()) co_return refuse_forward(id, {ETIMEDOUT, "it asked for nothing"});
  }
  if (!line) co_return;
  const auto request = parse_forward_request(*line);
  if (!request) co_return refuse_forward(id, request.error());
  if (const auto* connect = std::get_if<ForwardConnect>(&*request)) {
    co_return co_await connect_forward(id, connect->address);
  }
  Channel& channel = *incoming_.at(id).channel;
  const auto* taking = std::get_if<ForwardTake>(&*request);
  auto socket = taking != nullptr ? forwards_.take(taking->token)
                                  : forwards_.start_control(terms_of(channel));
  if (!socket) co_return refuse_forward(id, socket.error());
  join_forward(id, std::move(*socket), taking != nullptr);
}

// Within the configuration as it is when it is asked.
ForwardTerms ChannelTable::terms_of(const Channel& channel) {
  const std::string name = channel.config.name.text();
  return {[this, name](const ForwardAddress& address) {
            const Channel* now = find(name);
            return now != nullptr && is_allowed(now->config.allow_listen, address);
          },
          [this, name](int error, const std::string& why) {
            if (Channel* now = find(name)) note_forward_refusal(*now, error, why);
          }};
}

asio::awaitable<void> ChannelTable::connect_forward(StreamId id, ForwardAddress address) {
  const auto wanted = still_incoming(id);
  const auto fail = [&](int error, const std::string& text) {
    if (wanted()) refuse_forward(id, {error, text});
  };
  const std::string uri = address.uri();
  if (!is_allowed(incoming_.at(id).channel->config.allow, address)) {
    co_return fail(EACCES, uri + ": not among the channel's allow");
  }
  ForwardGate& gate = forwards_.gate_for(address);
  const auto alive = alive_;
  if (!co_await gate.enter(forward_request_wait)) {
    co_return fail(EAGAIN, uri + ": too many connections are being made");
  }
  std::optional<DialResult> dialled;
  for (const std::string& target : targets_of(address)) {
    if (!wanted()) break;
    DialOrder order{*Target::parse(target)};
    order.caller.channel = incoming_.at(id).channel->config.name.text();
    auto result = co_await dialer_.dial(std::move(order), wanted);
    // Of several failures the first is the one that is told.
    if (dialled && !result) break;
    dialled.emplace(std::move(result));
    if (*dialled || dialled->error().error != ECONNREFUSED) break;
  }
  if (*alive) gate.leave();
  if (!wanted() || !dialled) co_return;
  if (!*dialled) co_return fail(dialled->error().error, dialled->error().text);
  join_forward(id, std::move((*dialled)->socket), true);
}

void ChannelTable::join_forward(StreamId id, UniqueFd socket, bool is_connection) {
  ForwardAnswer answer;
  if (is_connection) answer.token = forwards_.enlist(id);
  join_incoming(id, LocalEnd{std::move(socket)}, queue_of(answer));
}

void ChannelTable::note_forward_refusal(Channel& channel, int error, const std::string& why) {
  end_badly(channel, {true, 0, error, why});
  log_refusal(channel.config.name.text(), why);
}

// The answer needs somebody to come from, who is gone as soon as it is read.
void ChannelTable::refuse_forward(StreamId id, const ForwardError& error) {
  note_forward_refusal(*incoming_.at(id).channel, error.error, error.text);
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    mux()->reset(id, StreamError::broken);
    break_stream(id, errno, std::strerror(errno));
    return;
  }
  ::close(ends[1]);
  incoming_.at(id).silent = true;
  join_incoming(id, LocalEnd{UniqueFd(ends[0])}, queue_of({{}, error}));
}

void ChannelTable::reset_forward(StreamId id) {
  if (Mux* current = mux_of(id)) current->reset(id, StreamError::broken);
  break_stream(id, ECONNRESET, "reset by the other side's program");
  session_.wake();
}

}  // namespace xenlane::bridge
