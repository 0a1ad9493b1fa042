#include "tests/e2e/forwards.hpp"

#include <gtest/gtest.h>

namespace xenlane::tests {

namespace json = boost::json;

Forwards::Forwards(const std::string& allow, const std::string& allow_listen,
                   const std::string& more, const std::string& lanes)
    : world({"web:7"}, lanes) {
  const std::string far =
      "target = \"builtin:forward\"\nallow = " + allow + "\nallow_listen = " + allow_listen + "\n";
  const std::string in_guest = "org.xenlane.forward-in-guest.0";
  const std::string on_host = "org.xenlane.forward-on-host.0";
  write_file(world.host_config_path(), world.host_config() + channel(in_guest, "listen") +
                                           channel(on_host, "dial", "", far) + more);
  write_file(
      world.guest_config_path("web"),
      world.guest_config("web") + channel(on_host, "listen") + channel(in_guest, "dial", "", far));
  world.start();
}

Process Forwards::start(const std::string& domain, std::vector<std::string> arguments,
                        const std::string& sign) {
  said_ = world.dir() + "/forward." + std::to_string(++started_);
  std::vector<std::string> command{program("xensim"),  "exec",   domain, "--",
                                   program("xenlane"), "forward"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  Process process(command, {"/dev/null", "/dev/null", said_});
  EXPECT_TRUE(eventually([&] { return said().find(sign) != std::string::npos; })) << said();
  return process;
}

json::array list_of(World& world, const std::string& domain) {
  const json::value listed = world.tool_json(domain, {"forward", "--list", "--json"});
  return listed.is_object() ? listed.at("forwards").as_array() : json::array();
}

}  // namespace xenlane::tests
