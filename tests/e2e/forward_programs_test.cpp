// Programs that know nothing of forwards, as they come from Debian: PostgreSQL and pgbench, Redis
// and its benchmark, nginx with wrk and curl. XENLANE_TEST_SECONDS is how long each of the
// benchmarks runs, 2 unless it is set.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "tests/e2e/forwards.hpp"

namespace xenlane::tests {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

std::string seconds_to_run() {
  const char* wanted = std::getenv("XENLANE_TEST_SECONDS");
  return wanted != nullptr && *wanted != '\0' ? wanted : "2";
}

bool has_program(const char* path) {
  return fs::exists(path);
}

/// PostgreSQL refuses to run as root.
std::vector<std::string> as_postgres(std::vector<std::string> command) {
  if (::geteuid() != 0) return command;
  std::vector<std::string> all{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
                               "--"};
  all.insert(all.end(), command.begin(), command.end());
  return all;
}

/// A folder that goes with the test, and that others may look into.
class Folder {
 public:
  explicit Folder(const std::string& name)
      : path("/tmp/xl-" + name + "-" + std::to_string(::getpid())) {
    fs::create_directory(path);
    ::chmod(path.c_str(), 0777);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  const std::string path;
};

std::string postgres_folder() {
  const fs::path all = "/usr/lib/postgresql";
  std::error_code error;
  for (const auto& version : fs::directory_iterator(all, error)) {
    if (fs::exists(version.path() / "bin/pgbench")) return version.path().string() + "/bin/";
  }
  return {};
}

TEST(ForwardPrograms, PgbenchReachesPostgresqlWithoutAnError) {
  const std::string bin = postgres_folder();
  if (bin.empty()) GTEST_SKIP() << "needs Debian's postgresql";
  const Folder folder("pg");
  const std::string data = folder.path + "/data";
  const Outcome made = run_program(
      as_postgres({bin + "initdb", "-D", data, "-U", "tester", "--auth=trust", "--no-sync"}),
      folder.path);
  ASSERT_EQ(made.code, 0) << made.err;
  const int far_port = free_port();
  const std::string log = folder.path + "/log";
  write_file(log, "");
  Process server(
      as_postgres({bin + "postgres", "-D", data, "-k", folder.path, "-p", std::to_string(far_port),
                   "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"}),
      {"/dev/null", "/dev/null", log});
  Forwards there;
  const int port = free_port();
  const Process forward =
      there.start("0", {"-L", std::to_string(port) + ":web:127.0.0.1:" + std::to_string(far_port)});
  const auto client = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin() + 1,
                     {"-h", "127.0.0.1", "-p", std::to_string(port), "-U", "tester"});
    arguments.emplace_back("postgres");
    return run_program(arguments, folder.path, "", Seconds(300));
  };
  ASSERT_TRUE(eventually([&] {
    return client({bin + "psql", "-c", "select 1"}).code == 0;
  })) << read_file(log)
      << there.said();
  const Outcome filled = client({bin + "pgbench", "-i", "-q", "-s", "1"});
  ASSERT_EQ(filled.code, 0) << filled.err;
  const Outcome outcome = client({bin + "pgbench", "-c", "8", "-T", seconds_to_run()});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("number of failed transactions: 0 (0.000%)"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("error")));
  server.signal(SIGINT);
  server.wait();
}

TEST(ForwardPrograms, RedisBenchmarkRunsOverAForwardedUnixSocket) {
  if (!has_program("/usr/bin/redis-server") || !has_program("/usr/bin/redis-benchmark")) {
    GTEST_SKIP() << "needs Debian's redis-server and redis-tools";
  }
  const Folder folder("redis");
  const std::string far_path = folder.path + "/far.sock";
  Process server({"redis-server", "--port", "0", "--unixsocket", far_path, "--save", "",
                  "--appendonly", "no", "--dir", folder.path},
                 {});
  Forwards there(R"(["unix:/tmp/xl-redis-*/far.sock"])");
  const std::string near_path = folder.path + "/near.sock";
  const Process forward = there.start("0", {"-L", near_path + ":web:" + far_path});
  ASSERT_TRUE(eventually([&] {
    return run_program({"redis-cli", "-s", near_path, "ping"}, folder.path).out == "PONG\n";
  }));
  const Outcome outcome = run_program({"redis-benchmark", "-s", near_path, "-n", "20000", "-c",
                                       "50", "-t", "set,get", "-d", "100", "--csv"},
                                      folder.path, "", Seconds(120));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("\"SET\""));
  EXPECT_THAT(outcome.out, HasSubstr("\"GET\""));
  EXPECT_THAT(outcome.out + outcome.err, Not(HasSubstr("rror")));
}

