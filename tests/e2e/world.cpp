#include "tests/e2e/world.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

namespace xenlane::tests {

namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

const std::map<std::string, Service::Handler>& usual_services() {
  static const std::map<std::string, Service::Handler> services{
      {"echo", echo}, {"digest", answer_digest}, {"source", send_source}};
  return services;
}

std::vector<std::string> joined(std::vector<std::string> first,
                                const std::vector<std::string>& then) {
  first.insert(first.end(), then.begin(), then.end());
  return first;
}

std::vector<std::string> sockets_below(const std::string& folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(folder, error)) {
    if (fs::is_socket(entry.symlink_status(error))) found.push_back(entry.path().string());
  }
  return found;
}

}  // namespace

std::string program(const std::string& name) {
  return std::string(XENLANE_PROGRAMS "/") + name;
}

std::string channel(const std::string& name, const std::string& end, const std::string& target,
                    const std::string& more) {
  std::string text = "[[channel]]\nname = \"" + name + "\"\nend = \"" + end + "\"\n";
  if (!target.empty()) text += "target = \"unix:" + target + "\"\n";
  return text + more + "\n";
}

World::World(const std::vector<std::string>& guests, std::string sections)
    : lanes(std::move(sections)) {
  char dir[] = "/tmp/xl-XXXXXX";
  if (::mkdtemp(dir) == nullptr) ADD_FAILURE() << "mkdtemp";
  dir_ = dir;
  ::chmod(dir, 0755);  // for the test that is another user
  ::setenv("XENSIM_DIR", (dir_ + "/x").c_str(), 1);
  fs::create_directory(dir_ + "/s");
  std::vector<std::string> up{"up", "--dir", dir_ + "/x"};
  for (const auto& guest : guests) {
    up.insert(up.end(), {"--guest", guest});
    const std::string name = guest.substr(0, guest.find(':'));
    if (lanes != "none") up.insert(up.end(), {"--channel", name + ":org.xenlane.lane.0"});
    guests_[name];
  }
  const Outcome outcome = xensim(up);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  write_file(host_config_path(), host_config());
  for (const auto& [name, handler] : usual_services()) {
    serve("host", name);
    for (const auto& [guest, state] : guests_) serve(guest, name);
  }
  for (const auto& [guest, state] : guests_) {
    write_file(guest_config_path(guest), guest_config(guest));
  }
}

World::~World() {
  for (auto& [name, guest] : guests_) {
    if (guest.bridge.started()) stop_guest(name);
  }
  if (host_.started()) stop_host();
  check_nothing_left();
  services_.clear();
  const Outcome down = xensim({"down"});
  EXPECT_EQ(down.code, 0) << down.err;
  check_no_processes_left();
  check_no_sanitizer_spoke();
  if (::testing::Test::HasFailure()) print_logs();
  std::error_code ignored;
  fs::remove_all(dir_, ignored);
}

std::string World::host_config() const {
  std::string text = "[daemon]\nlog_level = \"debug\"\n" + timeouts;
  const bool console = lanes != "none";
  text += "[console]\nsocket = \"" +
          (console ? dir_ + "/x/channel/{guest}/org.xenlane.lane.0" : lanes) + "\"\n";
  if (console) text += lanes;
  for (const auto& [name, handler] : usual_services()) {
    text += channel("org.host." + name, "dial", service_path("host", name));
    text += channel("org.guest." + name, "listen");
  }
  return text + channel("org.port.one", "port");
}

std::string World::guest_config(const std::string& guest) const {
  std::string text = "[daemon]\nlog_level = \"debug\"\n" + timeouts;
  if (lanes != "none") text += lanes;
  for (const auto& [name, handler] : usual_services()) {
    text += channel("org.host." + name, "listen");
    text += channel("org.guest." + name, "dial", service_path(guest, name));
  }
  return text + channel("org.port.one", "port");
}

std::string World::service_path(const std::string& owner, const std::string& name) const {
  return dir_ + "/s/" + owner + "." + name;
}

