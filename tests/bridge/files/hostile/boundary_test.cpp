// A sender that goes away after each message of a transfer, and within each: what has a name is
// whole, and nobody reports success.
#include <gtest/gtest.h>

#include "bridge/cli/exit_codes.hpp"
#include "tests/bridge/files/hostile/scene.hpp"

namespace xenlane::bridge::files::hostile {
namespace {

constexpr std::string_view small = "a small file";
const std::string& large() {
  static const std::string content(300'000, 'l');
  return content;
}

/// All that an honest sender says, message by message.
std::vector<Bytes> transfer() {
  std::vector<Bytes> messages;
  const auto add = [&](const auto& message) { encode(messages.emplace_back(), message); };
  const auto add_data = [&](std::string_view content) {
    Bytes& bytes = messages.emplace_back();
    encode_header(bytes, MessageType::data, content.size());
    const auto view = std::as_bytes(std::span(content));
    bytes.insert(bytes.end(), view.begin(), view.end());
  };
  std::uint32_t id = 0;
  for (Entry entry : {folder_entry("folder"), file_entry("small", small.size(), 1),
                      file_entry("large", large().size()), file_entry("old", small.size()),
                      link_entry("link", "old"), hard_link_entry("hard", 2)}) {
    entry.id = ++id;
    entry.has_links = id == 2;
    add(entry);
  }
  add(Listed{id});
  for (const std::uint32_t file : {2U, 4U}) {
    add(FileBegin{file, 0});
    add_data(small.substr(0, 5));
    add_data(small.substr(5));
    add(FileEnd{digest_of(small)});
  }
  add(FileBegin{3, 0});
  add_data(std::string_view(large()).substr(0, 299'999));
  add_data(std::string_view(large()).substr(299'999));
  add(FileEnd{digest_of(large())});
  encode_header(messages.emplace_back(), MessageType::sent, 0);
  return messages;
}

/// Sends the first `count` messages and `bytes` of the next, and goes.
void cut_at(std::size_t count, std::size_t bytes, bool is_service) {
  SCOPED_TRACE("after " + std::to_string(count) + " messages and " + std::to_string(bytes) +
               " bytes");
  const auto messages = transfer();
  Scene scene(false);
  transport::UniqueFd connection;
  const auto victim = is_service ? scene.start_service({"--receive", scene.top()}, connection)
                                 : scene.start_client({"host:files/", scene.base()}, connection);
  Talk talk(std::move(connection));
  if (is_service) {
    Request request;
    request.paths = {""};
    greet_as_client(talk, request);
  } else {
    greet_as_service(talk, Ready{true});
  }
  for (std::size_t i = 0; i < count; ++i) talk.send(messages[i]);
  if (bytes > 0) talk.send(BytesView(messages[count]).first(bytes));
  const bool is_whole = count == messages.size();
  if (!is_whole) talk.finish_writing();
  talk.await_end();
  const Ended ended = victim->wait();
  EXPECT_EQ(ended.exit_code, is_whole ? exit_ok : exit_broken) << ended.err;
  EXPECT_FALSE(talk.is_stuck());
  scene.check({std::string(small), large()}, is_whole);
}

TEST(HostileFilesBoundary, SenderThatGoesAtAnyMessage) {
  const auto messages = transfer();
  for (const bool is_service : {true, false}) {
    for (std::size_t count = 0; count <= messages.size(); ++count) {
      cut_at(count, 0, is_service);
      if (count == messages.size()) continue;
      cut_at(count, messages[count].size() - 1, is_service);
      if (messages[count].size() > header_bytes) cut_at(count, header_bytes, is_service);
    }
  }
}

}  // namespace
}  // namespace xenlane::bridge::files::hostile
