// Readiness is learned from the event loop, bytes move by plain calls that do not block, and every
// change leads to the same look at both ends (pump).
//
// A pty's master reports a hang-up for as long as no program has the slave open, which a waiter for
// readiness would be woken by for ever. So an epoll descriptor of its own stands between the master
// and the event loop: it wakes up once for each change. The opening of the slave is no change
// there; while input waits for it, a timer looks.
#include "transport/xensim/hypervisor/console_server.hpp"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <optional>
#include <system_error>

namespace xensim::hv {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Protocol = asio::local::stream_protocol;

/// qio_net_listener's, for a chardev.
constexpr int accept_backlog = 1;
/// What QEMU reads of a client at once (CHR_READ_BUF_LEN).
constexpr std::size_t client_read_bytes_max = 4096;
constexpr std::chrono::milliseconds opener_poll{20};
/// Looks at both ends before others have their turn.
constexpr int pump_rounds_max = 64;

[[noreturn]] void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::system_category(), what);
}

bool would_block() {
  return errno == EAGAIN || errno == EINTR;
}

/// A pty as a guest's kernel would have its hvc device: it forgets what a program has set when the
/// last one that has it open closes it.
class Tty {
 public:
  Tty();
  int master() const { return master_.get(); }
  const std::string& slave_path() const { return slave_path_; }

  bool is_open() const {
    pollfd master{master_.get(), POLLIN, 0};
    return ::poll(&master, 1, 0) >= 0 && (master.revents & POLLHUP) == 0;
  }
  /// If no program has it open: back to how a tty begins, cooked, with echo, and without input that
  /// nobody has read. `drops_output` forgets what was written, too; returns how much that was.
  std::size_t reset_if_closed(bool drops_output);
  /// Programs that have it open read end-of-file from now on and fail to write with EIO.
  void hang_up() { master_.reset(); }

 private:
  void lock(int is_locked) { ::ioctl(master_.get(), TIOCSPTLCK, &is_locked); }
  std::size_t drop_output();

  UniqueFd master_;
  std::string slave_path_;
  termios beginning_{};
};

Tty::Tty() : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)) {
  std::array<char, 64> name{};
  if (!master_ || ::grantpt(master_.get()) != 0 || ::unlockpt(master_.get()) != 0 ||
      ::ptsname_r(master_.get(), name.data(), name.size()) != 0) {
    throw_errno("no pty for a channel");
  }
  slave_path_ = name.data();
  // A master that has never seen its slave open does not report a hang-up.
  const UniqueFd slave(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave || ::tcgetattr(slave.get(), &beginning_) != 0)
    throw_errno("cannot open " + slave_path_);
}

std::size_t Tty::reset_if_closed(bool drops_output) {
  if (is_open()) return 0;
  // Somebody who opens it just now must not lose what he sets. Better that he cannot open it.
  lock(1);
  std::size_t dropped = 0;
  if (!is_open()) {
    // Done to the master, this is about the slave.
    ::tcsetattr(master_.get(), TCSAFLUSH, &beginning_);
    ::ioctl(master_.get(), TCFLSH, TCOFLUSH);
    if (drops_output) dropped = drop_output();
  }
  lock(0);
  return dropped;
}

std::size_t Tty::drop_output() {
  std::array<char, client_read_bytes_max> rest;
  std::size_t bytes = 0;
  for (ssize_t got = 0; (got = ::read(master_.get(), rest.data(), rest.size())) > 0;) {
    bytes += static_cast<std::size_t>(got);
  }
  return bytes;
}

UniqueFd edges_of(int fd) {
  UniqueFd edges(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLET;
  if (!edges || ::epoll_ctl(edges.get(), EPOLL_CTL_ADD, fd, &event) != 0) throw_errno("no epoll");
  return edges;
}

/// QEMU's one client at a time.
struct Client {
  explicit Client(Protocol::socket accepted) : socket(std::move(accepted)) {}
  Protocol::socket socket;
  bool has_hung_up = false;
  bool waits_to_read = false;
};

}  // namespace

class ConsoleServer::Channel : public std::enable_shared_from_this<Channel> {
 public:
  Channel(asio::io_context& io, ChannelPlace place, std::uint64_t seed)
      : io_(io),
        place_(std::move(place)),
        console_(seed),
        tty_edges_(io, edges_of(tty_.master()).release()),
        acceptor_(io),
        opener_timer_(io) {}

  void start();
  void close();
  const ConsoleFaults& faults() const { return console_.faults(); }
  void set_faults(const ConsoleFaults& faults);
  ChannelState state() const {
    return {place_, client_ != nullptr, tty_.is_open(), console_.backlog(), console_.counts()};
  }

