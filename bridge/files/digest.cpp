#include "bridge/files/digest.hpp"

#include <openssl/evp.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <vector>

namespace xenlane::bridge::files {

namespace {

struct FreeXxh {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};
struct FreeEvp {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

void must(bool worked) {
  if (!worked) throw std::bad_alloc();
}

constexpr std::array<std::byte, 64 * 1024> zeros{};
/// What is read and hashed at once.
constexpr std::size_t hashed_bytes = 256 * 1024;

}  // namespace

struct Hasher::State {
  std::unique_ptr<XXH3_state_t, FreeXxh> xxh;
  std::unique_ptr<EVP_MD_CTX, FreeEvp> evp;
};

Hasher::Hasher(DigestKind kind) : state_(std::make_unique<State>()) {
  if (kind == DigestKind::xxh3) {
    state_->xxh.reset(XXH3_createState());
    must(state_->xxh != nullptr && XXH3_128bits_reset(state_->xxh.get()) == XXH_OK);
  } else {
    state_->evp.reset(EVP_MD_CTX_new());
    must(state_->evp != nullptr &&
         EVP_DigestInit_ex(state_->evp.get(), EVP_sha256(), nullptr) == 1);
  }
}

Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

void Hasher::update(std::span<const std::byte> bytes) {
  if (state_->xxh) {
    must(XXH3_128bits_update(state_->xxh.get(), bytes.data(), bytes.size()) == XXH_OK);
  } else {
    must(EVP_DigestUpdate(state_->evp.get(), bytes.data(), bytes.size()) == 1);
  }
}

void Hasher::update_zeros(std::uint64_t length) {
  while (length > 0) {
    const auto piece = static_cast<std::size_t>(std::min<std::uint64_t>(length, zeros.size()));
    update(std::span(zeros).first(piece));
    length -= piece;
  }
}

Digest Hasher::digest() const {
  Digest out;
  if (state_->xxh) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_->xxh.get()));
    out.size = digest_bytes(DigestKind::xxh3);
    std::memcpy(out.bytes.data(), canonical.digest, out.size);
    return out;
  }
  // Finishing ends a context, and whoever resumes goes on.
  const std::unique_ptr<EVP_MD_CTX, FreeEvp> copy(EVP_MD_CTX_new());
  must(copy != nullptr && EVP_MD_CTX_copy_ex(copy.get(), state_->evp.get()) == 1);
  unsigned int size = 0;
  must(EVP_DigestFinal_ex(copy.get(), reinterpret_cast<unsigned char*>(out.bytes.data()), &size) ==
       1);
  out.size = size;
  return out;
}

bool hash_begin(int fd, std::uint64_t bytes, Hasher& hasher) {
  std::vector<std::byte> buffer(
      static_cast<std::size_t>(std::min<std::uint64_t>(bytes, hashed_bytes)));
  for (std::uint64_t at = 0; at < bytes;) {
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes - at, buffer.size()));
    const ssize_t got = ::pread(fd, buffer.data(), wanted, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    hasher.update(std::span(buffer).first(static_cast<std::size_t>(got)));
    at += static_cast<std::uint64_t>(got);
  }
  return true;
}

}  // namespace xenlane::bridge::files
