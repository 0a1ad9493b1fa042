// Two lanes, one session: streams start on the console, bulk moves them to a vchan and silence back
// again, and whatever becomes of a lane, no application notices but by speed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <future>
#include <random>
#include <sstream>
#include <thread>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

namespace json = boost::json;
using ::testing::HasSubstr;

/// Short limits, so that nobody waits for what takes half a minute by default.
constexpr const char* quick = "[lanes]\nidle_ms = 1500\n";
constexpr const char* console_only = "[lanes]\npolicy = \"never\"\n";

std::string lane_of(World& world, const std::string& domain, const std::string& guest = "") {
  const json::object status = world.bridge_status(domain, guest);
  const auto* lane = status.if_contains("lane");
  if (lane == nullptr) return "(no answer)";
  return std::string(lane->at("kind").as_string());
}

bool on_lane(World& world, const std::string& kind) {
  return eventually(
      [&] { return lane_of(world, "web") == kind && lane_of(world, "0", "web") == kind; });
}

std::uint64_t grants(World& world) {
  return world.domains().at("web").at("grants").to_number<std::uint64_t>();
}

/// Small messages of many sizes through an echo, one after another, until told to stop.
class Chat {
 public:
  Chat(const std::string& path, std::uint32_t seed, unsigned pause_ms_max = 20)
      : client_(path), pause_ms_max_(pause_ms_max), thread_([this, seed] { run(seed); }) {}
  ~Chat() { finish(); }

  /// Ends it; true when every answer was right.
  bool finish() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
    return intact_;
  }
  const std::vector<double>& round_trips_ms() const { return round_trips_ms_; }

 private:
  void run(std::uint32_t seed) {
    std::mt19937 random(seed);
    Pattern pattern(seed);
    while (!stopping_ && intact_) {
      std::string message(1 + random() % (random() % 8 == 0 ? 2000 : 100), '\0');
      pattern.fill(message);
      const auto begin = std::chrono::steady_clock::now();
      intact_ = client_.send(message) && client_.receive(message.size()) == message;
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - begin;
      round_trips_ms_.push_back(took.count());
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % pause_ms_max_));
    }
  }

  Client client_;
  unsigned pause_ms_max_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> intact_{true};
  std::vector<double> round_trips_ms_;
  std::thread thread_;
};

bool is_stopped(pid_t process) {
  const std::string stat = read_file("/proc/" + std::to_string(process) + "/stat");
  const std::size_t name_end = stat.rfind(") ");
  return name_end != std::string::npos && stat[name_end + 2] == 'T';
}

/// Writes indexes into the control page of the guest's vchan that no honest peer could write, until
/// somebody has seen one: the bridges write theirs over them all the time. The guest's stands still
/// meanwhile; it would give the page up, and something else would be hit that is there then.
void corrupt_ring(pid_t guest) {
  ::kill(guest, SIGSTOP);
  EXPECT_TRUE(eventually([&] { return is_stopped(guest); }));
  std::ifstream maps("/proc/" + std::to_string(guest) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("xensim-grants") == std::string::npos) continue;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    char dash = 0;
    std::istringstream(line) >> std::hex >> begin >> dash >> end;
    if (end - begin != 4096) continue;  // a ring
    // xen/io/libxenvchan.h: left and right, each a consumer's and a producer's index.
    std::array<std::uint32_t, 4> wrong{0x5a5a5a5a, 0xa5a5a5a5, 0x5a5a5a5a, 0xa5a5a5a5};
    iovec from{wrong.data(), sizeof wrong};
    iovec to{reinterpret_cast<void*>(begin), sizeof wrong};
    for (int i = 0; i < 20'000; ++i) ::process_vm_writev(guest, &from, 1, &to, 1, 0);
  }
  ::kill(guest, SIGCONT);
}

/// Takes the vchan away in one of the ways in which that happens; `give_back` makes it possible
/// again.
struct Loss {
  const char* name;
  std::function<void(World&)> take;
  std::function<void(World&)> give_back;
};

std::vector<Loss> losses() {
  const auto nothing = [](World&) {};
  const auto set = [](World& world, const char* key, const char* value) {
    EXPECT_EQ(world.xensim({"set", "web", key, value}).code, 0);
  };
  const auto lane = [](World& world, const char* which) {
    EXPECT_EQ(world.tool("0", {"lane", "web", which}).code, 0);
  };
  return {
      {"ring corrupted", [](World& world) { corrupt_ring(world.guest("web").pid()); }, nothing},
      {"no grants any more",
       [set](World& world) {
         set(world, "gntalloc-limit", "0");
         corrupt_ring(world.guest("web").pid());
       },
       [set](World& world) { set(world, "gntalloc-limit", "1024"); }},
      {"event channel closed", [set](World& world) { set(world, "event-channels", "cut"); },
       nothing},
      {"lane dropped by the bridge", [lane](World& world) { lane(world, "console"); },
       [lane](World& world) { lane(world, "auto"); }},
  };
}

