#include "transport/xensim/hypervisor/control.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>

namespace xensim::hv {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using boost::system::error_code;
using Socket = asio::local::stream_protocol::socket;

/// `down` may have to wait for many domains' processes to die.
constexpr int answer_patience_ms = 120'000;

json::object refusal(const std::string& text) {
  return {{"ok", false}, {"error", text}};
}

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Socket socket, const ControlServer::Handler& handler)
      : socket_(std::move(socket)), handler_(handler) {}

  void read() {
    asio::async_read_until(socket_, asio::dynamic_buffer(line_, max_control_line), '\n',
                           [self = shared_from_this()](error_code error, std::size_t size) {
                             if (!error) self->answer(size);
                           });
  }

 private:
  void answer(std::size_t size) {
    error_code error;
    const json::value request = json::parse(line_.substr(0, size), error);
    line_.erase(0, size);
    std::function<void()> after;
    json::object reply;
    if (error || !request.is_object()) {
      reply = refusal("the request is not one line with a JSON object");
    } else {
      reply = handler_(request.get_object(), peer(), after);
    }
    reply_ = json::serialize(reply) + "\n";
    asio::async_write(socket_, asio::buffer(reply_),
                      [self = shared_from_this(), after](error_code failed, std::size_t) {
                        if (after) after();
                        if (!failed) self->read();
                      });
  }

  pid_t peer() {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    ::getsockopt(socket_.native_handle(), SOL_SOCKET, SO_PEERCRED, &credentials, &size);
    return credentials.pid;
  }

  Socket socket_;
  const ControlServer::Handler& handler_;
  std::string line_;
  std::string reply_;
};

}  // namespace

class ControlServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(asio::io_context& io, const std::string& path, Handler handler)
      : acceptor_(io), handler_(std::move(handler)) {
    ::unlink(path.c_str());
    const asio::local::stream_protocol::endpoint endpoint(path);
    acceptor_.open();
    acceptor_.bind(endpoint);
    ::chmod(path.c_str(), 0600);
    acceptor_.listen();
  }

  void accept() {
    acceptor_.async_accept([self = shared_from_this()](error_code error, Socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (!error) std::make_shared<Session>(std::move(socket), self->handler_)->read();
      self->accept();
    });
  }

  void close() { acceptor_.close(); }

 private:
  asio::local::stream_protocol::acceptor acceptor_;
  Handler handler_;
};

ControlServer::ControlServer(asio::io_context& io, const std::string& path, Handler handler)
    : impl_(std::make_shared<Impl>(io, path, std::move(handler))) {
  impl_->accept();
}

ControlServer::~ControlServer() {
  impl_->close();
}

json::object ask_broker(const std::string& path, const json::object& request) {
  asio::io_context io;
  Socket socket(io);
  socket.connect(asio::local::stream_protocol::endpoint(path));
  asio::write(socket, asio::buffer(json::serialize(request) + "\n"));
  pollfd answered{socket.native_handle(), POLLIN, 0};
  if (::poll(&answered, 1, answer_patience_ms) != 1) throw Refused("the broker does not answer");
  std::string line;
  const std::size_t size = asio::read_until(socket, asio::dynamic_buffer(line), '\n');
  const json::value reply = json::parse(line.substr(0, size));
  if (!reply.at("ok").as_bool()) throw Refused(reply.at("error").as_string().c_str());
  return reply.as_object();
}

}  // namespace xensim::hv
