// Messages over a socket: content that goes from the file's own pages, and a peer that talks while
// it does not take any.
#include "bridge/files/wire.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <thread>

#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::files {
namespace {

using transport::UniqueFd;

constexpr std::size_t large_bytes = 8 * 1024 * 1024;
constexpr std::size_t piece_bytes = 256 * 1024;

Bytes counted(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; i += sizeof i) std::memcpy(bytes.data() + i, &i, sizeof i);
  return bytes;
}

class FilesWire : public testing::Test {
 protected:
  FilesWire() : content_(counted(large_bytes)), file_(::memfd_create("content", MFD_CLOEXEC)) {
    std::signal(SIGPIPE, SIG_IGN);
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ours_ = UniqueFd(ends[0]);
    theirs_ = UniqueFd(ends[1]);
    fill(content_.size());
  }

  /// The file: so many bytes of the content.
  void fill(std::size_t size) {
    EXPECT_EQ(::ftruncate(file_.get(), 0), 0);
    EXPECT_EQ(::pwrite(file_.get(), content_.data(), size, 0), static_cast<ssize_t>(size));
  }

  /// Sends the content in pieces, as having been read from the file.
  void send(WireWriter& out, int file) const {
    for (std::size_t at = 0; at < content_.size(); at += piece_bytes) {
      out.data_of_file(BytesView(content_).subspan(at, piece_bytes), file, at);
    }
  }

  /// What the data messages bring until the end.
  static Bytes received(int socket) {
    WireReader in(socket);
    Bytes all;
    for (Header header; in.next(header);) {
      EXPECT_EQ(header.type, MessageType::data);
      for (BytesView piece = in.piece(); !piece.empty(); piece = in.piece()) {
        all.insert(all.end(), piece.begin(), piece.end());
      }
    }
    return all;
  }

  void expect_content_with(int file) {
    Bytes arrived;
    std::thread reader([this, &arrived] { arrived = received(theirs_.get()); });
    {
      WireWriter out(ours_.get());
      send(out, file);
    }
    ours_ = UniqueFd();
    reader.join();
    EXPECT_TRUE(arrived == content_);
  }

  Bytes content_;
  UniqueFd file_;
  UniqueFd ours_;
  UniqueFd theirs_;
};

TEST_F(FilesWire, ContentComesFromTheFile) {
  expect_content_with(file_.get());
}

TEST_F(FilesWire, OfAFileThatHasBecomeShorterWhatWasReadIsSent) {
  fill(content_.size() / 2 + 1000);
  expect_content_with(file_.get());
}

TEST_F(FilesWire, OfAFileWhosePagesCannotBePassedOnWhatWasReadIsSent) {
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  const UniqueFd writing(ends[1]);
  expect_content_with(reading.get());
}

/// Both sides would wait for ever if neither read while it writes.
TEST_F(FilesWire, WhoeverCannotSendReadsMeanwhile) {
  std::size_t taken = 0;
  Bytes some(piece_bytes);
  std::thread other([this] {
    WireWriter out(theirs_.get());
    send(out, file_.get());
    EXPECT_EQ(::shutdown(theirs_.get(), SHUT_WR), 0);
    EXPECT_TRUE(received(theirs_.get()) == content_);
  });
  {
    WireWriter out(ours_.get());
    out.while_waiting([&] {
      const ssize_t got = ::recv(ours_.get(), some.data(), some.size(), MSG_DONTWAIT);
      if (got > 0) taken += static_cast<std::size_t>(got);
    });
    send(out, file_.get());
  }
  EXPECT_GT(taken, 0U);
  EXPECT_EQ(::shutdown(ours_.get(), SHUT_WR), 0);
  for (ssize_t got = 1; got > 0; taken += static_cast<std::size_t>(got)) {
    got = ::read(ours_.get(), some.data(), some.size());
    ASSERT_GE(got, 0);
  }
  EXPECT_GT(taken, content_.size());
  other.join();
}

TEST_F(FilesWire, PeerThatHasGoneIsToldOf) {
  theirs_ = UniqueFd();
  WireWriter out(ours_.get());
  EXPECT_THROW(send(out, file_.get()), WireBroken);
}

}  // namespace
}  // namespace xenlane::bridge::files