void print_round_trips(std::vector<double> all_ms) {
  std::sort(all_ms.begin(), all_ms.end());
  const auto at = [&](double share) {
    return all_ms[static_cast<std::size_t>(share * static_cast<double>(all_ms.size() - 1))];
  };
  std::printf("%zu small messages, round trip p50 %.2f ms, p99 %.1f ms, longest %.1f ms\n",
              all_ms.size(), at(0.5), at(0.99), all_ms.back());
}

TEST(Lane, StreamsSurviveFiftyLossesOfTheVchan) {
  World world({"web"}, "[lanes]\nbacklog_bytes = 4096\n");
  world.timeouts = "[timeouts]\nresume_ms = 60000\npeer_stall_ms = 500\nretry_ms_max = 200\n";
  write_file(world.host_config_path(), world.host_config());
  write_file(world.guest_config_path("web"), world.guest_config("web"));
  world.start();
  Flood bulk(world.guest_socket("web", "org.host.echo"), 1, bystander_rate);
  std::vector<std::unique_ptr<Chat>> chats;
  for (std::uint32_t i = 0; i < 32; ++i) {
    chats.push_back(std::make_unique<Chat>(i % 2 == 0 ? world.guest_socket("web", "org.host.echo")
                                                      : world.host_socket("web", "org.guest.echo"),
                                           100 + i));
  }
  std::mt19937 random(50);
  const auto pause = [&] { std::this_thread::sleep_for(std::chrono::milliseconds(random() % 80)); };
  const auto ways = losses();
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(on_lane(world, "vchan")) << "loss " << i;
    pause();
    const Loss& loss = ways[static_cast<std::size_t>(i) % ways.size()];
    SCOPED_TRACE(loss.name);
    const auto before = world.bridge_status("web").at("lane").at("switches").to_number<int>();
    loss.take(world);
    ASSERT_TRUE(eventually([&] {
      return world.bridge_status("web").at("lane").at("switches").to_number<int>() > before;
    })) << "loss "
        << i;
    pause();
    loss.give_back(world);
  }
  EXPECT_TRUE(bulk.finish());
  std::vector<double> all_ms;
  for (auto& chat : chats) {
    EXPECT_TRUE(chat->finish());
    all_ms.insert(all_ms.end(), chat->round_trips_ms().begin(), chat->round_trips_ms().end());
  }
  print_round_trips(std::move(all_ms));
  const json::object status = world.bridge_status("web");
  EXPECT_EQ(status.at("counters").at("sessions").to_number<int>(), 1) << "one session all along";
  EXPECT_GE(status.at("lane").at("switches").to_number<int>(), 50);
}

TEST(Lane, QuietGuestHoldsNoGrants) {
  World world({"web"}, quick);
  world.start();
  EXPECT_TRUE(on_lane(world, "console"));
  EXPECT_TRUE(world.echo_works(world.guest_socket("web", "org.host.echo")));
  EXPECT_TRUE(world.echo_works(world.host_socket("web", "org.guest.echo")));
  EXPECT_EQ(grants(world), 0U) << "small messages need no vchan";
  Chat chat(world.guest_socket("web", "org.host.echo"), 7, 300);
  {
    Flood bulk(world.host_socket("web", "org.guest.echo"), 1);
    EXPECT_TRUE(bulk.wait_received(8 * mebibyte));
    EXPECT_TRUE(on_lane(world, "vchan"));
    EXPECT_GT(grants(world), 0U);
    EXPECT_TRUE(bulk.finish());
  }
  // While small messages go on.
  EXPECT_TRUE(eventually([&] { return grants(world) == 0; }, Seconds(1.5 + 2 * slowness)));
  EXPECT_TRUE(on_lane(world, "console"));
  EXPECT_TRUE(chat.finish());
  EXPECT_TRUE(world.echo_works(world.host_socket("web", "org.guest.echo")));
}

void expect_intact_upload(const std::string& path, std::uint64_t count) {
  Client client(path);
  Pattern pattern(count);
  Digest digest;
  EXPECT_TRUE(client.ok()) << path;
  EXPECT_TRUE(client.send_pattern(pattern, count, &digest)) << path;
  client.finish();
  EXPECT_EQ(client.receive_to_end(), digest.text()) << path;
}

void expect_all_works_over_the_console(World& world) {
  EXPECT_TRUE(on_lane(world, "console"));
  for (const std::string& path :
       {world.guest_socket("web", "org.host.echo"), world.host_socket("web", "org.guest.echo")}) {
    EXPECT_TRUE(world.echo_works(path));
  }
  expect_intact_upload(world.guest_socket("web", "org.host.digest"), 2 * mebibyte);
  expect_intact_upload(world.host_socket("web", "org.guest.digest"), 2 * mebibyte);
  EXPECT_EQ(grants(world), 0U);
  EXPECT_EQ(world.bridge_status("web").at("counters").at("sessions").to_number<int>(), 1);
}

