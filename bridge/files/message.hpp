// What `xenlane cp` and `xenlane serve-files` say to each other over one connection of a channel
// (docs/files.md). No I/O: messages to bytes and back. All of a decoded message is the peer's word;
// names.hpp says which names may become a file's.
#pragma once

#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/channel/text.hpp"
#include "bridge/files/digest.hpp"

namespace xenlane::bridge::files {

using Bytes = std::vector<std::byte>;
using BytesView = std::span<const std::byte>;

inline constexpr std::uint16_t protocol_version = 1;
/// Of a body in bytes (4), the type (1), zero (3).
inline constexpr std::size_t header_bytes = 8;
/// Longest body of any message but `data`.
inline constexpr std::size_t body_bytes_max = 64 * 1024;
inline constexpr std::size_t data_bytes_max = 1024 * 1024;
/// Of a hole, between two looks at whether the other side is still there.
inline constexpr std::uint64_t hole_bytes_at_once = std::uint64_t{1} << 30U;
/// NAME_MAX of limits.h.
inline constexpr std::size_t name_bytes_max = 255;
/// PATH_MAX less the closing NUL.
inline constexpr std::size_t path_bytes_max = 4095;
/// Sources, or patterns, of one request.
inline constexpr std::size_t request_texts_max = 4096;
inline constexpr std::size_t xattrs_max = 64;
inline constexpr std::size_t xattr_bytes_max = 16 * 1024;
/// Entries that a sender may have announced and not yet heard the last of.
inline constexpr std::size_t entries_under_way_max = 4096;

enum class MessageType : std::uint8_t {
  hello = 1,
  refuse = 2,
  request = 3,
  ready = 4,
  // From whoever sends files.
  entry = 16,
  file = 17,
  data = 18,
  hole = 19,
  file_end = 20,
  file_failed = 21,
  unreadable = 22,
  listed = 23,
  sent = 24,
  // From whoever receives them.
  want = 32,
  have = 33,
  done = 34,
  failed = 35,
  result = 36,
};

/// Why something was not copied; each has an exit code (docs/files.md).
enum class Trouble : std::uint8_t {
  source = 1,       ///< it could not be read
  changed = 2,      ///< it changed or vanished while it was read
  destination = 3,  ///< it could not be written
  no_space = 4,     ///< no space, or a quota is used up
  refused = 5,      ///< the receiver's rules do not let it in, or the sender does not send such
  mismatch = 6,     ///< what arrived has another digest than what was read
  folder = 7,       ///< the folder it belongs into could not be made; said once, for that
};

struct Header {
  std::uint32_t body_bytes = 0;
  MessageType type{};
};

/// First from both, client first.
struct Hello {
  std::uint16_t version_min = protocol_version;
  std::uint16_t version_max = protocol_version;
};

struct Refuse {
  std::int32_t error = 0;  ///< an errno value
  std::string text;
};

/// What the client wants of the service.
struct Request {
  bool pull = false;      ///< the service sends; else it receives
  bool checksum = false;  ///< compare files by digest in place of size and time
  bool dry_run = false;
  bool verify = false;  ///< the receiver reads back what it wrote
  bool xattrs = false;
  bool owner = false;
  bool into_folder = false;  ///< push: the path is a folder's, to be made if it is not there
  DigestKind digest = DigestKind::xxh3;
  std::uint64_t bytes_per_second_max = 0;  ///< pull: 0 is no limit
  std::vector<std::string> paths;          ///< push: the destination; pull: the sources
  std::vector<std::string> excludes;       ///< pull
};

/// The service is ready; then the transfer begins.
struct Ready {
  bool has_folder = false;  ///< pull: one of the sources is a folder, or what is in one
};

enum class EntryKind : std::uint8_t { file = 1, folder = 2, symlink = 3, hard_link = 4 };

struct Xattr {
  std::string name;
  std::string value;
};

/// Ids count from 1; 0 as parent is the destination itself.
struct Entry {
  std::uint32_t id = 0;
  std::uint32_t parent = 0;
  EntryKind kind{};
  bool size_known = true;
  bool has_links = false;  ///< a hard link to this file may follow
  std::uint16_t mode = 0;  ///< permission bits, 0777
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint64_t size = 0;  ///< of a file
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t link_to = 0;  ///< of a hard link: the file's id
  std::string name;
  std::string target;  ///< of a symlink
  std::vector<Xattr> xattrs;
};

/// The content of a file begins; `data` and `hole` follow up to `file_end` or `file_failed`.
struct FileBegin {
  std::uint32_t id = 0;
  std::uint64_t offset = 0;  ///< 0, or what the receiver has and the digests agree on
};

struct FileEnd {
  Digest digest;  ///< of the whole content, what was not sent included
};

struct FileFailed {
  std::uint32_t id = 0;
  Trouble trouble{};
  std::int32_t error = 0;
};

/// A source that became no entry.
struct Unreadable {
  Trouble trouble{};
  std::int32_t error = 0;
  std::string path;
};

struct Listed {
  std::uint64_t entries = 0;
};

/// Send me this file; `have` bytes of it may be here.
struct Want {
  std::uint32_t id = 0;
  std::uint64_t have = 0;
  Digest digest;  ///< of these, if have is not 0
};

struct Failed {
  std::uint32_t id = 0;
  Trouble trouble{};
  std::int32_t error = 0;
  std::string text;  ///< more than the error says, or empty
};

struct Result {
  std::uint64_t files = 0;  ///< confirmed, each by its digest
  std::uint64_t bytes = 0;
};

/// Appends the message with its header.
void encode(Bytes& out, const Hello& hello);
void encode(Bytes& out, const Refuse& refuse);
void encode(Bytes& out, const Request& request);
void encode(Bytes& out, const Ready& ready);
void encode(Bytes& out, const Entry& entry);
void encode(Bytes& out, const FileBegin& begin);
void encode(Bytes& out, const FileEnd& end);
void encode(Bytes& out, const FileFailed& failed);
void encode(Bytes& out, const Unreadable& unreadable);
void encode(Bytes& out, const Listed& listed);
void encode(Bytes& out, const Want& want);
void encode(Bytes& out, const Failed& failed);
void encode(Bytes& out, const Result& result);
/// hole (length), have and done (id).
void encode_hole(Bytes& out, std::uint64_t length);
void encode_id(Bytes& out, MessageType type, std::uint32_t id);
/// sent has no body; of data only the header.
void encode_header(Bytes& out, MessageType type, std::size_t body_bytes);

template <typename T>
using Decoded = boost::system::result<T, ParseError>;

Decoded<Header> decode_header(std::span<const std::byte, header_bytes> untrusted_bytes);
/// The body of a message of the type that T is of. Every size and every value of an enumeration is
/// checked, names and digests' lengths too; nothing may be left over.
template <typename T>
Decoded<T> decode(BytesView untrusted_body);
/// hole, and have and done.
Decoded<std::uint64_t> decode_hole(BytesView untrusted_body);
Decoded<std::uint32_t> decode_id(BytesView untrusted_body);

}  // namespace xenlane::bridge::files
