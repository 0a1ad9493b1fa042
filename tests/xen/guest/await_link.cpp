// Waits for a file by inotify, as agents do for their channel, and says how it came.
//
//   await_link PATH SECONDS    prints "there", "created" or "moved in"; fails when time is up
//
// The folder has to exist. With a third argument it says "waiting" first, once it watches.
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace {

using Clock = std::chrono::steady_clock;

/// Null when the time is up.
const char* await(int watch, const std::string& name, Clock::time_point end) {
  alignas(inotify_event) std::array<char, 4096> buffer;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    pollfd poll{watch, POLLIN, 0};
    if (left.count() <= 0 || ::poll(&poll, 1, static_cast<int>(left.count())) == 0) return nullptr;
    const ssize_t got = ::read(watch, buffer.data(), buffer.size());
    for (ssize_t at = 0; at < got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
      if (event->name == name) return (event->mask & IN_CREATE) != 0 ? "created" : "moved in";
      at += static_cast<ssize_t>(sizeof *event + event->len);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: await_link PATH SECONDS [say]\n");
    return 2;
  }
  const std::filesystem::path path = argv[1];
  const auto end = Clock::now() + std::chrono::seconds(std::strtol(argv[2], nullptr, 10));
  const int watch = ::inotify_init1(IN_CLOEXEC);
  if (::inotify_add_watch(watch, path.parent_path().c_str(), IN_CREATE | IN_MOVED_TO) < 0) {
    std::perror(path.parent_path().c_str());
    return 1;
  }
  if (argc > 3) {
    std::puts("waiting");
    std::fflush(stdout);
  }
  const char* how =
      std::filesystem::is_symlink(path) ? "there" : await(watch, path.filename().string(), end);
  if (how == nullptr) {
    std::fprintf(stderr, "await_link: %s: did not come in %s s\n", argv[1], argv[2]);
    return 1;
  }
  std::puts(how);
  return 0;
}
