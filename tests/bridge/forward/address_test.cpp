// What a forward may be told to connect to, and in which one form it is compared.
#include "bridge/forward/address.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace xenlane::bridge {
namespace {

using ::testing::HasSubstr;

TEST(ForwardAddress, HasOneFormForEachThing) {
  const std::pair<const char*, const char*> forms[] = {
      {"tcp:LocalHost:22", "tcp:localhost:22"},
      {"tcp:127.0.0.1:65535", "tcp:127.0.0.1:65535"},
      {"tcp:[0:0::1]:80", "tcp:[::1]:80"},
      {"tcp:[::FFFF:127.0.0.1]:80", "tcp:[::ffff:127.0.0.1]:80"},
      {"tcp:db-1.example_x.org:5432", "tcp:db-1.example_x.org:5432"},
      {"unix:/run/a b/c", "unix:/run/a b/c"},
  };
  for (const auto& [text, form] : forms) {
    const auto address = ForwardAddress::parse(text);
    ASSERT_TRUE(address) << text << address.error().text;
    EXPECT_EQ(address->uri(), form);
    EXPECT_EQ(ForwardAddress::parse(address->uri())->uri(), form);
  }
}

// inet_aton(3) and getaddrinfo(3) take all of these for addresses, 127.0.0.1 among them.
TEST(ForwardAddress, NoNamePassesForAnAddress) {
  for (const char* host : {"127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "1.2.3.4.5",
                           "127.0.0.0x1", "example.0x1"}) {
    EXPECT_FALSE(ForwardAddress::tcp(host, 80)) << host;
  }
}

TEST(ForwardAddress, RefusesWhatIsNone) {
  for (const char* text : {"",
                           "tcp:",
                           "tcp::80",
                           "tcp:a:0",
                           "tcp:a:65536",
                           "tcp:a:+1",
                           "tcp:a: 1",
                           "tcp:a b:80",
                           "tcp:a.:80",
                           "tcp:.a:80",
                           "tcp:a..b:80",
                           "tcp:-a:80",
                           "tcp:::1:80",
                           "tcp:[a]:80",
                           "tcp:[127.0.0.1]:80",
                           "tcp:*:80",
                           "tcp:a/b:80",
                           "udp:a:1",
                           "exec:/bin/sh",
                           "unix:",
                           "unix:a",
                           "unix:/",
                           "unix:/a/",
                           "unix:/a//b",
                           "unix:/a/../b",
                           "unix:/./a",
                           "unix:/a/.."}) {
    EXPECT_FALSE(ForwardAddress::parse(text)) << text;
  }
  EXPECT_FALSE(ForwardAddress::tcp(std::string_view("a\0b", 3), 80));
  EXPECT_FALSE(ForwardAddress::tcp(std::string(254, 'a'), 80));
  EXPECT_FALSE(ForwardAddress::unix_path("/" + std::string(107, 'a')));
  EXPECT_FALSE(ForwardAddress::unix_path("/a\nb"));
}

TEST(ForwardAddress, OnlyListenersHaveAllAddresses) {
  const auto all = ForwardAddress::parse("tcp:*:80", true);
  ASSERT_TRUE(all);
  EXPECT_EQ(all->host_kind(), HostKind::any);
  EXPECT_EQ(all->uri(), "tcp:*:80");
}

}  // namespace
}  // namespace xenlane::bridge