void World::serve(const std::string& owner, const std::string& name) {
  services_[owner + "." + name] =
      std::make_unique<Service>(service_path(owner, name), usual_services().at(name));
}

void World::stop_serving(const std::string& owner, const std::string& name) {
  services_.erase(owner + "." + name);
}

Service& World::service(const std::string& owner, const std::string& name) {
  return *services_.at(owner + "." + name);
}

void World::start() {
  start_host();
  for (auto& [name, guest] : guests_) start_guest(name);
  for (auto& [name, guest] : guests_) {
    ASSERT_TRUE(wait_session(name)) << name;
    ASSERT_TRUE(eventually([&] {
      return json::serialize(bridge_status("0", name)).find(R"("state":"up")") != std::string::npos;
    }));
  }
}

void World::start_host() {
  host_ = Process({program("xensim"), "exec", "0", "--", program("xenlane-host"), "--config",
                   host_config_path()},
                  {"/dev/null", "/dev/null", dir_ + "/log.host"});
}

void World::start_guest(const std::string& guest) {
  std::vector<std::string> command{program("xensim"), "exec", guest, "--", "env"};
  command.insert(command.end(), guest_environment.begin(), guest_environment.end());
  command.insert(command.end(), {program("xenlane-guest"), "--config", guest_config_path(guest)});
  guests_[guest].bridge = Process(command, {"/dev/null", "/dev/null", dir_ + "/log." + guest});
}

void World::stop_host() {
  host_.signal(SIGTERM);
  EXPECT_EQ(host_.wait(), 0) << "xenlane-host did not stop in good order";
  EXPECT_THAT(sockets_below(run_dir("Domain-0")), ::testing::IsEmpty());
  for (const auto& [name, domain] : domains()) {
    const std::string domain_path =
        "/local/domain/" + std::to_string(json::value_to<int>(domain.at("domid")));
    EXPECT_NE(xenstore("read", domain_path + "/xenlane").code, 0) << name << ": node left";
  }
}

void World::stop_guest(const std::string& guest) {
  Process& bridge = guests_.at(guest).bridge;
  bridge.signal(SIGTERM);
  EXPECT_EQ(bridge.wait(), 0) << "xenlane-guest of " << guest << " did not stop in good order";
  EXPECT_THAT(sockets_below(run_dir(guest)), ::testing::IsEmpty());
}

bool World::wait_session(const std::string& guest, Seconds within) {
  return eventually(
      [&] {
        const auto status = bridge_status(guest);
        const auto* session = status.if_contains("session");
        return session != nullptr && session->at("state").as_string() == "up";
      },
      within);
}

