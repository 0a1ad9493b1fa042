// Judges files: the configuration, the run folder and the sockets in it.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "bridge/channel/target.hpp"
#include "bridge/doctor/examine.hpp"

namespace xenlane::bridge::doctor {
namespace {

constexpr mode_t group_write = S_IWGRP;
constexpr mode_t others_write = S_IWOTH;

const char* daemon_name(const Facts& facts) {
  return facts.side == Side::host ? "xenlane-host" : "xenlane-guest";
}

void examine_config(const Facts& facts, Findings& findings) {
  const std::string check_it =
      fmt::format("{} --check --config {}", daemon_name(facts), facts.config.config.file);
  for (const Diagnostic& diagnostic : facts.config.diagnostics) {
    const std::string thing =
        diagnostic.where.line == 0
            ? diagnostic.where.file
            : fmt::format("{}:{}", diagnostic.where.file, diagnostic.where.line);
    if (diagnostic.severity == bridge::Severity::warning) {
      findings.warn(check::config_fault, thing, diagnostic.message, check_it);
    } else {
      findings.error(check::config_fault, exit_configuration, thing, diagnostic.message, check_it);
    }
  }
  if (facts.config.diagnostics.empty()) {
    findings.ok(check::config_fault, facts.config.config.file,
                fmt::format("no faults, {} channels", facts.config.config.channels.size()));
  }
}

void examine_config_file(const Facts& facts, const FileFact& file, Findings& findings) {
  if (file.kind == FileKind::missing) {
    findings.note(check::config_permissions, file.path,
                  "there is no such file: every setting has its default");
  } else if (file.kind == FileKind::hidden) {
    findings.note(check::config_permissions, file.path,
                  fmt::format("may not be looked at: {}", std::strerror(file.error)));
  } else if ((file.mode & others_write) != 0 && (file.mode & S_ISVTX) == 0) {
    findings.error(check::config_permissions, exit_configuration, file.path,
                   fmt::format("every user may change it (mode {:04o}), and with it what each "
                               "guest may reach",
                               file.mode),
                   fmt::format("chmod o-w {}", file.path));
  } else if (file.owner != 0 && file.owner != facts.user &&
             !(facts.run_folder.kind == FileKind::folder && file.owner == facts.run_folder.owner)) {
    findings.error(
        check::config_permissions, exit_configuration, file.path,
        fmt::format("it belongs to user {}, who is neither root nor the daemon's", file.owner),
        fmt::format("chown root {}", file.path));
  } else if ((file.mode & group_write) != 0) {
    findings.warn(check::config_permissions, file.path,
                  fmt::format("its group may change it (mode {:04o})", file.mode),
                  fmt::format("chmod g-w {}", file.path));
  } else {
    findings.ok(check::config_permissions, file.path,
                fmt::format("only user {} may change it", file.owner));
  }
}

void examine_run_folder(const Facts& facts, Findings& findings) {
  const std::string& configured = facts.config.config.run_dir;
  if (configured != facts.run_dir && facts.daemon.answer != DaemonFact::Answer::answers) {
    findings.warn(check::run_folder, facts.run_dir,
                  fmt::format("the configuration says {}", configured),
                  fmt::format("xenlane --run-dir {} doctor", configured));
  }
  const FileFact& folder = facts.run_folder;
  if (folder.kind == FileKind::missing) {
    findings.note(check::run_folder, folder.path, "is not there: the daemon makes it");
  } else if (folder.kind == FileKind::hidden) {
    findings.note(check::run_folder, folder.path,
                  fmt::format("may not be looked at: {}", std::strerror(folder.error)));
  } else if (folder.kind != FileKind::folder) {
    findings.error(
        check::run_folder, exit_configuration, folder.path, "is not a folder",
        fmt::format("remove it, or set [daemon] run_dir in {}", facts.config.config.file));
  } else if ((folder.mode & others_write) != 0) {
    // The sticky bit does not help: names that are not there yet can be taken.
    findings.error(
        check::run_folder, exit_configuration, folder.path,
        fmt::format("every user may put sockets of their own there (mode {:04o})", folder.mode),
        fmt::format("chmod o-w {}", folder.path));
  } else if ((folder.mode & group_write) != 0) {
    findings.warn(
        check::run_folder, folder.path,
        fmt::format("its group may put sockets of their own there (mode {:04o})", folder.mode),
        fmt::format("chmod g-w {}", folder.path));
  } else {
    findings.ok(check::run_folder, folder.path,
                fmt::format("only user {} may change it", folder.owner));
  }
}

void examine_control(const Facts& facts, Findings& findings) {
  const FileFact& control = facts.control;
  if (control.kind != FileKind::socket) return;
  if ((control.mode & (S_IRWXG | S_IRWXO)) != 0) {
    findings.error(check::run_control, exit_configuration, control.path,
                   fmt::format("others than its owner may give orders to the daemon (mode {:04o})",
                               control.mode),
                   fmt::format("chmod 0600 {}", control.path));
  } else {
    findings.ok(check::run_control, control.path, "only its owner may use it");
  }
}

void examine_stale(const Facts& facts, Findings& findings) {
  if (facts.daemon.answer != DaemonFact::Answer::absent) return;
  const bool has_control = facts.control.kind == FileKind::socket;
  if (facts.sockets.empty() && !has_control) return;
  std::vector<std::string> shown(
      facts.sockets.begin(),
      facts.sockets.begin() +
          static_cast<std::ptrdiff_t>(std::min<std::size_t>(facts.sockets.size(), 3)));
  if (shown.empty()) shown.push_back(facts.control.path);
  findings.warn(check::run_stale, facts.run_dir,
                fmt::format("sockets of a daemon that is gone: {}{}", fmt::join(shown, ", "),
                            facts.sockets.size() > shown.size() ? ", ..." : ""),
                fmt::format("systemctl start {}, which takes their place", daemon_name(facts)));
}

void examine_paths(const Facts& facts, Findings& findings) {
  bool long_one = false;
  const auto look = [&](const std::string& folder, std::string_view guest) {
    for (const ChannelConfig* channel : channels_for(facts.config.config, guest)) {
      if (channel->end == EndKind::dial || !channel->error.empty()) continue;
      const std::string path = folder + '/' + channel->name.text();
      if (path.size() <= unix_path_bytes_max) continue;
      long_one = true;
      findings.warn(
          check::run_path, path,
          fmt::format("has {} bytes, a socket's path has at most {}: there is no socket",
                      path.size(), unix_path_bytes_max),
          fmt::format("shorten the name, or [daemon] run_dir in {}", facts.config.config.file));
    }
  };
  if (facts.side == Side::guest) {
    look(facts.run_dir, "");
  } else {
    for (const GuestFact& guest : facts.guests) {
      if (guest.matches) look(facts.run_dir + '/' + guest.name, guest.name);
    }
  }
  if (!long_one) {
    findings.ok(check::run_path, facts.run_dir, "every socket's path is short enough");
  }
}

}  // namespace

void examine_files(const Facts& facts, Findings& findings) {
  examine_config(facts, findings);
  for (const FileFact& file : facts.config_files) examine_config_file(facts, file, findings);
  examine_run_folder(facts, findings);
  examine_control(facts, findings);
  examine_stale(facts, findings);
  examine_paths(facts, findings);
}

}  // namespace xenlane::bridge::doctor
