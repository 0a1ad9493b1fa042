// What becomes of a port's end, and of what its program says, before it has a partner.
#include "bridge/channel/lone_end.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <string>

namespace xenlane::bridge {
namespace {

using transport::UniqueFd;

class LoneEndTest : public testing::Test {
 protected:
  void wait_with(std::uint64_t bytes_max) {
    int ends[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    program.reset(ends[0]);
    const auto keeps = bytes_max > 0 ? LoneEnd::Keeps::bytes : LoneEnd::Keeps::nothing;
    lone = std::make_shared<LoneEnd>(context.get_executor(), LocalEnd::of(UniqueFd(ends[1])), keeps,
                                     bytes_max);
    lone->start([this] { ++gone; });
  }
  std::size_t say(std::size_t bytes) {
    const std::string words(bytes, 'w');
    const ssize_t sent = ::send(program.get(), words.data(), words.size(), MSG_NOSIGNAL);
    context.poll();
    return sent < 0 ? 0 : static_cast<std::size_t>(sent);
  }

  boost::asio::io_context context{1};
  UniqueFd program;
  std::shared_ptr<LoneEnd> lone;
  int gone = 0;
};

TEST_F(LoneEndTest, KeepsWhatIsSaidUpToItsLimitAndLeavesTheRestInTheSocket) {
  wait_with(10000);
  EXPECT_EQ(say(9000), 9000U);
  EXPECT_EQ(say(9000), 9000U);
  auto [has_word, parts] = lone->take();
  EXPECT_TRUE(has_word);
  EXPECT_EQ(parts.bytes.size(), 10000U);
  char rest[65536];
  EXPECT_EQ(::recv(parts.local.socket.get(), rest, sizeof rest, MSG_DONTWAIT), 8000);
}

TEST_F(LoneEndTest, ThrowsAwayWhatIsSaidWhenNothingIsToBeKept) {
  wait_with(0);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(say(30000), 30000U) << "it must never have to wait";
  auto [has_word, parts] = lone->take();
  EXPECT_TRUE(has_word) << "the program is still there";
  EXPECT_TRUE(parts.bytes.empty());
}

TEST_F(LoneEndTest, ProgramThatLeavesWithoutAWordIsNoticed) {
  wait_with(10000);
  context.poll();
  program.reset();
  context.poll();
  EXPECT_EQ(gone, 1);
  EXPECT_FALSE(lone->take().first);
}

TEST_F(LoneEndTest, ProgramThatOnlyClosesItsMouthIsStillThere) {
  wait_with(10000);
  ::shutdown(program.get(), SHUT_WR);
  context.poll();
  EXPECT_EQ(gone, 0);
  program.reset();
  context.poll();
  EXPECT_EQ(gone, 1);
}

TEST_F(LoneEndTest, WordsOfOneThatHasLeftAreKeptForThePartner) {
  wait_with(10000);
  say(5);
  program.reset();
  context.poll();
  EXPECT_EQ(gone, 0);
  auto [has_word, parts] = lone->take();
  EXPECT_TRUE(has_word);
  EXPECT_EQ(parts.bytes.size(), 5U);
}

TEST_F(LoneEndTest, WithNothingKeptALeaverLeavesNothing) {
  wait_with(0);
  say(5);
  program.reset();
  context.poll();
  EXPECT_EQ(gone, 1);
}

}  // namespace
}  // namespace xenlane::bridge
