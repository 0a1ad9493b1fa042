#include "tests/bridge/files/hostile/scene.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <chrono>
#include <sstream>

#include "tests/support/patience.hpp"
#include "tests/support/unix_sockets.hpp"

namespace xenlane::bridge::files::hostile {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view guest = "evil";
constexpr const char* channel = "org.xenlane.files-on-host.0";

std::string slurp(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string xattrs_of(const std::string& path) {
  std::string names(64 * 1024, '\0');
  const ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
  names.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  return names;
}

std::string describe(const std::string& path) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0) return "gone";
  std::string content;
  if (S_ISREG(status.st_mode)) content = slurp(path);
  if (S_ISLNK(status.st_mode)) content = fs::read_symlink(path).string();
  return fmt::format(
      "mode {:o} owner {}:{} size {} links {} time {}.{:09} attributes {} content {}",
      status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_nlink,
      status.st_mtim.tv_sec, status.st_mtim.tv_nsec, xattrs_of(path), content);
}

int patience_ms() {
  return static_cast<int>(std::chrono::milliseconds(test::patience()).count());
}

}  // namespace

std::map<std::string, std::string> look_at(const std::string& folder) {
  std::map<std::string, std::string> seen{{folder, describe(folder)}};
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    seen[entry.path()] = describe(entry.path());
  }
  return seen;
}

Victim::Victim(std::vector<std::string> words, std::vector<std::string> environment, int in) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with("XENLANE_")) environment.emplace_back(*variable);
  }
  std::vector<char*> envp;
  for (std::string& variable : environment) envp.push_back(variable.data());
  envp.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in, 0);
  constexpr int write_new = O_WRONLY | O_CREAT | O_TRUNC;
  ::posix_spawn_file_actions_addopen(&actions, 1, (logs_ / "out").c_str(), write_new, 0600);
  ::posix_spawn_file_actions_addopen(&actions, 2, (logs_ / "err").c_str(), write_new, 0600);
  if (::posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), envp.data()) != 0) {
    pid_ = -1;
    ADD_FAILURE() << words.front() << " could not be started";
  }
  ::posix_spawn_file_actions_destroy(&actions);
}

Victim::~Victim() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

Ended Victim::wait() {
  Ended ended;
  const transport::UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  pollfd waiting{process.get(), POLLIN, 0};
  if (pid_ > 0 && ::poll(&waiting, 1, patience_ms()) == 1) {
    int status = 0;
    rusage usage{};
    ::wait4(pid_, &status, 0, &usage);
    pid_ = -1;
    ended.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    ended.peak_kib = usage.ru_maxrss;
  }
  ended.err = slurp(logs_ / "err") + slurp(logs_ / "out");
  return ended;
}

Scene::Scene(bool with_source) {
  dir_.write("outside/secret", secret);
  dir_.write("outside/folder/secret", secret);
  dir_.write("beside", secret);
  dir_.write("top/beside", secret);
  dir_.write("top/incoming/other/theirs", secret);
  dir_.write("top/incoming/evil/old", old_content);
  dir_.write("top/incoming/evil/here/kept", old_content);
  fs::create_directory_symlink(outside(), base() + "/door");
  fs::create_symlink(outside() + "/secret", base() + "/window");
  dir_.write("source/small", "a small file");
  dir_.write("source/folder/within", "a file in a folder");
  if (with_source) dir_.write("source/large", std::string(3 << 20, 'x'));
  fs::create_symlink("small", source() + "/link");
  fs::create_directory_symlink(outside(), source() + "/door");
  fs::create_hard_link(source() + "/small", source() + "/small-too");
  before_ = look_at(dir_.path());
}

std::unique_ptr<Victim> Scene::start_service(const std::vector<std::string>& options,
                                             transport::UniqueFd& connection) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) ADD_FAILURE();
  connection = transport::UniqueFd(ends[0]);
  const transport::UniqueFd theirs(ends[1]);
  std::vector<std::string> words{XENLANE_TOOL, "serve-files"};
  words.insert(words.end(), options.begin(), options.end());
  return std::make_unique<Victim>(
      words, std::vector<std::string>{"XENLANE_DOMID=7", fmt::format("XENLANE_PEER={}", guest)},
      theirs.get());
}

std::unique_ptr<Victim> Scene::start_client(const std::vector<std::string>& arguments,
                                            transport::UniqueFd& connection) {
  ::unlink((run_ / channel).c_str());
  const auto listener = tests::listen_at(run_ / channel);
  const transport::UniqueFd nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  std::vector<std::string> words{XENLANE_TOOL, "--run-dir", run_.path(), "cp"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  auto victim = std::make_unique<Victim>(words, std::vector<std::string>{}, nothing.get());
  pollfd waiting{listener.get(), POLLIN, 0};
  if (::poll(&waiting, 1, patience_ms()) == 1) {
    connection = tests::accept_at(listener);
  } else {
    ADD_FAILURE() << "xenlane cp does not connect: " << victim->wait().err;
  }
  return victim;
}

void Scene::check(const std::set<std::string>& contents, bool is_over) const {
  auto now = look_at(dir_.path());
  for (const auto& [path, was] : before_) {
    if (path.starts_with(base())) continue;
    const auto found = now.find(path);
    // The time of the folder that the guest's own one is in may change, and nothing else of it.
    EXPECT_EQ(found == now.end() ? "gone" : found->second, was) << path;
  }
  for (const auto& [path, is] : now) {
    EXPECT_TRUE(path.starts_with(base()) || before_.contains(path)) << path << " was made: " << is;
  }
  check_base(contents, is_over);
}

void Scene::check_base(const std::set<std::string>& contents, bool is_over) const {
  const std::string inside = fs::canonical(base()).string();
  for (const auto& entry : fs::recursive_directory_iterator(base())) {
    const std::string path = entry.path();
    struct stat status = {};
    ASSERT_EQ(::lstat(path.c_str(), &status), 0);
    EXPECT_TRUE(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) || S_ISLNK(status.st_mode))
        << path << " is of another type";
    const auto more_bits = static_cast<unsigned>(status.st_mode & 07000);
    EXPECT_TRUE(S_ISLNK(status.st_mode) || more_bits == 0) << path << " has mode " << more_bits;
    const std::string xattrs = xattrs_of(path);
    EXPECT_EQ(xattrs.find("trusted.xenlane"), std::string::npos) << path;
    EXPECT_EQ(xattrs.find("security.xenlane"), std::string::npos) << path;
    const bool is_partial = path.ends_with(".xenlane-part");
    EXPECT_FALSE(is_over && is_partial) << path << " was left";
    if (S_ISREG(status.st_mode) && !is_partial) {
      const std::string content = slurp(path);
      EXPECT_TRUE(content == old_content || contents.contains(content))
          << path << " is not whole: " << content.size() << " bytes";
    }
    const std::string name = entry.path().filename();
    if (!S_ISLNK(status.st_mode) || name == "door" || name == "window") continue;
    std::error_code dangles;
    const std::string target = fs::canonical(path, dangles).string();
    EXPECT_TRUE(dangles || target == inside || target.starts_with(inside + "/"))
        << path << " leads to " << target;
  }
}

void greet_as_client(Talk& talk, const Request& request) {
  talk.say(Hello{});
  talk.say(request);
  if (!talk.await(MessageType::ready)) ADD_FAILURE() << "the service is not ready";
}

void greet_as_service(Talk& talk, const Ready& ready) {
  talk.say(Hello{});
  if (!talk.await(MessageType::request)) ADD_FAILURE() << "the client asks for nothing";
  talk.say(ready);
}

}  // namespace xenlane::bridge::files::hostile
