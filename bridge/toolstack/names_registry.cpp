#include "bridge/toolstack/names_registry.hpp"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <utility>

#include "bridge/channel/domain_part.hpp"
#include "bridge/channel/text.hpp"
#include "bridge/toolstack/guest_channels.hpp"

namespace xenlane::bridge {
namespace {

std::string_view without_blanks(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// The entry that is being read. One that is not good is read to its end and dropped.
struct DraftEntry {
  std::uint32_t line = 0;
  std::optional<ChannelName> name;
  std::optional<std::string> contact;
  std::optional<std::string> description;
  bool is_good = true;
};

class RegistryParser {
 public:
  RegistryRead run(std::string_view text) {
    while (!text.empty()) {
      const std::size_t newline = std::min(text.find('\n'), text.size());
      ++line_;
      read_line(text.substr(0, newline));
      text.remove_prefix(std::min(newline + 1, text.size()));
    }
    finish_entry();
    return std::move(read_);
  }

 private:
  void error(std::uint32_t column, std::string text) {
    read_.findings.error({line_, column}, std::move(text));
    if (entry_) entry_->is_good = false;
  }

  void read_line(std::string_view line) {
    const std::string_view content = without_blanks(line);
    const auto column = static_cast<std::uint32_t>(content.data() - line.data() + 1);
    if (content.empty()) {
      finish_entry();
    } else if (line.front() == '#') {
      return;
    } else if (!is_plain_text(content)) {
      error(column, "the line is no text that can be printed");
    } else if (column > 1) {
      read_continuation(column, content);
    } else if (content.size() < 2 || content[1] != ':' ||
               std::string_view("NCD").find(content[0]) == std::string_view::npos) {
      error(1,
            fmt::format("'{}' is neither N:, C:, D: nor a comment", escape_untrusted(content, 40)));
    } else {
      read_field(content[0], without_blanks(content.substr(2)));
    }
  }

  void read_continuation(std::uint32_t column, std::string_view content) {
    if (last_field_ != 'D') return error(column, "only a D: goes on in the next line");
    std::string& description = *entry_->description;
    if (description.size() + 1 + content.size() > description_bytes_max) {
      return error(column,
                   fmt::format("the description has more than {} bytes", description_bytes_max));
    }
    if (!description.empty()) description += ' ';
    description += content;
  }

  void read_field(char field, std::string_view value) {
    if (field == 'N') {
      finish_entry();
      entry_.emplace().line = line_;
    }
    last_field_ = field;
    if (!entry_) {
      last_field_ = '\0';
      return error(1, fmt::format("{}: without an N: before it", field));
    }
    if (field == 'N') return read_name(value);
    std::optional<std::string>& place = field == 'C' ? entry_->contact : entry_->description;
    const std::size_t bytes_max = field == 'C' ? contact_bytes_max : description_bytes_max;
    if (place) return error(1, fmt::format("a second {}: for one name", field));
    place = "";
    if (value.size() > bytes_max) {
      return error(1,
                   fmt::format("{}: has {} bytes, {} are allowed", field, value.size(), bytes_max));
    }
    place = value;
  }

  void read_name(std::string_view value) {
    auto name = ChannelName::parse(value);
    if (!name) {
      return error(1, fmt::format("'{}': {}", escape_untrusted(value), name.error().text));
    }
    if (name->is_reserved()) {
      return error(
          1, fmt::format("'{}' has no dot, and such names are reserved for xenlane", name->text()));
    }
    entry_->name = *name;
  }

  void finish_entry() {
    last_field_ = '\0';
    if (!entry_) return;
    const DraftEntry entry = std::move(*entry_);
    entry_.reset();
    const auto missing = [&](const std::optional<std::string>& value, char field) {
      if (value && !value->empty()) return false;
      read_.findings.error({entry.line, 1}, fmt::format("the entry has no {}:", field));
      return true;
    };
    if (!entry.name || !entry.is_good) return;
    if (missing(entry.contact, 'C') || missing(entry.description, 'D')) return;
    if (read_.entries.size() >= registrations_max) {
      if (!std::exchange(is_full_, true)) {
        read_.findings.error({entry.line, 1}, fmt::format("more than {} names", registrations_max));
      }
      return;
    }
    if (!has_domain_part(*entry.name)) {
      read_.findings.warning({entry.line, 1}, no_domain_part_warning(*entry.name));
    }
    read_.entries.push_back({*entry.name, *entry.contact, *entry.description, entry.line});
  }

  RegistryRead read_;
  std::optional<DraftEntry> entry_;
  char last_field_ = '\0';  // what a line that begins with a blank goes on with
  std::uint32_t line_ = 0;
  bool is_full_ = false;
};

}  // namespace

RegistryRead parse_names_registry(std::string_view untrusted) {
  return RegistryParser().run(untrusted);
}

std::vector<std::string> find_name_clashes(std::span<const Registered> all) {
  std::vector<std::string> warnings;
  std::map<ChannelName, const Registered*> seen;
  for (const Registered& one : all) {
    const auto [first, is_new] = seen.emplace(one.entry.name, &one);
    if (is_new) continue;
    const Registered& earlier = *first->second;
    warnings.push_back(fmt::format(
        "{}:{}: warning: '{}' is registered already, at {}:{} by {}; two programs of one name "
        "cannot be in one guest",
        escape_untrusted(one.file, 256), one.entry.line, one.entry.name.text(),
        escape_untrusted(earlier.file, 256), earlier.entry.line,
        escape_untrusted(earlier.entry.contact)));
  }
  return warnings;
}

}  // namespace xenlane::bridge
