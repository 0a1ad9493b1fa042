#include "bridge/channel/proxy_header.hpp"

#include <algorithm>
#include <concepts>
#include <string>
#include <string_view>

namespace xenlane::bridge {

namespace {

constexpr std::string_view signature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::uint8_t version_2_proxy = 0x21;
constexpr std::uint8_t unix_stream = 0x31;
/// Of each address in the AF_UNIX family.
constexpr std::size_t address_bytes = 108;
constexpr std::size_t unique_id_bytes_max = 128;

class HeaderWriter {
 public:
  template <std::unsigned_integral T>
  void put(T value) {
    for (std::size_t i = sizeof(T); i-- > 0;) {
      bytes_.push_back(static_cast<std::byte>(std::uint64_t{value} >> (8 * i)));
    }
  }
  void put(std::string_view text) {
    for (const char byte : text) bytes_.push_back(static_cast<std::byte>(byte));
  }
  void put_padded(std::string_view text, std::size_t size) {
    put(text.substr(0, size));
    bytes_.resize(bytes_.size() + size - std::min(text.size(), size));
  }
  void put_tlv(ProxyTlv type, std::string_view value) {
    put(static_cast<std::uint8_t>(type));
    put(static_cast<std::uint16_t>(value.size()));
    put(value);
  }
  void put_tlv(ProxyTlv type, std::uint32_t value) {
    put(static_cast<std::uint8_t>(type));
    put(std::uint16_t{sizeof value});
    put(value);
  }
  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace

std::vector<std::byte> encode_proxy_header(const Caller& caller) {
  HeaderWriter body;
  body.put_padded("xenlane:" + caller.peer, address_bytes);
  body.put_padded("xenlane:" + caller.channel, address_bytes);
  body.put_tlv(ProxyTlv::authority, caller.channel);
  body.put_tlv(ProxyTlv::unique_id,
               std::string_view(caller.connection).substr(0, unique_id_bytes_max));
  body.put_tlv(ProxyTlv::peer, caller.peer);
  if (caller.domid) body.put_tlv(ProxyTlv::domid, std::uint32_t{*caller.domid});
  if (caller.peer_uid != uid_unknown) body.put_tlv(ProxyTlv::peer_uid, caller.peer_uid);
  if (!caller.uuid.empty()) body.put_tlv(ProxyTlv::uuid, caller.uuid);

  HeaderWriter header;
  header.put(signature);
  header.put(version_2_proxy);
  header.put(unix_stream);
  header.put(static_cast<std::uint16_t>(body.bytes().size()));
  auto out = std::move(header.bytes());
  out.insert(out.end(), body.bytes().begin(), body.bytes().end());
  return out;
}

}  // namespace xenlane::bridge
