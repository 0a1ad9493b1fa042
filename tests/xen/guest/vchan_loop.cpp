// A bare libxenvchan transfer, as fast as the library makes it: blocking writes and reads of 64
// KiB, nothing in between. What a bridge costs is measured against it.
//
//   vchan_loop serve DOMID PATH           in the guest: takes what comes, until the client goes
//   vchan_loop send DOMID PATH BYTES      in domain 0: sends so much and prints MB a second
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

extern "C" {
#include <libxenvchan.h>
}

namespace {

constexpr std::size_t block_bytes = 64 * 1024;
constexpr std::size_t ring_bytes = 1024 * 1024;
/// Answers are single bytes.
constexpr std::size_t answer_ring_bytes = 4096;

using Vchan = std::unique_ptr<libxenvchan, decltype(&libxenvchan_close)>;

/// Takes a count and that many bytes, then answers with one byte. False when the client has gone.
bool take(libxenvchan* vchan, std::vector<char>& block) {
  std::uint64_t left = 0;
  if (libxenvchan_recv(vchan, &left, sizeof left) != sizeof left) return false;
  while (left > 0) {
    const int got =
        libxenvchan_read(vchan, block.data(), std::min<std::size_t>(left, block.size()));
    if (got <= 0) return false;
    left -= static_cast<std::uint64_t>(got);
  }
  return libxenvchan_send(vchan, ".", 1) == 1;
}

int serve(int domid, const char* path) {
  const Vchan vchan(libxenvchan_server_init(nullptr, domid, path, ring_bytes, answer_ring_bytes),
                    libxenvchan_close);
  if (!vchan) return 1;
  vchan->blocking = -1;  // a signed bit
  std::vector<char> block(block_bytes);
  while (take(vchan.get(), block)) {
  }
  return 0;
}

int send(int domid, const char* path, std::uint64_t count) {
  const Vchan vchan(libxenvchan_client_init(nullptr, domid, path), libxenvchan_close);
  if (!vchan) return 1;
  vchan->blocking = -1;  // a signed bit
  std::vector<char> block(block_bytes);
  const auto begin = std::chrono::steady_clock::now();
  bool whole = libxenvchan_send(vchan.get(), &count, sizeof count) == sizeof count;
  for (std::uint64_t sent = 0; whole && sent < count;) {
    const int done = libxenvchan_write(vchan.get(), block.data(),
                                       std::min<std::size_t>(count - sent, block.size()));
    whole = done > 0;
    if (whole) sent += static_cast<std::uint64_t>(done);
  }
  char answer = 0;
  whole = whole && libxenvchan_recv(vchan.get(), &answer, 1) == 1;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  if (!whole) return 1;
  std::printf("%.1f\n", double(count) / took.count() / 1e6);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view verb = argc > 3 ? argv[1] : "";
  int status = 64;
  if (verb == "serve" && argc == 4) status = serve(std::atoi(argv[2]), argv[3]);
  if (verb == "send" && argc == 5) {
    status = send(std::atoi(argv[2]), argv[3], std::strtoull(argv[4], nullptr, 10));
  }
  if (status == 64) {
    std::fputs("usage: vchan_loop serve DOMID PATH | send DOMID PATH BYTES\n", stderr);
  } else if (status != 0) {
    std::perror("vchan_loop");
  }
  return status;
}
