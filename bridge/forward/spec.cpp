#include "bridge/forward/spec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <vector>

namespace xenlane::bridge {

namespace {

constexpr std::size_t spec_bytes_max = 1024;
constexpr std::size_t guest_bytes_max = 128;

using AddressResult = boost::system::result<ForwardAddress, ParseError>;

/// At colons that are not within brackets. An address in brackets loses them.
std::vector<std::string> fields_of(std::string_view text) {
  std::vector<std::string> fields(1);
  bool in_brackets = false;
  for (const char byte : text) {
    if (byte == '[' && fields.back().empty()) {
      in_brackets = true;
    } else if (byte == ']' && in_brackets) {
      in_brackets = false;
    } else if (byte == ':' && !in_brackets) {
      fields.emplace_back();
    } else {
      fields.back() += byte;
    }
  }
  return fields;
}

bool is_path(const std::string& field) {
  return field.starts_with('/');
}

bool is_port(const std::string& field) {
  return !field.empty() && std::ranges::all_of(field, [](char c) { return c >= '0' && c <= '9'; });
}

/// One or two fields.
AddressResult read_address_of(std::span<const std::string> fields, bool listens) {
  if (fields.size() == 1 && is_path(fields[0])) return ForwardAddress::unix_path(fields[0]);
  const std::string& port = fields.back();
  if (parse_port(port) == 0) {
    return ParseError{fmt::format("'{}' is neither a port from 1 to 65535 nor a path",
                                  escape_untrusted(port, 40))};
  }
  return ForwardAddress::tcp(fields.size() == 2 ? fields[0] : "localhost", parse_port(port),
                             listens);
}

const char* form_of(ForwardKind kind) {
  switch (kind) {
    case ForwardKind::local:
      return "[BIND:]PORT:GUEST:[HOST:]PORT, each end a path as well, as in 5432:web:5432";
    case ForwardKind::remote:
      return "[BIND:]PORT:GUEST:[HOST:]PORT, each end a path as well, as in 8080:web:80; the first "
             "is the guest's";
    case ForwardKind::socks:
      return "[BIND:]PORT:GUEST, or a path for the port, as in 1080:web";
  }
  return "";
}

}  // namespace

std::string_view to_string(ForwardKind kind) {
  switch (kind) {
    case ForwardKind::local:
      return "local";
    case ForwardKind::remote:
      return "remote";
    case ForwardKind::socks:
      break;
  }
  return "socks";
}

boost::system::result<ForwardSpec, ParseError> parse_forward_spec(ForwardKind kind,
                                                                  std::string_view text) {
  const auto wrong = [&](const std::string& what) {
    return ParseError{
        fmt::format("'{}': {}; it is {}", escape_untrusted(text, 80), what, form_of(kind))};
  };
  if (text.size() > spec_bytes_max) return wrong("it is too long");
  const std::vector<std::string> fields = fields_of(text);
  const std::span<const std::string> all(fields);
  const std::size_t first = is_path(fields[0]) || is_port(fields[0]) ? 1 : 2;
  const std::size_t rest = fields.size() > first ? fields.size() - first - 1 : 0;
  const bool has_target = kind != ForwardKind::socks;
  if (fields.size() <= first || (has_target ? rest < 1 || rest > 2 : rest != 0)) {
    return wrong("it has not as many parts as it should");
  }
  const std::string& guest = fields[first];
  const bool bad_guest = guest.empty() || guest.size() > guest_bytes_max || guest == "." ||
                         guest == ".." || std::ranges::any_of(guest, [](char byte) {
                           return static_cast<unsigned char>(byte) < 0x20 || byte == '/';
                         });
  if (bad_guest) return wrong("the guest's name is none");
  auto listen = read_address_of(all.first(first), true);
  if (!listen) return wrong(listen.error().text);
  ForwardSpec spec{kind, std::string(text), guest, std::move(*listen), {}, {}};
  if (has_target) {
    auto target = read_address_of(all.subspan(first + 1), false);
    if (!target) return wrong(target.error().text);
    spec.target = std::move(*target);
  }
  spec.channel = guest == forward_host_name ? forward_on_host_channel : forward_in_guest_channel;
  return spec;
}

}  // namespace xenlane::bridge
