#include "bridge/control/protocol.hpp"

#include <fmt/format.h>

namespace xenlane::bridge {

namespace json = boost::json;

json::object control_error(std::string_view code, std::string_view message) {
  return {{"v", control_version}, {"ok", false}, {"error", {{"code", code}, {"message", message}}}};
}

boost::system::result<json::object, RequestError> parse_control_request(
    std::string_view untrusted_line) {
  boost::system::error_code error;
  json::value value = json::parse(untrusted_line, error);
  if (error) return RequestError{"bad-request", "the request is not JSON: " + error.message()};
  if (!value.is_object()) return RequestError{"bad-request", "the request is not a JSON object"};
  json::object& request = value.get_object();
  if (json_number(request, "v") != control_version) {
    return RequestError{"bad-version",
                        fmt::format("\"v\" must be {}, the only version", control_version)};
  }
  if (json_text(request, "op").empty()) {
    return RequestError{"bad-request", "\"op\" is missing or not a text"};
  }
  return std::move(request);
}

std::string format_control_reply(json::object reply) {
  reply["v"] = control_version;
  if (!reply.contains("ok")) reply["ok"] = true;
  std::string line = json::serialize(reply);
  if (line.size() >= control_reply_bytes_max) {
    line = json::serialize(control_error(
        "reply-too-large", fmt::format("the reply would have {} bytes", line.size())));
  }
  line += '\n';
  return line;
}

std::string json_text(const json::object& object, std::string_view key,
                      std::string_view otherwise) {
  const json::value* value = object.if_contains(key);
  const json::string* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string(otherwise) : std::string(text->data(), text->size());
}

std::uint64_t json_number(const json::object& object, std::string_view key,
                          std::uint64_t otherwise) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr) return otherwise;
  if (const auto* unsigned_number = value->if_uint64()) return *unsigned_number;
  const auto* number = value->if_int64();
  return number == nullptr || *number < 0 ? otherwise : static_cast<std::uint64_t>(*number);
}

const json::object* json_object(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value == nullptr ? nullptr : value->if_object();
}

const json::array* json_array(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value == nullptr ? nullptr : value->if_array();
}

}  // namespace xenlane::bridge