TEST(Lane, WithoutGrantsEverythingGoesOverTheConsole) {
  World world({"web"}, quick);
  ASSERT_EQ(world.xensim({"set", "web", "gntalloc-limit", "0"}).code, 0);
  world.start();
  expect_all_works_over_the_console(world);
  EXPECT_THAT(world.log("web"), HasSubstr("gntalloc has no 3 pages"));
}

TEST(Lane, WithoutXensDevicesEverythingGoesOverTheConsole) {
  World world({"web"}, quick);
  // As without /dev/xen: the grant and event channel libraries find nothing.
  world.guest_environment = {"XENSIM_HV=/nonexistent"};
  world.start();
  expect_all_works_over_the_console(world);
  EXPECT_THAT(world.log("web"), HasSubstr("the console has to do"));
}

TEST(Lane, BytesAreRightOrTheLaneIsDownWhenTheConsoleIsAtItsWorst) {
  World world({"web"}, console_only);
  world.timeouts = "[timeouts]\nresume_ms = 60000\n";
  write_file(world.host_config_path(), world.host_config());
  write_file(world.guest_config_path("web"), world.guest_config("web"));
  world.start();
  for (const auto& [key, value] : {std::pair("console-loss", "50"),
                                   {"console-echo", "on"},
                                   {"console-noise", "on"},
                                   {"console-limit", "8192"}}) {
    ASSERT_EQ(world.xensim({"set", "web", key, value}).code, 0) << key;
  }
  constexpr std::uint64_t count = 32 * 1024;
  auto there = std::async(std::launch::async, expect_intact_upload,
                          world.guest_socket("web", "org.host.digest"), count);
  expect_intact_upload(world.host_socket("web", "org.guest.digest"), count);
  there.get();
  const json::object console = world.bridge_status("web").at("console").as_object();
  EXPECT_GT(console.at("retransmitted_frames").to_number<int>(), 0);
}

TEST(Lane, RestartedWorkerEndsStreamsWithAnErrorOfItsOwn) {
  World world({"web"}, console_only);
  // However long the next worker takes to begin.
  world.timeouts = "[timeouts]\nresume_ms = 60000\n";
  write_file(world.host_config_path(), world.host_config());
  write_file(world.guest_config_path("web"), world.guest_config("web"));
  world.start();
  EXPECT_TRUE(on_lane(world, "console"));
  Client client(world.guest_socket("web", "org.host.echo"));
  ASSERT_TRUE(client.send("ping"));
  EXPECT_EQ(client.receive(4), "ping");
  ::kill(world.worker_pid("web"), SIGKILL);
  EXPECT_EQ(client.receive_to_end(2 * end_within), "");
  EXPECT_NE(client.ending(), Ending::open);
  const auto told = [&] {
    const json::object status = world.bridge_status("web");
    for (const auto& channel : status.at("channels").as_array()) {
      for (const auto& ending : channel.at("bad_endings").as_array()) {
        if (ending.at("errno").as_string() == "ENETRESET") return true;
      }
    }
    return false;
  };
  EXPECT_TRUE(eventually(told)) << world.bridge_status("web").at("channels");
  EXPECT_TRUE(world.echo_works(world.guest_socket("web", "org.host.echo"), 2 * recovery_within));
}

TEST(Lane, IsShownAndSetByHandFromBothSides) {
  World world({"web"}, quick);
  world.start();
  EXPECT_TRUE(on_lane(world, "console"));
  for (const auto& [domain, arguments] :
       {std::pair<std::string, std::vector<std::string>>{"0", {"lane", "web"}},
        {"web", {"lane"}}}) {
    const auto with = [&](const std::string& lane) {
      auto all = arguments;
      all.push_back(lane);
      return all;
    };
    EXPECT_THAT(world.tool(domain, arguments).out, HasSubstr("console: there is no bulk"));
    EXPECT_EQ(world.tool(domain, with("vchan")).code, 0);
    EXPECT_TRUE(on_lane(world, "vchan")) << domain;
    EXPECT_THAT(world.tool(domain, arguments).out, HasSubstr("vchan: set by hand"));
    EXPECT_EQ(world.tool(domain, with("console")).code, 0);
    EXPECT_TRUE(on_lane(world, "console")) << domain;
    EXPECT_TRUE(eventually([&] { return grants(world) == 0; }));
    EXPECT_EQ(world.tool(domain, with("auto")).code, 0);
    const Outcome wrong = world.tool(domain, with("pigeon"));
    EXPECT_EQ(wrong.code, 2);
    EXPECT_THAT(wrong.err, HasSubstr("'pigeon' is neither auto, vchan nor console"));
  }
  EXPECT_EQ(world.tool("0", {"lane"}).code, 2);
  EXPECT_EQ(world.tool("0", {"lane", "nobody"}).code, 4);
}

}  // namespace
}  // namespace xenlane::tests
