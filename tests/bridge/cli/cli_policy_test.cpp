// xenlane policy check: what decides, and where it is written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/json.hpp>

#include "bridge/cli/exit_codes.hpp"
#include "tests/bridge/cli/tool.hpp"

namespace xenlane::bridge {
namespace {

namespace json = boost::json;
using testing::HasSubstr;
using testing::StartsWith;

class PolicyCheck : public testing::Test {
 protected:
  PolicyCheck() {
    host_ = dir_.write("host.toml", R"([daemon]
guests = ["web-*", "db"]
[[channel]]
name = "org.secret.*"
end = "deny"
guest = "web-*"
[[channel]]
name = "org.secret.keys"
end = "dial"
target = "unix:/run/keys.sock"
[[channel]]
name = "org.open.agent"
end = "listen"
users = [65534]
[[channel]]
name = "org.closed.agent"
end = "port"
mode = "0600"
[[channel]]
name = "org.open.forward"
end = "dial"
target = "builtin:forward"
allow = ["tcp:localhost:5432", "unix:/run/redis/*.sock"]
allow_listen = ["tcp:localhost:3000-3999"]
[[channel]]
name = "org.broken.one"
end = "dial"
)");
  }
  ToolResult check(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"policy", "check"});
    arguments.insert(arguments.end(), {"--config", host_});
    return run_tool(dir_.path(), arguments);
  }

  TempDir dir_;
  std::string host_;
};

TEST_F(PolicyCheck, SaysWhatAGuestHasAndWhere) {
  const ToolResult db = check({"db", "org.secret.keys"});
  EXPECT_EQ(db.exit_code, exit_ok) << db.err;
  EXPECT_EQ(db.out, "allowed\n  " + host_ +
                        ":7: end = \"dial\": the guest's programs reach unix:/run/keys.sock\n");
}

TEST_F(PolicyCheck, SaysWhatDeniesAndWhere) {
  const ToolResult denied = check({"web-1", "org.secret.keys"});
  EXPECT_EQ(denied.exit_code, exit_refused);
  EXPECT_EQ(denied.out, "refused\n  " + host_ + ":3: denied: name org.secret.*, guest web-*\n");
  EXPECT_THAT(check({"db", "org.nothing.here"}).out, HasSubstr("nothing matches"));
  EXPECT_THAT(check({"mail", "org.open.agent"}).out, HasSubstr("daemon.guests"));
  const ToolResult broken = check({"db", "org.broken.one"});
  EXPECT_EQ(broken.exit_code, exit_refused);
  EXPECT_THAT(broken.out, HasSubstr("disabled: channel: end = \"dial\" needs a target"));
}

TEST_F(PolicyCheck, SaysWhichUserMayOpenWhat) {
  const ToolResult listed = check({"db", "org.open.agent", "--user", "65534"});
  EXPECT_EQ(listed.exit_code, exit_ok) << listed.out;
  EXPECT_THAT(listed.out, HasSubstr("user 65534 is in users or groups"));
  const ToolResult other = check({"db", "org.open.agent", "--user", "12345"});
  EXPECT_EQ(other.exit_code, exit_refused);
  EXPECT_THAT(other.out, HasSubstr("user 12345 is neither in users nor in groups"));
  const ToolResult closed = check({"db", "org.closed.agent", "--user", "12345"});
  EXPECT_EQ(closed.exit_code, exit_refused);
  EXPECT_THAT(closed.out, HasSubstr("cannot open the socket: permissions 0600"));
  EXPECT_EQ(check({"db", "org.closed.agent", "--user", "0"}).exit_code, exit_ok) << "root";
}

TEST_F(PolicyCheck, SaysWhatMayBeDialledAndListenedOn) {
  const ToolResult dialled = check({"db", "org.open.forward", "--dial", "unix:/run/redis/a.sock"});
  EXPECT_EQ(dialled.exit_code, exit_ok) << dialled.out << dialled.err;
  EXPECT_THAT(dialled.out,
              HasSubstr("allow: \"unix:/run/redis/*.sock\" has unix:/run/redis/a.sock"));
  const ToolResult other = check({"db", "org.open.forward", "--dial", "tcp:localhost:22"});
  EXPECT_EQ(other.exit_code, exit_refused);
  EXPECT_THAT(other.out, HasSubstr("allow does not have tcp:localhost:22"));
  const ToolResult both = check(
      {"db", "org.open.forward", "--dial", "tcp:localhost:5432", "--listen", "tcp:localhost:2999"});
  EXPECT_EQ(both.exit_code, exit_refused) << "one of them is not allowed";
  EXPECT_THAT(both.out, HasSubstr("allow_listen does not have tcp:localhost:2999"));
  EXPECT_EQ(check({"db", "org.open.forward", "--listen", "tcp:localhost:3999"}).exit_code, exit_ok);
  const ToolResult plain = check({"db", "org.secret.keys", "--dial", "tcp:localhost:5432"});
  EXPECT_EQ(plain.exit_code, exit_refused);
  EXPECT_THAT(plain.out, HasSubstr("only a channel with target = \"builtin:forward\" has allow"));
  const ToolResult wrong = check({"db", "org.open.forward", "--dial", "localhost:5432"});
  EXPECT_EQ(wrong.exit_code, exit_usage);
  EXPECT_THAT(wrong.err, HasSubstr("'localhost:5432'"));
}

TEST_F(PolicyCheck, TellsProgramsTheSameAsJson) {
  const ToolResult denied = check({"web-1", "org.secret.keys", "--json"});
  EXPECT_EQ(denied.exit_code, exit_refused);
  const json::object said = json::parse(denied.out).as_object();
  EXPECT_EQ(said.at("allowed"), false);
  EXPECT_EQ(said.at("guest"), "web-1");
  EXPECT_EQ(said.at("reasons").as_array().at(0).at("line"), 3);
}

TEST_F(PolicyCheck, SaysInOneLineWhatIsWrongWithTheQuestion) {
  EXPECT_THAT(check({"db", "no/name"}).err, HasSubstr("'/' at byte 3"));
  EXPECT_EQ(check({"db", "no/name"}).exit_code, exit_usage);
  EXPECT_EQ(check({"db", "org.open.agent", "--user", "nobody-of-that-name"}).exit_code, exit_usage);
  dir_.write("host.toml", "[[[");
  EXPECT_EQ(check({"db", "org.open.agent"}).exit_code, exit_configuration);
}

}  // namespace
}  // namespace xenlane::bridge
