// Debian's xenstore tools, unmodified, as subprocesses against the server.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <cstdio>
#include <memory>
#include <string>

#include "tests/xensim/store/running_server.hpp"

namespace xensim::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

struct Result {
  int status = -1;
  std::string output;  ///< both streams
};

class XenstoreTools : public RunningServer {
 protected:
  using Pipe = std::unique_ptr<FILE, int (*)(FILE*)>;

  /// Starts a command line as `domid`; a tool that hangs is killed after some seconds.
  Pipe start(Domid domid, const std::string& command) {
    const auto line = "XENSTORED_PATH='" + socket_path(domid) + "' timeout 20 " + command + " 2>&1";
    return {::popen(line.c_str(), "r"), &::pclose};
  }
  static std::string read_line(FILE* pipe) {
    std::string line;
    for (int c = std::fgetc(pipe); c != EOF && c != '\n'; c = std::fgetc(pipe)) {
      line += static_cast<char>(c);
    }
    return line;
  }
  Result run(Domid domid, const std::string& command) {
    auto pipe = start(domid, command);
    Result result;
    for (int c = std::fgetc(pipe.get()); c != EOF; c = std::fgetc(pipe.get())) {
      result.output += static_cast<char>(c);
    }
    result.status = WEXITSTATUS(::pclose(pipe.release()));
    return result;
  }
};

TEST_F(XenstoreTools, ReadAndWrite) {
  EXPECT_EQ(run(5, "xenstore-write data/key value data/other 2").status, 0);
  EXPECT_EQ(run(5, "xenstore-read data/key data/other").output, "value\n2\n");
  EXPECT_EQ(run(0, "xenstore-read /local/domain/5/data/key").output, "value\n");
  const auto refused = run(5, "xenstore-read /local/domain/6/data");
  EXPECT_NE(refused.status, 0);
  EXPECT_THAT(refused.output, HasSubstr("couldn't read path /local/domain/6/data"));
}

TEST_F(XenstoreTools, ListWithPermissions) {
  run(5, "xenstore-write data/key value");
  const auto tree = run(0, "xenstore-ls -p /local/domain/5");
  EXPECT_EQ(tree.status, 0);
  // The tool fills the line up with dots.
  EXPECT_THAT(tree.output, ContainsRegex("name = \"five\"[ .]+\\(n0,r5\\)\n"));
  EXPECT_THAT(tree.output,
              ContainsRegex("data = \"\"[ .]+\\(n5\\)\n key = \"value\"[ .]+\\(n5\\)\n"));
  EXPECT_THAT(tree.output, ContainsRegex("\n static-max = \"65536\"[ .]+\\(n0,r5\\)\n"));
  const auto all = run(0, "xenstore-ls -f");
  EXPECT_THAT(all.output, HasSubstr("/local/domain/0/name = \"Domain-0\"\n"));
  EXPECT_THAT(all.output, HasSubstr("/vm/uuid-5/uuid = \"uuid-5\"\n"));
  EXPECT_EQ(run(5, "xenstore-list data").output, "key\n");
}

TEST_F(XenstoreTools, ChangeAndShowPermissions) {
  run(5, "xenstore-write data/key value");
  EXPECT_NE(run(6, "xenstore-read /local/domain/5/data/key").status, 0);
  EXPECT_EQ(run(5, "xenstore-chmod data/key n5 r6").status, 0);
  EXPECT_EQ(run(6, "xenstore-read /local/domain/5/data/key").output, "value\n");
  EXPECT_THAT(run(0, "xenstore-ls -p /local/domain/5/data").output,
              ContainsRegex("key = \"value\"[ .]+\\(n5,r6\\)\n"));
  EXPECT_NE(run(6, "xenstore-chmod /local/domain/5/data/key n6").status, 0);
}

TEST_F(XenstoreTools, Remove) {
  run(5, "xenstore-write data/a/b value");
  EXPECT_EQ(run(5, "xenstore-exists data/a/b").status, 0);
  EXPECT_EQ(run(5, "xenstore-rm data/a").status, 0);
  EXPECT_NE(run(5, "xenstore-exists data/a/b").status, 0);
  EXPECT_NE(run(5, "xenstore-rm name").status, 0);
}

TEST_F(XenstoreTools, Watch) {
  auto watch = start(5, "stdbuf -oL xenstore-watch -n 3 data");
  EXPECT_EQ(read_line(watch.get()), "data");
  run(0, "xenstore-write /local/domain/5/data/key value");
  EXPECT_EQ(read_line(watch.get()), "data/key");
  run(5, "xenstore-rm data/key");
  EXPECT_EQ(read_line(watch.get()), "data/key");
  EXPECT_EQ(::pclose(watch.release()), 0);
}

TEST_F(XenstoreTools, WatchDomainsComeAndGo) {
  auto watch = start(0, "stdbuf -oL xenstore-watch -n 3 @introduceDomain @releaseDomain");
  EXPECT_EQ(read_line(watch.get()), "@introduceDomain");
  EXPECT_EQ(read_line(watch.get()), "@releaseDomain");
  on_server([&] { server->remove(6); });
  EXPECT_EQ(read_line(watch.get()), "@releaseDomain");
  EXPECT_EQ(::pclose(watch.release()), 0);
}

}  // namespace
}  // namespace xensim::test
