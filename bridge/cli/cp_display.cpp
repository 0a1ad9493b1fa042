#include "bridge/cli/cp_display.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "bridge/channel/text.hpp"
#include "bridge/cli/context.hpp"

namespace xenlane::bridge::cli {

namespace json = boost::json;
using files::Trouble;

namespace {

constexpr std::chrono::milliseconds between_lines{200};
constexpr std::chrono::milliseconds between_reports{500};
/// The peer decides how many there are.
constexpr std::uint64_t troubles_shown_max = 10'000;
constexpr std::size_t path_shown_max = 1024;

ExitCode code_of(Trouble trouble) {
  switch (trouble) {
    case Trouble::source:
      return exit_source;
    case Trouble::changed:
      return exit_changed;
    case Trouble::destination:
    case Trouble::folder:
      return exit_destination;
    case Trouble::no_space:
      return exit_no_space;
    case Trouble::refused:
      return exit_refused_entry;
    case Trouble::mismatch:
      return exit_mismatch;
  }
  return exit_broken;
}

/// What is wrong, and the remedy.
std::string words_for(Trouble trouble, int error) {
  const std::string why = std::generic_category().message(error);
  switch (trouble) {
    case Trouble::source:
      return fmt::format("cannot be read: {}; left out", why);
    case Trouble::changed:
      return error == ENOENT ? "vanished while it was being copied; left out"
                             : "changed while it was being copied; left out, copy it again";
    case Trouble::destination:
      return fmt::format("cannot be written: {}; left out", why);
    case Trouble::no_space:
      return fmt::format("no room for it: {}; left out", why);
    case Trouble::refused:
      return error == EOPNOTSUPP ? "neither file, folder nor link; left out" : "refused; left out";
    case Trouble::mismatch:
      return "arrived with another digest than it was read with; left out, copy it again";
    case Trouble::folder:
      return "the folder that it belongs into could not be made; left out";
  }
  return why;
}

}  // namespace

void CopyDisplay::trouble(Trouble trouble, int error, const std::string& untrusted_path,
                          const std::string& untrusted_text) {
  worst_ = std::max(worst_, code_of(trouble));
  if (++troubles_ > troubles_shown_max) return;
  const std::string path = escape_untrusted(untrusted_path, path_shown_max);
  std::string text = words_for(trouble, error);
  if (!untrusted_text.empty()) text += " (" + escape_untrusted(untrusted_text, 256) + ")";
  clear_line();
  fail(code_of(trouble), path + ": " + text);
  if (!options_.as_json) return;
  const json::object line{{"v", 1},         {"event", "trouble"},
                          {"path", path},   {"exit_code", static_cast<int>(code_of(trouble))},
                          {"errno", error}, {"message", text}};
  fmt::print("{}\n", json::serialize(line));
}

void CopyDisplay::copying(const std::string& untrusted_path) {
  if (!options_.verbose && !options_.dry_run) return;
  clear_line();
  const std::string path = escape_untrusted(untrusted_path, path_shown_max);
  if (options_.as_json) {
    const json::object line{
        {"v", 1}, {"event", options_.dry_run ? "would-copy" : "copied"}, {"path", path}};
    fmt::print("{}\n", json::serialize(line));
  } else {
    fmt::print("{}\n", path);
  }
}

void CopyDisplay::progress(const files::Counts& counts) {
  counts_ = counts;
  if (!options_.progress && !options_.as_json) return;
  const auto now = Clock::now();
  if (now < next_) return;
  next_ = now + (options_.as_json ? std::chrono::milliseconds(between_reports) : between_lines);
  rate_.at(now, files::bytes_through(counts_));
  show();
}

void CopyDisplay::show() {
  if (options_.as_json) return print_json("progress");
  fmt::print(stderr, "\r{}\x1b[K", files::progress_line(counts_, rate_.bytes_per_second()));
  std::fflush(stderr);
  has_line_ = true;
}

void CopyDisplay::clear_line() {
  if (std::exchange(has_line_, false)) fmt::print(stderr, "\r\x1b[K");
}

void CopyDisplay::print_json(const char* event) const {
  const std::chrono::duration<double> took = Clock::now() - began_;
  json::object line{{"v", 1},
                    {"event", event},
                    {"entries", counts_.entries},
                    {"all_found", counts_.all_found},
                    {"bytes", counts_.bytes},
                    {"copied", counts_.copied},
                    {"same", counts_.same},
                    {"failed", counts_.failed},
                    {"bytes_sent", counts_.bytes_sent},
                    {"bytes_reused", counts_.bytes_reused},
                    {"bytes_same", counts_.bytes_same},
                    {"bytes_per_second", static_cast<std::uint64_t>(rate_.bytes_per_second())},
                    {"seconds", took.count()}};
  if (const auto left = files::seconds_left(counts_, rate_.bytes_per_second())) {
    line["seconds_left"] = *left;
  }
  if (std::string_view(event) == "done") line["exit_code"] = static_cast<int>(worst_);
  fmt::print("{}\n", json::serialize(line));
  std::fflush(stdout);
}

ExitCode CopyDisplay::finish() {
  clear_line();
  if (troubles_ > troubles_shown_max) {
    fail(worst_, fmt::format("{} further troubles are not shown", troubles_ - troubles_shown_max));
  }
  if (options_.as_json) {
    print_json("done");
  } else if (options_.progress && !options_.dry_run) {
    const std::chrono::duration<double> took = Clock::now() - began_;
    const auto sent = static_cast<double>(counts_.bytes_sent);
    fmt::print(stderr, "{} copied, {} were there, {} left out; {} sent in {:.1f} s ({}/s)\n",
               counts_.copied, counts_.same, counts_.failed, files::in_units(sent), took.count(),
               files::in_units(sent / std::max(took.count(), 0.001)));
  }
  return worst_;
}

}  // namespace xenlane::bridge::cli
