#include "host/orders.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "bridge/channel/text.hpp"
#include "bridge/cli/exit_codes.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/daemon/channel_json.hpp"
#include "bridge/daemon/program.hpp"

namespace xenlane::host {

namespace asio = boost::asio;
namespace json = boost::json;
using namespace bridge;  // NOLINT(google-build-using-namespace)
using transport::UniqueFd;

namespace {

/// Of a file's name; JSON is UTF-8, and names of files need not be.
constexpr std::size_t file_bytes_max = 4096;
/// For the first orders; a broker that is alive sends them at once.
constexpr int first_orders_ms = 10000;

/// Room for one descriptor beside a message, unix(7).
using OneDescriptor = std::array<char, CMSG_SPACE(sizeof(int))>;

ssize_t send_message(int socket, std::string& text, int listener) {
  iovec bytes{text.data(), text.size()};
  alignas(cmsghdr) OneDescriptor room{};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (listener >= 0) {
    message.msg_control = room.data();
    message.msg_controllen = room.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &listener, sizeof listener);
  }
  return ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

ssize_t receive_message(int socket, std::string& text, UniqueFd& listener) {
  text.resize(order_bytes_max);
  iovec bytes{text.data(), text.size()};
  alignas(cmsghdr) OneDescriptor room{};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = room.data();
  message.msg_controllen = room.size();
  const ssize_t got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return got;
  text.resize(static_cast<std::size_t>(got));
  if (const cmsghdr* header = CMSG_FIRSTHDR(&message);
      header != nullptr && header->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    listener.reset(fd);
  }
  return got;
}

/// The broker's own configuration, which its own loader has read: what is wrong is a defect.
ChannelConfig read_channel(const json::object& order) {
  const json::object* keys = json_object(order, "channel");
  const std::string error = json_text(order, "error");
  if (keys == nullptr) throw std::invalid_argument("an order without a channel");
  auto name = ChannelName::parse(json_text(*keys, "name"));
  ChannelConfig channel{name.value()};
  if (error.empty()) {
    ChannelFromJson read = channel_from_json(*keys, "order", Side::host);
    if (!read.channel) throw std::invalid_argument(read.error);
    channel = std::move(*read.channel);
  }
  channel.error = error;
  channel.where = {json_text(order, "file"),
                   static_cast<std::uint32_t>(json_number(order, "line"))};
  return channel;
}

}  // namespace

std::pair<UniqueFd, UniqueFd> make_order_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

OrderSender::OrderSender(const asio::any_io_executor& executor, UniqueFd socket)
    : socket_(executor, socket.release()) {}

OrderSender::~OrderSender() {
  *alive_ = false;
}

void OrderSender::set_channel(const ChannelConfig& channel, const std::string& path, int listener) {
  const json::object order{{"op", "set"},
                           {"channel", channel_to_json(channel)},
                           {"path", path},
                           {"error", channel.error},
                           {"file", escape_untrusted(channel.where.file, file_bytes_max)},
                           {"line", channel.where.line}};
  send(json::serialize(order), UniqueFd(listener < 0 ? -1 : ::fcntl(listener, F_DUPFD_CLOEXEC, 0)));
}

void OrderSender::remove_channel(const ChannelName& name) {
  send(json::serialize(json::object{{"op", "remove"}, {"name", name.text()}}), {});
}

void OrderSender::begin() {
  send(R"({"op":"begin"})", {});
}

void OrderSender::send(std::string text, UniqueFd listener) {
  if (failed_) return;
  if (waiting_.size() == orders_waiting_max || text.size() > order_bytes_max) {
    failed_ = true;
    return;
  }
  waiting_.push_back({std::move(text), std::move(listener)});
  if (!flushing_) flush();
}

void OrderSender::flush() {
  flushing_ = false;
  while (!waiting_.empty()) {
    Message& message = waiting_.front();
    if (send_message(socket_.native_handle(), message.text, message.listener.get()) < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) {
        failed_ = true;
        return;
      }
      flushing_ = true;
      socket_.async_wait(asio::posix::descriptor_base::wait_write,
                         [this, alive = alive_](const auto& error) {
                           if (!error && *alive) flush();
                         });
      return;
    }
    waiting_.pop_front();
  }
}

OrderReceiver::Taken OrderReceiver::take() {
  std::string text;
  UniqueFd listener;
  const ssize_t got = receive_message(socket_.get(), text, listener);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Taken::nothing_now;
  if (got <= 0) return Taken::end;
  const json::object order = json::parse(text).as_object();
  const std::string op = json_text(order, "op");
  if (op == "begin") return Taken::begin;
  if (op == "set") {
    server_.set_channel(read_channel(order), json_text(order, "path"), std::move(listener));
  } else {
    server_.remove_channel(ChannelName::parse(json_text(order, "name")).value());
  }
  return Taken::order;
}

void OrderReceiver::take_first() {
  for (;;) {
    const Taken taken = take();
    if (taken == Taken::begin) return;
    if (taken == Taken::order) continue;
    pollfd poll{socket_.get(), POLLIN, 0};
    if (taken == Taken::end || ::poll(&poll, 1, first_orders_ms) <= 0) {
      throw StartFailure{exit_broken, "the broker does not say which channels there are"};
    }
  }
}

asio::awaitable<void> OrderReceiver::run() {
  asio::posix::stream_descriptor socket(co_await asio::this_coro::executor, socket_.get());
  for (;;) {
    Taken taken = take();
    while (taken == Taken::order) taken = take();
    if (taken == Taken::end) break;
    const auto [error] = co_await socket.async_wait(asio::posix::descriptor_base::wait_read,
                                                    asio::as_tuple(asio::use_awaitable));
    if (error) break;
  }
  socket.release();
}

}  // namespace xenlane::host
