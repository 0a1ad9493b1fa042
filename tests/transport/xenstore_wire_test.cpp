// The xenstore client against a xenstored that says whatever the test wants, on a socket and on a
// device.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include <atomic>

#include "tests/support/fake_xenstored.hpp"
#include "tests/transport/xenstore_fixture.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::transport {
namespace {

class XenStoreFake : public XenStoreClient {
 protected:
  void connect_to(FakeXenstored::Answer answer) {
    const std::string path = (directory / "fake").string();
    fake.emplace(path, std::move(answer));
    store.emplace(io.get_executor(), path, 2000ms);
    ASSERT_EQ(run(store->wait_connected(5000ms)), XenStore::Error{});
  }
  void TearDown() override {
    store.reset();
    poll();
    fake.reset();
    XenStoreClient::TearDown();
  }
  std::optional<FakeXenstored> fake;
};

TEST_F(XenStoreFake, TransactionIsTriedAgainOnConflictButNotForEver) {
  std::atomic<int> ends{0};
  std::atomic<int> conflicts{3};
  connect_to([&](const auto& header, const std::string&) {
    if (header.type == xs_transaction_start) {
      return FakeXenstored::message(header.type, header.request, std::string("9\0", 2));
    }
    if (header.type == xs_transaction_end && ++ends <= conflicts) {
      return FakeXenstored::message(xs_error, header.request, std::string("EAGAIN\0", 7));
    }
    return FakeXenstored::message(header.type, header.request, std::string("OK\0", 3));
  });
  EXPECT_EQ(run(store->write_all({{"a", "1", {}}})), XenStore::Error{});
  EXPECT_EQ(ends, 4);
  conflicts = 1'000'000;
  ends = 0;
  EXPECT_EQ(run(store->write_all({{"a", "1", {}}})), error(EAGAIN));
  EXPECT_EQ(ends, 20);
}

TEST_F(XenStoreFake, ReplyThatClaimsTooMuchEndsTheConnection) {
  connect_to([](const auto& header, const std::string&) {
    return FakeXenstored::message(header.type, header.request, "x", 4097);
  });
  EXPECT_EQ(run(store->read("a")).error(), error(ENOTCONN));
}

TEST_F(XenStoreFake, ConnectionThatClosesFailsWhatWaits) {
  connect_to([](const auto&, const std::string&) { return std::string(); });
  EXPECT_EQ(run(store->read("a")).error(), error(ENOTCONN));
}

TEST_F(XenStoreFake, ReplyInPiecesAndJunkAroundItDoNoHarm) {
  connect_to([](const auto& header, const std::string&) {
    using Fake = FakeXenstored;
    return Fake::message(xs_watch_event, 0, "") + Fake::message(xs_watch_event, 0, "path") +
           Fake::message(xs_watch_event, 0, std::string("path\0junk\0", 10)) +
           Fake::message(xs_watch_event, 0, std::string("path\00099999999999999999999\0", 26)) +
           Fake::message(xs_read, header.request + 1000, "for nobody") +
           Fake::message(xs_error, 0, "") + Fake::message(header.type, header.request, "value");
  });
  EXPECT_EQ(run(store->read("a")).value(), "value");
  EXPECT_EQ(run(store->read("b")).value(), "value");
}

TEST_F(XenStoreFake, UnknownErrorsAreErrorsToo) {
  connect_to([](const auto& header, const std::string& body) {
    const std::string text = body.starts_with("none") ? "" : "EWHATEVER";
    return FakeXenstored::message(xs_error, header.request, text);
  });
  EXPECT_EQ(run(store->read("a")).error(), error(EINVAL));
  EXPECT_EQ(run(store->read("none")).error(), error(EINVAL));
}

/// What xenstore is in a guest: a device of the kernel's, here a terminal's, and no socket.
class XenStoreDevice : public XenStoreClient {
 protected:
  void SetUp() override {
    XenStoreClient::SetUp();
    kernel.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_EQ(::grantpt(kernel.get()), 0);
    ASSERT_EQ(::unlockpt(kernel.get()), 0);
    path = ::ptsname(kernel.get());
    termios raw{};
    ASSERT_EQ(::tcgetattr(kernel.get(), &raw), 0);
    ::cfmakeraw(&raw);
    ASSERT_EQ(::tcsetattr(kernel.get(), TCSANOW, &raw), 0);
  }
  /// Answers one request as the kernel would, in a thread of its own.
  std::thread answer_one(const std::string& value) {
    return std::thread([this, value] {
      FakeXenstored::Header header{};
      read_all(&header, sizeof header);
      std::string body(header.size, '\0');
      read_all(body.data(), body.size());
      const std::string reply = FakeXenstored::message(header.type, header.request, value);
      EXPECT_EQ(::write(kernel.get(), reply.data(), reply.size()),
                static_cast<ssize_t>(reply.size()));
    });
  }
  void read_all(void* to, std::size_t size) {
    char* next = static_cast<char*>(to);
    while (size > 0) {
      const ssize_t got = ::read(kernel.get(), next, size);
      if (got <= 0) {
        ADD_FAILURE() << "the client went away";
        return;
      }
      next += got;
      size -= static_cast<std::size_t>(got);
    }
  }

  UniqueFd kernel;
  std::string path;
};

TEST_F(XenStoreDevice, IsSpokenToAsASocketIs) {
  store.emplace(io.get_executor(), path, 5000ms);
  ASSERT_EQ(run(store->wait_connected(5000ms)), XenStore::Error{});
  for (const std::string value : {"one", "two"}) {
    std::thread answering = answer_one(value);
    EXPECT_EQ(run(store->read("a")).value(), value);
    answering.join();
  }
}

TEST_F(XenStoreDevice, ThatMayNotBeOpenedIsAnError) {
  kernel.reset();  // and with it the device
  store.emplace(io.get_executor(), directory.string(), 5000ms);
  EXPECT_EQ(run(store->wait_connected(1ms)), error(EISDIR));
}

}  // namespace
}  // namespace xenlane::transport
