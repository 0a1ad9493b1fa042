// xenlane names, import, export and channel-list, end to end with the built program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/json.hpp>
#include <fstream>
#include <sstream>

#include "bridge/cli/exit_codes.hpp"
#include "tests/bridge/cli/fake_daemon.hpp"
#include "tests/bridge/cli/tool.hpp"

namespace xenlane::bridge {
namespace {

namespace json = boost::json;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

constexpr std::string_view xl_file =
    "name = 'web'\n"
    "channel = [ 'connection=pty,name=unused',\n"
    "            'connection=socket,name=org.example.agent,path=/run/web.agent' ]\n";

constexpr std::string_view xml_file =
    "<domain type='xen'><name>web</name><devices><channel type='unix'>\n"
    "<source mode='bind' path='/run/web.agent'/><target type='xen' name='org.example.agent'/>\n"
    "</channel></devices></domain>\n";

std::string content_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class Toolstack : public testing::Test {
 protected:
  ToolResult run(const std::vector<std::string>& arguments, std::string_view input = {}) {
    return run_tool(dir_.path(), arguments, input);
  }

  TempDir dir_;
};

class ToolNames : public Toolstack {
 protected:
  ToolResult names(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"names", "--names-dir", dir_ / "names.d"});
    return run(arguments);
  }
};

TEST_F(ToolNames, ListsTheWellKnownOnesWithoutAFolderOfOnesOwn) {
  const ToolResult got = names({});
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_EQ(got.err, "");
  EXPECT_THAT(got.out, StartsWith("NAME "));
  EXPECT_THAT(got.out, HasSubstr("\norg.qemu.guest_agent.0 "));
  EXPECT_THAT(got.out, HasSubstr("QEMU developers <qemu-devel@nongnu.org>"));
}

TEST_F(ToolNames, APatternChoosesAndOneThatMatchesNothingIsAnError) {
  const ToolResult some = names({"org.spice-space.*"});
  EXPECT_EQ(some.exit_code, exit_ok);
  EXPECT_THAT(some.out, AllOf(HasSubstr("webdav"), HasSubstr("stream"), Not(HasSubstr("qemu"))));
  const ToolResult none = names({"org.nobody.*"});
  EXPECT_EQ(none.exit_code, exit_unknown);
  EXPECT_EQ(none.err,
            "xenlane: org.nobody.*: no registered name is like that; see 'xenlane names'\n");
}

TEST_F(ToolNames, OnesOwnAreAddedAndClashesAndNamesWithoutDomainsWarnedAbout) {
  dir_.write("names.d/b.names", "N: org.example.a\nC: Bob\nD: again\n");
  dir_.write("names.d/a.names",
             "N: org.example.a\nC: Ann\nD: first\n\nN: my.agent\nC: Ann\nD: second\n");
  dir_.write("names.d/notes.txt", "not read");
  const ToolResult got = names({"--json"});
  EXPECT_EQ(got.exit_code, exit_ok);
  EXPECT_THAT(got.err, HasSubstr("names.d/a.names:5:1: warning: 'my.agent' has no domain name"));
  EXPECT_THAT(got.err, MatchesRegex("(.|\n)*names.d/b.names:1: warning: 'org.example.a' is "
                                    "registered already, at .*names.d/a.names:1 by Ann(.|\n)*"));
  const json::value parsed = json::parse(got.out);
  EXPECT_EQ(parsed.at("v"), 1);
  std::size_t ours = 0;
  for (const json::value& entry : parsed.at("names").as_array()) {
    if (entry.at("name") == "my.agent") {
      ++ours;
      EXPECT_EQ(entry.at("has_domain_part"), false);
      EXPECT_EQ(entry.at("description"), "second");
      EXPECT_EQ(entry.at("line"), 5);
      EXPECT_EQ(entry.at("file").as_string(), (dir_ / "names.d/a.names").c_str());
    }
    if (entry.at("name") == "org.example.a") ++ours;
  }
  EXPECT_EQ(ours, 3U);
}

