// What becomes of an exception in a coroutine that nobody waits for.
#include "transport/base/spawn.hpp"

#include <gtest/gtest.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <stdexcept>
#include <string>

namespace xenlane::transport {
namespace {

namespace asio = boost::asio;

/// Fails not at once but when the event loop has come back to it.
asio::awaitable<void> accept_until_it_fails(bool& waited) {
  co_await asio::post(asio::use_awaitable);
  waited = true;
  throw std::runtime_error("accept: no such luck");
}

asio::awaitable<void> accept_once(bool& accepted) {
  co_await asio::post(asio::use_awaitable);
  accepted = true;
}

TEST(OrThrow, ExceptionReachesWhoeverRunsTheLoop) {
  asio::io_context context;
  bool waited = false;
  asio::co_spawn(context, accept_until_it_fails(waited), or_throw);
  std::string message = "(none)";
  try {
    context.run();
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  EXPECT_TRUE(waited);
  EXPECT_EQ(message, "accept: no such luck");
}

TEST(OrThrow, OthersAreLeftAsTheyWere) {
  asio::io_context context;
  bool waited = false;
  bool accepted = false;
  asio::co_spawn(context, accept_until_it_fails(waited), or_throw);
  asio::co_spawn(context, accept_once(accepted), or_throw);
  EXPECT_THROW(context.run(), std::runtime_error);
  EXPECT_NO_THROW(context.run()) << "the exception is thrown once";
  EXPECT_TRUE(accepted);
}

TEST(OrThrow, CoroutineThatEndsWellIsNoNews) {
  asio::io_context context;
  bool accepted = false;
  asio::co_spawn(context, accept_once(accepted), or_throw);
  EXPECT_NO_THROW(context.run());
  EXPECT_TRUE(accepted);
}

}  // namespace
}  // namespace xenlane::transport
