// The xenstore client (transport/xenstore/client.cpp) and a xenstored that answers what it likes,
// in pieces as it likes: replies to what was asked and to what never was, errors known and unknown,
// watch events, raw bytes, an end. Both run on one event loop that is moved by hand. xensim's own
// decoder of the same wire says what messages the bytes are, and so what each call must come to.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <charconv>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "tests/fuzz/input.hpp"
#include "transport/base/unique_fd.hpp"
#include "transport/xensim/store/wire.hpp"
#include "transport/xenstore/client.hpp"

extern "C" {
#include <xen/io/xs_wire.h>
}

namespace xenlane::fuzz {

void fuzz_xenstore_wire(Bytes input);

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using transport::Signal;
using transport::UniqueFd;
using transport::XenStore;

/// Listens on a socket whose file is removed at once: it is reached through a descriptor, so that
/// nothing stays behind however the program ends.
class Listener {
 public:
  Listener() : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    std::string folder = "/tmp/xenlane-fuzz-XXXXXX";
    FUZZ_CHECK(::mkdtemp(folder.data()) != nullptr);
    const std::string path = folder + "/s";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(static_cast<char*>(address.sun_path), sizeof address.sun_path - 1);
    FUZZ_CHECK(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
               0);
    FUZZ_CHECK(::listen(socket_.get(), 4) == 0);
    file_.reset(::open(path.c_str(), O_PATH | O_CLOEXEC));
    ::unlink(path.c_str());
    ::rmdir(folder.c_str());
    FUZZ_CHECK(file_);
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(file_.get()); }
  UniqueFd accept() const {
    return UniqueFd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  }

 private:
  UniqueFd socket_;
  UniqueFd file_;
};

/// Fewer than the client has room for: past that it declines, which no answer explains.
constexpr std::size_t waiting_max = 60;

enum class Kind { read, list, introduced, write, transaction };

/// One call of the client's, and what the answers so far must bring it to.
struct Call {
  Kind kind;
  std::optional<XenStore::Result<std::string>>
      result;  ///< lists joined by NULs, booleans as T or F
  std::optional<XenStore::Result<std::string>> expected;
};

XenStore::Error errno_code(int value) {
  return {value, boost::system::generic_category()};
}

XenStore::Error named_error(std::string_view name) {
  name = name.substr(0, name.find('\0'));
  for (const auto& known : xsd_errors) {
    if (name == known.errstring) return errno_code(known.errnum);
  }
  return errno_code(EINVAL);
}

class StoreProgram {
 public:
  StoreProgram(const Listener& listener, Input choices) : choices_(choices) {
    // A client of an earlier input may have come again just before its end.
    while (listener.accept()) {
    }
    for (auto& signal : signals_) signal = std::make_unique<Signal>(io_.get_executor());
    // With no time at all each call has given up before its answer comes.
    patient_ = choices_.below(4) != 0;
    store_.emplace(io_.get_executor(), listener.path(), patient_ ? 1h : 0ms);
    run_loop();
    server_ = listener.accept();
    FUZZ_CHECK(server_ && store_->connected());
  }

  void run() {
    while (!choices_.empty() && !ended_) {
      const auto operation = choices_.below(12);
      if (operation < 5) {
        call(static_cast<Kind>(operation));
      } else {
        answer(operation);
      }
      run_loop();
      hear_requests();
      check();
      if (choices_.below(8) == 0) check_signals();
    }
    server_.reset();
    end();
    run_loop();
    check();
    check_signals();
    store_.reset();
    run_loop();
  }

 private:
  void run_loop() {
    io_.restart();
    io_.poll();
  }
  void call(Kind kind);
  void answer(std::uint32_t operation);
  void send(std::string_view bytes);
  void hear_requests();
  void expect(const xensim::Message& message);
  void end();
  void check();
  void check_signals();

  template <typename T>
  void spawn(const std::shared_ptr<Call>& made, asio::awaitable<T> calling) {
    asio::co_spawn(io_, std::move(calling), [made](const std::exception_ptr& thrown, T value) {
      FUZZ_CHECK(!thrown && !made->result);
      made->result = to_text(std::move(value));
    });
    calls_.push_back(made);
  }
  using Text = XenStore::Result<std::string>;
  static Text to_text(Text value) { return value; }
  static Text to_text(XenStore::Error error) { return error ? Text(error) : Text(std::string()); }
  static Text to_text(XenStore::Result<bool> value) {
    return value ? Text(std::string(*value ? "T" : "F")) : Text(value.error());
  }
  static Text to_text(XenStore::Result<std::vector<std::string>> value) {
    if (!value) return value.error();
    std::string joined;
    for (const auto& part : *value) joined += part + '\0';
    return joined;
  }

