// What a rule of `allow` lets through, and above all what it does not.
#include "bridge/forward/rule.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace xenlane::bridge {
namespace {

bool allows(const char* rule, const char* address) {
  const auto parsed = ForwardRule::parse(rule);
  EXPECT_TRUE(parsed) << rule << ": " << parsed.error().text;
  const auto wanted = ForwardAddress::parse(address, true);
  EXPECT_TRUE(wanted) << address;
  return parsed && wanted && parsed->allows(*wanted);
}

TEST(ForwardRule, PortsAreOneOrARangeOrAll) {
  EXPECT_TRUE(allows("tcp:localhost:22", "tcp:localhost:22"));
  EXPECT_FALSE(allows("tcp:localhost:22", "tcp:localhost:23"));
  EXPECT_FALSE(allows("tcp:localhost:8000-8002", "tcp:localhost:7999"));
  EXPECT_TRUE(allows("tcp:localhost:8000-8002", "tcp:localhost:8000"));
  EXPECT_TRUE(allows("tcp:localhost:8000-8002", "tcp:localhost:8002"));
  EXPECT_FALSE(allows("tcp:localhost:8000-8002", "tcp:localhost:8003"));
  EXPECT_TRUE(allows("tcp:localhost:*", "tcp:localhost:65535"));
}

TEST(ForwardRule, NamesAndAddressesAreNotEachOther) {
  EXPECT_FALSE(allows("tcp:localhost:*", "tcp:127.0.0.1:22"));
  EXPECT_FALSE(allows("tcp:127.0.0.1:*", "tcp:localhost:22"));
  EXPECT_TRUE(allows("tcp:10.*:*", "tcp:10.1.2.3:22"));
  EXPECT_FALSE(allows("tcp:10.*:*", "tcp:10.1.2.3.evil.example:22"));
  EXPECT_FALSE(allows("tcp:10.0.0.?:*", "tcp:10.0.0.12:22"));
  EXPECT_TRUE(allows("tcp:*.Example.org:*", "tcp:db.example.org:22"));
  EXPECT_FALSE(allows("tcp:*.example.org:*", "tcp:example.org.evil.example:22"));
  EXPECT_FALSE(allows("tcp:*.*:*", "tcp:db.example.org:22")) << "only dots: addresses";
  EXPECT_TRUE(allows("tcp:[::1]:*", "tcp:[0::1]:22"));
  EXPECT_FALSE(allows("tcp:[::1]:*", "tcp:[::2]:22"));
  EXPECT_TRUE(allows("tcp:[*]:*", "tcp:[::2]:22"));
  EXPECT_FALSE(allows("tcp:[*]:*", "tcp:127.0.0.1:22"));
  EXPECT_FALSE(allows("tcp:127.0.0.1:*", "tcp:[::ffff:127.0.0.1]:22"));
  for (const char* host : {"tcp:a:1", "tcp:127.0.0.1:1", "tcp:[::1]:1", "tcp:*:1"}) {
    EXPECT_TRUE(allows("tcp:*:*", host)) << host;
  }
  // Only the rule for all lets a listener have all addresses.
  for (const char* rule : {"tcp:localhost:*", "tcp:*.*.*.*:*", "tcp:[*]:*", "tcp:a*:*"}) {
    EXPECT_FALSE(allows(rule, "tcp:*:80")) << rule;
  }
}

TEST(ForwardRule, StarsOfPathsStayWithinAFolder) {
  EXPECT_TRUE(allows("unix:/run/db.sock", "unix:/run/db.sock"));
  EXPECT_TRUE(allows("unix:/run/*/sock", "unix:/run/db/sock"));
  EXPECT_FALSE(allows("unix:/run/*/sock", "unix:/run/a/b/sock"));
  EXPECT_FALSE(allows("unix:/run/*", "unix:/run/a/b"));
  EXPECT_FALSE(allows("unix:/run/*", "unix:/run"));
  EXPECT_FALSE(allows("unix:/run/?", "unix:/run/ab"));
  EXPECT_FALSE(allows("unix:/run/*", "tcp:localhost:1"));
  EXPECT_FALSE(allows("tcp:*:*", "unix:/run/a"));
}

TEST(ForwardRule, NothingListedIsNothingAllowed) {
  EXPECT_FALSE(is_allowed({}, *ForwardAddress::parse("tcp:localhost:1")));
}

TEST(ForwardRule, RefusesWhatIsNone) {
  for (const char* text :
       {"", "localhost:22", "tcp:localhost", "tcp:localhost:", "tcp:localhost:0",
        "tcp:localhost:9-8", "tcp:localhost:1-", "tcp::1", "tcp:a b:1", "tcp:[::*]:1", "tcp:[a]:1",
        "tcp:127.1:1", "unix:relative", "unix:/a/../b", "unix:/a/", "exec:/bin/sh"}) {
    EXPECT_FALSE(ForwardRule::parse(text)) << text;
  }
}

}  // namespace
}  // namespace xenlane::bridge
