// The hostile end of a connection of the file service: says what it likes and hears what comes.
// It never waits longer than patience(), and remembers all bytes that it was ever given.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "bridge/files/message.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::files::hostile {

struct Message {
  MessageType type{};
  Bytes body;
};

class Talk {
 public:
  explicit Talk(transport::UniqueFd socket);

  /// All of it, reading meanwhile what comes; stops when the other side is gone.
  void send(BytesView bytes);
  /// As much as goes without reading anything.
  void send_deaf(BytesView bytes);
  template <typename... T>
  void say(const T&... message) {
    Bytes bytes;
    encode(bytes, message...);
    send(bytes);
  }
  void say_id(MessageType type, std::uint32_t id);
  void say_hole(std::uint64_t length);
  void say_data(std::string_view text);
  /// A header, and as many bytes that are zero behind it as it says.
  void say_zeros(MessageType type, std::size_t size);

  /// The next message of any type but data; nothing at the end of the connection.
  std::optional<Message> next();
  /// Reads on to a message of this type; false: the connection ended before it.
  bool await(MessageType type, Message* out = nullptr);
  /// Reads to the end of the connection.
  void await_end();
  void finish_writing();
  void close() { socket_ = {}; }

  /// Every byte that came.
  const std::string& heard() const { return heard_; }
  /// The other side neither sent nor ended for as long as patience() lasts.
  bool is_stuck() const { return is_stuck_; }

 private:
  bool read_some();

  transport::UniqueFd socket_;
  std::string heard_;
  std::size_t looked_at_ = 0;
  bool is_gone_ = false;
  bool is_stuck_ = false;
};

Digest digest_of(std::string_view content, DigestKind kind = DigestKind::xxh3);

Entry file_entry(std::string_view name, std::uint64_t size, std::uint32_t parent = 0);
Entry folder_entry(std::string_view name, std::uint32_t parent = 0);
Entry link_entry(std::string_view name, std::string_view target, std::uint32_t parent = 0);
Entry hard_link_entry(std::string_view name, std::uint32_t to, std::uint32_t parent = 0);

/// After the greeting, in a sender's place.
class HostileSender : public Talk {
 public:
  using Talk::Talk;

  /// Gives it the next id, which is returned.
  std::uint32_t announce(Entry entry);
  /// The same bytes with one of them, `at` bytes into the body, replaced by `value` of `size`
  /// bytes.
  void announce_raw(Entry entry, std::size_t at, std::uint64_t value, std::size_t size);
  /// The content of a file that is wanted, as an honest sender sends it. It is `content` that may
  /// be found under a name afterwards.
  void content(std::uint32_t id, std::string_view content);
  /// The same of a file that has begun.
  void rest_of(std::string_view content);
  /// Announces and sends a file.
  std::uint32_t whole(std::string_view name, std::string_view content, std::uint32_t parent = 0,
                      bool has_links = false);
  /// Says that all has been sent, and waits for the result.
  void finish();

  const std::set<std::string>& honest() const { return honest_; }

 private:
  std::uint32_t last_id_ = 0;
  std::set<std::string> honest_;
};

/// After the greeting, in a receiver's place.
class HostileReceiver : public Talk {
 public:
  using Talk::Talk;

  /// Reads until the sender has announced everything.
  void await_listed();
  /// The id of an announced entry; 0 if there is none of that name.
  std::uint32_t id_of(std::string_view name) const;
  void want(std::uint32_t id, std::uint64_t have = 0, const Digest& digest = {});
  /// Asks for every file, confirms everything, and ends as an honest receiver does.
  void answer_honestly();
  /// Reads on to the content of a file, and to its end.
  std::string take_file();

 private:
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace xenlane::bridge::files::hostile