  Input choices_;
  asio::io_context io_{1};
  UniqueFd server_;
  std::array<std::unique_ptr<Signal>, 3> signals_;
  std::array<bool, 3> raised_{};
  std::size_t watches_ = 0;
  std::optional<XenStore> store_;
  std::vector<std::shared_ptr<Call>> calls_;
  xensim::Decoder heard_;  ///< what the client says
  xensim::Decoder said_;   ///< what it is told
  /// Requests without an answer, by id; null for steps of a transaction.
  std::map<std::uint32_t, std::shared_ptr<Call>> waiting_;
  std::map<std::uint32_t, std::uint32_t> types_;
  std::set<std::uint32_t> late_;  ///< begun when nobody waited any more
  bool patient_ = true;
  bool ended_ = false;
};

// --- the client -------------------------------------------------------------------------------

void StoreProgram::call(Kind kind) {
  if (patient_ && waiting_.size() >= waiting_max) return;
  const auto made = std::make_shared<Call>(Call{kind, {}, {}});
  switch (kind) {
    case Kind::read:
      return spawn(made, store_->read("data/x"));
    case Kind::list:
      return spawn(made, store_->list("/local/domain"));
    case Kind::introduced:
      return spawn(made, store_->is_introduced(7));
    case Kind::write:
      if (!choices_.flag()) return spawn(made, store_->write("data/x", "value"));
      if (watches_ == signals_.size()) return;
      store_->watch("data", *signals_[watches_++]);
      return;
    case Kind::transaction:
      return spawn(made, store_->write_all({{"data/a", "1", {"n0", "r5"}}, {"data/b", "2", {}}},
                                           choices_.flag() ? "domid" : ""));
  }
}

/// Which request belongs to which call: those of one kind are heard in the order of the calls.
void StoreProgram::hear_requests() {
  std::array<char, 8192> buffer;
  for (;;) {
    const ssize_t got = ::recv(server_.get(), buffer.data(), buffer.size(), 0);
    // It hangs up itself when too many of its transactions have begun unseen.
    if (got == 0) end();
    if (got <= 0) break;
    heard_.feed({buffer.data(), static_cast<std::size_t>(got)});
  }
  while (const auto message = heard_.next()) {
    FUZZ_CHECK(types_.emplace(message->request_id, message->type).second);
    const bool in_transaction = message->transaction_id != 0;
    if (message->type == XS_TRANSACTION_END) late_.erase(message->transaction_id);
    const std::map<std::uint32_t, Kind> kinds{{XS_READ, Kind::read},
                                              {XS_DIRECTORY, Kind::list},
                                              {XS_IS_DOMAIN_INTRODUCED, Kind::introduced},
                                              {XS_WRITE, Kind::write}};
    const auto kind = kinds.find(message->type);
    std::shared_ptr<Call> owner;
    if (kind != kinds.end() && !in_transaction && message->payload.find("domid") != 0) {
      const auto next = std::find_if(calls_.begin(), calls_.end(), [&](const auto& one) {
        return one->kind == kind->second &&
               std::none_of(waiting_.begin(), waiting_.end(),
                            [&](const auto& entry) { return entry.second == one; }) &&
               !one->expected && !one->result;
      });
      if (next != calls_.end()) owner = *next;
    }
    waiting_[message->request_id] = owner;
  }
  FUZZ_CHECK(!heard_.is_broken());
  // One that nobody ends would count against the domain's quota for ever.
  FUZZ_CHECK(late_.empty() || ended_);
}

// --- xenstored --------------------------------------------------------------------------------

