#include "transport/xensim/store/path.hpp"

namespace xensim {
namespace {

constexpr std::string_view path_characters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@";

// Bytes of a leading "/local/domain/<one to five digits>/", else 0.
std::size_t domain_prefix_bytes(std::string_view path) {
  constexpr std::string_view homes = "/local/domain/";
  constexpr std::size_t domid_digits_max = 5;
  if (!path.starts_with(homes)) return 0;
  const auto end = path.find_first_not_of("0123456789", homes.size());
  const bool is_home = end != path.npos && path[end] == '/' && end > homes.size() &&
                       end - homes.size() <= domid_digits_max;
  return is_home ? end + 1 : 0;
}

}  // namespace

std::string domain_path(std::uint32_t domid) {
  return "/local/domain/" + std::to_string(domid);
}

bool is_valid_path(std::string_view path, std::size_t path_bytes_max) {
  if (!path.starts_with('/')) return false;
  if (path.size() > 1 && path.ends_with('/')) return false;
  if (path.find("//") != path.npos) return false;
  if (path.size() > domain_prefix_bytes(path) + path_bytes_max) return false;
  return path.find_first_not_of(path_characters) == path.npos;
}

std::string parent_path(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

std::string_view base_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

std::string child_path(std::string_view parent, std::string_view name) {
  std::string path(parent == "/" ? "" : parent);
  path += '/';
  return path.append(name);
}

bool is_same_or_below(std::string_view path, std::string_view ancestor) {
  if (ancestor == "/") return true;
  if (!path.starts_with(ancestor)) return false;
  return path.size() == ancestor.size() || path[ancestor.size()] == '/';
}

}  // namespace xensim
