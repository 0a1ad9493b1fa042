// Names: the state folder of one xensim and the environment of a domain's processes.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace xensim::hv {

/// A Unix socket address holds 107 bytes and a terminator (unix(7)).
inline constexpr std::size_t max_socket_path = 107;

/// Paths below the state folder. `dir` is absolute.
struct Layout {
  std::string dir;

  std::string control() const { return dir + "/control"; }
  std::string pid_file() const { return dir + "/broker.pid"; }
  std::string log() const { return dir + "/log"; }
  std::string domains() const { return dir + "/dom"; }
  std::string domain(std::uint32_t domid) const { return domains() + "/" + std::to_string(domid); }
  std::string store_socket(std::uint32_t domid) const { return domain(domid) + "/xenstored"; }
  std::string hypervisor_socket(std::uint32_t domid) const { return domain(domid) + "/hv"; }
  std::string run_folder(std::uint32_t domid) const { return domain(domid) + "/run"; }
  std::string device_folder(std::uint32_t domid) const { return domain(domid) + "/dev"; }
  std::string device(std::uint32_t domid, std::size_t hvc) const {
    return device_folder(domid) + "/hvc" + std::to_string(hvc);
  }
  std::string channels() const { return dir + "/channel"; }
  std::string channel_folder(const std::string& guest) const { return channels() + "/" + guest; }
  std::string channel_socket(const std::string& guest, const std::string& name) const {
    return channel_folder(guest) + "/" + name;
  }

  /// Short enough for the sockets of every domid; those of channels have names of their own.
  bool fits_socket_addresses() const { return store_socket(32751).size() <= max_socket_path; }
  std::size_t longest_dir() const {
    return max_socket_path - (store_socket(32751).size() - dir.size());
  }

  /// The mark in the environment by which a domain's processes are found. `nonce` is the broker's.
  std::string tag(std::uint32_t domid, const std::string& nonce) const {
    return "XENSIM_DOMAIN_TAG=" + dir + ":" + std::to_string(domid) + ":" + nonce;
  }
};

/// Variables to set for a process of the domain, LD_LIBRARY_PATH aside.
inline std::vector<std::pair<std::string, std::string>> domain_environment(
    const Layout& layout, std::uint32_t domid, const std::string& nonce) {
  const std::string tag = layout.tag(domid, nonce);
  const std::size_t equals = tag.find('=');
  return {
      {"XENSTORED_PATH", layout.store_socket(domid)},
      {"XENSIM_HV", layout.hypervisor_socket(domid)},
      {"XENSIM_DIR", layout.dir},
      {"XENSIM_DOMAIN", std::to_string(domid)},
      {"XENLANE_RUN_DIR", layout.run_folder(domid)},
      {"XENLANE_DEV_DIR", layout.device_folder(domid)},
      {tag.substr(0, equals), tag.substr(equals + 1)},
  };
}

}  // namespace xensim::hv
