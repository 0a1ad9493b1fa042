// A channel's name in the daemons' files that says nothing of whose it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bridge/daemon/config.hpp"
#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

TEST(ConfigNames, WithoutADomainAreWarnedAboutAtTheirLineAndUsed) {
  const TempDir dir;
  for (const Side side : {Side::host, Side::guest}) {
    const ConfigLoad got = load_config(side, dir.write("x.toml", R"([[channel]]
end = "port"
name = "guest.agent"
[[channel]]
end = "port"
name = "org.example.agent"
)"));
    ASSERT_EQ(got.diagnostics.size(), 1U);
    EXPECT_THAT(format_diagnostic(got.diagnostics[0]),
                HasSubstr("x.toml:3: warning: channel.name: 'guest.agent' has no domain name"));
    EXPECT_FALSE(got.has_errors());
    ASSERT_EQ(got.config.channels.size(), 2U);
    EXPECT_THAT(got.config.channels[0].error, IsEmpty());
  }
}

}  // namespace
}  // namespace xenlane::bridge
