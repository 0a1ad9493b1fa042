#include "tests/bridge/files/hostile/talk.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "bridge/wire/bytes.hpp"
#include "tests/support/patience.hpp"

namespace xenlane::bridge::files::hostile {

namespace {

int patience_ms() {
  return static_cast<int>(std::chrono::milliseconds(test::patience()).count());
}

BytesView bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

Talk::Talk(transport::UniqueFd socket) : socket_(std::move(socket)) {}

bool Talk::read_some() {
  std::array<char, 65536> chunk;
  const ssize_t got = ::recv(socket_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
  if (got > 0) heard_.append(chunk.data(), static_cast<std::size_t>(got));
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) is_gone_ = true;
  return got > 0;
}

void Talk::send(BytesView bytes) {
  while (!bytes.empty()) {
    const ssize_t sent =
        ::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
      continue;
    }
    if (errno != EAGAIN && errno != EINTR) return;
    pollfd waiting{socket_.get(), static_cast<short>(is_gone_ ? POLLOUT : POLLIN | POLLOUT), 0};
    if (::poll(&waiting, 1, patience_ms()) == 0) {
      is_stuck_ = true;
      return;
    }
    if ((waiting.revents & POLLIN) != 0) read_some();
  }
}

void Talk::send_deaf(BytesView bytes) {
  constexpr int no_more_ms = 200;  // later the other side would still not read
  while (!bytes.empty()) {
    pollfd waiting{socket_.get(), POLLOUT, 0};
    if (::poll(&waiting, 1, no_more_ms) <= 0) return;
    const ssize_t sent =
        ::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return;
    if (sent > 0) bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

void Talk::say_id(MessageType type, std::uint32_t id) {
  Bytes bytes;
  encode_id(bytes, type, id);
  send(bytes);
}

void Talk::say_hole(std::uint64_t length) {
  Bytes bytes;
  encode_hole(bytes, length);
  send(bytes);
}

void Talk::say_data(std::string_view text) {
  Bytes bytes;
  encode_header(bytes, MessageType::data, text.size());
  const BytesView content = bytes_of(text);
  bytes.insert(bytes.end(), content.begin(), content.end());
  send(bytes);
}

void Talk::say_zeros(MessageType type, std::size_t size) {
  Bytes bytes;
  encode_header(bytes, type, size);
  bytes.resize(bytes.size() + size);
  send(bytes);
}

std::optional<Message> Talk::next() {
  for (;;) {
    const BytesView left = bytes_of(heard_).subspan(looked_at_);
    if (left.size() >= header_bytes) {
      const std::size_t size = load_le<std::uint32_t>(left.first<4>());
      if (left.size() >= header_bytes + size) {
        const BytesView body = left.subspan(header_bytes, size);
        looked_at_ += header_bytes + size;
        return Message{static_cast<MessageType>(left[4]), Bytes(body.begin(), body.end())};
      }
    }
    if (is_gone_ || !socket_) return std::nullopt;
    pollfd waiting{socket_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, patience_ms()) == 0) {
      is_stuck_ = true;
      return std::nullopt;
    }
    read_some();
  }
}

bool Talk::await(MessageType type, Message* out) {
  while (auto message = next()) {
    if (message->type != type) continue;
    if (out != nullptr) *out = std::move(*message);
    return true;
  }
  return false;
}

void Talk::await_end() {
  while (next()) continue;
}

void Talk::finish_writing() {
  ::shutdown(socket_.get(), SHUT_WR);
}

Digest digest_of(std::string_view content, DigestKind kind) {
  Hasher hasher(kind);
  hasher.update(bytes_of(content));
  return hasher.digest();
}

Entry file_entry(std::string_view name, std::uint64_t size, std::uint32_t parent) {
  Entry entry;
  entry.kind = EntryKind::file;
  entry.parent = parent;
  entry.name = name;
  entry.size = size;
  entry.mode = 0644;
  entry.mtime_s = 1'700'000'000;
  return entry;
}

Entry folder_entry(std::string_view name, std::uint32_t parent) {
  Entry entry = file_entry(name, 0, parent);
  entry.kind = EntryKind::folder;
  entry.mode = 0755;
  return entry;
}

Entry link_entry(std::string_view name, std::string_view target, std::uint32_t parent) {
  Entry entry = file_entry(name, 0, parent);
  entry.kind = EntryKind::symlink;
  entry.target = target;
  return entry;
}

Entry hard_link_entry(std::string_view name, std::uint32_t to, std::uint32_t parent) {
  Entry entry = file_entry(name, 0, parent);
  entry.kind = EntryKind::hard_link;
  entry.link_to = to;
  return entry;
}

std::uint32_t HostileSender::announce(Entry entry) {
  entry.id = ++last_id_;
  say(entry);
  return entry.id;
}

void HostileSender::announce_raw(Entry entry, std::size_t at, std::uint64_t value,
                                 std::size_t size) {
  entry.id = ++last_id_;
  Bytes bytes;
  encode(bytes, entry);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[header_bytes + at + i] = static_cast<std::byte>(value >> (8 * i));
  }
  send(bytes);
}

void HostileSender::content(std::uint32_t id, std::string_view content) {
  say(FileBegin{id, 0});
  rest_of(content);
}

void HostileSender::rest_of(std::string_view content) {
  honest_.emplace(content);
  if (!content.empty()) say_data(content);
  say(FileEnd{digest_of(content)});
}

std::uint32_t HostileSender::whole(std::string_view name, std::string_view text,
                                   std::uint32_t parent, bool has_links) {
  Entry entry = file_entry(name, text.size(), parent);
  entry.has_links = has_links;
  const std::uint32_t id = announce(std::move(entry));
  content(id, text);
  return id;
}

void HostileSender::finish() {
  say(Listed{last_id_});
  say_zeros(MessageType::sent, 0);
  await(MessageType::result);
}

void HostileReceiver::await_listed() {
  while (auto message = next()) {
    if (message->type == MessageType::listed) return;
    if (message->type != MessageType::entry) continue;
    if (auto entry = decode<Entry>(message->body)) entries_[entry->name] = *entry;
  }
}

std::uint32_t HostileReceiver::id_of(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? 0 : found->second.id;
}

void HostileReceiver::want(std::uint32_t id, std::uint64_t have, const Digest& digest) {
  say(Want{id, have, digest});
}

std::string HostileReceiver::take_file() {
  std::string content;
  while (auto message = next()) {
    if (message->type == MessageType::data) {
      content.append(reinterpret_cast<const char*>(message->body.data()), message->body.size());
    }
    if (message->type == MessageType::file_end || message->type == MessageType::file_failed) break;
  }
  return content;
}

void HostileReceiver::answer_honestly() {
  await_listed();
  for (const auto& [name, entry] : entries_) {
    if (entry.kind == EntryKind::file) {
      want(entry.id);
      take_file();
    }
    if (entry.kind == EntryKind::file || entry.kind == EntryKind::symlink) {
      say_id(MessageType::done, entry.id);
    }
  }
  await(MessageType::sent);
  for (const auto& [name, entry] : entries_) {
    if (entry.kind == EntryKind::folder || entry.kind == EntryKind::hard_link) {
      say_id(MessageType::done, entry.id);
    }
  }
  say(Result{entries_.size(), 0});
}

}  // namespace xenlane::bridge::files::hostile
