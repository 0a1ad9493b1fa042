// Bytes to messages: all of them are the peer's, and each field is checked here, once.
#include <algorithm>

#include "bridge/files/message.hpp"
#include "bridge/files/message_format.hpp"
#include "bridge/wire/bytes.hpp"

namespace xenlane::bridge::files {

namespace {

constexpr std::uint32_t nanoseconds = 1'000'000'000;

/// Reads a body; the first thing that is wrong stays.
class Reader {
 public:
  explicit Reader(BytesView untrusted_body) : in_(untrusted_body) {}

  template <std::unsigned_integral T>
  T get() {
    return in_.get<T>();
  }
  std::string get_text(std::size_t bytes_max, const char* what) {
    const std::size_t size = in_.get<std::uint16_t>();
    if (size > bytes_max) fault(what);
    const BytesView bytes = in_.get(size);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::int32_t get_error() {
    const auto error = in_.get<std::uint32_t>();
    if (error > 4095) fault("an error that is none");  // MAX_ERRNO of linux/err.h
    return static_cast<std::int32_t>(error & 4095U);
  }
  Trouble get_trouble() {
    const auto trouble = in_.get<std::uint8_t>();
    if (trouble < 1 || trouble > static_cast<std::uint8_t>(Trouble::folder)) {
      fault("a trouble that is none");
    }
    return static_cast<Trouble>(trouble);
  }
  Digest get_digest() {
    Digest digest;
    const std::size_t size = in_.get<std::uint8_t>();
    if (size != 0 && size != digest_bytes(DigestKind::xxh3) &&
        size != digest_bytes(DigestKind::sha256)) {
      fault("a digest of no known size");
      return digest;
    }
    const BytesView bytes = in_.get(size);
    if (bytes.size() == size) {
      digest.size = size;
      std::copy(bytes.begin(), bytes.end(), digest.bytes.begin());
    }
    return digest;
  }
  void fault(const char* what) {
    if (fault_.empty()) fault_ = what;
  }

  /// `value`, if the body was good and there is no more of it.
  template <typename T>
  Decoded<T> finish(T value) {
    if (!in_.ok()) fault("it is cut short");
    if (in_.left() > 0) fault("more follows than belongs to it");
    if (!fault_.empty()) return ParseError{fault_};
    return value;
  }

 private:
  ByteReader in_;
  std::string fault_;
};

bool is_known(std::uint8_t type) {
  return (type >= 1 && type <= 4) || (type >= 16 && type <= 24) || (type >= 32 && type <= 36);
}

std::vector<std::string> get_texts(Reader& reader) {
  std::vector<std::string> texts;
  const std::size_t count = reader.get<std::uint16_t>();
  if (count > request_texts_max) {
    reader.fault("too many paths or patterns");
    return texts;
  }
  for (std::size_t i = 0; i < count; ++i) {
    texts.push_back(reader.get_text(path_bytes_max, "too long a path"));
  }
  return texts;
}

std::vector<Xattr> get_xattrs(Reader& reader) {
  std::vector<Xattr> xattrs;
  const std::size_t count = reader.get<std::uint8_t>();
  if (count > xattrs_max) {
    reader.fault("too many extended attributes");
    return xattrs;
  }
  for (std::size_t i = 0; i < count; ++i) {
    Xattr xattr;
    xattr.name = reader.get_text(name_bytes_max, "too long a name of an attribute");
    xattr.value = reader.get_text(xattr_bytes_max, "too long a value of an attribute");
    xattrs.push_back(std::move(xattr));
  }
  return xattrs;
}

}  // namespace

Decoded<Header> decode_header(std::span<const std::byte, header_bytes> untrusted_bytes) {
  ByteReader reader(untrusted_bytes);
  const auto size = reader.get<std::uint32_t>();
  const auto type = reader.get<std::uint8_t>();
  if (!is_known(type)) return ParseError{"a message of no known type"};
  const Header header{size, static_cast<MessageType>(type)};
  const bool is_data = header.type == MessageType::data;
  if (size > (is_data ? data_bytes_max : body_bytes_max)) return ParseError{"too long a message"};
  if (reader.get<std::uint8_t>() != 0 || reader.get<std::uint16_t>() != 0) {
    return ParseError{"a header that is none"};
  }
  return header;
}

template <>
Decoded<Hello> decode<Hello>(BytesView untrusted_body) {
  // Later versions may append.
  ByteReader reader(untrusted_body);
  if (reader.get<std::uint64_t>() != message_magic)
    return ParseError{"no file service talks there"};
  Hello hello;
  hello.version_min = reader.get<std::uint16_t>();
  hello.version_max = reader.get<std::uint16_t>();
  if (!reader.ok() || hello.version_min > hello.version_max)
    return ParseError{"a hello that is none"};
  return hello;
}

template <>
Decoded<Refuse> decode<Refuse>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  Refuse refuse;
  refuse.error = reader.get_error();
  refuse.text = reader.get_text(path_bytes_max, "too long a text");
  return reader.finish(std::move(refuse));
}

template <>
Decoded<Request> decode<Request>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  Request request;
  const auto flags = reader.get<std::uint32_t>();
  if ((flags & ~static_cast<std::uint32_t>(flags_all)) != 0) reader.fault("an unknown option");
  request.pull = (flags & flag_pull) != 0;
  request.checksum = (flags & flag_checksum) != 0;
  request.dry_run = (flags & flag_dry_run) != 0;
  request.verify = (flags & flag_verify) != 0;
  request.xattrs = (flags & flag_xattrs) != 0;
  request.owner = (flags & flag_owner) != 0;
  request.into_folder = (flags & flag_into_folder) != 0;
  const auto digest = reader.get<std::uint8_t>();
  if (digest != 1 && digest != 2) reader.fault("an unknown digest");
  request.digest = digest == 2 ? DigestKind::sha256 : DigestKind::xxh3;
  request.bytes_per_second_max = reader.get<std::uint64_t>();
  request.paths = get_texts(reader);
  request.excludes = get_texts(reader);
  if (request.paths.empty() || (!request.pull && request.paths.size() > 1)) {
    reader.fault("no path, or too many");
  }
  return reader.finish(std::move(request));
}

