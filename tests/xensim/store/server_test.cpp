// The server over real sockets, spoken to by the real libxenstore.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <system_error>
#include <vector>

#include "tests/xensim/store/running_server.hpp"

extern "C" {
#include <xenstore.h>
}

namespace xensim::test {
namespace {

using testing::ElementsAre;

struct FreeIt {
  void operator()(void* memory) const { std::free(memory); }
};
struct CloseIt {
  void operator()(xs_handle* handle) const { xs_close(handle); }
};
using Handle = std::unique_ptr<xs_handle, CloseIt>;

class LibXenstore : public RunningServer {
 protected:
  void SetUp() override {
    RunningServer::SetUp();
    host = open_as(0);
    five = open_as(5);
    ASSERT_TRUE(host);
    ASSERT_TRUE(five);
  }
  void TearDown() override {
    host.reset();
    five.reset();
    RunningServer::TearDown();
  }

  Handle open_as(Domid domid) {
    ::setenv("XENSTORED_PATH", socket_path(domid).c_str(), 1);
    return Handle(xs_open(0));
  }

  static std::optional<std::string> read(const Handle& xs, const char* path,
                                         xs_transaction_t tx = XBT_NULL) {
    unsigned bytes = 0;
    const std::unique_ptr<void, FreeIt> value(xs_read(xs.get(), tx, path, &bytes));
    if (!value) return std::nullopt;
    return std::string(static_cast<const char*>(value.get()), bytes);
  }
  static bool write(const Handle& xs, const char* path, const std::string& value,
                    xs_transaction_t tx = XBT_NULL) {
    return xs_write(xs.get(), tx, path, value.data(), static_cast<unsigned>(value.size()));
  }
  static std::vector<std::string> list(const Handle& xs, const char* path) {
    unsigned count = 0;
    const std::unique_ptr<char*, FreeIt> names(xs_directory(xs.get(), XBT_NULL, path, &count));
    if (!names) return {};
    return {names.get(), names.get() + count};
  }
  /// Waits for one event: "path token".
  static std::string next_event(const Handle& xs) {
    unsigned count = 0;
    const std::unique_ptr<char*, FreeIt> event(xs_read_watch(xs.get(), &count));
    if (!event) return "none";
    return std::string(event.get()[XS_WATCH_PATH]) + " " + event.get()[XS_WATCH_TOKEN];
  }

