// The applications at both ends, played by the test itself: services that listen on plain Unix
// sockets and clients of the named sockets. Neither knows of xenlane.
//
// What is sent is a pseudo-random sequence that the receiver makes again, so that a byte lost,
// doubled, altered or out of order cannot pass.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/e2e/process.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::tests {

inline constexpr std::uint64_t mebibyte = std::uint64_t{1024} * 1024;
/// What a program writes or reads at once.
inline constexpr std::size_t chunk_bytes = 64 * 1024;

/// An endless sequence of bytes, another one for each seed.
class Pattern {
 public:
  explicit Pattern(std::uint64_t seed) : seed_(seed) {}
  /// The next bytes of the sequence.
  void fill(std::span<char> out);
  /// Whether `bytes` are the next ones of the sequence.
  bool matches(std::span<const char> bytes);

 private:
  std::uint64_t seed_;
  std::uint64_t position_ = 0;
};

/// What a service that answers after end-of-file says of what it got: count and hash.
class Digest {
 public:
  void add(std::string_view bytes);
  std::string text() const;

 private:
  std::uint64_t count_ = 0;
  std::uint64_t hash_ = 0xcbf29ce484222325;
};
std::string digest_of(std::string_view bytes);

enum class Ending : std::uint8_t {
  open,    ///< still open, or the time was up
  closed,  ///< end-of-file
  failed,  ///< an error
};

/// A client of a named socket, with a deadline in everything it does.
class Client {
 public:
  Client() = default;
  /// Connects; `ok()` tells whether that worked, `error()` why not.
  explicit Client(const std::string& path);

  bool ok() const { return static_cast<bool>(socket_); }
  int error() const { return error_; }
  int fd() const { return socket_.get(); }
  void close() { socket_.reset(); }

  bool send(std::string_view bytes, Seconds within = long_enough);
  /// Sends `count` bytes of the pattern; adds them to `digest`, if there is one.
  bool send_pattern(Pattern& pattern, std::uint64_t count, Digest* digest = nullptr);
  /// shutdown(SHUT_WR)
  void finish();
  /// Receives exactly `count` bytes, fewer if it ends before.
  std::string receive(std::size_t count, Seconds within = long_enough);
  /// Receives until it ends.
  std::string receive_to_end(Seconds within = long_enough);
  /// Receives until it ends and compares with the pattern; the count, or -1 if one byte is wrong.
  std::int64_t receive_pattern_to_end(Pattern pattern);
  /// How it was ended by the other side, as far as received.
  Ending ending() const { return ending_; }

 private:
  bool wait(short events, Seconds within);

  transport::UniqueFd socket_;
  int error_ = 0;
  Ending ending_ = Ending::open;
};

/// Every client sends `count` bytes of a sequence of its own to an echo and checks what comes back,
/// all at once. True when all of them got everything, and end-of-file after it.
bool exchange_with_echo(std::span<Client> clients, std::uint64_t count);

/// For a transfer that is only to go on, and to leave the processors to others.
inline constexpr std::uint64_t bystander_rate = std::uint64_t{8} * 1024 * 1024;

/// A transfer without end, both ways through an echo, in a thread of its own; as fast as it can, or
/// at `rate` bytes a second.
class Flood {
 public:
  Flood(const std::string& path, std::uint64_t seed,
        std::uint64_t rate = std::numeric_limits<std::uint64_t>::max());
  ~Flood();

  std::uint64_t received() const { return received_; }
  /// Waits until so many bytes came back.
  bool wait_received(std::uint64_t count);
  /// Waits for the end that the other side made.
  bool wait_end(Seconds within);
  /// All that came back was right.
  bool intact() const { return intact_; }
  /// Ends it from this side, letting everything on the way come back. True when all did.
  bool finish();

 private:
  void run();

  Client client_;
  std::uint64_t seed_;
  std::uint64_t rate_;
  std::uint64_t sent_ = 0;
  std::atomic<std::uint64_t> received_{0};
  std::atomic<bool> intact_{true};
  std::atomic<bool> ended_{false};
  std::atomic<bool> finishing_{false};
  std::atomic<bool> aborting_{false};
  std::thread thread_;
};

/// A listening service; each connection has a thread that runs the handler.
class Service {
 public:
  /// The handler owns the (blocking) socket until it returns; it is closed then.
  using Handler = std::function<void(int socket)>;

  Service(const std::string& path, Handler handler);
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  ~Service();

  int open_count() const { return open_; }

 private:
  void accept_connections();

  std::string path_;
  Handler handler_;
  transport::UniqueFd listener_;
  transport::UniqueFd stop_;
  std::mutex mutex_;
  std::map<int, bool> sockets_;  ///< those that handlers have
  std::vector<std::thread> threads_;
  std::atomic<int> open_{0};
  std::thread acceptor_;
};

/// Sends back what it gets until end-of-file, then closes.
void echo(int socket);
/// Reads to end-of-file, then answers with the digest.
void answer_digest(int socket);
/// Reads "SEED COUNT\n", then sends COUNT bytes of that pattern.
void send_source(int socket);
/// Sends "done", closes its write side at once and keeps receiving; passes the digest of that on.
Service::Handler finish_then_collect(std::function<void(std::string)> report);

/// Sends "part" and then neither sends nor closes before the other side has closed altogether.
void send_part_and_stay(int socket);

/// An echo that can be killed: a process of its own.
class EchoProcess {
 public:
  explicit EchoProcess(const std::string& path);
  EchoProcess(const EchoProcess&) = delete;
  EchoProcess& operator=(const EchoProcess&) = delete;
  ~EchoProcess() { kill(); }
  void kill();

 private:
  pid_t pid_ = -1;
};

}  // namespace xenlane::tests
