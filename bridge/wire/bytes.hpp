// Little-endian integers to and from byte spans of fixed extent: a wrong size does not compile.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace xenlane::bridge {

template <std::unsigned_integral T>
constexpr T load_le(std::span<const std::byte, sizeof(T)> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = sizeof(T); i-- > 0;) {
    value = (value << 8) | static_cast<std::uint64_t>(bytes[i]);
  }
  return static_cast<T>(value);
}

template <std::unsigned_integral T>
constexpr void store_le(std::span<std::byte, sizeof(T)> bytes, T value) {
  std::uint64_t rest = value;
  for (std::byte& byte : bytes) {
    byte = static_cast<std::byte>(rest & 0xFF);
    rest >>= 8;
  }
}

/// Writes fields one after another into a span that the caller made large enough.
class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> out) : out_(out) {}

  template <std::unsigned_integral T>
  void put(T value) {
    store_le<T>(out_.subspan(used_).first<sizeof(T)>(), value);
    used_ += sizeof(T);
  }
  void put(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) out_[used_++] = byte;
  }
  std::size_t used() const { return used_; }

 private:
  std::span<std::byte> out_;
  std::size_t used_ = 0;
};

/// Reads fields one after another; after reading past the end everything is zero and ok() false.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> in) : in_(in) {}

  template <std::unsigned_integral T>
  T get() {
    if (left() < sizeof(T)) {
      ok_ = false;
      used_ = in_.size();
      return 0;
    }
    const T value = load_le<T>(in_.subspan(used_).first<sizeof(T)>());
    used_ += sizeof(T);
    return value;
  }
  std::span<const std::byte> get(std::size_t count) {
    if (left() < count) {
      ok_ = false;
      used_ = in_.size();
      return {};
    }
    used_ += count;
    return in_.subspan(used_ - count, count);
  }
  std::size_t left() const { return in_.size() - used_; }
  bool ok() const { return ok_; }

 private:
  std::span<const std::byte> in_;
  std::size_t used_ = 0;
  bool ok_ = true;
};

}  // namespace xenlane::bridge