void StoreProgram::send(std::string_view bytes) {
  if (bytes.empty()) return;
  if (::send(server_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) return;
  said_.feed(bytes);
  while (const auto message = said_.next()) expect(*message);
  if (said_.is_broken()) end();
}

void StoreProgram::answer(std::uint32_t operation) {
  xensim::Message message;
  if (!types_.empty()) {
    const auto which = choices_.below(static_cast<std::uint32_t>(types_.size()));
    const auto asked = std::next(types_.begin(), which);
    message.request_id = asked->first;
    message.type = asked->second;
  }
  switch (operation) {
    case 5:
    case 6:
      message.payload = choices_.text(choices_.below(40));
      break;
    case 7:
      message.type = XS_ERROR;
      message.payload = xsd_errors[choices_.below(std::size(xsd_errors))].errstring;
      message.payload += '\0';
      break;
    case 8:
      message.type = XS_WATCH_EVENT;
      message.request_id = choices_.take<std::uint8_t>() % 4;
      message.payload = "data/x" + std::string(1, '\0') + std::to_string(choices_.below(5)) + '\0';
      break;
    case 9:
      message = {choices_.take<std::uint8_t>(), choices_.take<std::uint16_t>(), 0,
                 choices_.text(choices_.below(4096))};
      break;
    case 10:
      return send(choices_.text(1 + choices_.below(40)));
    default:
      message.payload = std::to_string(choices_.take<std::uint32_t>()) + '\0';
  }
  std::string bytes = xensim::encode(message);
  const std::size_t cut = choices_.below(64);
  if (cut < 16) {  // in two pieces
    send(std::string_view(bytes).substr(0, cut));
    run_loop();
    bytes.erase(0, cut);
  }
  send(bytes);
}

/// What a message that has arrived whole must bring about.
void StoreProgram::expect(const xensim::Message& message) {
  if (ended_) return;
  if (message.type == XS_WATCH_EVENT) {
    // Whatever follows the token, and whether it is ended, is nobody's business.
    const std::size_t token = message.payload.find('\0') + 1;
    if (token == 0) return;
    std::size_t index = 0;
    const char* end = message.payload.data() + message.payload.size();
    const auto parsed = std::from_chars(message.payload.data() + token, end, index);
    if (parsed.ec == std::errc{} && index < watches_) raised_[index] = true;
    return;
  }
  const auto found = waiting_.find(message.request_id);
  if (found == waiting_.end()) return;
  const auto call = found->second;
  waiting_.erase(found);
  const bool begun =
      message.type == XS_TRANSACTION_START && types_.at(message.request_id) == XS_TRANSACTION_START;
  if (begun && !patient_) {
    late_.insert(static_cast<std::uint32_t>(std::strtoul(message.payload.c_str(), nullptr, 10)));
  }
  if (!call || !patient_) return;
  if (message.type == XS_ERROR) {
    call->expected = named_error(message.payload);
  } else if (call->kind == Kind::introduced) {
    call->expected = std::string(message.payload.starts_with('T') ? "T" : "F");
  } else if (call->kind == Kind::list) {
    const bool whole = message.payload.empty() || message.payload.ends_with('\0');
    call->expected = message.payload + std::string(whole ? 0 : 1, '\0');
  } else {
    call->expected = call->kind == Kind::read ? message.payload : std::string();
  }
}

/// The connection is over, by either side.
void StoreProgram::end() {
  if (std::exchange(ended_, true)) return;
  for (const auto& [id, call] : waiting_) {
    if (call && patient_) call->expected = errno_code(ENOTCONN);
  }
}

// --- what must hold ---------------------------------------------------------------------------

void StoreProgram::check() {
  for (const auto& call : calls_) {
    if (call->kind == Kind::transaction) {
      FUZZ_CHECK(!ended_ || call->result);
    } else if (!patient_) {
      FUZZ_CHECK(call->result && call->result->has_error());
    } else {
      FUZZ_CHECK(call->result.has_value() == call->expected.has_value());
      FUZZ_CHECK(!call->result || *call->result == *call->expected);
    }
  }
}

/// A raised signal is seen once; watch events may be merged, but none may be lost or made up.
void StoreProgram::check_signals() {
  for (std::size_t i = 0; i < signals_.size(); ++i) {
    std::optional<bool> raised;
    asio::co_spawn(io_, signals_[i]->wait_for(0ms),
                   [&](const std::exception_ptr&, bool value) { raised = value; });
    run_loop();
    FUZZ_CHECK(raised == std::exchange(raised_[i], false));
  }
}

}  // namespace

void fuzz_xenstore_wire(Bytes input) {
  static const Listener listener;
  StoreProgram(listener, Input(input)).run();
}

}  // namespace xenlane::fuzz
