// Sockets are waited on for readiness and then used without blocking. So a muted server just lets
// readiness pass, and unmuting looks at everything again.
#include "transport/xensim/store/server.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <cstring>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

#include "transport/xensim/store/outbox.hpp"
#include "transport/xensim/store/store.hpp"

namespace xensim {
namespace {

using Protocol = boost::asio::local::stream_protocol;
using boost::asio::socket_base;

// Domain 0 has no quota of outstanding requests; this bounds the memory its unread replies take.
constexpr std::size_t privileged_replies_max = 256;

[[noreturn]] void throw_system_error(const boost::system::error_code& error,
                                     const std::string& path) {
  throw std::system_error(error.value(), std::system_category(), path);
}

bool is_would_block(const boost::system::error_code& error) {
  return error == boost::asio::error::would_block || error == boost::asio::error::try_again ||
         error == boost::asio::error::interrupted;
}

struct Client {
  Client(Protocol::socket accepted, Domid served_domid)
      : socket(std::move(accepted)), domid(served_domid) {}

  Protocol::socket socket;
  Domid domid;
  Decoder decoder;
  Outbox outbox;
  bool waits_to_read = false;
  bool waits_to_write = false;
};

struct Listener {
  Listener(boost::asio::io_context& io, Domid served_domid, std::string socket_path)
      : acceptor(io), domid(served_domid), path(std::move(socket_path)) {}

  Protocol::acceptor acceptor;
  Domid domid;
  std::string path;
  bool waits = false;
};

}  // namespace

class StoreServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(boost::asio::io_context& io, Quotas quotas) : io_(io), quotas_(quotas), store_(quotas) {}

  void listen(Domid domid, const std::string& path);
  void remove(Domid domid);
  void carry_out(const Outcome& outcome, ConnectionId requester = 0,
                 std::shared_ptr<RequestTicket> ticket = nullptr);
  void set_mute(bool mute);
  void drop_connections();
  void close_all();

  Store& store() { return store_; }

 private:
  using ClientPtr = std::shared_ptr<Client>;
  using ListenerPtr = std::shared_ptr<Listener>;

  void wait_to_accept(const ListenerPtr& listener);
  void accept_one(const ListenerPtr& listener);
  void wait_to_read(ConnectionId id);
  void wait_to_write(ConnectionId id);
  void read_some(ConnectionId id);
  void write_some(ConnectionId id);
  void serve(ConnectionId id);
  void serve_all();
  bool may_serve(const Client& client) const;
  void send(const Outgoing& outgoing, std::shared_ptr<RequestTicket> ticket);
  void drop(ConnectionId id);
  void close_listener(Listener& listener);
  std::shared_ptr<std::size_t>& outstanding(Domid domid);
  ClientPtr find(ConnectionId id) const;

  boost::asio::io_context& io_;
  Quotas quotas_;
  Store store_;
  std::vector<ListenerPtr> listeners_;
  std::map<ConnectionId, ClientPtr> clients_;
  std::map<Domid, std::shared_ptr<std::size_t>> outstanding_;
  bool is_muted_ = false;
};

void StoreServer::Impl::listen(Domid domid, const std::string& path) {
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    throw std::system_error(ENAMETOOLONG, std::system_category(), path);
  }
  std::error_code ignored;
  if (std::filesystem::is_socket(path, ignored)) std::filesystem::remove(path, ignored);

  auto listener = std::make_shared<Listener>(io_, domid, path);
  auto& acceptor = listener->acceptor;
  boost::system::error_code error;
  acceptor.open(Protocol(), error);
  if (error) throw_system_error(error, path);
  // On Linux the socket file gets the mode of the socket at bind, so it is never more open.
  if (::fchmod(acceptor.native_handle(), S_IRUSR | S_IWUSR) != 0) {
    throw std::system_error(errno, std::system_category(), path);
  }
  acceptor.bind(Protocol::endpoint(path), error);
  if (!error) acceptor.listen(socket_base::max_listen_connections, error);
  if (!error) acceptor.non_blocking(true, error);
  if (error) throw_system_error(error, path);
  listeners_.push_back(listener);
  store_.add_domain(domid);
  wait_to_accept(listener);
}

