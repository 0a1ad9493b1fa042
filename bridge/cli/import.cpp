// xenlane import: a guest's channels from its xl configuration or libvirt XML, as configuration of
// the host.
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <utility>

#include "bridge/channel/text.hpp"
#include "bridge/cli/files.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/toolstack/host_config.hpp"
#include "bridge/toolstack/libvirt_channels.hpp"
#include "bridge/toolstack/xl_channels.hpp"

namespace xenlane::bridge::cli {
namespace {

struct ImportOptions {
  std::string file;
  std::string output;
  bool force = false;
};

/// No xl configuration begins with '<', and every XML file does.
bool is_xml(std::string_view text) {
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  const auto first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && text[first] == '<';
}

void show(const std::string& file, const Findings& findings) {
  for (const Finding& finding : findings.sorted()) {
    fmt::print(stderr, "xenlane: {}\n", format_finding(file, finding));
  }
}

int run_import(const ImportOptions& options) {
  const Answer<std::string> text = read_text(options.file);
  if (text.failure) return fail(text.failure->code, text.failure->message);
  const std::string file = options.file == "-" ? "stdin" : options.file;
  const bool from_xml = is_xml(text.value);
  const ChannelsRead read =
      from_xml ? read_libvirt_channels(text.value) : read_xl_channels(text.value);
  show(file, read.findings);
  if (!read.guest) return exit_configuration;
  const HostConfigText config = write_host_config(*read.guest);
  show(file, config.findings);
  const std::string head =
      fmt::format("# The channels of {}, from {} of {}.\n", read.guest->guest.text(),
                  from_xml ? "libvirt's XML" : "xl's configuration", escape_untrusted(file, 256));
  if (config.text.empty()) {
    return fail(exit_unknown, fmt::format("{}: there is no channel in it that could be imported",
                                          escape_untrusted(file, 256)));
  }
  if (options.output.empty()) {
    fmt::print("{}{}", head, config.text);
    return exit_ok;
  }
  const Answer<bool> written = write_text(options.output, head + config.text, options.force);
  return written.failure ? fail(written.failure->code, written.failure->message) : exit_ok;
}

}  // namespace

void add_import(CLI::App& app, Action& action) {
  auto options = std::make_shared<ImportOptions>();
  CLI::App* verb = app.add_subcommand(
      "import", "Write the host's configuration for the channels that xl or libvirt gives a guest");
  verb->add_option("FILE", options->file,
                   "The guest's xl configuration or libvirt XML; '-' is standard input")
      ->required();
  verb->add_option("--output,-o", options->output, "Write this file instead of standard output");
  verb->add_flag("--force", options->force, "Replace the output file if it exists");
  verb->footer(
      "Examples:\n"
      "  xenlane import /etc/xen/web.cfg\n"
      "  xenlane import /etc/xen/web.cfg --output /etc/xenlane/host.d/50-web.toml\n"
      "  virsh -c xen:/// dumpxml web | xenlane import -");
  verb->callback([options, &action] {
    action = [options](const Context& /*context*/) { return run_import(*options); };
  });
}

}  // namespace xenlane::bridge::cli