/// nginx with one page of 10,000 bytes.
class Nginx {
 public:
  Nginx() : folder("nginx"), port(free_port()) {
    std::string page(10'000, 'x');
    write_file(folder.path + "/page", page);
    write_file(folder.path + "/conf",
               std::string(::geteuid() == 0 ? "user root;\n" : "") + "worker_processes 1;\npid " +
                   folder.path + "/pid;\nerror_log " + folder.path +
                   "/error.log;\nevents { worker_connections 2000; }\nhttp {\n  access_log off;\n" +
                   "  client_body_temp_path " + folder.path + "/body;\n  proxy_temp_path " +
                   folder.path + "/proxy;\n  fastcgi_temp_path " + folder.path +
                   "/fastcgi;\n  uwsgi_temp_path " + folder.path + "/uwsgi;\n  scgi_temp_path " +
                   folder.path + "/scgi;\n  keepalive_requests 1000000;\n" +
                   "  server { listen 127.0.0.1:" + std::to_string(port) + "; root " + folder.path +
                   "; }\n}\n");
    process_ = Process({"/usr/sbin/nginx", "-c", folder.path + "/conf", "-g", "daemon off;"},
                       {"/dev/null", "/dev/null", folder.path + "/said"});
    EXPECT_TRUE(eventually([&] { return static_cast<bool>(connect_port(port)); }))
        << read_file(folder.path + "/said") << read_file(folder.path + "/error.log");
  }
  Nginx(const Nginx&) = delete;
  Nginx& operator=(const Nginx&) = delete;
  ~Nginx() {
    process_.signal(SIGTERM);
    process_.wait();
  }
  const Folder folder;
  const int port;

 private:
  Process process_;
};

TEST(ForwardPrograms, WrkWith256ConnectionsHasNoFailedRequest) {
  if (!has_program("/usr/sbin/nginx") || !has_program("/usr/bin/wrk")) {
    GTEST_SKIP() << "needs Debian's nginx-light and wrk";
  }
  const Nginx nginx;
  Forwards there;
  const int port = free_port();
  const Process forward = there.start(
      "0", {"-L", std::to_string(port) + ":web:127.0.0.1:" + std::to_string(nginx.port)});
  const Outcome outcome =
      run_program({"wrk", "-c", "256", "-t", "2", "--timeout", "30s", "-d", seconds_to_run() + "s",
                   "http://127.0.0.1:" + std::to_string(port) + "/page"},
                  there.world.dir(), "", Seconds(300));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("requests in"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("Socket errors")));
  EXPECT_THAT(outcome.out, Not(HasSubstr("Non-2xx")));
}

TEST(ForwardPrograms, CurlGoesThroughSocksWithNamesLookedUpThere) {
  if (!has_program("/usr/sbin/nginx") || !has_program("/usr/bin/curl")) {
    GTEST_SKIP() << "needs Debian's nginx-light and curl";
  }
  const Nginx nginx;
  // Only a name that the far side looks up is allowed.
  Forwards there("[\"tcp:localhost:" + std::to_string(nginx.port) + "\"]");
  const int port = free_port();
  const Process forward = there.start("0", {"-D", std::to_string(port) + ":web"});
  const auto curl = [&](const std::string& proxy, const std::string& host) {
    return run_program({"curl", "--silent", "--show-error", "--proxy",
                        proxy + "://127.0.0.1:" + std::to_string(port),
                        "http://" + host + ":" + std::to_string(nginx.port) + "/page"},
                       there.world.dir());
  };
  for (const char* proxy : {"socks5h", "socks4a"}) {
    const Outcome outcome = curl(proxy, "localhost");
    EXPECT_EQ(outcome.code, 0) << proxy << outcome.err;
    EXPECT_EQ(outcome.out.size(), 10'000U) << proxy;
  }
  const Outcome refused = curl("socks5h", "127.0.0.1");
  EXPECT_NE(refused.code, 0);
  EXPECT_THAT(refused.err, HasSubstr("(2)"));  // not allowed by ruleset (RFC 1928, section 6)
}

}  // namespace
}  // namespace xenlane::tests
