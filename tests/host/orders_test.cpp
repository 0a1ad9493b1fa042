// What a broker tells a worker arrives whole and in order, with its socket; a worker that takes
// nothing is noticed and holds up nobody.
#include "host/orders.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <string>
#include <vector>

#include "bridge/daemon/program.hpp"

namespace xenlane::host {
namespace {

using bridge::ChannelConfig;
using bridge::ChannelName;
using transport::UniqueFd;

/// A worker's table that writes down what it is told.
class Told final : public bridge::ChannelServer {
 public:
  void set_channel(const ChannelConfig& channel, const std::string& path,
                   UniqueFd listener) override {
    lines.push_back("set " + channel.name.text() + " " + path + (listener ? " socket" : "") +
                    (channel.error.empty() ? "" : " (" + channel.error + ")"));
    channels.push_back(channel);
    last_listener = std::move(listener);
  }
  void remove_channel(const ChannelName& name) override {
    lines.push_back("remove " + name.text());
  }

  std::vector<std::string> lines;
  std::vector<ChannelConfig> channels;
  UniqueFd last_listener;
};

ChannelConfig channel(const std::string& name) {
  return ChannelConfig{ChannelName::parse(name).value()};
}

ino_t inode_of(int fd) {
  struct stat found {};
  EXPECT_EQ(::fstat(fd, &found), 0);
  return found.st_ino;
}

class OrdersTest : public testing::Test {
 protected:
  OrdersTest() {
    auto [ours, theirs] = make_order_pair();
    sender.emplace(context.get_executor(), std::move(ours));
    receiver.emplace(std::move(theirs), told);
  }

  boost::asio::io_context context{1};
  Told told;
  std::optional<OrderSender> sender;
  std::optional<OrderReceiver> receiver;
};

TEST_F(OrdersTest, FirstOrdersArriveBeforeAnythingIsServed) {
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ChannelConfig listening = channel("org.a.listens");
  listening.socket_mode = 0620;
  listening.users = {0, 1000};
  listening.where = {"/etc/xenlane/host.toml", 12};
  ChannelConfig broken = channel("org.a.broken");
  broken.end = bridge::EndKind::dial;
  broken.error = "no target";
  sender->set_channel(listening, "/run/x/org.a.listens", listener.get());
  sender->set_channel(broken, "", -1);
  sender->begin();
  receiver->take_first();
  EXPECT_EQ(told.lines, (std::vector<std::string>{"set org.a.listens /run/x/org.a.listens socket",
                                                  "set org.a.broken  (no target)"}));
  EXPECT_EQ(told.channels.front(), listening);
  sender->set_channel(listening, "/run/x/org.a.listens", listener.get());
  sender->begin();
  receiver->take_first();
  EXPECT_EQ(inode_of(told.last_listener.get()), inode_of(listener.get()));
}

TEST_F(OrdersTest, LaterOrdersArriveAsTheyAreGiven) {
  boost::asio::co_spawn(context, receiver->run(), boost::asio::detached);
  sender->set_channel(channel("org.a.one"), "", -1);
  sender->remove_channel(ChannelName::parse("org.a.one").value());
  context.poll();
  EXPECT_EQ(told.lines, (std::vector<std::string>{"set org.a.one ", "remove org.a.one"}));
}

TEST_F(OrdersTest, MoreThanTheSocketHoldsWaitsAndArrives) {
  constexpr int many = 3000;
  for (int i = 0; i < many; ++i)
    sender->set_channel(channel("org.a.n" + std::to_string(i)), "", -1);
  EXPECT_TRUE(sender->works());
  boost::asio::co_spawn(context, receiver->run(), boost::asio::detached);
  context.poll();
  ASSERT_EQ(told.lines.size(), static_cast<std::size_t>(many));
  EXPECT_EQ(told.lines.back(), "set org.a.n" + std::to_string(many - 1) + " ");
}

TEST_F(OrdersTest, WorkerThatTakesNothingIsGivenUp) {
  for (std::size_t i = 0; i < orders_waiting_max + 5000; ++i) {
    sender->remove_channel(ChannelName::parse("org.a.one").value());
  }
  EXPECT_FALSE(sender->works());
}

TEST_F(OrdersTest, WorkerThatHasGoneIsNoticed) {
  receiver.reset();
  sender->begin();
  EXPECT_FALSE(sender->works());
}

TEST_F(OrdersTest, BrokerThatHasGoneBeforeTheFirstOrdersIsAFailureToStart) {
  sender.reset();
  EXPECT_THROW(receiver->take_first(), bridge::StartFailure);
}

}  // namespace
}  // namespace xenlane::host
