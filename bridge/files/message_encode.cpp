// Messages to bytes.
#include <cassert>
#include <concepts>

#include "bridge/files/message.hpp"
#include "bridge/files/message_format.hpp"
#include "bridge/wire/bytes.hpp"

namespace xenlane::bridge::files {

namespace {

using BytesAt = std::span<std::byte>;

/// Appends a message; its length is filled in at the end.
class Writer {
 public:
  Writer(Bytes& out, MessageType type) : out_(out), begin_(out.size()) {
    encode_header(out, type, 0);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() {
    const std::size_t body = out_.size() - begin_ - header_bytes;
    assert(body <= body_bytes_max);
    store_le(BytesAt(out_).subspan(begin_).first<4>(), static_cast<std::uint32_t>(body));
  }

  template <std::unsigned_integral T>
  void put(T value) {
    const std::size_t at = out_.size();
    out_.resize(at + sizeof value);
    store_le(BytesAt(out_).subspan(at).template first<sizeof(T)>(), value);
  }
  void put(BytesView bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void put_text(std::string_view text) {
    put(static_cast<std::uint16_t>(text.size()));
    put(std::as_bytes(std::span(text)));
  }
  void put_error(std::int32_t error) { put(static_cast<std::uint32_t>(error)); }
  void put_digest(const Digest& digest) {
    put(static_cast<std::uint8_t>(digest.size));
    put(digest.view());
  }

 private:
  Bytes& out_;
  std::size_t begin_;
};

std::uint32_t flags_of(const Request& request) {
  std::uint32_t flags = 0;
  if (request.pull) flags |= flag_pull;
  if (request.checksum) flags |= flag_checksum;
  if (request.dry_run) flags |= flag_dry_run;
  if (request.verify) flags |= flag_verify;
  if (request.xattrs) flags |= flag_xattrs;
  if (request.owner) flags |= flag_owner;
  if (request.into_folder) flags |= flag_into_folder;
  return flags;
}

void put_texts(Writer& writer, const std::vector<std::string>& texts) {
  writer.put(static_cast<std::uint16_t>(texts.size()));
  for (const std::string& text : texts) writer.put_text(text);
}

}  // namespace

void encode_header(Bytes& out, MessageType type, std::size_t body_bytes) {
  const std::size_t at = out.size();
  out.resize(at + header_bytes);
  store_le(BytesAt(out).subspan(at).first<4>(), static_cast<std::uint32_t>(body_bytes));
  out[at + 4] = static_cast<std::byte>(type);
}

void encode(Bytes& out, const Hello& hello) {
  Writer writer(out, MessageType::hello);
  writer.put(message_magic);
  writer.put(hello.version_min);
  writer.put(hello.version_max);
}

void encode(Bytes& out, const Refuse& refuse) {
  Writer writer(out, MessageType::refuse);
  writer.put_error(refuse.error);
  writer.put_text(refuse.text);
}

void encode(Bytes& out, const Request& request) {
  Writer writer(out, MessageType::request);
  writer.put(flags_of(request));
  writer.put(static_cast<std::uint8_t>(request.digest));
  writer.put(request.bytes_per_second_max);
  put_texts(writer, request.paths);
  put_texts(writer, request.excludes);
}

void encode(Bytes& out, const Ready& ready) {
  Writer(out, MessageType::ready).put(static_cast<std::uint8_t>(ready.has_folder ? 1 : 0));
}

void encode(Bytes& out, const Entry& entry) {
  Writer writer(out, MessageType::entry);
  writer.put(entry.id);
  writer.put(entry.parent);
  writer.put(static_cast<std::uint8_t>(entry.kind));
  writer.put(static_cast<std::uint8_t>((entry.size_known ? 1 : 0) | (entry.has_links ? 2 : 0)));
  writer.put(entry.mode);
  writer.put(static_cast<std::uint64_t>(entry.mtime_s));
  writer.put(entry.mtime_ns);
  writer.put(entry.size);
  writer.put(entry.uid);
  writer.put(entry.gid);
  writer.put(entry.link_to);
  writer.put_text(entry.name);
  writer.put_text(entry.target);
  writer.put(static_cast<std::uint8_t>(entry.xattrs.size()));
  for (const Xattr& xattr : entry.xattrs) {
    writer.put_text(xattr.name);
    writer.put_text(xattr.value);
  }
}

void encode(Bytes& out, const FileBegin& begin) {
  Writer writer(out, MessageType::file);
  writer.put(begin.id);
  writer.put(begin.offset);
}

void encode(Bytes& out, const FileEnd& end) {
  Writer(out, MessageType::file_end).put_digest(end.digest);
}

void encode(Bytes& out, const FileFailed& failed) {
  Writer writer(out, MessageType::file_failed);
  writer.put(failed.id);
  writer.put(static_cast<std::uint8_t>(failed.trouble));
  writer.put_error(failed.error);
}

void encode(Bytes& out, const Unreadable& unreadable) {
  Writer writer(out, MessageType::unreadable);
  writer.put(static_cast<std::uint8_t>(unreadable.trouble));
  writer.put_error(unreadable.error);
  writer.put_text(unreadable.path);
}

void encode(Bytes& out, const Listed& listed) {
  Writer(out, MessageType::listed).put(listed.entries);
}

void encode(Bytes& out, const Want& want) {
  Writer writer(out, MessageType::want);
  writer.put(want.id);
  writer.put(want.have);
  writer.put_digest(want.digest);
}

void encode(Bytes& out, const Failed& failed) {
  Writer writer(out, MessageType::failed);
  writer.put(failed.id);
  writer.put(static_cast<std::uint8_t>(failed.trouble));
  writer.put_error(failed.error);
  writer.put_text(failed.text);
}

void encode(Bytes& out, const Result& result) {
  Writer writer(out, MessageType::result);
  writer.put(result.files);
  writer.put(result.bytes);
}

void encode_hole(Bytes& out, std::uint64_t length) {
  Writer(out, MessageType::hole).put(length);
}

void encode_id(Bytes& out, MessageType type, std::uint32_t id) {
  Writer(out, type).put(id);
}

}  // namespace xenlane::bridge::files
