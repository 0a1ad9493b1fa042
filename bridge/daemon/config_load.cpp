// Reads the main file and the drop-ins into one BridgeConfig. Settings of later files replace
// those of earlier ones; channels are appended, so the first match is the earliest file's.
// Relations between settings and between channels are checked once, when all files are in.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <system_error>

#include "bridge/daemon/config.hpp"
#include "bridge/daemon/config_channel.hpp"
#include "bridge/daemon/config_connect.hpp"
#include "bridge/daemon/config_forward.hpp"
#include "bridge/daemon/config_reader.hpp"
#include "bridge/daemon/config_section.hpp"

namespace xenlane::bridge {
namespace {

using namespace config_detail;

class Loader {
 public:
  explicit Loader(Side side) : side_(side) { load_.config.run_dir = default_run_dir(); }

  ConfigLoad run(const std::optional<std::string>& path);

 private:
  void read_file(const std::string& path, bool is_main);
  void read_tables(const toml::table& root, const std::string& file);
  void read_channels(const toml::node& node, const std::string& file);
  void read_forwards(const toml::node& node, const std::string& file);
  std::vector<std::string> drop_ins();
  void deny_all(SourceLocation where, std::string why) {
    load_.config.guests_unknown = true;
    load_.config.denials.push_back(
        {"*", "*", load_.config.channels.size(), std::move(where), std::move(why)});
  }
  void check_relations();
  void check_channels();
  void require(bool holds, const std::string& key, const std::string& message);
  void add(SourceLocation where, Severity severity, Scope scope, std::string message) {
    load_.diagnostics.push_back({std::move(where), severity, scope, std::move(message)});
  }