void StoreServer::Impl::wait_to_accept(const ListenerPtr& listener) {
  if (listener->waits || is_muted_ || !listener->acceptor.is_open()) return;
  listener->waits = true;
  listener->acceptor.async_wait(socket_base::wait_read,
                                [weak = weak_from_this(), listener](const auto& error) {
                                  listener->waits = false;
                                  const auto self = weak.lock();
                                  if (self && !error) self->accept_one(listener);
                                });
}

void StoreServer::Impl::accept_one(const ListenerPtr& listener) {
  if (is_muted_ || !listener->acceptor.is_open()) return;
  boost::system::error_code error;
  Protocol::socket socket(io_);
  listener->acceptor.accept(socket, error);
  if (!error) socket.non_blocking(true, error);
  if (!error) {
    const auto id = store_.connect(listener->domid);
    clients_[id] = std::make_shared<Client>(std::move(socket), listener->domid);
    wait_to_read(id);
  }
  wait_to_accept(listener);
}

StoreServer::Impl::ClientPtr StoreServer::Impl::find(ConnectionId id) const {
  const auto found = clients_.find(id);
  return found == clients_.end() ? nullptr : found->second;
}

std::shared_ptr<std::size_t>& StoreServer::Impl::outstanding(Domid domid) {
  auto& count = outstanding_[domid];
  if (!count) count = std::make_shared<std::size_t>(0);
  return count;
}

bool StoreServer::Impl::may_serve(const Client& client) const {
  if (is_muted_) return false;
  if (client.domid == 0) return client.outbox.reply_count() < privileged_replies_max;
  const auto count = outstanding_.find(client.domid);
  return count == outstanding_.end() || *count->second < quotas_.outstanding_requests;
}

void StoreServer::Impl::wait_to_read(ConnectionId id) {
  const auto client = find(id);
  if (!client || client->waits_to_read || !may_serve(*client)) return;
  client->waits_to_read = true;
  client->socket.async_wait(socket_base::wait_read,
                            [weak = weak_from_this(), id, client](const auto& error) {
                              client->waits_to_read = false;
                              const auto self = weak.lock();
                              if (self && !error) self->read_some(id);
                            });
}

void StoreServer::Impl::read_some(ConnectionId id) {
  const auto client = find(id);
  if (!client || !may_serve(*client)) return;
  std::array<char, payload_bytes_max> chunk;
  boost::system::error_code error;
  const auto bytes = client->socket.read_some(boost::asio::buffer(chunk), error);
  if (error && !is_would_block(error)) {
    drop(id);
    return;
  }
  if (!error) client->decoder.feed({chunk.data(), bytes});
  serve(id);
}

// Answers what has been read of one connection, and reads on when nothing is left.
void StoreServer::Impl::serve(ConnectionId id) {
  for (auto client = find(id); client && may_serve(*client); client = find(id)) {
    const auto request = client->decoder.next();
    if (client->decoder.is_broken()) {
      drop(id);
      return;
    }
    if (!request) {
      wait_to_read(id);
      return;
    }
    auto ticket = std::make_shared<RequestTicket>(outstanding(client->domid));
    carry_out(store_.handle(id, *request), id, std::move(ticket));
  }
}

// After something was freed that others may have been waiting for.
void StoreServer::Impl::serve_all() {
  std::vector<ConnectionId> ids;
  for (const auto& [id, client] : clients_) ids.push_back(id);
  for (const auto id : ids) serve(id);
}

void StoreServer::Impl::carry_out(const Outcome& outcome, ConnectionId requester,
                                  std::shared_ptr<RequestTicket> ticket) {
  for (const auto& outgoing : outcome.messages) {
    send(outgoing, ticket);
    // What follows the reply is the first event of a new watch, which counts for nobody.
    if (!outgoing.is_event && outgoing.to == requester) ticket.reset();
  }
  for (const auto id : outcome.closed) drop(id);
}

void StoreServer::Impl::send(const Outgoing& outgoing, std::shared_ptr<RequestTicket> ticket) {
  const auto client = find(outgoing.to);
  if (!client) return;
  if (!outgoing.is_event) {
    client->outbox.push_reply(outgoing.message, std::move(ticket));
  } else if (client->outbox.push_event(outgoing.message, std::move(ticket)) ==
             Outbox::Pushed::full) {
    // A guest loses the event, as in C xenstored. Domain 0, which has no such limit there, loses
    // the connection: it must not miss an event without knowing it.
    if (client->domid == 0) drop(outgoing.to);
    return;
  }
  wait_to_write(outgoing.to);
}

