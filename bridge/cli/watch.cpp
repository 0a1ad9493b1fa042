// xenlane watch: what happens, as it happens: on the host the broker's events and every guest's, in
// a guest its own. The lines come from the daemons' `events` sockets (docs/events.md).
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <ctime>
#include <memory>

#include "bridge/channel/text.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

/// A guest whose worker is being replaced is tried again this often.
constexpr int watch_retry_ms = 200;
/// Longest line that is believed to be one.
constexpr std::size_t watch_line_bytes_max = 8192;

struct WatchOptions {
  std::string guest;
  bool as_json = false;
  bool with_now = false;
};

/// One events socket, and what was read of a line that is not whole.
struct Source {
  std::string guest;  ///< empty: the broker's, or in a guest the only one
  std::string path;
  transport::UniqueFd socket;
  std::string line;
  bool is_ready = false;  ///< what was there when it began has been told
};

/// \xNN back to the byte it stands for.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '\\' && i + 3 < text.size() && text[i + 1] == 'x') {
      const char* digits = text.data() + i + 2;
      if (std::from_chars(digits, digits + 2, value, 16).ptr == digits + 2) {
        out += static_cast<char>(value);
        i += 3;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}

/// The line is escaped already; whoever wrote it, it does nothing to a terminal.
std::string printable(std::string line) {
  std::ranges::replace_if(
      line, [](char byte) { return byte < ' ' || byte > '~'; }, '?');
  return line;
}

json::object parse_line(const std::string& guest, std::string_view line) {
  json::object event{{"v", control_version}, {"time", std::time(nullptr)}};
  if (!guest.empty()) event["guest"] = guest;
  const auto next_word = [&] {
    const std::size_t blank = std::min(line.find(' '), line.size());
    const std::string_view word = line.substr(0, blank);
    line.remove_prefix(std::min(blank + 1, line.size()));
    return word;
  };
  event["event"] = next_word();
  while (!line.empty()) {
    const std::string_view word = next_word();
    const std::size_t equals = std::min(word.find('='), word.size());
    event[word.substr(0, equals)] = unescape(word.substr(std::min(equals + 1, word.size())));
  }
  return event;
}

class Watch {
 public:
  Watch(const Here& here, std::string run_dir, const WatchOptions& options)
      : options_(options), is_host_(here.is_host) {
    if (options.guest.empty()) add("", run_dir + "/events");
    if (!here.is_host) return;
    for (const Guest& guest : here.guests) {
      if (options.guest.empty() || guest.name == options.guest) {
        add(guest.name, guest.run_dir + "/events");
      }
    }
  }

  /// Until the daemon, or the guest that is watched, is no more.
  int run() {
    while (!sources_.empty()) {
      if (const int code = connect_all(); code != exit_ok) return code;
      std::vector<pollfd> polls;
      bool all_connected = true;
      for (const Source& source : sources_) {
        polls.push_back({source.socket.get(), POLLIN, 0});
        all_connected = all_connected && source.socket;
      }
      ::poll(polls.data(), polls.size(), all_connected ? -1 : watch_retry_ms);
      for (std::size_t i = polls.size(); i-- > 0;) {
        if (polls[i].revents != 0) read(i);
      }
      std::fflush(stdout);
    }
    return fail(exit_no_daemon,
                options_.guest.empty() ? "the daemon has ended" : "this guest is no longer served");
  }

 private:
  void add(const std::string& guest, const std::string& path) {
    const bool known =
        std::ranges::any_of(sources_, [&](const Source& source) { return source.guest == guest; });
    if (!known) sources_.push_back({guest, path, {}, {}, false});
  }

  int connect_all() {
    for (Source& source : sources_) {
      if (source.socket) continue;
      auto socket = connect_unix(source.path);
      if (socket) {
        source.socket = std::move(*socket);
        continue;
      }
      const bool is_missing = socket.error().kind == ControlError::Kind::no_daemon;
      if (!source.guest.empty() && is_missing) continue;  // its worker is being replaced
      const Failure failure = control_failure(source.path, socket.error());
      return fail(failure.code, failure.message);
    }
    return exit_ok;
  }