  Side side_;
  ConfigLoad load_;
  std::map<std::string, SourceLocation> set_at_;  // "section.key": where it was last set
  toml::table settings_;                          // the sections' keys, as they count
};

/// The whole file, or what went wrong with reading it.
std::string slurp(const std::string& path, std::string& content) {
  struct stat found = {};
  if (::stat(path.c_str(), &found) < 0) return std::generic_category().message(errno);
  if (!S_ISREG(found.st_mode)) return "is not a regular file";
  if (static_cast<std::uint64_t>(found.st_size) > config_file_bytes_max) {
    return fmt::format("has {} bytes, {} are allowed", found.st_size, config_file_bytes_max);
  }
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || (found.st_size > 0 && !(text << file.rdbuf()))) {
    return errno != 0 ? std::generic_category().message(errno) : "cannot be read";
  }
  content = text.str();
  return {};
}

void Loader::read_channels(const toml::node& node, const std::string& file) {
  const auto* list = node.as_array();
  if (list == nullptr ||
      !std::all_of(list->begin(), list->end(), [](const toml::node& n) { return n.is_table(); })) {
    add({file, line_of(node)}, Severity::error, Scope::daemon,
        "channel: write each channel as [[channel]], in double brackets");
    return;
  }
  for (const toml::node& item : *list) {
    if (load_.config.channels.size() >= channels_max) {
      add({file, line_of(item)}, Severity::error, Scope::daemon,
          fmt::format("more than {} channels", channels_max));
      return;
    }
    ChannelRead read = read_channel(*item.as_table(), file, side_);
    for (Diagnostic& diagnostic : read.diagnostics) {
      load_.diagnostics.push_back(std::move(diagnostic));
    }
    if (read.channel) load_.config.channels.push_back(std::move(*read.channel));
    if (read.denial) {
      read.denial->position = load_.config.channels.size();
      load_.config.denials.push_back(std::move(*read.denial));
    }
  }
}

void Loader::read_forwards(const toml::node& node, const std::string& file) {
  const auto* list = node.as_array();
  if (list == nullptr ||
      !std::all_of(list->begin(), list->end(), [](const toml::node& n) { return n.is_table(); })) {
    add({file, line_of(node)}, Severity::error, Scope::daemon,
        "forward: write each forward as [[forward]], in double brackets");
    return;
  }
  for (const toml::node& item : *list) {
    if (load_.config.forwards.size() >= forwards_max) {
      add({file, line_of(item)}, Severity::error, Scope::daemon,
          fmt::format("more than {} forwards", forwards_max));
      return;
    }
    ForwardRead read = read_forward(*item.as_table(), file, side_);
    for (Diagnostic& diagnostic : read.diagnostics) {
      load_.diagnostics.push_back(std::move(diagnostic));
    }
    load_.config.forwards.push_back(std::move(read.forward));
  }
}

void Loader::read_tables(const toml::table& root, const std::string& file) {
  for (auto&& [key, node] : root) {
    const std::string name(key.str());
    const auto line = static_cast<std::uint32_t>(key.source().begin.line);
    if (name == "channel") {
      read_channels(node, file);
    } else if (name == "forward") {
      read_forwards(node, file);
    } else if (!is_section(name)) {
      std::vector<std::string> known = section_names();
      known.emplace_back("channel");
      known.emplace_back("forward");
      add({file, line}, Severity::error, Scope::daemon, unknown_key(name, known));
    } else if (const auto* table = node.as_table()) {
      const auto remember = [&](const std::string& setting, std::uint32_t at) {
        set_at_[name + "." + setting] = {file, at};
        if (setting == "guests") load_.config.guests_unknown = false;
        auto& section = *settings_.insert(name, toml::table{}).first->second.as_table();
        section.insert_or_assign(setting, *table->get(setting));
      };
      const auto keys = name == "connect" ? connect_keys(*table, load_.config.connect)
                                          : section_keys(name, load_.config, side_);
      for (Fault& fault : read_section(*table, name, keys, remember)) {
        add({file, fault.line}, Severity::error, Scope::daemon, std::move(fault.text));
      }
    } else {
      add({file, line}, Severity::error, Scope::daemon,
          fmt::format("'{}' must be a section, [{}]", name, name));
    }
  }
}

void Loader::read_file(const std::string& path, bool is_main) {
  // A broken main file would leave the daemon with settings nobody chose. A broken drop-in takes
  // away its own channels and, as it may have denied anything, those of the files behind it.
  const Scope scope = is_main ? Scope::daemon : Scope::file;
  std::string content;
  const std::string wrong = slurp(path, content);
  if (!wrong.empty()) {
    add({path, 0}, Severity::error, scope, wrong);
    deny_all({path, 0}, "the file " + wrong);
    return;
  }
  const std::size_t first = load_.diagnostics.size();
  try {
    read_tables(toml::parse(content, path), path);
  } catch (const toml::parse_error& error) {
    add({path, static_cast<std::uint32_t>(error.source().begin.line)}, Severity::error, scope,
        fmt::format("{}; nothing of this file is used, and no channel of the files behind it{}",
                    escape_untrusted(error.description(), 400),
                    side_ == Side::host ? "; as it may say which guests are served, none is before "
                                          "another file behind it says so"
                                        : ""));
    deny_all({path, static_cast<std::uint32_t>(error.source().begin.line)}, "the file is not TOML");
  }
  std::stable_sort(
      load_.diagnostics.begin() + static_cast<std::ptrdiff_t>(first), load_.diagnostics.end(),
      [](const Diagnostic& a, const Diagnostic& b) { return a.where.line < b.where.line; });
}

std::vector<std::string> Loader::drop_ins() {
  namespace fs = std::filesystem;
  constexpr std::string_view suffix = ".toml";
  const std::string& main = load_.config.file;
  if (!main.ends_with(suffix)) return {};
  const std::string folder = main.substr(0, main.size() - suffix.size()) + ".d";
  std::error_code error;
  if (!fs::is_directory(folder, error)) return {};
  load_.config.drop_in_dir = folder;
  std::vector<std::string> names;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.ends_with(suffix) || name.front() == '.') continue;
    const auto is_digit = [](char byte) { return byte >= '0' && byte <= '9'; };
    if (name.size() < 3 + suffix.size() || !is_digit(name[0]) || !is_digit(name[1]) ||
        name[2] != '-') {
      add({folder + "/" + name, 0}, Severity::warning, Scope::file,
          "is not read: a drop-in's name is NN-NAME.toml, with two digits");
      continue;
    }
    names.push_back(name);
  }
  if (error) add({folder, 0}, Severity::error, Scope::daemon, error.message());
  if (names.size() > drop_in_files_max) {
    add({folder, 0}, Severity::error, Scope::daemon,
        fmt::format("has {} drop-ins, {} are allowed", names.size(), drop_in_files_max));
    return {};
  }
  std::sort(names.begin(), names.end());  // by byte value, whatever the locale
  for (std::string& name : names) name.insert(0, folder + "/");
  return names;
}

void Loader::require(bool holds, const std::string& key, const std::string& message) {
  if (holds) return;
  const auto set = set_at_.find(key);
  const SourceLocation where =
      set != set_at_.end() ? set->second : SourceLocation{load_.config.file, 0};
  add(where, Severity::error, Scope::daemon, key + ": " + message);
}

