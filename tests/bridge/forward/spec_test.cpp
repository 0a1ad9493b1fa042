// -L, -R and -D as they are written.
#include "bridge/forward/spec.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace xenlane::bridge {
namespace {

using ::testing::HasSubstr;

TEST(ForwardSpec, EachEndIsAPortAHostAndPortOrAPath) {
  struct Case {
    const char* text;
    const char* listen;
    const char* guest;
    const char* target;
  };
  const Case cases[] = {
      {"5432:web:5432", "tcp:localhost:5432", "web", "tcp:localhost:5432"},
      {"*:80:web:8080", "tcp:*:80", "web", "tcp:localhost:8080"},
      {"127.0.0.1:80:7:db.example:8080", "tcp:127.0.0.1:80", "7", "tcp:db.example:8080"},
      {"[::1]:80:web:[fe80::1]:22", "tcp:[::1]:80", "web", "tcp:[fe80::1]:22"},
      {"/run/a:web:/run/b", "unix:/run/a", "web", "unix:/run/b"},
      {"80:web:/run/b", "tcp:localhost:80", "web", "unix:/run/b"},
      {"/run/a:web:10.0.0.1:80", "unix:/run/a", "web", "tcp:10.0.0.1:80"},
  };
  for (const Case& one : cases) {
    for (const ForwardKind kind : {ForwardKind::local, ForwardKind::remote}) {
      const auto spec = parse_forward_spec(kind, one.text);
      ASSERT_TRUE(spec) << spec.error().text;
      EXPECT_EQ(spec->listen.uri(), one.listen);
      EXPECT_EQ(spec->guest, one.guest);
      EXPECT_EQ(spec->target->uri(), one.target);
      EXPECT_EQ(spec->channel, forward_in_guest_channel);
      EXPECT_EQ(spec->text, one.text);
    }
  }
}

TEST(ForwardSpec, InAGuestTheFarSideIsTheHost) {
  EXPECT_EQ(parse_forward_spec(ForwardKind::local, "1:host:2")->channel, forward_on_host_channel);
}

TEST(ForwardSpec, SocksHasNoTarget) {
  const auto spec = parse_forward_spec(ForwardKind::socks, "1080:web");
  ASSERT_TRUE(spec);
  EXPECT_FALSE(spec->target);
  EXPECT_FALSE(parse_forward_spec(ForwardKind::socks, "1080:web:80"));
  EXPECT_EQ(parse_forward_spec(ForwardKind::socks, "*:1080:web")->listen.uri(), "tcp:*:1080");
  EXPECT_EQ(parse_forward_spec(ForwardKind::socks, "/run/s:web")->listen.uri(), "unix:/run/s");
}

TEST(ForwardSpec, SaysWhatIsWrong) {
  for (const char* text :
       {"", ":", "80", "80:web", "80:web:", "0:web:80", "80:web:70000", "80::80", "80:a/b:80",
        "80:..:80", "80:web:a:b:80", "x:80:web", "a b:80:web:80", "run/a:web:80", "80:web:*:80"}) {
    const auto spec = parse_forward_spec(ForwardKind::local, text);
    ASSERT_FALSE(spec) << text;
    EXPECT_THAT(spec.error().text, HasSubstr("it is [BIND:]PORT:GUEST:[HOST:]PORT"));
  }
}

}  // namespace
}  // namespace xenlane::bridge