 private:
  void listen();
  void wait_to_accept();
  void wait_for_tty();
  void take_edge();
  void forget_opener();
  void wait_for_client();
  void wait_for_hang_up();
  void pump();
  bool take_output();
  bool take_client_bytes();
  bool give_input();
  void offer();
  void drop_client();

  asio::io_context& io_;
  ChannelPlace place_;
  Console console_;
  Tty tty_;
  asio::posix::stream_descriptor tty_edges_;
  Protocol::acceptor acceptor_;
  std::shared_ptr<Client> client_;
  asio::steady_timer opener_timer_;
  bool waits_for_opener_ = false;
  bool is_closed_ = false;
};

void ConsoleServer::Channel::start() {
  ::unlink(place_.device.c_str());
  if (::symlink(tty_.slave_path().c_str(), place_.device.c_str()) != 0) {
    throw_errno("cannot make " + place_.device);
  }
  take_edge();  // that of its having been closed before anybody could open it
  listen();
  wait_for_tty();
}

void ConsoleServer::Channel::close() {
  is_closed_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  if (client_ != nullptr) client_->socket.close(ignored);
  client_.reset();
  tty_edges_.close(ignored);
  opener_timer_.cancel();
  ::unlink(place_.socket.c_str());
  ::unlink(place_.device.c_str());
  tty_.hang_up();
}

void ConsoleServer::Channel::listen() {
  ::unlink(place_.socket.c_str());
  error_code error;
  acceptor_.open(Protocol(), error);
  // The socket file gets the mode of the socket at bind, so it is never more open.
  if (!error) ::fchmod(acceptor_.native_handle(), S_IRUSR | S_IWUSR);
  if (!error) acceptor_.bind(Protocol::endpoint(place_.socket), error);
  if (!error) acceptor_.listen(accept_backlog, error);
  if (!error) acceptor_.non_blocking(true, error);
  if (error) {
    throw std::system_error(error.value(), std::system_category(), "cannot serve " + place_.socket);
  }
  wait_to_accept();
}

void ConsoleServer::Channel::wait_to_accept() {
  acceptor_.async_wait(Protocol::acceptor::wait_read,
                       [self = shared_from_this()](error_code error) {
                         if (error || self->is_closed_ || !self->acceptor_.is_open()) return;
                         Protocol::socket socket(self->io_);
                         self->acceptor_.accept(socket, error);
                         if (error) {
                           self->wait_to_accept();
                           return;
                         }
                         self->client_ = std::make_shared<Client>(std::move(socket));
                         self->console_.handle_client(true);
                         self->wait_for_hang_up();
                         self->pump();
                       });
}

void ConsoleServer::Channel::wait_for_hang_up() {
  client_->socket.async_wait(Protocol::socket::wait_error, [self = shared_from_this(),
                                                            client = client_](error_code error) {
    if (error || self->client_ != client) return;
    pollfd socket{client->socket.native_handle(), POLLIN, 0};
    client->has_hung_up = ::poll(&socket, 1, 0) == 1 && (socket.revents & POLLHUP) != 0;
    if (!client->has_hung_up) self->wait_for_hang_up();
    self->pump();
  });
}

void ConsoleServer::Channel::wait_for_client() {
  if (client_ == nullptr || client_->waits_to_read || console_.client_room() == 0) return;
  client_->waits_to_read = true;
  client_->socket.async_wait(Protocol::socket::wait_read,
                             [self = shared_from_this(), client = client_](error_code error) {
                               client->waits_to_read = false;
                               if (!error && self->client_ == client) self->pump();
                             });
}

void ConsoleServer::Channel::wait_for_tty() {
  tty_edges_.async_wait(asio::posix::stream_descriptor::wait_read,
                        [self = shared_from_this()](error_code error) {
                          if (error || self->is_closed_) return;
                          self->take_edge();
                          self->pump();
                          self->forget_opener();
                          self->wait_for_tty();
                        });
}

void ConsoleServer::Channel::take_edge() {
  epoll_event edge{};
  ::epoll_wait(tty_edges_.native_handle(), &edge, 1, 0);
}

void ConsoleServer::Channel::forget_opener() {
  const bool is_ring_full = console_.guest_room() == 0;
  console_.handle_output_dropped(tty_.reset_if_closed(is_ring_full));
}