void StoreServer::Impl::wait_to_write(ConnectionId id) {
  const auto client = find(id);
  if (!client || client->waits_to_write || is_muted_ || client->outbox.is_empty()) return;
  client->waits_to_write = true;
  client->socket.async_wait(socket_base::wait_write,
                            [weak = weak_from_this(), id, client](const auto& error) {
                              client->waits_to_write = false;
                              const auto self = weak.lock();
                              if (self && !error) self->write_some(id);
                            });
}

void StoreServer::Impl::write_some(ConnectionId id) {
  const auto client = find(id);
  if (!client || is_muted_) return;
  while (!client->outbox.is_empty()) {
    const auto front = client->outbox.front();
    boost::system::error_code error;
    const auto sent =
        client->socket.write_some(boost::asio::buffer(front.data(), front.size()), error);
    if (error && !is_would_block(error)) {
      drop(id);
      break;
    }
    if (error) break;
    client->outbox.consume(sent);
  }
  wait_to_write(id);
  serve_all();
}

void StoreServer::Impl::drop(ConnectionId id) {
  const auto client = find(id);
  if (!client) return;
  clients_.erase(id);
  store_.disconnect(id);
  // Handlers still hold the client; what it held of others' requests must not wait for them.
  client->outbox = Outbox{};
  boost::system::error_code ignored;
  client->socket.close(ignored);
  // Later, because whoever drops one connection may be busy with another.
  boost::asio::post(io_, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->serve_all();
  });
}

void StoreServer::Impl::close_listener(Listener& listener) {
  boost::system::error_code ignored;
  listener.acceptor.close(ignored);
  ::unlink(listener.path.c_str());
}

void StoreServer::Impl::remove(Domid domid) {
  const auto outcome = store_.remove(domid);
  if (domid != 0) {
    std::erase_if(listeners_, [&](const auto& listener) {
      if (listener->domid != domid) return false;
      close_listener(*listener);
      return true;
    });
    outstanding_.erase(domid);
  }
  carry_out(outcome);
}

void StoreServer::Impl::set_mute(bool mute) {
  is_muted_ = mute;
  if (mute) return;
  for (const auto& listener : listeners_) wait_to_accept(listener);
  std::vector<ConnectionId> ids;
  for (const auto& [id, client] : clients_) ids.push_back(id);
  for (const auto id : ids) wait_to_write(id);
  serve_all();
}

void StoreServer::Impl::drop_connections() {
  while (!clients_.empty()) drop(clients_.begin()->first);
}

void StoreServer::Impl::close_all() {
  for (const auto& listener : listeners_) close_listener(*listener);
  listeners_.clear();
  drop_connections();
}

StoreServer::StoreServer(boost::asio::io_context& io, Quotas quotas)
    : impl_(std::make_shared<Impl>(io, quotas)) {}

StoreServer::~StoreServer() {
  impl_->close_all();
}

void StoreServer::listen(Domid domid, const std::string& path) {
  impl_->listen(domid, path);
}

void StoreServer::introduce(const DomainSpec& spec) {
  impl_->carry_out(impl_->store().introduce(spec));
}

void StoreServer::announce_release() {
  impl_->carry_out(impl_->store().announce_release());
}

void StoreServer::remove(Domid domid) {
  impl_->remove(domid);
}

std::optional<std::string> StoreServer::read(std::string_view path) const {
  return impl_->store().read(path);
}

void StoreServer::write(std::string_view path, std::string_view value) {
  impl_->carry_out(impl_->store().write(path, value));
}

void StoreServer::allow_reading(std::string_view path, Domid domid) {
  impl_->carry_out(impl_->store().allow_reading(path, domid));
}

void StoreServer::erase(std::string_view path) {
  impl_->carry_out(impl_->store().erase(path));
}

void StoreServer::drop_connections() {
  impl_->drop_connections();
}

void StoreServer::set_mute(bool mute) {
  impl_->set_mute(mute);
}

Usage StoreServer::usage(Domid domid) const {
  return impl_->store().usage(domid);
}

}  // namespace xensim
