// xenlane doctor: what is wrong here, and what to do about it.
#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <memory>

#include "bridge/channel/text.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/doctor/examine.hpp"
#include "bridge/doctor/gather.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;
using DoctorSeverity = doctor::Severity;

/// Longest text of a finding that is shown.
constexpr std::size_t shown_bytes_max = 1000;

struct DoctorOptions {
  std::string guest;
  std::string config;
  bool as_host = false;
  bool as_guest = false;
  bool as_json = false;
};

/// Bytes of other programs and domains as \xNN. What is printable already may have been escaped
/// before, and stays as it is.
std::string shown(const std::string& text) {
  const auto is_printable = [](char byte) { return byte >= ' ' && byte <= '~'; };
  if (text.size() <= shown_bytes_max && std::ranges::all_of(text, is_printable)) return text;
  return escape_untrusted(text, shown_bytes_max);
}

const char* name_of(Side side) {
  return side == Side::host ? "host" : "guest";
}

void print_json(Side side, const std::vector<doctor::Finding>& findings) {
  json::array list;
  for (const doctor::Finding& finding : findings) {
    list.push_back({{"id", finding.id},
                    {"severity", to_string(finding.severity)},
                    {"thing", shown(finding.thing)},
                    {"problem", shown(finding.problem)},
                    {"remedy", shown(finding.remedy)}});
  }
  const json::object result = {{"v", control_version}, {"side", name_of(side)}, {"findings", list}};
  fmt::print("{}\n", json::serialize(result));
}

const char* colour_of(DoctorSeverity severity) {
  switch (severity) {
    case DoctorSeverity::error:
      return "\033[31m";
    case DoctorSeverity::warning:
      return "\033[33m";
    case DoctorSeverity::ok:
      return "\033[32m";
    case DoctorSeverity::note:
      break;
  }
  return "";
}

void print_lines(Side side, const std::vector<doctor::Finding>& findings) {
  const bool with_colours = colours_wanted();
  std::size_t counts[4] = {};
  for (const doctor::Finding& finding : findings) {
    ++counts[static_cast<std::size_t>(finding.severity)];
    const std::string word = fmt::format("{:<8}", to_string(finding.severity));
    const char* colour = with_colours ? colour_of(finding.severity) : "";
    fmt::print("{}{}{} {:<21} {}: {}\n", colour, word, *colour != '\0' ? "\033[0m" : "", finding.id,
               shown(finding.thing), shown(finding.problem));
    if (!finding.remedy.empty()) {
      fmt::print("{:<30} -> {}\n", "", shown(finding.remedy));
    }
  }
  const auto count = [&](DoctorSeverity severity) {
    return counts[static_cast<std::size_t>(severity)];
  };
  fmt::print("{}: errors: {}, warnings: {}, notes: {}, ok: {}\n", name_of(side),
             count(DoctorSeverity::error), count(DoctorSeverity::warning),
             count(DoctorSeverity::note), count(DoctorSeverity::ok));
}

int run_doctor(const Context& context, const DoctorOptions& options) {
  doctor::Places places;
  places.run_dir = context.run_dir;
  places.version = XENLANE_VERSION;
  places.guest = options.guest;
  if (!options.config.empty()) places.config = options.config;
  if (options.as_host) places.side = Side::host;
  if (options.as_guest) places.side = Side::guest;
  const doctor::Facts facts = doctor::gather(places);
  if (!options.guest.empty() && facts.side == Side::guest) {
    return fail(exit_unknown,
                fmt::format("{}: unknown guest; this is a guest itself, leave the guest out",
                            escape_untrusted(options.guest)));
  }
  if (!options.guest.empty() && facts.guests.empty()) {
    return fail(exit_unknown,
                fmt::format("{}: unknown guest; neither xenstore nor a daemon knows it, see "
                            "'xenlane doctor'",
                            escape_untrusted(options.guest)));
  }
  const std::vector<doctor::Finding> findings = doctor::examine(facts);
  if (options.as_json) {
    print_json(facts.side, findings);
  } else {
    print_lines(facts.side, findings);
  }
  return doctor::exit_code_of(findings);
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  auto options = std::make_shared<DoctorOptions>();
  CLI::App* verb = app.add_subcommand("doctor", "Find what is wrong here, and what to do about it");
  verb->add_option("GUEST", options->guest, "Only this guest (name or domain id; on the host)");
  verb->add_option(
      "--config", options->config,
      "The daemon's configuration file (default: /etc/xenlane/host.toml or guest.toml)");
  CLI::Option* host =
      verb->add_flag("--host", options->as_host, "This is a host, whatever it seems");
  CLI::Option* guest =
      verb->add_flag("--guest", options->as_guest, "This is a guest, whatever it seems");
  host->excludes(guest);
  verb->add_flag("--json", options->as_json, "Print JSON");
  verb->footer(
      "Examples:\n"
      "  xenlane doctor          everything that this side can see\n"
      "  xenlane doctor web      on the host: of the guests only web\n"
      "  xenlane doctor --json | jq '.findings[] | select(.severity == \"error\")'\n"
      "\n"
      "Exit codes: 0 nothing is worse than a note, 1 than a warning, else that of the first "
      "error.");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_doctor(context, *options); };
  });
}

}  // namespace xenlane::bridge::cli