std::map<std::string, json::object> World::domains() {
  std::map<std::string, json::object> found;
  const Outcome outcome = xensim({"list", "--json"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  if (outcome.code != 0) return found;
  const json::value listed = json::parse(outcome.out);
  for (const auto& domain : listed.as_array()) {
    found[domain.at("name").as_string().c_str()] = domain.as_object();
  }
  return found;
}

std::uint32_t World::domid(const std::string& guest) {
  const auto all = domains();
  return all.contains(guest) ? json::value_to<std::uint32_t>(all.at(guest).at("domid")) : 0;
}

std::string World::run_dir(const std::string& domain) {
  return dir_ + "/x/dom/" + std::to_string(domid(domain)) + "/run";
}

std::string World::host_socket(const std::string& guest, const std::string& channel) {
  return run_dir("Domain-0") + "/" + guest + "/" + channel;
}

std::string World::guest_socket(const std::string& guest, const std::string& channel) {
  return run_dir(guest) + "/" + channel;
}

Outcome World::xensim(std::vector<std::string> arguments) {
  return run_program(joined({program("xensim")}, arguments), dir_);
}

Outcome World::run_in(const std::string& domain, std::vector<std::string> command,
                      const std::string& in, Seconds within) {
  return run_program(joined({program("xensim"), "exec", domain, "--"}, command), dir_, in, within);
}

Outcome World::tool(const std::string& domain, std::vector<std::string> arguments,
                    const std::string& in) {
  return run_in(domain, joined({program("xenlane")}, arguments), in);
}

json::value World::tool_json(const std::string& domain, std::vector<std::string> arguments) {
  const Outcome outcome = tool(domain, std::move(arguments));
  boost::system::error_code error;
  json::value parsed = json::parse(outcome.out, error);
  return outcome.code == 0 && !error ? parsed : json::value();
}

json::object World::bridge_status(const std::string& domain, const std::string& guest) {
  std::vector<std::string> arguments{"status", "--json"};
  if (!guest.empty()) arguments.insert(arguments.begin() + 1, guest);
  const json::value status = tool_json(domain, arguments);
  if (!status.is_object() || status.at("bridges").as_array().empty()) return {};
  const json::value& bridge = status.at("bridges").as_array().front();
  return bridge.is_object() ? bridge.as_object() : json::object();
}

pid_t World::worker_pid(const std::string& guest) {
  const json::value status = tool_json("0", {"status", "--json"});
  if (!status.is_object() || !status.at("broker").is_object()) return -1;
  for (const auto& served : status.at("broker").at("guests").as_array()) {
    if (served.at("name").as_string() == guest)
      return json::value_to<pid_t>(served.at("worker_pid"));
  }
  return -1;
}

Outcome World::xenstore(const std::string& verb, const std::string& path) {
  return run_in("0", {"xenstore-" + verb, path});
}

bool World::echo_works(const std::string& socket_path, Seconds within) {
  return eventually(
      [&] {
        Client client(socket_path);
        return client.ok() && client.send("ping") && (client.finish(), true) &&
               client.receive_to_end(within) == "ping";
      },
      within);
}

void World::check_nothing_left() {
  // A mapping or port goes when the kernel (or its simulation) has noticed its holder's end.
  const auto holds_nothing = [&] {
    for (const auto& [name, domain] : domains()) {
      for (const char* what : {"grants", "mapped", "ports"}) {
        if (json::value_to<int>(domain.at(what)) != 0) return false;
      }
    }
    return true;
  };
  EXPECT_TRUE(eventually(holds_nothing, recovery_within)) << xensim({"list"}).out;
  for (const auto& [name, guest] : guests_) {
    // The epoch counter stays, so that a later bridge never takes an old ring for its own.
    const std::string folder = "/local/domain/" + std::to_string(domid(name)) + "/data/xenlane";
    const std::string left = xenstore("list", folder).out;
    EXPECT_TRUE(left.empty() || left == "ring\n") << folder << " has " << left;
  }
}

void World::check_no_processes_left() const {
  const auto command_lines_here = [&] {
    std::string found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc", error)) {
      const std::string line = read_file(entry.path().string() + "/cmdline");
      if (line.find(dir_) != std::string::npos) found += line + "\n";
    }
    return found;
  };
  EXPECT_TRUE(eventually([&] { return command_lines_here().empty(); }, recovery_within))
      << command_lines_here();
}

// A worker that a sanitizer ended is replaced, which a test might take for good service.
void World::check_no_sanitizer_spoke() const {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir_, error)) {
    if (!entry.path().filename().string().starts_with("log.")) continue;
    const std::string text = read_file(entry.path());
    EXPECT_EQ(text.find("Sanitizer"), std::string::npos) << entry.path();
    EXPECT_EQ(text.find("runtime error"), std::string::npos) << entry.path();
  }
}

void World::print_logs() const {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir_, error)) {
    if (entry.path().filename().string().starts_with("log.")) {
      std::fprintf(stderr, "---- %s\n%s", entry.path().c_str(), read_file(entry.path()).c_str());
    }
  }
  std::fprintf(stderr, "---- xensim\n%s", read_file(dir_ + "/x/log").c_str());
}

}  // namespace xenlane::tests