TEST_F(ToolNames, AFileWithErrorsStillLeavesTheRest) {
  dir_.write("names.d/a.names", "N: org/a\nC: c\nD: d\n\nN: org.example.b\nC: c\nD: d\n");
  const ToolResult got = names({"org.example.*"});
  EXPECT_EQ(got.exit_code, exit_configuration);
  EXPECT_THAT(got.err, HasSubstr("a.names:1:1: error: 'org/a': '/' at byte 4"));
  EXPECT_THAT(got.out, HasSubstr("\norg.example.b "));
}

TEST_F(Toolstack, ImportWritesWhatTheHostTakes) {
  const std::string wanted =
      "\n[[channel]]\nname = \"org.example.agent\"\nguest = \"web\"\nend = \"raw\"\n"
      "console = \"/run/web.agent\"\n";
  const std::string xl = dir_.write("web.cfg", xl_file);
  const ToolResult from_xl = run({"import", xl});
  EXPECT_EQ(from_xl.exit_code, exit_ok) << from_xl.err;
  EXPECT_EQ(from_xl.out,
            "# The channels of web, from xl's configuration of " + xl + ".\n" + wanted);
  EXPECT_EQ(from_xl.err, "xenlane: " + xl +
                             ":2:25: warning: left out: a channel with connection=pty has no "
                             "socket\n");
  const ToolResult from_xml = run({"import", "-"}, xml_file);
  EXPECT_EQ(from_xml.exit_code, exit_ok) << from_xml.err;
  EXPECT_EQ(from_xml.out, "# The channels of web, from libvirt's XML of stdin.\n" + wanted);
  EXPECT_EQ(from_xml.err, "");
}

TEST_F(Toolstack, ImportNeverReplacesAFileUnlessForced) {
  const std::string xl = dir_.write("web.cfg", xl_file);
  const std::string output = dir_ / "50-web.toml";
  EXPECT_EQ(run({"import", xl, "--output", output}).exit_code, exit_ok);
  const std::string written = content_of(output);
  EXPECT_THAT(written, EndsWith("console = \"/run/web.agent\"\n"));
  struct stat found = {};
  ASSERT_EQ(::stat(output.c_str(), &found), 0);
  EXPECT_EQ(
      found.st_mode & 0777U, 0644U & ~[] {
        const mode_t mask = ::umask(0);
        ::umask(mask);
        return mask;
      }());

  dir_.write("50-web.toml", "mine\n");
  const ToolResult refused = run({"import", xl, "--output", output});
  EXPECT_EQ(refused.exit_code, exit_usage);
  EXPECT_THAT(refused.err, EndsWith(output + ": exists already; --force replaces it\n"));
  EXPECT_EQ(content_of(output), "mine\n");
  EXPECT_EQ(run({"import", xl, "--output", output, "--force"}).exit_code, exit_ok);
  EXPECT_EQ(content_of(output), written);
  // Nothing half-written is left behind.
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
    ++files;
  }
  EXPECT_EQ(files, 2U) << "web.cfg and 50-web.toml";
}

TEST_F(Toolstack, ImportShowsEveryFaultAndWritesNothing) {
  const std::string xl = dir_.write("web.cfg",
                                    "name = 'web'\nchannel = [ 'connection=tcp,name=a',\n"
                                    "'connection=socket,name=b,path=c' ]\n");
  const ToolResult got = run({"import", xl, "--output", dir_ / "out.toml"});
  EXPECT_EQ(got.exit_code, exit_configuration);
  EXPECT_EQ(got.out, "");
  EXPECT_EQ(got.err, "xenlane: " + xl +
                         ":2:25: error: 'tcp' is no connection; there are 'socket' and 'pty'\n"
                         "xenlane: " +
                         xl +
                         ":3:25: error: 'b' has no dot, and such names are reserved for xenlane\n"
                         "xenlane: " +
                         xl + ":3:32: error: the path 'c' is not absolute\n");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out.toml"));
  const ToolResult xml = run({"import", "-"}, "\xef\xbb\xbf \n<domain>");
  EXPECT_EQ(xml.exit_code, exit_configuration);
  EXPECT_THAT(xml.err, HasSubstr("stdin:2:8: error: this is no well-formed XML"));
}

