#include "tests/hostile/store.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

extern "C" {
#include <xenstore.h>
}

namespace xenlane::hostile {

namespace {

/// Where this program, whose every run goes one way and ends, remembers its epochs. Not below
/// data/xenlane: the ways take that folder apart.
constexpr const char* last_epoch_path = "data/hostile-epoch";

constexpr std::chrono::milliseconds look_every{2};

}  // namespace

void await(const std::string& what, const std::function<bool()>& condition,
           const std::function<void()>& pause) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) throw Stuck("waited in vain for " + what);
    pause();
  }
}

Store::Store() : handle_(::xs_open(0)) {
  if (handle_ == nullptr) throw Stuck(std::string("xenstore: ") + std::strerror(errno));
}

Store::~Store() {
  ::xs_close(handle_);
}

std::optional<std::string> Store::read(const std::string& path) {
  unsigned size = 0;
  void* const value = ::xs_read(handle_, XBT_NULL, path.c_str(), &size);
  if (value == nullptr) return std::nullopt;
  std::string copy(static_cast<const char*>(value), size);
  std::free(value);
  return copy;
}

bool Store::write(const std::string& path, const std::string& value) {
  return ::xs_write(handle_, XBT_NULL, path.c_str(), value.data(),
                    static_cast<unsigned>(value.size()));
}

void Store::remove(const std::string& path) {
  ::xs_rm(handle_, XBT_NULL, path.c_str());
}

bool Store::watch(const std::string& path, const std::string& token) {
  return ::xs_watch(handle_, path.c_str(), token.c_str());
}

std::uint32_t Store::number(const std::string& path) {
  const auto text = read(path);
  if (!text) throw Stuck("xenstore has no " + path);
  return static_cast<std::uint32_t>(std::strtoul(text->c_str(), nullptr, 10));
}

std::uint64_t Store::wanted() {
  std::optional<std::string> text;
  await(
      "the host's wish for a lane", [&] { return (text = read("xenlane/wanted")).has_value(); },
      [] { std::this_thread::sleep_for(look_every); });
  return std::strtoull(text->c_str(), nullptr, 10);
}

// The host is about to ask for one above the last one, if it does not yet: so that one will do.
std::uint64_t Store::next_epoch() {
  const std::string last = read(last_epoch_path).value_or("0");
  return std::max<std::uint64_t>(wanted(), std::strtoull(last.c_str(), nullptr, 10) + 1);
}

void Store::point(std::uint64_t epoch) {
  write(last_epoch_path, std::to_string(epoch));
  point_at(std::to_string(epoch));
}

}  // namespace xenlane::hostile
