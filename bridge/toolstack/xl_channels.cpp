#include "bridge/toolstack/xl_channels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "bridge/toolstack/xl_syntax.hpp"

namespace xenlane::bridge {
namespace {

/// A key or a value of one pair, trimmed, and where it stands.
struct Piece {
  Place where;
  std::string_view text;
};

/// The C locale's isspace(), by which xl trims.
bool is_blank(char byte) {
  return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

Piece trimmed(const XlText& item, std::size_t begin, std::size_t end) {
  while (begin < end && is_blank(item.text[begin])) ++begin;
  while (end > begin && is_blank(item.text[end - 1])) --end;
  return {item.place_of(begin), std::string_view(item.text).substr(begin, end - begin)};
}

enum Key : std::size_t { connection, name, path, backend, key_count };

constexpr std::array<std::string_view, key_count> key_names = {"connection", "name", "path",
                                                               "backend"};

/// One item of the list.
class Item {
 public:
  Item(const XlText& text, Findings& findings) : text_(text), findings_(findings) {}

  /// True when it has a socket here.
  bool read(ChannelsDraft& draft) {
    if (!read_pairs()) return false;
    const Place where = text_.where;
    if (!values_[name]) findings_.error(where, "the channel has no name=");
    if (!values_[connection]) {
      findings_.error(where, "the channel has no connection=; it is 'socket' or 'pty'");
      return false;
    }
    const Piece kind = *values_[connection];
    if (kind.text == "pty") {
      findings_.warning(kind.where, "left out: a channel with connection=pty has no socket");
    } else if (kind.text != "socket") {
      findings_.error(kind.where, fmt::format("'{}' is no connection; there are 'socket' and 'pty'",
                                              escape_untrusted(kind.text)));
    } else if (!values_[path]) {
      findings_.error(where, "a channel with connection=socket needs a path=");
    } else if (is_elsewhere()) {
      findings_.warning(values_[backend]->where,
                        fmt::format("left out: the channel's socket is in domain '{}', not here",
                                    escape_untrusted(values_[backend]->text)));
    } else if (values_[name]) {
      draft.add({values_[name]->where, values_[name]->text},
                {values_[path]->where, values_[path]->text});
      return true;
    }
    return false;
  }

 private:
  /// False when a pair is not one. xl skips what is empty between commas.
  bool read_pairs() {
    const std::string& text = text_.text;
    bool is_good = true;
    bool is_empty = true;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find(',', begin), text.size());
      if (end > begin) {
        is_empty = false;
        is_good = read_pair(begin, end) && is_good;
      }
      begin = end + 1;
    }
    if (is_empty) findings_.error(text_.where, "the channel is empty, and xl would crash");
    return is_good && !is_empty;
  }

  bool read_pair(std::size_t begin, std::size_t end) {
    const std::size_t equals = text_.text.find('=', begin);
    if (equals >= end) {
      const Piece word = trimmed(text_, begin, end);
      findings_.error(word.where, fmt::format("'{}' is not of the form key=value",
                                              escape_untrusted(word.text)));
      return false;
    }
    const Piece key = trimmed(text_, begin, equals);
    const Piece value = trimmed(text_, equals + 1, end);
    const auto known = std::find(key_names.begin(), key_names.end(), key.text);
    if (known == key_names.end()) {
      // As xl does it: newer versions may have more keys.
      findings_.warning(key.where,
                        fmt::format("unknown key '{}' is ignored", escape_untrusted(key.text)));
      return true;
    }
    if (value.text.empty()) {
      findings_.error(key.where, fmt::format("'{}' has no value", key.text));
      return false;
    }
    const auto banned = value.text.find_first_of("=\"");
    if (banned != std::string_view::npos) {
      findings_.error(value.where, fmt::format("'{}' has a {} in it; xl.cfg(5) forbids it",
                                               escape_untrusted(value.text), value.text[banned]));
      return false;
    }
    auto& place = values_[static_cast<std::size_t>(known - key_names.begin())];
    if (place) {
      findings_.warning(key.where,
                        fmt::format("'{}' comes twice, and the later one counts", key.text));
    }
    place = value;
    return true;
  }

  bool is_elsewhere() const {
    return values_[backend] && values_[backend]->text != "0" &&
           values_[backend]->text != "Domain-0";
  }

  const XlText& text_;
  Findings& findings_;
  std::array<std::optional<Piece>, key_count> values_;
};

void read_guest(const XlSettings& settings, Findings& findings, ChannelsDraft& draft) {
  const auto found = settings.find("name");
  if (found == settings.end()) {
    // A file that cannot be read to its end may have it there.
    if (!findings.has_errors()) findings.error({}, "there is no name = \"...\", the domain's");
  } else if (found->second.is_list) {
    findings.error(found->second.text.where, "the domain's name is a list; it must be a text");
  } else {
    draft.set_guest(found->second.text.where, found->second.text.text);
  }
}

void read_list(const XlSettings& settings, Findings& findings, ChannelsDraft& draft) {
  const auto found = settings.find("channel");
  if (found == settings.end()) return;
  if (!found->second.is_list) {
    findings.error(found->second.text.where,
                   "xl wants a list, as in channel = [ \"connection=socket,...\" ]");
    return;
  }
  const std::vector<XlValue>& items = found->second.items;
  for (const XlValue& item : items) {
    if (item.is_list) {
      findings.error(item.text.where, "a list where a text must be; xl ends reading channels here");
    } else {
      const bool is_socket = Item(item.text, findings).read(draft);
      if (is_socket && &item == &items.front()) {
        findings.warning(item.text.where,
                         "xl of Xen 4.17 loses the first channel of the list; put "
                         "\"connection=pty,name=unused\" before it");
      }
    }
  }
}

/// In double quotes, for the scanner that XlLexer follows.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char byte : text) {
    if (byte == '"' || byte == '\\') out += '\\';
    out += byte;
  }
  return out + '"';
}

}  // namespace

ChannelsRead read_xl_channels(std::string_view untrusted) {
  ChannelsRead read;
  if (const auto nul = untrusted.find('\0'); nul != std::string_view::npos) {
    read.findings.error(place_of(untrusted, nul), "a NUL byte; this is no text");
    return read;
  }
  const XlSettings settings = parse_xl(untrusted, read.findings);
  ChannelsDraft draft(read.findings);
  read_guest(settings, read.findings, draft);
  read_list(settings, read.findings, draft);
  read.guest = draft.finish();
  return read;
}

boost::system::result<std::string, ParseError> write_xl_channels(const GuestChannels& guest) {
  std::string out = fmt::format("name = {}\n", quoted(guest.guest.text()));
  out +=
      "# xl of Xen 4.17 loses the first channel of the list, so the first is one that nobody "
      "needs.\n"
      "# Newer versions keep it and can do without that line.\n"
      "channel = [\n    \"connection=pty,name=unused\",\n";
  for (const PvChannel& channel : guest.channels) {
    const std::string& path = channel.path.text();
    if (path.find_first_of(",=\"") != std::string::npos || is_blank(path.back())) {
      return ParseError{fmt::format(
          "the path '{}' of '{}' has a comma, an equals sign, a quote or a blank at its end, which "
          "xl cannot take",
          escape_untrusted(path), channel.name.text())};
    }
    out += fmt::format("    {},\n", quoted(fmt::format("connection=socket,name={},path={}",
                                                       channel.name.text(), path)));
  }
  out += "]\n";
  return {boost::system::in_place_value, std::move(out)};
}

}  // namespace xenlane::bridge
