// The hostile guest's hand in xenstore: plain libxenstore, no manners. Paths are relative, so
// everything is in this guest's own folder; what the permissions of real Xen let a guest do, this
// may do.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

struct xs_handle;

namespace xenlane::hostile {

/// Something that should have happened did not: the way could not be gone to its end.
struct Stuck : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Only a hang takes this long.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr std::chrono::seconds patience{60};
#else
inline constexpr std::chrono::seconds patience{20};
#endif

/// Looks until `condition` holds; `pause` is called between two looks. Throws Stuck with `what`.
void await(const std::string& what, const std::function<bool()>& condition,
           const std::function<void()>& pause);

class Store {
 public:
  Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  ~Store();

  std::optional<std::string> read(const std::string& path);
  bool write(const std::string& path, const std::string& value);
  void remove(const std::string& path);
  bool watch(const std::string& path, const std::string& token);

  std::uint32_t number(const std::string& path);

  /// The lowest epoch that the host would take; waits for the host to have said so.
  std::uint64_t wanted();
  /// An epoch that the host will take, whatever became of those before.
  std::uint64_t next_epoch();
  /// What this guest's bridge would do when its ring is ready. Remembered by next_epoch().
  void point(std::uint64_t epoch);
  void point_at(const std::string& value) { write("data/xenlane/ring", value); }

 private:
  xs_handle* handle_;
};

}  // namespace xenlane::hostile
