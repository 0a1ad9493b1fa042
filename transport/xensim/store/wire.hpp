// The xenstore message on the wire: a 16 byte header (struct xsd_sockmsg of xen/io/xs_wire.h, host
// byte order) and at most 4096 bytes of payload.
//
// No rules here about what a message means; only how bytes become messages and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace xensim {

/// Most payload bytes of one message, both ways (XENSTORE_PAYLOAD_MAX). A client that announces
/// more is dropped, as xenstored drops it.
inline constexpr std::size_t payload_bytes_max = 4096;
inline constexpr std::size_t header_bytes = 16;

struct Message {
  std::uint32_t type = 0;  ///< enum xsd_sockmsg_type
  std::uint32_t request_id = 0;
  std::uint32_t transaction_id = 0;
  std::string payload;

  friend bool operator==(const Message&, const Message&) = default;
};

std::string encode(const Message& message);

/// What answers a request that asks for nothing back, its NUL included.
inline constexpr std::string_view ok_reply{"OK", 3};

/// Turns a byte stream into messages. Holds at most one unfinished message beyond what was fed in.
class Decoder {
 public:
  void feed(std::string_view untrusted_bytes);

  /// The next whole message, if there is one.
  std::optional<Message> next();

  /// True once a header announced more than payload_bytes_max. Nothing is decoded any more.
  bool is_broken() const { return is_broken_; }

 private:
  std::string pending_;
  bool is_broken_ = false;
};

/// The name that stands for `error` in an XS_ERROR reply, from xsd_errors; "EINVAL" if the
/// protocol has no name for it.
std::string_view error_name(int error);

/// The NUL-terminated strings at the front of a payload. Bytes after the last NUL are not returned.
std::vector<std::string_view> split_strings(std::string_view payload);

/// True for one NUL-terminated string and nothing else.
bool is_one_string(std::string_view payload);

}  // namespace xensim