template <>
Decoded<Ready> decode<Ready>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  const auto flag = reader.get<std::uint8_t>();
  if (flag > 1) reader.fault("a flag that is none");
  return reader.finish(Ready{flag == 1});
}

template <>
Decoded<Entry> decode<Entry>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  Entry entry;
  entry.id = reader.get<std::uint32_t>();
  entry.parent = reader.get<std::uint32_t>();
  const auto kind = reader.get<std::uint8_t>();
  if (kind < 1 || kind > 4) reader.fault("neither file nor folder nor link");
  entry.kind = static_cast<EntryKind>(kind);
  const auto flags = reader.get<std::uint8_t>();
  if (flags > 3) reader.fault("a flag that is none");
  entry.size_known = (flags & 1U) != 0;
  entry.has_links = (flags & 2U) != 0;
  entry.mode = reader.get<std::uint16_t>();
  if (entry.mode > 0777) reader.fault("more than permissions in a mode");
  entry.mtime_s = static_cast<std::int64_t>(reader.get<std::uint64_t>());
  entry.mtime_ns = reader.get<std::uint32_t>();
  if (entry.mtime_ns >= nanoseconds) reader.fault("a time that is none");
  entry.size = reader.get<std::uint64_t>();
  if (entry.size > INT64_MAX) reader.fault("a size that no file has");
  entry.uid = reader.get<std::uint32_t>();
  entry.gid = reader.get<std::uint32_t>();
  entry.link_to = reader.get<std::uint32_t>();
  entry.name = reader.get_text(name_bytes_max, "too long a name");
  entry.target = reader.get_text(path_bytes_max, "too long a target of a link");
  entry.xattrs = get_xattrs(reader);
  return reader.finish(std::move(entry));
}

template <>
Decoded<FileBegin> decode<FileBegin>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  FileBegin begin;
  begin.id = reader.get<std::uint32_t>();
  begin.offset = reader.get<std::uint64_t>();
  return reader.finish(begin);
}

template <>
Decoded<FileEnd> decode<FileEnd>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  return reader.finish(FileEnd{reader.get_digest()});
}

template <>
Decoded<FileFailed> decode<FileFailed>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  FileFailed failed;
  failed.id = reader.get<std::uint32_t>();
  failed.trouble = reader.get_trouble();
  failed.error = reader.get_error();
  return reader.finish(failed);
}

template <>
Decoded<Unreadable> decode<Unreadable>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  Unreadable unreadable;
  unreadable.trouble = reader.get_trouble();
  unreadable.error = reader.get_error();
  unreadable.path = reader.get_text(path_bytes_max, "too long a path");
  return reader.finish(std::move(unreadable));
}

template <>
Decoded<Listed> decode<Listed>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  return reader.finish(Listed{reader.get<std::uint64_t>()});
}

template <>
Decoded<Want> decode<Want>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  Want want;
  want.id = reader.get<std::uint32_t>();
  want.have = reader.get<std::uint64_t>();
  want.digest = reader.get_digest();
  return reader.finish(want);
}

template <>
Decoded<Failed> decode<Failed>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  Failed failed;
  failed.id = reader.get<std::uint32_t>();
  failed.trouble = reader.get_trouble();
  failed.error = reader.get_error();
  failed.text = reader.get_text(path_bytes_max, "too long a text");
  return reader.finish(std::move(failed));
}

template <>
Decoded<Result> decode<Result>(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  Result result;
  result.files = reader.get<std::uint64_t>();
  result.bytes = reader.get<std::uint64_t>();
  return reader.finish(result);
}

Decoded<std::uint64_t> decode_hole(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  return reader.finish(reader.get<std::uint64_t>());
}

Decoded<std::uint32_t> decode_id(BytesView untrusted_body) {
  Reader reader(untrusted_body);
  return reader.finish(reader.get<std::uint32_t>());
}

}  // namespace xenlane::bridge::files