  Handle host;
  Handle five;
};

TEST_F(LibXenstore, ReadsWhatItWrote) {
  EXPECT_TRUE(write(five, "data/key", "value"));
  EXPECT_EQ(read(five, "data/key"), "value");
  EXPECT_EQ(read(host, "/local/domain/5/data/key"), "value");
  EXPECT_EQ(on_server([&] { return server->read("/local/domain/5/data/key"); }), "value");
  EXPECT_EQ(on_server([&] { return server->read("/local/domain/5/none"); }), std::nullopt);
}

TEST_F(LibXenstore, MakesListsAndRemoves) {
  EXPECT_TRUE(xs_mkdir(five.get(), XBT_NULL, "data/a"));
  EXPECT_TRUE(xs_mkdir(five.get(), XBT_NULL, "data/b"));
  EXPECT_THAT(list(five, "data"), ElementsAre("a", "b"));
  EXPECT_TRUE(xs_rm(five.get(), XBT_NULL, "data/a"));
  EXPECT_THAT(list(five, "data"), ElementsAre("b"));
}

TEST_F(LibXenstore, ListsADirectoryThatTakesSeveralMessages) {
  for (int i = 0; i < 120; ++i) {
    const auto path = "/big/" + std::string(60, 'x') + std::to_string(i);
    ASSERT_TRUE(xs_mkdir(host.get(), XBT_NULL, path.c_str()));
  }
  const auto names = list(host, "/big");
  ASSERT_EQ(names.size(), 120U);
  EXPECT_EQ(names.back(), std::string(60, 'x') + "119");
}

TEST_F(LibXenstore, ReportsErrorsAsErrno) {
  EXPECT_EQ(read(five, "none"), std::nullopt);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(read(five, "/local/domain/6/data"), std::nullopt);
  EXPECT_EQ(errno, EACCES);
  EXPECT_FALSE(write(five, "a.b", "v"));
  EXPECT_EQ(errno, EINVAL);
  EXPECT_FALSE(write(five, "data/key", std::string(2048, 'x')));
  EXPECT_EQ(errno, ENOSPC);
}

TEST_F(LibXenstore, IsWhoeverOwnsTheSocket) {
  const auto six = open_as(6);
  EXPECT_EQ(read(five, "domid"), "5");
  EXPECT_EQ(read(six, "domid"), "6");
  EXPECT_EQ(read(host, "domid"), "0");
  EXPECT_FALSE(xs_is_domain_introduced(five.get(), 6));
  EXPECT_TRUE(xs_is_domain_introduced(host.get(), 6));
  EXPECT_FALSE(xs_is_domain_introduced(host.get(), 7));
  const std::unique_ptr<char, FreeIt> path(xs_get_domain_path(five.get(), 6));
  EXPECT_STREQ(path.get(), "/local/domain/6");
}

TEST_F(LibXenstore, SetsAndGetsPermissions) {
  const auto six = open_as(6);
  write(five, "data/key", "v");
  xs_permissions wanted[] = {{5, XS_PERM_NONE}, {6, XS_PERM_READ}};
  EXPECT_TRUE(xs_set_permissions(five.get(), XBT_NULL, "data/key", wanted, 2));
  unsigned count = 0;
  const std::unique_ptr<xs_permissions, FreeIt> seen(
      xs_get_permissions(six.get(), XBT_NULL, "/local/domain/5/data/key", &count));
  ASSERT_EQ(count, 2U);
  EXPECT_EQ(seen.get()[0].id, 5U);
  EXPECT_EQ(seen.get()[1].id, 6U);
  EXPECT_EQ(seen.get()[1].perms, XS_PERM_READ);
  EXPECT_FALSE(xs_set_permissions(six.get(), XBT_NULL, "/local/domain/5/data/key", wanted, 2));
}

TEST_F(LibXenstore, HearsOfChangesItWatches) {
  ASSERT_TRUE(xs_watch(host.get(), "/local/domain/5/data", "token"));
  EXPECT_EQ(next_event(host), "/local/domain/5/data token");
  write(five, "data/key", "v");
  EXPECT_EQ(next_event(host), "/local/domain/5/data/key token");
  on_server([&] { server->write("/local/domain/5/data/from/simulator", "v"); });
  EXPECT_EQ(next_event(host), "/local/domain/5/data/from/simulator token");
  EXPECT_TRUE(xs_unwatch(host.get(), "/local/domain/5/data", "token"));
}

TEST_F(LibXenstore, HearsOfDomains) {
  ASSERT_TRUE(xs_watch(host.get(), "@introduceDomain", "i"));
  ASSERT_TRUE(xs_watch(host.get(), "@releaseDomain", "r"));
  EXPECT_EQ(next_event(host), "@introduceDomain i");
  EXPECT_EQ(next_event(host), "@releaseDomain r");
  on_server([&] { server->introduce({7, "seven", "uuid-7", 1024}); });
  EXPECT_EQ(next_event(host), "@introduceDomain i");
  on_server([&] { server->announce_release(); });
  EXPECT_EQ(next_event(host), "@releaseDomain r");
  on_server([&] { server->remove(7); });
  EXPECT_EQ(next_event(host), "@releaseDomain r");
}

TEST_F(LibXenstore, CommitsATransaction) {
  const auto tx = xs_transaction_start(five.get());
  ASSERT_NE(tx, XBT_NULL);
  EXPECT_TRUE(write(five, "data/key", "v", tx));
  EXPECT_EQ(read(five, "data/key", tx), "v");
  EXPECT_EQ(read(host, "/local/domain/5/data/key"), std::nullopt);
  EXPECT_TRUE(xs_transaction_end(five.get(), tx, false));
  EXPECT_EQ(read(host, "/local/domain/5/data/key"), "v");
}

TEST_F(LibXenstore, IsToldToTryATransactionAgain) {
  write(five, "data/key", "old");
  const auto tx = xs_transaction_start(host.get());
  EXPECT_EQ(read(host, "/local/domain/5/data/key", tx), "old");
  write(five, "data/key", "new");
  EXPECT_TRUE(write(host, "/result", "v", tx));
  EXPECT_FALSE(xs_transaction_end(host.get(), tx, false));
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(read(host, "/result"), std::nullopt);
}

TEST_F(LibXenstore, LosesItsTransactionsAndWatchesWhenItCloses) {
  ASSERT_NE(xs_transaction_start(five.get()), XBT_NULL);
  ASSERT_TRUE(xs_watch(five.get(), "data", "t"));
  EXPECT_EQ(on_server([&] { return server->usage(5).transactions; }), 1U);
  EXPECT_EQ(on_server([&] { return server->usage(5).watches; }), 1U);
  five.reset();
  // The server reads the end of one socket before or after a request on another: ask until then.
  const auto again = open_as(5);
  while (on_server([&] { return server->usage(5).transactions; }) != 0) {
    ASSERT_EQ(read(again, "domid"), "5");
  }
  EXPECT_EQ(on_server([&] { return server->usage(5).watches; }), 0U);
}

TEST_F(LibXenstore, IsCutOffWhenItsDomainIsRemoved) {
  on_server([&] { server->remove(5); });
  EXPECT_EQ(read(five, "domid"), std::nullopt);
  EXPECT_FALSE(std::filesystem::exists(socket_path(5)));
  EXPECT_EQ(read(host, "/local/domain/5/domid"), std::nullopt);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(read(host, "/local/domain/6/domid"), "6");
}

TEST_F(LibXenstore, FindsADomainThatCameBackUnderTheSameNumber) {
  write(five, "data/key", "v");
  on_server([&] {
    server->remove(5);
    server->introduce({5, "later", "uuid-5b", 1024});
    server->listen(5, socket_path(5));
  });
  const auto later = open_as(5);
  ASSERT_TRUE(later);
  EXPECT_EQ(read(later, "name"), "later");
  EXPECT_EQ(read(later, "data/key"), std::nullopt);
}

TEST_F(LibXenstore, FindsASocketForItsUserOnly) {
  struct stat status {};
  ASSERT_EQ(::stat(socket_path(5).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST_F(LibXenstore, FindsTheServerOnASocketThatReplacedAStaleOne) {
  on_server([&] { server->listen(5, socket_path(6)); });
  EXPECT_EQ(read(open_as(6), "domid"), "5");
}

TEST_F(LibXenstore, IsNotServedWhereNoSocketCanBe) {
  on_server([&] {
    EXPECT_THROW(server->listen(5, "/nonexistent/socket"), std::system_error);
    EXPECT_THROW(server->listen(5, "/tmp/" + std::string(200, 'x')), std::system_error);
  });
}

}  // namespace
}  // namespace xensim::test
