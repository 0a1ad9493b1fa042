// Every way of ways.hpp against the real programs. After each: nothing outside the base was made,
// changed or read, nothing stands under a name that is not whole, and the program ended by itself,
// with the exit code that is documented and without much memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "bridge/cli/exit_codes.hpp"
#include "tests/bridge/files/hostile/scene.hpp"

namespace xenlane::bridge::files::hostile {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::Ge;
using testing::HasSubstr;
using testing::Le;
using testing::Matcher;
using testing::Not;

/// A transfer of hundreds of gigabytes takes a few; a sanitizer has its own.
constexpr long peak_kib_max = 96 * 1024;

Matcher<int> code_for(Verdict verdict) {
  switch (verdict) {
    case Verdict::gives_up:
      return exit_broken;
    case Verdict::harmless:
      return exit_ok;
    case Verdict::unreadable:
      return exit_source;
    case Verdict::changed:
      return exit_changed;
    case Verdict::unwritable:
      return exit_destination;
    case Verdict::no_room:
      return exit_no_space;
    case Verdict::refused:
      return exit_refused_entry;
    case Verdict::mismatch:
      return exit_mismatch;
    case Verdict::any:
      break;
  }
  return AnyOf(exit_ok, exit_broken, AllOf(Ge(exit_source), Le(exit_mismatch)));
}

Matcher<int> services_code_for(Verdict verdict) {
  if (verdict == Verdict::gives_up) return exit_broken;
  if (verdict == Verdict::any) return AnyOf(exit_ok, exit_broken);
  return exit_ok;
}

void expect_end(const Talk& talk, const Ended& ended, const Matcher<int>& code) {
  EXPECT_THAT(ended.exit_code, code) << ended.err;
  EXPECT_FALSE(talk.is_stuck()) << "it neither sent nor read nor ended";
  EXPECT_THAT(talk.heard(), Not(HasSubstr(secret)));
  EXPECT_THAT(ended.err, Not(HasSubstr(secret)));
  EXPECT_THAT(ended.err, Not(HasSubstr("\x1b"))) << "it talks to the terminal";
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(ended.peak_kib, peak_kib_max);
#endif
}

void against_service(const SenderWay& way) {
  SCOPED_TRACE(std::string(way.name) + " against serve-files");
  Scene scene(false);
  transport::UniqueFd connection;
  const auto victim = scene.start_service({"--receive", scene.top()}, connection);
  HostileSender sender(std::move(connection));
  Request request;
  request.paths = {""};
  request.xattrs = true;
  greet_as_client(sender, request);
  way.act(sender);
  const bool is_over = way.verdict != Verdict::gives_up;
  if (!is_over) sender.close();
  expect_end(sender, victim->wait(), services_code_for(way.verdict));
  scene.check(sender.honest(), is_over && way.verdict != Verdict::any);
}

void against_client(const SenderWay& way) {
  SCOPED_TRACE(std::string(way.name) + " against cp");
  Scene scene(false);
  transport::UniqueFd connection;
  const auto victim = scene.start_client({"-X", "host:files/", scene.base()}, connection);
  HostileSender sender(std::move(connection));
  greet_as_service(sender, Ready{true});
  way.act(sender);
  const bool is_over = way.verdict != Verdict::gives_up;
  if (!is_over) sender.close();
  const Ended ended = victim->wait();
  expect_end(sender, ended, code_for(way.verdict));
  EXPECT_THAT(ended.err, HasSubstr(way.reason));
  scene.check(sender.honest(), is_over && way.verdict != Verdict::any);
}

void against_service(const ReceiverWay& way) {
  SCOPED_TRACE(std::string(way.name) + " against serve-files");
  Scene scene;
  transport::UniqueFd connection;
  const auto victim = scene.start_service({"--send", scene.source()}, connection);
  HostileReceiver receiver(std::move(connection));
  Request request;
  request.pull = true;
  request.paths = {""};
  greet_as_client(receiver, request);
  way.act(receiver);
  receiver.close();
  expect_end(receiver, victim->wait(), services_code_for(way.verdict));
  scene.check({}, true);
}

void against_client(const ReceiverWay& way) {
  SCOPED_TRACE(std::string(way.name) + " against cp");
  Scene scene;
  transport::UniqueFd connection;
  const auto victim = scene.start_client({scene.source() + "/", "host:in/"}, connection);
  HostileReceiver receiver(std::move(connection));
  greet_as_service(receiver, Ready{});
  way.act(receiver);
  receiver.close();
  const Ended ended = victim->wait();
  expect_end(receiver, ended, code_for(way.verdict));
  EXPECT_THAT(ended.err, HasSubstr(way.reason));
  scene.check({}, true);
}

template <typename Way>
void go(const std::vector<Way>& ways) {
  for (const Way& way : ways) {
    against_service(way);
    against_client(way);
  }
}

TEST(HostileFiles, SenderWithNames) {
  go(name_ways());
}
TEST(HostileFiles, SenderWithLinks) {
  go(link_ways());
}
TEST(HostileFiles, SenderWithEntries) {
  go(entry_ways());
}
TEST(HostileFiles, SenderWithContent) {
  go(content_ways());
}
TEST(HostileFiles, SenderWithMessages) {
  go(message_ways());
}
TEST(HostileFiles, SenderInFloods) {
  go(sender_flood_ways());
}
TEST(HostileFiles, Receiver) {
  go(receiver_ways());
}

TEST(HostileFiles, ClientThatGreets) {
  for (const GreetingWay& way : client_greeting_ways()) {
    SCOPED_TRACE(way.name);
    Scene scene;
    transport::UniqueFd connection;
    const auto victim =
        scene.start_service({"--receive", scene.top(), "--send", scene.source()}, connection);
    Talk talk(std::move(connection));
    way.act(talk);
    expect_end(talk, victim->wait(), way.exit_code);
    EXPECT_THAT(talk.heard(), HasSubstr(way.reason));
    scene.check({}, true);
  }
}

TEST(HostileFiles, ServiceThatGreets) {
  for (const GreetingWay& way : service_greeting_ways()) {
    SCOPED_TRACE(way.name);
    Scene scene;
    transport::UniqueFd connection;
    const auto victim = scene.start_client({"host:files/", scene.base()}, connection);
    Talk talk(std::move(connection));
    way.act(talk);
    talk.close();
    const Ended ended = victim->wait();
    expect_end(talk, ended, way.exit_code);
    EXPECT_THAT(ended.err, HasSubstr(way.reason));
    scene.check({}, true);
  }
}

/// The service calls what it sends otherwise than was asked for (CVE-2019-6111).
TEST(HostileFiles, ServiceThatChoosesNames) {
  for (const std::string asked : {"host:report", "host:folder/report"}) {
    Scene scene;
    transport::UniqueFd connection;
    const auto victim = scene.start_client({asked, scene.base()}, connection);
    HostileSender sender(std::move(connection));
    greet_as_service(sender, Ready{});
    sender.announce(file_entry(".bashrc", 3));
    sender.announce(folder_entry("folder"));
    sender.announce(link_entry("link", "old"));
    sender.whole("report", "what was asked for");
    sender.finish();
    const Ended ended = victim->wait();
    EXPECT_EQ(ended.exit_code, exit_refused_entry);
    EXPECT_THAT(ended.err, HasSubstr(".bashrc: refused; left out (nobody asked for it)"));
    scene.check(sender.honest(), true);
    EXPECT_EQ(look_at(scene.base()).size(), 7U) << "more than the one file was made";
  }
}

/// One file into a name of our own, or to standard output: it can be nothing more.
TEST(HostileFiles, ServiceThatSendsMoreThanOneFile) {
  for (const std::string where : {"/new", ""}) {
    Scene scene;
    transport::UniqueFd connection;
    const auto victim =
        scene.start_client({"host:report", where.empty() ? "-" : scene.base() + where}, connection);
    HostileSender sender(std::move(connection));
    greet_as_service(sender, Ready{});
    sender.whole("report", "what was asked for");
    sender.announce(file_entry("report", 3));
    sender.announce(folder_entry("folder"));
    sender.announce(link_entry("link", "old"));
    sender.finish();
    const Ended ended = victim->wait();
    EXPECT_EQ(ended.exit_code, exit_refused_entry);
    EXPECT_THAT(ended.err, HasSubstr("only one file"));
    EXPECT_EQ(ended.err.find("what was asked for") != std::string::npos, where.empty());
    scene.check(sender.honest(), true);
  }
}

TEST(HostileFiles, HonestPeersAreServed) {
  const auto receive = [](HostileReceiver& receiver) { receiver.answer_honestly(); };
  const auto send = [](HostileSender& sender) {
    const auto folder = sender.announce(folder_entry("folder"));
    const auto file = sender.whole("file", "an honest file", folder, true);
    sender.announce(link_entry("link", "folder/file"));
    sender.announce(hard_link_entry("hard", file));
    sender.finish();
  };
  go<SenderWay>({{"honest", "all is well", Verdict::harmless, {}, send}});
  go<ReceiverWay>({{"honest", "all is well", Verdict::harmless, {}, receive}});
}

template <typename Way>
void add_names(std::vector<std::string>& names, const std::vector<Way>& ways) {
  for (const Way& way : ways) names.emplace_back(way.name);
}

TEST(HostileFiles, WaysAreManyAndDocumented) {
  std::vector<std::string> names;
  add_names(names, name_ways());
  add_names(names, link_ways());
  add_names(names, entry_ways());
  add_names(names, content_ways());
  add_names(names, message_ways());
  add_names(names, sender_flood_ways());
  add_names(names, receiver_ways());
  add_names(names, client_greeting_ways());
  add_names(names, service_greeting_ways());
  EXPECT_GE(names.size(), 200U);
  std::ifstream file(SECURITY_DOCUMENT);
  const std::string document{std::istreambuf_iterator<char>(file), {}};
  for (const std::string& name : names) {
    EXPECT_NE(document.find("`" + name + "`"), std::string::npos) << name << " is not in it";
    EXPECT_EQ(std::ranges::count(names, name), 1) << name;
  }
}

}  // namespace
}  // namespace xenlane::bridge::files::hostile
