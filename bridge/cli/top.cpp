// xenlane top: guests, lanes, channels and forwards as they are now, and how fast bytes go.
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>

#include "bridge/channel/text.hpp"
#include "bridge/cli/forward_list.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/screen.hpp"
#include "bridge/cli/top_view.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

struct TopOptions {
  std::string guest;
  double interval_s = 2;
  bool once = false;
  bool as_json = false;
};

std::chrono::milliseconds interval_of(const TopOptions& options) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(options.interval_s * 1000));
}

/// The failure says why the guests could not be asked; forwards are there all the same.
Answer<TopSample> look(const Context& context, const TopOptions& options) {
  TopSample sample;
  Answer<Asked> asked = ask_guests(context, options.guest);
  sample.at = std::chrono::steady_clock::now();
  for (GuestAnswer& one : asked.value.guests) {
    json::object guest{{"guest", one.guest.name}, {"state", one.guest.state}};
    if (!one.bridge.failure) guest["status"] = std::move(one.bridge.value);
    sample.guests.push_back(std::move(guest));
  }
  for (json::value& forward : forwards_here(context)) {
    const bool is_of_guest =
        forward.is_object() && json_text(forward.get_object(), "guest") == options.guest;
    if (options.guest.empty() || is_of_guest) sample.forwards.push_back(std::move(forward));
  }
  if (asked.failure) sample.trouble = asked.failure->message;
  return {std::move(sample), std::move(asked.failure)};
}

int print_once(const Context& context, const TopOptions& options) {
  const Answer<TopSample> before = look(context, options);
  if (before.failure) return fail(before.failure->code, before.failure->message);
  std::this_thread::sleep_for(interval_of(options));
  const Answer<TopSample> now = look(context, options);
  if (now.failure) return fail(now.failure->code, now.failure->message);
  const TopView view = top_view(before.value, now.value);
  if (options.as_json) {
    fmt::print("{}\n", json::serialize(top_json(view)));
  } else {
    for (const std::string& line : top_lines(view, 0, 0)) fmt::print("{}\n", line);
  }
  return exit_ok;
}

std::string title(const TopOptions& options, std::size_t columns) {
  std::string line = fmt::format("xenlane top: bytes from and to the other side in {:g} s; q quits",
                                 options.interval_s);
  line.resize(std::min(columns, std::max(line.size(), columns)), ' ');
  return line;
}

void draw(const Screen& screen, const TopOptions& options, const TopView& view) {
  const std::size_t rows = screen.rows();
  std::vector<std::string> lines{title(options, screen.columns())};
  if (rows > 1) {
    for (std::string& line : top_lines(view, rows - 1, screen.columns())) {
      lines.push_back(std::move(line));
    }
  }
  screen.draw(lines);
}

int show(const Context& context, const TopOptions& options) {
  Answer<TopSample> before = look(context, options);
  // A guest that nobody knows will not come by being waited for; a daemon may.
  if (before.failure && before.failure->code == exit_unknown) {
    return fail(before.failure->code, before.failure->message);
  }
  int ended_by = 0;
  {
    Screen screen;
    TopView view = top_view(before.value, before.value);
    for (;;) {
      draw(screen, options, view);
      const Screen::News news = screen.wait(interval_of(options));
      if (news == Screen::News::quit) break;
      if (news == Screen::News::redraw) continue;
      Answer<TopSample> now = look(context, options);
      view = top_view(before.value, now.value);
      before = std::move(now);
    }
    ended_by = screen.signal();
  }
  // Whoever waits for this is told by what it was ended.
  if (ended_by != 0) {
    ::signal(ended_by, SIG_DFL);
    ::raise(ended_by);
  }
  return exit_ok;
}

}  // namespace

void add_top(CLI::App& app, Action& action) {
  auto options = std::make_shared<TopOptions>();
  CLI::App* verb = app.add_subcommand("top", "Show guests, lanes, streams and rates, live");
  verb->add_option("GUEST", options->guest, "Only this guest's (name or domain id; on the host)");
  verb->add_option("--interval", options->interval_s, "Seconds between two looks (default 2)")
      ->check(CLI::Range(0.1, 3600.0));
  verb->add_flag("--once", options->once, "Print one table and end; so it is without a terminal");
  verb->add_flag("--json", options->as_json, "Print one JSON object and end");
  verb->footer(
      "Rates are of the time between two looks. q quits.\n"
      "Examples:\n"
      "  xenlane top                       in a guest: its own; on the host: every guest's\n"
      "  xenlane top web --interval 0.5\n"
      "  xenlane top --once | grep web\n"
      "  xenlane top --json | jq '.guests[].bytes_in_per_second'");
  verb->callback([options, &action] {
    action = [options](const Context& context) {
      const bool live = !options->once && !options->as_json && ::isatty(STDOUT_FILENO) == 1;
      return live ? show(context, *options) : print_once(context, *options);
    };
  });
}

}  // namespace xenlane::bridge::cli
