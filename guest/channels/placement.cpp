#include "guest/channels/placement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace xenlane::guest {

namespace {

using bridge::ChannelName;
using bridge::ParseError;

/// More than any kernel has hvc devices.
constexpr int tty_max = 99;

template <typename Number>
std::optional<Number> parse_number(std::string_view word, Number least, Number most) {
  Number number{};
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  if (number < least || number > most) return std::nullopt;
  return number;
}

std::optional<std::string_view> next_word(std::string_view& rest, char separator) {
  const std::size_t end = rest.find(separator);
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view word = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  return word;
}

std::optional<Placed> parse_placed(std::string_view line) {
  std::array<std::string_view, 3> numbers;
  for (auto& word : numbers) {
    const auto next = next_word(line, ' ');
    if (!next) return std::nullopt;
    word = *next;
  }
  const auto number = parse_number(numbers[0], console_number_min, console_number_max);
  const auto born = parse_number<std::uint64_t>(numbers[1], 0, UINT64_MAX);
  const auto tty = parse_number(numbers[2], 1, tty_max);
  if (!number || !born || !tty) return std::nullopt;
  Placed placed{*number, *born, *tty, std::nullopt, line == "!"};
  if (line == "!" || line == "-") return placed;
  const auto channel = ChannelName::parse(line);
  if (!channel) return std::nullopt;
  placed.channel = *channel;
  return placed;
}

int first_free_tty(const Placement& placement) {
  for (int tty = 1;; ++tty) {
    if (std::ranges::find(placement, tty, &Placed::tty) == placement.end()) return tty;
  }
}

/// The console that has the channel's link.
const Placed* holder_of(const Placement& placement, const ChannelName& channel) {
  const auto found = std::ranges::find(placement, std::optional(channel), &Placed::channel);
  return found == placement.end() ? nullptr : &*found;
}

/// Why the console may not have the name; nothing when it has it now.
std::optional<std::string> give_name(const Placement& placement, const std::string& untrusted_name,
                                     Placed& console) {
  const auto channel = ChannelName::parse(untrusted_name);
  if (!channel) {
    return fmt::format("console {}: the name {}: {}; no link is made", console.number,
                       bridge::escape_untrusted(untrusted_name), channel.error().text);
  }
  if (const Placed* holder = holder_of(placement, *channel)) {
    return fmt::format(
        "console {}: the name {} is taken by console {}, which came first; no link "
        "is made, give the two channels different names",
        console.number, channel->text(), holder->number);
  }
  console.channel = *channel;
  return std::nullopt;
}

}  // namespace

NextPlacement place(std::vector<Console> consoles, const Placement& before) {
  std::ranges::sort(consoles, {}, &Console::born);
  NextPlacement next;
  // What the kernel has placed before keeps its tty, so it comes before what is new.
  std::vector<const Console*> to_place;
  for (const Console& console : consoles) {
    const auto last = std::ranges::find_if(before, [&](const Placed& placed) {
      return placed.number == console.number && placed.born == console.born;
    });
    if (last == before.end()) {
      to_place.push_back(&console);
    } else {
      next.consoles.push_back(*last);
    }
  }
  for (const Console* console : to_place) {
    next.consoles.push_back(
        {console->number, console->born, first_free_tty(next.consoles), std::nullopt, false});
  }
  std::ranges::sort(next.consoles, {}, &Placed::born);
  for (std::size_t i = 0; i < consoles.size(); ++i) {
    Placed& placed = next.consoles[i];
    if (placed.channel || consoles[i].untrusted_name.empty()) continue;
    auto complaint = give_name(next.consoles, consoles[i].untrusted_name, placed);
    if (complaint && !placed.refused) next.complaints.push_back(std::move(*complaint));
    placed.refused = !placed.channel;
  }
  return next;
}

Placement after_resume(Placement placement) {
  for (Placed& placed : placement) {
    placed.tty = 0;
    placed.tty = first_free_tty(placement);
  }
  return placement;
}

std::string to_text(const Memory& memory) {
  std::string text;
  if (memory.domid) text = fmt::format("domain {}\n", *memory.domid);
  for (const Placed& placed : memory.consoles) {
    text += fmt::format("{} {} {} {}\n", placed.number, placed.born, placed.tty,
                        placed.channel   ? placed.channel->text()
                        : placed.refused ? "!"
                                         : "-");
  }
  return text;
}

boost::system::result<Memory, ParseError> parse_memory(std::string_view text) {
  Memory memory;
  constexpr std::string_view domain = "domain ";
  if (text.starts_with(domain)) {
    text.remove_prefix(domain.size());
    const auto word = next_word(text, '\n');
    memory.domid = word ? transport::parse_domid(*word) : std::nullopt;
    if (!memory.domid) return ParseError{"the domain is damaged"};
  }
  Placement& placement = memory.consoles;
  while (!text.empty()) {
    const auto line = next_word(text, '\n');
    const auto placed = line ? parse_placed(*line) : std::nullopt;
    if (!placed) return ParseError{fmt::format("console {} is damaged", placement.size() + 1)};
    const bool clashes = std::ranges::any_of(placement, [&](const Placed& other) {
      return other.number == placed->number || other.tty == placed->tty ||
             (placed->channel && other.channel == placed->channel);
    });
    if (clashes) {
      return ParseError{fmt::format("console {} contradicts another", placement.size() + 1)};
    }
    placement.push_back(*placed);
  }
  return memory;
}

std::optional<int> parse_console_device(std::string_view word) {
  constexpr std::string_view prefix = "console-";
  if (!word.starts_with(prefix)) return std::nullopt;
  return parse_number(word.substr(prefix.size()), console_number_min, console_number_max);
}

}  // namespace xenlane::guest