void ConsoleServer::Channel::pump() {
  for (int round = 0; round < pump_rounds_max; ++round) {
    const bool took_output = take_output();
    const bool took_client_bytes = take_client_bytes();
    const bool gave_input = give_input();
    if (took_output || took_client_bytes || gave_input) continue;
    wait_for_client();
    return;
  }
  asio::post(io_, [self = shared_from_this()] {
    if (!self->is_closed_) self->pump();
  });
}

bool ConsoleServer::Channel::take_output() {
  const std::size_t room = console_.guest_room();
  if (room == 0) return false;
  std::array<char, console_out_bytes> bytes;
  const ssize_t got = ::read(tty_.master(), bytes.data(), room);
  if (got <= 0) return false;
  console_.handle_guest_output({bytes.data(), static_cast<std::size_t>(got)});
  offer();
  return true;
}

bool ConsoleServer::Channel::take_client_bytes() {
  if (client_ == nullptr) return false;
  const std::size_t room = std::min(console_.client_room(), client_read_bytes_max);
  bool has_ended = client_->has_hung_up;
  ssize_t got = 0;
  if (room > 0) {
    std::array<char, client_read_bytes_max> bytes;
    got = ::recv(client_->socket.native_handle(), bytes.data(), room, MSG_DONTWAIT);
    if (got > 0) {
      console_.handle_client_bytes({bytes.data(), static_cast<std::size_t>(got)});
      offer();
    } else if (got == 0 || !would_block()) {
      has_ended = true;
    }
  }
  // Once its client has hung up QEMU reads one time more. The rest of what was sent is lost.
  if (has_ended) drop_client();
  return got > 0;
}

bool ConsoleServer::Channel::give_input() {
  const std::string_view input = console_.poll_input();
  if (input.empty()) return false;
  if (!tty_.is_open()) {
    if (waits_for_opener_) return false;
    waits_for_opener_ = true;
    opener_timer_.expires_after(opener_poll);
    opener_timer_.async_wait([self = shared_from_this()](error_code) {
      self->waits_for_opener_ = false;
      if (!self->is_closed_) self->pump();
    });
    return false;
  }
  const ssize_t given = ::write(tty_.master(), input.data(), input.size());
  if (given <= 0) return false;
  console_.handle_input_taken(static_cast<std::size_t>(given));
  offer();
  return true;
}

void ConsoleServer::Channel::offer() {
  const std::string_view bytes = console_.poll_output();
  if (client_ == nullptr || bytes.empty()) return;
  const ssize_t sent = ::send(client_->socket.native_handle(), bytes.data(), bytes.size(),
                              MSG_DONTWAIT | MSG_NOSIGNAL);
  const bool has_ended = sent < 0 && !would_block();
  console_.handle_output_taken(sent > 0 ? static_cast<std::size_t>(sent) : 0);
  if (has_ended) drop_client();
}

void ConsoleServer::Channel::drop_client() {
  if (client_ == nullptr) return;
  error_code ignored;
  client_->socket.close(ignored);
  client_.reset();
  console_.handle_client(false);
  if (acceptor_.is_open()) wait_to_accept();
}

void ConsoleServer::Channel::set_faults(const ConsoleFaults& faults) {
  if (!faults.is_on) {
    error_code ignored;
    acceptor_.close(ignored);
    drop_client();
  }
  console_.set_faults(faults);
  if (faults.is_on && !acceptor_.is_open()) listen();
  pump();
}

ConsoleServer::~ConsoleServer() {
  while (!channels_.empty()) remove(channels_.begin()->first);
}

void ConsoleServer::add(Domid domid, const ChannelPlace& place) {
  auto& channels = channels_[domid];
  const std::uint64_t seed = (std::uint64_t{domid} << 8) + channels.size() + 1;
  const auto channel = std::make_shared<Channel>(io_, place, seed);
  channels.push_back(channel);
  channel->start();
}

void ConsoleServer::remove(Domid domid) {
  const auto found = channels_.find(domid);
  if (found == channels_.end()) return;
  for (const auto& channel : found->second) channel->close();
  channels_.erase(found);
}

void ConsoleServer::set(Domid domid, const std::string& key, const std::string& value) {
  const auto found = channels_.find(domid);
  if (found == channels_.end()) return;
  for (const auto& channel : found->second) {
    ConsoleFaults faults = channel->faults();
    apply_console_setting(faults, key, value);
    channel->set_faults(faults);
  }
}

std::vector<ChannelState> ConsoleServer::list(Domid domid) const {
  std::vector<ChannelState> states;
  const auto found = channels_.find(domid);
  if (found == channels_.end()) return states;
  for (const auto& channel : found->second) states.push_back(channel->state());
  return states;
}

}  // namespace xensim::hv
