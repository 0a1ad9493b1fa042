#include "transport/xensim/store/wire.hpp"

#include <cerrno>
#include <cstring>

extern "C" {
#include <xen/io/xs_wire.h>
}

namespace xensim {

static_assert(sizeof(xsd_sockmsg) == header_bytes);
static_assert(XENSTORE_PAYLOAD_MAX == payload_bytes_max);

std::string encode(const Message& message) {
  xsd_sockmsg header{};
  header.type = message.type;
  header.req_id = message.request_id;
  header.tx_id = message.transaction_id;
  header.len = static_cast<std::uint32_t>(message.payload.size());
  std::string bytes(header_bytes, '\0');
  std::memcpy(bytes.data(), &header, header_bytes);
  return bytes + message.payload;
}

void Decoder::feed(std::string_view untrusted_bytes) {
  pending_.append(untrusted_bytes);
}

std::optional<Message> Decoder::next() {
  if (is_broken_ || pending_.size() < header_bytes) return std::nullopt;
  xsd_sockmsg untrusted_header{};
  std::memcpy(&untrusted_header, pending_.data(), header_bytes);
  if (untrusted_header.len > payload_bytes_max) {
    is_broken_ = true;
    pending_.clear();
    return std::nullopt;
  }
  const std::size_t payload_bytes = untrusted_header.len;
  if (pending_.size() < header_bytes + payload_bytes) return std::nullopt;
  Message message{untrusted_header.type, untrusted_header.req_id, untrusted_header.tx_id,
                  pending_.substr(header_bytes, payload_bytes)};
  pending_.erase(0, header_bytes + payload_bytes);
  return message;
}

std::string_view error_name(int error) {
  for (const auto& known : xsd_errors) {
    if (known.errnum == error) return known.errstring;
  }
  return "EINVAL";
}

std::vector<std::string_view> split_strings(std::string_view payload) {
  std::vector<std::string_view> strings;
  for (auto end = payload.find('\0'); end != payload.npos; end = payload.find('\0')) {
    strings.push_back(payload.substr(0, end));
    payload.remove_prefix(end + 1);
  }
  return strings;
}

bool is_one_string(std::string_view payload) {
  return !payload.empty() && payload.find('\0') == payload.size() - 1;
}

}  // namespace xensim
