// Our reader of xl's syntax against xl's own, libxlutil: what that refuses we refuse, what we take
// it takes with the same meaning, and we refuse nothing of its but what is known to go wrong there.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>

#include "bridge/toolstack/xl_channels.hpp"
#include "bridge/toolstack/xl_syntax.hpp"
#include "tests/bridge/toolstack/findings.hpp"

extern "C" {
#include <libxlutil.h>
}

namespace xenlane::bridge {
namespace {

/// What both readers make of a file: the text `name`, and the list `channel` up to the first item
/// that is no text, which is where xl's loop over channels ends.
struct Meaning {
  std::optional<std::string> name;
  std::optional<std::vector<std::string>> channel;

  friend bool operator==(const Meaning&, const Meaning&) = default;
};

std::optional<Meaning> read_with_xlutil(const std::string& text) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> nowhere(std::fopen("/dev/null", "w"),
                                                                &std::fclose);
  const std::unique_ptr<XLU_Config, void (*)(XLU_Config*)> config(
      xlu_cfg_init(nowhere.get(), "test"), &xlu_cfg_destroy);
  if (xlu_cfg_readdata(config.get(), text.data(), static_cast<int>(text.size())) != 0) {
    return std::nullopt;
  }
  Meaning meaning;
  const char* name = nullptr;
  if (xlu_cfg_get_string(config.get(), "name", &name, 1) == 0) meaning.name = name;
  XLU_ConfigList* list = nullptr;
  int entries = 0;
  if (xlu_cfg_get_list(config.get(), "channel", &list, &entries, 1) == 0) {
    meaning.channel.emplace();
    for (int i = 0; i < entries; ++i) {
      const char* item = xlu_cfg_get_listitem(list, i);
      if (item == nullptr) break;
      meaning.channel->emplace_back(item);
    }
  }
  return meaning;
}

std::optional<Meaning> read_with_ours(const std::string& text) {
  Findings findings;
  const XlSettings settings = parse_xl(text, findings);
  if (findings.has_errors()) return std::nullopt;
  Meaning meaning;
  if (const auto name = settings.find("name"); name != settings.end() && !name->second.is_list) {
    meaning.name = name->second.text.text;
  }
  if (const auto list = settings.find("channel"); list != settings.end() && list->second.is_list) {
    meaning.channel.emplace();
    for (const XlValue& item : list->second.items) {
      if (item.is_list) break;
      meaning.channel->push_back(item.text.text);
    }
  }
  return meaning;
}

void expect_same(const std::string& text) {
  const auto theirs = read_with_xlutil(text);
  const auto ours = read_with_ours(text);
  EXPECT_EQ(theirs.has_value(), ours.has_value()) << text;
  EXPECT_TRUE(theirs == ours) << text;
}

TEST(XlSyntaxAgainstXlutil, ReadsTheSameInWhatPeopleWrite) {
  for (const char* text : {
           "",
           "\n",
           ";",
           "# nothing\n",
           "name='web'",
           "name='web'\n",
           "name = \"web\" # x\n",
           "name='web';channel=['a']",
           "channel=[]\n",
           "channel=[\n]\n",
           "channel=['a',]\n",
           "channel=['a',\n\n'b'\n,\n'c',\n]\n",
           "channel=[ # one\n'a' # two\n, # three\n'b' ]\n",
           "channel=[12, 0x1f, 'a']\n",
           "channel=['a',['b'],'c']\n",
           "channel='a'\n",
           "name='a'\nname='b'\n",
           "name='a'\nname+='b'\n",
           "name+='b'\n",
           "channel=['a']\nchannel+=['b','c']\n",
           "name=1\n",
           "a.b_c9='x'\n",
           R"(name="a\"b\'c\\d\n\t\a\b\f\r\v")",
           R"(name='it\'s "so"')",
           "name\t=\t'a'\t\n",
       }) {
    const auto theirs = read_with_xlutil(text);
    EXPECT_TRUE(theirs) << text;
    expect_same(text);
  }
}