  void read(std::size_t index) {
    std::array<char, 4096> bytes;
    const ssize_t got =
        ::recv(sources_[index].socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got <= 0) return lose(index);
    sources_[index].line.append(bytes.data(), static_cast<std::size_t>(got));
    for (;;) {
      std::string& pending = sources_[index].line;
      const std::size_t newline = pending.find('\n');
      if (newline == std::string::npos) break;
      const std::string line = pending.substr(0, newline);
      pending.erase(0, newline + 1);
      take(index, line);
    }
    if (sources_[index].line.size() > watch_line_bytes_max) lose(index);
  }

  // A guest's goes when the broker says that the guest has gone; meanwhile it may come back.
  void lose(std::size_t index) {
    Source& source = sources_[index];
    const bool comes_back = !source.guest.empty() && options_.guest.empty();
    if (!comes_back) {
      sources_.clear();
      return;
    }
    source.socket.reset();
    source.line.clear();
    source.is_ready = false;
  }

  // The broker's own source is the first: those that come and go by it are behind it.
  void take(std::size_t index, const std::string& line) {
    const std::string guest = sources_[index].guest;
    const json::object event = parse_line(guest, line);
    const std::string kind = json_text(event, "event");
    if (kind == "ready") {
      sources_[index].is_ready = true;
      return;
    }
    const bool is_news = sources_[index].is_ready;
    if (kind != "xenlane" && (is_news || options_.with_now)) print(guest, line, event);
    if (!is_host_ || !guest.empty()) return;
    const std::string named = json_text(event, "guest");
    if (kind == "guest-up" || kind == "guest") add(named, json_text(event, "run_dir") + "/events");
    if (kind == "guest-down") {
      std::erase_if(sources_, [&](const Source& source) { return source.guest == named; });
    }
  }

  void print(const std::string& guest, const std::string& line, const json::object& event) const {
    if (options_.as_json) {
      fmt::print("{}\n", json::serialize(event));
      return;
    }
    fmt::print("{:%H:%M:%S} {}{}\n", fmt::localtime(std::time(nullptr)),
               guest.empty() ? "" : escape_untrusted(guest) + ": ", printable(line));
  }

  WatchOptions options_;
  bool is_host_;
  std::vector<Source> sources_;
};

int run_watch(const Context& context, const WatchOptions& options) {
  const Answer<Here> here = ask_here(context);
  if (here.failure) return fail(here.failure->code, here.failure->message);
  WatchOptions chosen = options;
  if (!options.guest.empty()) {
    const Answer<Guest> guest = find_guest(here.value, options.guest);
    if (guest.failure) return fail(guest.failure->code, guest.failure->message);
    chosen.guest = here.value.is_host ? guest.value.name : "";
  }
  return Watch(here.value, context.run_dir, chosen).run();
}

}  // namespace

void add_watch(CLI::App& app, Action& action) {
  auto options = std::make_shared<WatchOptions>();
  CLI::App* verb = app.add_subcommand("watch", "Show what happens to guests, lanes and channels");
  verb->add_option("GUEST", options->guest, "Only this guest's (name or domain id; on the host)");
  verb->add_flag("--json", options->as_json, "Print a JSON object for each event");
  verb->add_flag("--now", options->with_now, "Begin with what there is now");
  verb->footer(
      "Runs until it is interrupted, or the daemon ends (exit code 6).\n"
      "Examples:\n"
      "  xenlane watch                                  every guest's events, on the host\n"
      "  xenlane watch --json | jq 'select(.event == \"refused\")'\n"
      "  xenlane watch --now web                        the state of guest web, then its changes");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_watch(context, *options); };
  });
}

}  // namespace xenlane::bridge::cli
