// xenlane names: which programs use which channel names.
#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <memory>
#include <utility>

#include "bridge/channel/domain_part.hpp"
#include "bridge/channel/text.hpp"
#include "bridge/cli/files.hpp"
#include "bridge/cli/table.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/toolstack/names_registry.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

constexpr const char* own_names_dir = "/etc/xenlane/names.d";
constexpr const char* shipped = "xenlane";  // the "file" of the names that are compiled in

struct NamesOptions {
  std::string pattern = "*";
  std::string dir = own_names_dir;
  bool as_json = false;
};

struct Names {
  std::vector<Registered> all;        ///< in the order of reading
  std::vector<std::string> warnings;  ///< errors too: one line each, with their places
  bool has_errors = false;
};

void take_file(const std::string& file, std::string_view text, Names& names) {
  RegistryRead read = parse_names_registry(text);
  for (Registration& entry : read.entries) names.all.push_back({file, std::move(entry)});
  // What is wrong with names that others chose long ago is nothing that a reader could mend.
  if (file == shipped) return;
  for (const Finding& finding : read.findings.sorted()) {
    names.warnings.push_back(format_finding(file, finding));
  }
  names.has_errors = names.has_errors || read.findings.has_errors();
}

Answer<Names> read_names(const std::string& dir) {
  Answer<Names> names;
  take_file(shipped, well_known_names(), names.value);
  auto files = list_files(dir, ".names");
  if (files.failure) return {{}, std::move(files.failure)};
  for (const std::string& file : files.value) {
    const std::string path = dir + "/" + file;
    auto text = read_text(path);
    if (text.failure) return {{}, std::move(text.failure)};
    take_file(path, text.value, names.value);
  }
  for (std::string& clash : find_name_clashes(names.value.all)) {
    names.value.warnings.push_back(std::move(clash));
  }
  return names;
}

void print_json(const std::vector<Registered>& chosen) {
  json::array list;
  for (const Registered& one : chosen) {
    list.push_back({{"name", one.entry.name.text()},
                    {"contact", one.entry.contact},
                    {"description", one.entry.description},
                    {"has_domain_part", has_domain_part(one.entry.name)},
                    {"file", one.file},
                    {"line", one.entry.line}});
  }
  fmt::print("{}\n", json::serialize(json::object{{"v", control_version}, {"names", list}}));
}

int run_names(const NamesOptions& options) {
  Answer<Names> names = read_names(options.dir);
  if (names.failure) return fail(names.failure->code, names.failure->message);
  std::vector<Registered> chosen;
  for (const Registered& one : names.value.all) {
    if (glob_matches(options.pattern, one.entry.name.text())) chosen.push_back(one);
  }
  std::stable_sort(chosen.begin(), chosen.end(), [](const Registered& a, const Registered& b) {
    return a.entry.name < b.entry.name;
  });
  if (options.as_json) {
    print_json(chosen);
  } else {
    std::vector<std::vector<Cell>> rows;
    for (const Registered& one : chosen) {
      rows.push_back({{one.entry.name.text()},
                      {escape_untrusted(one.entry.contact, contact_bytes_max)},
                      {escape_untrusted(one.entry.description, description_bytes_max)}});
    }
    print_table(stdout, {{"NAME"}, {"CONTACT"}, {"DESCRIPTION"}}, rows, colours_wanted());
  }
  for (const std::string& warning : names.value.warnings) {
    fmt::print(stderr, "xenlane: {}\n", warning);
  }
  if (names.value.has_errors) return exit_configuration;
  if (!chosen.empty()) return exit_ok;
  return fail(exit_unknown, fmt::format("{}: no registered name is like that; see 'xenlane names'",
                                        escape_untrusted(options.pattern)));
}

}  // namespace

void add_names(CLI::App& app, Action& action) {
  auto options = std::make_shared<NamesOptions>();
  CLI::App* verb = app.add_subcommand("names", "List the well-known names of channels");
  verb->add_option("PATTERN", options->pattern, "Only names that match this glob, with * and ?");
  verb->add_option("--names-dir", options->dir,
                   fmt::format("Where your own *.names files are (default: {})", own_names_dir));
  verb->add_flag("--json", options->as_json, "Print JSON");
  verb->footer(
      "Examples:\n"
      "  xenlane names                  every name that is registered\n"
      "  xenlane names 'org.qemu.*'     QEMU's\n"
      "  xenlane names --json | jq -r '.names[].name'");
  verb->callback([options, &action] {
    action = [options](const Context& /*context*/) { return run_names(*options); };
  });
}

}  // namespace xenlane::bridge::cli
