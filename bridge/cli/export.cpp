// xenlane export: what xl or libvirt has to be told so that a guest has the PV channels that the
// host's configuration counts on.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "bridge/channel/text.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/daemon/config.hpp"
#include "bridge/toolstack/host_config.hpp"
#include "bridge/toolstack/libvirt_channels.hpp"
#include "bridge/toolstack/xl_channels.hpp"

namespace xenlane::bridge::cli {
namespace {

struct ExportOptions {
  std::string guest;
  std::optional<std::string> config;
  bool for_xl = false;
  bool for_libvirt = false;
};

void show(const std::vector<Diagnostic>& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics) {
    fmt::print(stderr, "xenlane: {}\n", format_diagnostic(diagnostic));
  }
}

int run_export(const ExportOptions& options) {
  if (options.for_xl == options.for_libvirt) {
    return fail(exit_usage, "export: give one of --xl and --libvirt");
  }
  const auto guest = DomainName::parse(options.guest);
  if (!guest) return fail(exit_usage, guest.error().text);
  const ConfigLoad load = load_config(Side::host, options.config);
  show(load.diagnostics);
  if (load.has_errors()) return exit_configuration;
  const GuestDescription described = describe_guest(load.config, *guest);
  show(described.diagnostics);
  if (!described.guest) return exit_configuration;
  if (described.guest->channels.empty()) {
    return fail(exit_unknown, fmt::format("{}: {} gives this guest no PV channel",
                                          escape_untrusted(options.guest),
                                          escape_untrusted(load.config.file, 256)));
  }
  if (options.for_libvirt) {
    fmt::print("{}", write_libvirt_channels(*described.guest));
    return exit_ok;
  }
  const auto text = write_xl_channels(*described.guest);
  if (!text) return fail(exit_configuration, text.error().text);
  fmt::print("{}", *text);
  return exit_ok;
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  auto options = std::make_shared<ExportOptions>();
  CLI::App* verb = app.add_subcommand(
      "export", "Print the channels that xl or libvirt has to give a guest, from the host's files");
  verb->add_option("GUEST", options->guest, "The guest's domain name; it need not run")->required();
  verb->add_flag("--xl", options->for_xl, "As lines for the guest's xl configuration");
  verb->add_flag("--libvirt", options->for_libvirt, "As libvirt's domain XML");
  verb->add_option("--config", options->config,
                   "The host's configuration (default: /etc/xenlane/host.toml and its drop-ins)");
  verb->footer(
      "Examples:\n"
      "  xenlane export web --xl                      the lines for the file that 'xl create' "
      "takes\n"
      "  xenlane export web --libvirt                 the <channel> elements for 'virsh edit web'\n"
      "  xenlane export web --xl --config ./host.toml");
  verb->callback([options, &action] {
    action = [options](const Context& /*context*/) { return run_export(*options); };
  });
}

}  // namespace xenlane::bridge::cli
