// xenlane serve-files: the far end of `xenlane cp`, which a daemon starts for each connection.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <system_error>

#include "bridge/channel/text.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/files/names.hpp"
#include "bridge/files/service.hpp"

namespace xenlane::bridge::cli {
namespace {

struct ServeFilesOptions {
  std::string receive;
  std::string send;
  std::uint64_t bytes_max = 0;
  std::uint64_t entries_max = 0;
  std::size_t depth_max = 0;
  bool any_names = false;
  bool allow_owner = false;
};

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// An open folder; a line on stderr, which is the daemon's log, if there is none.
bool open_folder(const std::string& path, transport::UniqueFd& out) {
  if (path.empty()) return true;
  out = transport::UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (out) return true;
  fail(exit_configuration,
       fmt::format("{}: {}; make the folder, and let this user in", escape_untrusted(path),
                   std::generic_category().message(errno)));
  return false;
}

int run_serve_files(const ServeFilesOptions& options) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
    return fail(exit_usage,
                "serve-files: standard input is no socket; name this command as the "
                "target of a channel: target = \"exec:...\"");
  }
  if (options.receive.empty() && options.send.empty()) {
    return fail(exit_usage, "serve-files: nothing to serve; give --receive, --send or both");
  }
  files::ServiceRules rules;
  if (!open_folder(options.receive, rules.receive) || !open_folder(options.send, rules.send)) {
    return exit_configuration;
  }
  // A guest's files are kept apart from the host's and from those of other guests.
  if (!variable("XENLANE_DOMID").empty()) {
    rules.incoming_of = variable("XENLANE_PEER");
    if (!files::fault_of_name(rules.incoming_of, files::NameRule::any).empty()) {
      return fail(exit_configuration, "serve-files: the guest's name cannot be that of a folder");
    }
  }
  rules.names = options.any_names ? files::NameRule::any : files::NameRule::printable;
  rules.allow_owner = options.allow_owner;
  rules.has_quota = options.bytes_max != 0 || options.entries_max != 0;
  if (options.bytes_max != 0) rules.quota.bytes = options.bytes_max;
  if (options.entries_max != 0) rules.quota.entries = options.entries_max;
  if (options.depth_max != 0) rules.quota.depth = options.depth_max;
  ::umask(022);
  return files::serve_files(STDIN_FILENO, std::move(rules)) ? exit_ok : exit_broken;
}

}  // namespace

void add_serve_files(CLI::App& app, Action& action) {
  auto options = std::make_shared<ServeFilesOptions>();
  CLI::App* verb =
      app.add_subcommand("serve-files", "The far end of cp, for a channel's target = \"exec:...\"");
  verb->add_option("--receive", options->receive,
                   "Take files into this folder; a guest's into incoming/GUEST in it");
  verb->add_option("--send", options->send, "Let files below this folder be read");
  verb->add_option("--max-bytes", options->bytes_max, "Room for files, as 500M or 10G")
      ->transform(CLI::AsSizeValue(false));
  verb->add_option("--max-files", options->entries_max, "Files, folders and links at most");
  verb->add_option("--max-depth", options->depth_max, "Folders within each other at most (254)")
      ->check(CLI::Range(std::size_t{1}, files::Quota::depth_max));
  verb->add_flag("--any-names", options->any_names,
                 "Take names that are not UTF-8 or have control characters");
  verb->add_flag("--allow-owner", options->allow_owner, "Let cp --owner set owner and group");
  verb->footer(
      "Example, in the guest's configuration:\n"
      "  [[channel]]\n"
      "  name = \"org.xenlane.files-in-guest.0\"\n"
      "  end = \"dial\"\n"
      "  target = \"exec:/usr/bin/xenlane serve-files --receive /srv/files --send /srv/files\"\n"
      "  user = \"files\"");
  verb->callback([options, &action] {
    action = [options](const Context& /*context*/) { return run_serve_files(*options); };
  });
}

}  // namespace xenlane::bridge::cli