TEST_F(Toolstack, ImportSaysWhenThereIsNothingToRead) {
  const ToolResult absent = run({"import", dir_ / "absent"});
  EXPECT_EQ(absent.exit_code, exit_broken);
  EXPECT_THAT(absent.err, EndsWith("absent: No such file or directory\n"));
  EXPECT_EQ(run({"import", dir_.path()}).exit_code, exit_broken);
  const ToolResult empty = run({"import", "-"}, "name='web'\n");
  EXPECT_EQ(empty.exit_code, exit_unknown);
  EXPECT_EQ(empty.err, "xenlane: stdin: there is no channel in it that could be imported\n");
  const ToolResult long_one = run({"import", "-"}, std::string(1024 * 1024 + 1, '\n'));
  EXPECT_EQ(long_one.exit_code, exit_configuration);
  EXPECT_EQ(long_one.err, "xenlane: stdin: has more than 1048576 bytes\n");
}

TEST_F(Toolstack, ExportIsTheInverseOfImport) {
  const std::string config = dir_.write("host.toml",
                                        "[[channel]]\nname = \"org.example.agent\"\nend = \"raw\"\n"
                                        "console = \"/run/{guest}.agent\"\n");
  for (const char* kind : {"--xl", "--libvirt"}) {
    const ToolResult out = run({"export", "web", kind, "--config", config});
    ASSERT_EQ(out.exit_code, exit_ok) << out.err;
    const ToolResult back = run({"import", "-"}, out.out);
    ASSERT_EQ(back.exit_code, exit_ok) << back.err;
    EXPECT_THAT(back.out, HasSubstr("\n# org.xenlane.lane.0 carries the console lane"));
    EXPECT_THAT(back.out, HasSubstr("console = \"/run/web.agent\"\n"));
    const std::string again = dir_.write("again.toml", back.out);
    EXPECT_EQ(run({"export", "web", kind, "--config", again}).out, out.out);
  }
}

TEST_F(Toolstack, ExportPutsAChannelInFrontThatXlMayLose) {
  const std::string config = dir_.write("host.toml", "");
  const ToolResult got = run({"export", "web", "--xl", "--config", config});
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_EQ(got.out,
            "name = \"web\"\n"
            "# xl of Xen 4.17 loses the first channel of the list, so the first is one that nobody "
            "needs.\n"
            "# Newer versions keep it and can do without that line.\n"
            "channel = [\n"
            "    \"connection=pty,name=unused\",\n"
            "    \"connection=socket,name=org.xenlane.lane.0,path=/run/xen/xenlane-web.sock\",\n"
            "]\n");
}

TEST_F(Toolstack, ExportRefusesWhatItCannotTell) {
  const std::string config = dir_.write("host.toml", "[console]\nsocket = \"none\"\n");
  EXPECT_EQ(run({"export", "web", "--config", config}).err,
            "xenlane: export: give one of --xl and --libvirt\n");
  EXPECT_EQ(run({"export", "web", "--xl", "--libvirt", "--config", config}).exit_code, exit_usage);
  EXPECT_EQ(run({"export", "we*", "--xl", "--config", config}).exit_code, exit_usage);
  const ToolResult nothing = run({"export", "web", "--xl", "--config", config});
  EXPECT_EQ(nothing.exit_code, exit_unknown);
  EXPECT_THAT(nothing.err, EndsWith("host.toml gives this guest no PV channel\n"));
  const std::string broken = dir_.write("broken.toml", "x = 1\n");
  const ToolResult fault = run({"export", "web", "--xl", "--config", broken});
  EXPECT_EQ(fault.exit_code, exit_configuration);
  EXPECT_THAT(fault.err, HasSubstr("broken.toml:1: error: unknown key 'x'"));
  const std::string comma = dir_.write("comma.toml",
                                       "[[channel]]\nname = \"org.example.a\"\nend = \"raw\"\n"
                                       "console = \"/run/a,b\"\n");
  const ToolResult unsaid = run({"export", "web", "--xl", "--config", comma});
  EXPECT_EQ(unsaid.exit_code, exit_configuration);
  EXPECT_THAT(unsaid.err, HasSubstr("which xl cannot take"));
  EXPECT_EQ(run({"export", "web", "--libvirt", "--config", comma}).exit_code, exit_ok);
}

