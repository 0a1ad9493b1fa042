#include "bridge/forward/near.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>

#include "bridge/forward/socks.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
namespace json = boost::json;
using asio::posix::descriptor_base;
using std::chrono::steady_clock;
using transport::UniqueFd;

namespace {

/// Whoever connected must not take it for a service that had nothing to say.
void break_off(const UniqueFd& local) {
  const linger at_once{1, 0};
  ::setsockopt(local.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

void send_short(int socket, std::string_view bytes) {
  // It is the first there is, which the socket's empty buffer takes.
  [[maybe_unused]] const ssize_t sent =
      ::send(socket, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/// Counts a connection that is being made for as long as it lives.
struct BeingMade {
  explicit BeingMade(std::shared_ptr<ForwardCounters> of) : counters(std::move(of)) {
    ++counters->waiting;
  }
  BeingMade(const BeingMade&) = delete;
  BeingMade& operator=(const BeingMade&) = delete;
  ~BeingMade() { --counters->waiting; }
  std::shared_ptr<ForwardCounters> counters;
};

}  // namespace

NearForward::NearForward(const asio::any_io_executor& executor, ForwardSpec spec,
                         std::shared_ptr<Uplink> uplink, std::vector<ForwardSocket> sockets,
                         Told told)
    : executor_(executor),
      spec_(std::move(spec)),
      uplink_(std::move(uplink)),
      told_(std::move(told)),
      lookups_(executor, forward_name_dials_max) {
  if (sockets.empty()) return;
  acceptor_ = std::make_shared<ForwardAcceptor>(executor_, std::move(sockets), nullptr);
}

void NearForward::spawn(asio::awaitable<void> work) {
  asio::co_spawn(executor_, std::move(work), transport::or_throw);
}

void NearForward::start() {
  if (spec_.kind != ForwardKind::remote) {
    acceptor_->on_accepted([weak = weak_from_this()](UniqueFd local) {
      const auto self = weak.lock();
      if (!self) return;
      self->spawn(self->spec_.kind == ForwardKind::socks ? self->serve_socks(std::move(local))
                                                         : self->serve(std::move(local)));
      if (self->is_making_many()) self->acceptor_->set_full(true);
    });
    acceptor_->start();
    return;
  }
  listener_ =
      uplink_->add_listener({spec_.listen,
                             [weak = weak_from_this()](const std::string& token) {
                               if (const auto self = weak.lock())
                                 self->spawn(self->serve_remote(token));
                             },
                             [weak = weak_from_this()](const std::optional<ForwardError>& error) {
                               if (const auto self = weak.lock()) self->handle_listening(error);
                             }});
}

void NearForward::stop() {
  stopped_ = true;
  if (acceptor_) acceptor_->close();
  if (listener_ != 0) uplink_->remove_listener(listener_);
}

void NearForward::abort() {
  const auto pumps = pumps_;
  for (const auto& pump : pumps) pump->abort();
}

void NearForward::handle_listening(const std::optional<ForwardError>& error) {
  far_listens_ = !error;
  const std::string refusal = error ? error->text : std::string();
  if (error && refusal == far_refusal_) return;
  far_refusal_ = refusal;
  counters_->last_error = refusal;
  told_(error
            ? fmt::format("{}: {} does not listen: {}", spec_.text, uplink_->name(), refusal)
            : fmt::format("{}: {} listens on {}", spec_.text, uplink_->name(), spec_.listen.uri()));
}

void NearForward::note_failure(const std::string& why) {
  ++counters_->failed;
  counters_->last_error = why;
  if (lines_.allows()) told_(fmt::format("{}: {}{}", spec_.text, why, lines_.note()));
}

void NearForward::fail(const UniqueFd& local, const std::string& why) {
  note_failure(why);
  break_off(local);
}

void NearForward::join(UniqueFd local, OpenedForward stream, std::string from_local) {
  const auto pump = std::make_shared<ForwardPump>(executor_, std::move(local), std::move(stream),
                                                  uplink_, counters_);
  pumps_.insert(pump);
  pump->on_end([weak = weak_from_this(), of = std::weak_ptr(pump)] {
    if (const auto self = weak.lock()) self->pumps_.erase(of.lock());
  });
  pump->start(std::move(from_local));
}

asio::awaitable<void> NearForward::serve(UniqueFd local) {
  const auto self = shared_from_this();
  {
    const BeingMade being_made(counters_);
    ForwardConnect wanted{*spec_.target};
    OpenedForward opened =
        co_await uplink_->open(std::move(wanted), steady_clock::now() + spec_.wait, spec_.refuse);
    if (opened.error) {
      fail(local, opened.error->text);
    } else {
      join(std::move(local), std::move(opened), {});
    }
  }
  if (!stopped_ && !is_making_many()) acceptor_->set_full(false);
}

asio::awaitable<void> NearForward::serve_socks(UniqueFd local) {
  const auto self = shared_from_this();
  const auto counters = counters_;
  const auto client = std::make_shared<asio::posix::stream_descriptor>(executor_, local.release());
  const auto end = steady_clock::now() + socks_wait;
  asio::steady_timer timer(executor_, end);
  timer.async_wait([weak = std::weak_ptr(client)](const auto& error) {
    if (const auto waiting = weak.lock(); waiting && !error) waiting->cancel();
  });
  std::optional<BeingMade> being_made(counters);
  SocksHandshake socks;
  auto state = SocksHandshake::State::reading;
  std::array<char, 1024> bytes;
  while (state == SocksHandshake::State::reading) {
    auto [error] = co_await client->async_wait(descriptor_base::wait_read,
                                               asio::as_tuple(asio::use_awaitable));
    if (error) co_return;
    const ssize_t got = ::recv(client->native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) co_return;
    state = socks.add({bytes.data(), static_cast<std::size_t>(got)});
    send_short(client->native_handle(), socks.take_output());
  }
  timer.cancel();
  local.reset(client->release());
  if (state == SocksHandshake::State::failed) {
    note_failure("a SOCKS client was refused: " + socks.failure());
    co_return;
  }
  ForwardConnect wanted{socks.address()};
  OpenedForward opened =
      co_await uplink_->open(std::move(wanted), steady_clock::now() + spec_.wait, spec_.refuse);
  send_short(local.get(), socks.reply(opened.error ? opened.error->error : 0));
  if (opened.error) {
    note_failure(opened.error->text);
  } else {
    join(std::move(local), std::move(opened), socks.take_rest());
  }
  being_made.reset();
  if (!stopped_ && !is_making_many()) acceptor_->set_full(false);
}

asio::awaitable<DialResult> NearForward::dial_target() {
  const ForwardAddress& target = *spec_.target;
  const Dialer dialer(executor_, forward_dial_wait);
  const auto wanted = [] { return true; };
  const bool has_name = !target.is_unix() && target.host_kind() == HostKind::name;
  if (has_name && target.host() == "localhost") {
    DialOrder four{*Target::parse(fmt::format("tcp:127.0.0.1:{}", target.port()))};
    auto dialled = co_await dialer.dial(std::move(four), wanted);
    if (dialled) co_return dialled;
    DialOrder six{*Target::parse(fmt::format("tcp:[::1]:{}", target.port()))};
    auto other = co_await dialer.dial(std::move(six), wanted);
    if (other) co_return other;
    co_return dialled;
  }
  if (has_name) {
    const bool entered = co_await lookups_.enter(forward_dial_wait);
    if (!entered) co_return DialFailure{EAGAIN, target.uri() + ": too many names are looked up"};
  }
  DialOrder order{*Target::parse(target.uri())};
  auto dialled = co_await dialer.dial(std::move(order), wanted);
  if (has_name) lookups_.leave();
  co_return dialled;
}

// It is taken first, so that the far side's program learns at once when there is nobody here.
asio::awaitable<void> NearForward::serve_remote(std::string token) {
  const auto self = shared_from_this();
  const BeingMade being_made(counters_);
  ForwardTake wanted{std::move(token)};
  OpenedForward opened =
      co_await uplink_->open(std::move(wanted), steady_clock::now() + forward_dial_wait, true);
  if (opened.error) co_return note_failure(opened.error->text);
  auto dialled = co_await dial_target();
  if (!dialled) {
    uplink_->reset(opened.token);
    co_return note_failure(dialled.error().text);
  }
  join(std::move(dialled->socket), std::move(opened), {});
}

json::object NearForward::status() const {
  std::string state = uplink_->is_up() ? "up" : "waiting";
  std::string why = uplink_->reason();
  if (uplink_->is_up() && spec_.kind == ForwardKind::remote && !far_listens_) {
    state = "waiting";
    why = far_refusal_;
  }
  return {{"kind", to_string(spec_.kind)},
          {"forward", spec_.text},
          {"guest", spec_.guest},
          {"listen", spec_.listen.uri()},
          {"target", spec_.target ? json::value(spec_.target->uri()) : json::value()},
          {"channel", spec_.channel},
          {"state", state},
          {"reason", why},
          {"open", counters_->open},
          {"waiting", counters_->waiting},
          {"opened", counters_->opened},
          {"failed", counters_->failed},
          {"reset", counters_->reset},
          {"bytes_in", counters_->bytes_in},
          {"bytes_out", counters_->bytes_out},
          {"last_error", counters_->last_error}};
}

}  // namespace xenlane::bridge