TEST(XlSyntaxAgainstXlutil, RefusesTheSameMistakes) {
  for (const char* text : {
           "name",
           "name=",
           "name='a",
           "name=\"a'\n",
           "name='a\nb'\n",
           "name='a' 'b'\n",
           "name=web\n",
           "Name='a'\n",
           "_a='b'\n",
           "name=='a'\n",
           "name+'a'\n",
           "='a'\n",
           "channel=[",
           "channel=['a'",
           "channel=['a' 'b']\n",
           "channel=[,]\n",
           "channel=['a',,'b']\n",
           "channel=\n['a']\n",
           "channel=['a']]\n",
           "name='a'\nname+=['b']\n",
           "channel=['a']\nchannel+='b'\n",
           "name='a'\r\n",
           "name='a' # no newline",
           "name=-1\n",
           "name=('a')\n",
           "def f(): return 1\n",
           R"(name='\q')",
           R"(name='a\)",
           "name='a\\\n'\n",
           "\xc3\xa4='a'\n",
       }) {
    EXPECT_FALSE(read_with_xlutil(text)) << text;
    expect_same(text);
  }
}

TEST(XlSyntaxAgainstXlutil, RefusesNumericEscapesThatXlutilLoses) {
  // libxlutil reads their digits and puts nothing into the text.
  const auto theirs = read_with_xlutil(R"(name='a\012b')");
  ASSERT_TRUE(theirs);
  EXPECT_EQ(theirs->name, "ab");
  EXPECT_FALSE(read_with_ours(R"(name='a\012b')"));
}

TEST(XlSyntaxAgainstXlutil, RefusesAByteAtTheEndThatXlutilOverlooks) {
  for (const char* text : {"name='a'\n\"", "#", "name='a'-"}) {
    EXPECT_TRUE(read_with_xlutil(text)) << text;
    EXPECT_FALSE(read_with_ours(text)) << text;
    EXPECT_FALSE(read_with_xlutil(text + std::string(" "))) << text;
  }
}

TEST(XlSyntaxAgainstXlutil, TakesWhatWeWrite) {
  const GuestChannels guest{
      *DomainName::parse("we\"b\\'"),
      {{*ChannelName::parse("org.example.a"), *SocketPath::parse("/run/a \\'b"), 0}}};
  const auto theirs = read_with_xlutil(write_xl_channels(guest).value());
  ASSERT_TRUE(theirs);
  EXPECT_EQ(theirs->name, "we\"b\\'");
  EXPECT_EQ(theirs->channel,
            (std::vector<std::string>{"connection=pty,name=unused",
                                      "connection=socket,name=org.example.a,path=/run/a \\'b"}));
}

TEST(XlSyntaxAgainstXlutil, ReadsTheSameInWordsThrownTogether) {
  constexpr std::array words = {
      "name",  "channel", "name",  "channel", "vcpus", "=",    "=",     "=",     "+=", "[",
      "[",     "]",       "]",     ",",       ",",     "\n",   "\n",    "\n",    ";",  "'a'",
      "'b c'", "\"d\"",   "'e',",  "12",      " ",     "\t",   "# x\n", "\\",    "'",  "\"",
      "x y",   "-",       "'f'\n", "= [",     "]\n",   "='g'", "=['h'", ",\n'i'"};
  std::mt19937 random(20);  // NOLINT(cert-msc51-cpp): the same words every time
  std::size_t taken = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (auto left = 1 + random() % 12; left > 0; --left) text += words[random() % words.size()];
    text += random() % 2 == 0 ? '\n' : ' ';
    expect_same(text);
    if (testing::Test::HasFailure()) return;
    if (read_with_ours(text)) ++taken;
  }
  // Else it would only have shown that both refuse.
  EXPECT_GT(taken, 100U);
}

}  // namespace
}  // namespace xenlane::bridge
