#include "tests/bridge/cli/tool.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>

namespace xenlane::bridge {
namespace {

std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

ToolResult run_tool(const std::string& run_dir, const std::vector<std::string>& arguments,
                    std::string_view input, const ToolSetting& setting) {
  const TempDir dir;
  const std::string in = dir.write("in", input);
  std::vector<std::string> words = {XENLANE_TOOL, "--run-dir", run_dir};
  words.insert(words.end(), arguments.begin(), arguments.end());
  if (setting.as_nobody) {
    const std::string nobody[] = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
    words.insert(words.begin(), std::begin(nobody), std::end(nobody));
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  if (setting.without_in) {
    ::posix_spawn_file_actions_addclose(&actions, 0);
  } else if (setting.in >= 0) {
    ::posix_spawn_file_actions_adddup2(&actions, setting.in, 0);
  } else {
    ::posix_spawn_file_actions_addopen(&actions, 0, in.c_str(), O_RDONLY, 0);
  }
  constexpr int write_new = O_WRONLY | O_CREAT | O_TRUNC;
  if (setting.out >= 0) {
    ::posix_spawn_file_actions_adddup2(&actions, setting.out, 1);
  } else {
    ::posix_spawn_file_actions_addopen(&actions, 1, (dir / "out").c_str(), write_new, 0600);
  }
  ::posix_spawn_file_actions_addopen(&actions, 2, (dir / "err").c_str(), write_new, 0600);
  pid_t pid = -1;
  const int failed = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ToolResult result;
  if (failed != 0) {
    ADD_FAILURE() << argv[0] << ": " << std::strerror(failed);
    return result;
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = slurp(dir / "out");
  result.err = slurp(dir / "err");
  return result;
}

}  // namespace xenlane::bridge