/// A host with guest web served and guest db waiting.
class ToolChannelList : public Toolstack {
 protected:
  ToolChannelList() {
    std::filesystem::create_directory(dir_ / "web");
    const auto entry = [this](const std::string& guest, int domid, const char* state) {
      return json::object{{"name", guest},
                          {"domid", domid},
                          {"state", state},
                          {"run_dir", dir_ / guest},
                          {"control", dir_ / (guest + "/control")}};
    };
    broker_ = std::make_unique<FakeControl>(
        dir_ / "control",
        json::object{{"role", "broker"},
                     {"guests", {entry("web", 1, "serving"), entry("db", 2, "waiting")}}});
    json::object port = channel_entry("org.example.port", dir_ / "web/org.example.port");
    port["end"] = "port";
    port["open"] = 2;
    port["bytes_in"] = 12345;
    port["bytes_out"] = 6;
    worker_ =
        std::make_unique<FakeControl>(dir_ / "web/control", bridge_status("worker", "web", {port}));
  }

  std::unique_ptr<FakeControl> broker_;
  std::unique_ptr<FakeControl> worker_;
};

TEST_F(ToolChannelList, HasTheLaneAndTheBytesOfEveryGuestsChannels) {
  const ToolResult got = run({"channel-list"});
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_EQ(got.out,
            "GUEST  DOMID  NAME              END   STATE    LANE   OPEN  BYTES IN  BYTES OUT\n"
            "web        1  org.example.port  port  ready    vchan     2     12345          6\n"
            "db         2  -                 -     waiting  -         -         -          -\n");
}

TEST_F(ToolChannelList, ShowsXlsColumnsForPvChannels) {
  worker_->change([](json::object& status) {
    json::object raw = status["channels"].as_array()[0].as_object();
    raw["name"] = "org.example.raw";
    raw["end"] = "raw";
    raw["console"] = "/run/xen/web\033.sock";
    status["channels"].as_array().push_back(raw);
  });
  const ToolResult got = run({"channel-list", "web"});
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_THAT(got.out, HasSubstr("BYTES OUT  CONNECTION  PARAMS\n"));
  EXPECT_THAT(got.out, HasSubstr("vchan       2     12345          6  -           -\n"));
  EXPECT_THAT(
      got.out,
      HasSubstr("console     2     12345          6  socket      /run/xen/web\\x1b.sock\n"));
}

TEST_F(ToolChannelList, PrintsJson) {
  const ToolResult got = run({"channel-list", "--json"});
  ASSERT_EQ(got.exit_code, exit_ok) << got.err;
  const json::value parsed = json::parse(got.out);
  EXPECT_EQ(parsed.at("channels"), (json::array{json::object{{"guest", "web"},
                                                             {"domid", 1},
                                                             {"name", "org.example.port"},
                                                             {"end", "port"},
                                                             {"state", "ready"},
                                                             {"lane", "vchan"},
                                                             {"open", 2},
                                                             {"bytes_in", 12345},
                                                             {"bytes_out", 6}}}));
  EXPECT_EQ(parsed.at("unreachable").at(0).at("guest"), "db");
}

TEST_F(ToolChannelList, AGuestThatIsNotThereIsAnError) {
  EXPECT_EQ(run({"channel-list", "nobody"}).exit_code, exit_unknown);
  EXPECT_EQ(run({"channel-list", "db"}).exit_code, exit_no_daemon);
}

}  // namespace
}  // namespace xenlane::bridge