void Loader::check_relations() {
  const Limits& limits = load_.config.limits;
  const VchanConfig& vchan = load_.config.vchan;
  const Timeouts& timeouts = load_.config.timeouts;
  const std::string& run_dir = load_.config.run_dir;
  // The fault is reported at whichever of the two settings a file has set.
  const auto at = [this](const char* key, const char* otherwise) {
    return std::string(set_at_.contains(key) ? key : otherwise);
  };
  require(limits.stream_window_bytes_min <= limits.stream_window_bytes_max,
          at("limits.stream_window_bytes_min", "limits.stream_window_bytes_max"),
          fmt::format("stream_window_bytes_min ({}) is above stream_window_bytes_max ({})",
                      format_bytes(limits.stream_window_bytes_min),
                      format_bytes(limits.stream_window_bytes_max)));
  require(limits.stream_window_bytes_max <= limits.session_window_bytes,
          at("limits.stream_window_bytes_max", "limits.session_window_bytes"),
          fmt::format("stream_window_bytes_max ({}) is above session_window_bytes ({})",
                      format_bytes(limits.stream_window_bytes_max),
                      format_bytes(limits.session_window_bytes)));
  const std::uint64_t least = 2 * limits.streams_max * limits.stream_window_bytes_min;
  require(least <= limits.session_window_bytes,
          at("limits.session_window_bytes", set_at_.contains("limits.streams_max")
                                                ? "limits.streams_max"
                                                : "limits.stream_window_bytes_min"),
          fmt::format("twice streams_max ({}) times stream_window_bytes_min ({}) is {}, above "
                      "session_window_bytes ({})",
                      limits.streams_max, format_bytes(limits.stream_window_bytes_min),
                      format_bytes(least), format_bytes(limits.session_window_bytes)));
  require(vchan.ring_bytes_min <= vchan.ring_bytes_max,
          at("vchan.ring_bytes_min", "vchan.ring_bytes_max"),
          fmt::format("ring_bytes_min ({}) is above ring_bytes_max ({})",
                      format_bytes(vchan.ring_bytes_min), format_bytes(vchan.ring_bytes_max)));
  require(
      timeouts.retry_ms_min <= timeouts.retry_ms_max,
      at("timeouts.retry_ms_min", "timeouts.retry_ms_max"),
      fmt::format("retry_ms_min ({}) is above retry_ms_max ({})",
                  format_duration(timeouts.retry_ms_min), format_duration(timeouts.retry_ms_max)));
  require(
      run_dir.starts_with('/') && run_dir.size() + sizeof("/control") - 1 <= unix_path_bytes_max,
      "daemon.run_dir",
      fmt::format("'{}' is not an absolute path of at most {} bytes", escape_untrusted(run_dir),
                  unix_path_bytes_max - sizeof("/control") + 1));
}

void Loader::check_channels() {
  std::vector<ChannelConfig>& channels = load_.config.channels;
  for (auto later = channels.begin(); later != channels.end(); ++later) {
    const std::size_t path_bytes = load_.config.run_dir.size() + 1 + later->name.text().size();
    if (later->end != EndKind::dial && path_bytes > unix_path_bytes_max) {
      std::string text = fmt::format(
          "channel '{}': its socket's path would have {} bytes, {} are "
          "allowed; shorten the name or daemon.run_dir",
          later->name.text(), path_bytes, unix_path_bytes_max);
      if (later->error.empty()) later->error = text;
      add(later->where, Severity::error, Scope::channel, std::move(text));
    }
    const auto earlier = std::find_if(channels.begin(), later, [&](const ChannelConfig& other) {
      return other.name == later->name && (other.guest == later->guest || other.guest == "*");
    });
    if (earlier == later) continue;
    const std::string place = fmt::format("{}:{}", earlier->where.file, earlier->where.line);
    if (earlier->guest == later->guest) {
      std::string text = fmt::format(
          "channel '{}' is already defined{} at {}", later->name.text(),
          side_ == Side::host ? fmt::format(" for guest '{}'", later->guest) : std::string{},
          place);
      if (later->error.empty()) later->error = text;
      add(later->where, Severity::error, Scope::channel, std::move(text));
    } else {
      add(later->where, Severity::warning, Scope::channel,
          fmt::format("channel '{}' for guest '{}' is never used: the one at {} is for every guest",
                      later->name.text(), later->guest, place));
    }
  }
}

ConfigLoad Loader::run(const std::optional<std::string>& path) {
  load_.config.file = path.value_or(default_config_path(side_));
  struct stat found = {};
  const bool is_absent = ::stat(load_.config.file.c_str(), &found) < 0 && errno == ENOENT;
  if (path || !is_absent) read_file(load_.config.file, true);
  for (const std::string& drop_in : drop_ins()) read_file(drop_in, false);
  load_.config.lanes.policy.idle = std::chrono::milliseconds(load_.config.lanes.idle_ms);
  if (load_.config.guests_unknown) load_.config.guests.clear();
  std::ostringstream settings;
  settings << settings_;
  load_.config.settings = settings.str();
  check_relations();
  check_channels();
  return std::move(load_);
}

}  // namespace

ConfigLoad load_config(Side side, const std::optional<std::string>& path) {
  return Loader(side).run(path);
}

}  // namespace xenlane::bridge
