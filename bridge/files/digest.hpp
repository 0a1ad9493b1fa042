// The digest of a file's content: XXH3 on the path, because it costs next to nothing and the
// channel does not lose or forge bytes; SHA-256 on request.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace xenlane::bridge::files {

enum class DigestKind : std::uint8_t { xxh3 = 1, sha256 = 2 };

constexpr std::size_t digest_bytes(DigestKind kind) {
  return kind == DigestKind::xxh3 ? 16 : 32;
}

struct Digest {
  std::array<std::byte, 32> bytes{};
  std::size_t size = 0;  ///< 0: none

  std::span<const std::byte> view() const { return std::span(bytes).first(size); }
  friend bool operator==(const Digest&, const Digest&) = default;
};

/// Takes the bytes of a file in order. A copy goes on by itself.
class Hasher {
 public:
  explicit Hasher(DigestKind kind);
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();

  void update(std::span<const std::byte> bytes);
  /// `length` bytes that are zero, as in a hole.
  void update_zeros(std::uint64_t length);
  /// Of all bytes so far.
  Digest digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Takes `bytes` of an open file, from its begin on; false when there are fewer or reading fails.
bool hash_begin(int fd, std::uint64_t bytes, Hasher& hasher);

}  // namespace xenlane::bridge::files
