#include "bridge/cli/top_view.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "bridge/channel/text.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/table.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/files/progress.hpp"

namespace xenlane::bridge::cli {

namespace json = boost::json;

namespace {

struct Bytes {
  std::uint64_t in = 0;
  std::uint64_t out = 0;
};

/// What was counted then, by the names of things.
using Counted = std::map<std::string, Bytes>;

Bytes bytes_of(const json::object& counted) {
  return {json_number(counted, "bytes_in"), json_number(counted, "bytes_out")};
}

/// Calls `use` for each bridge that answers, with its guest's name.
template <typename Use>
void for_each_bridge(const TopSample& sample, Use use) {
  for (const json::value& value : sample.guests) {
    if (!value.is_object()) continue;
    const json::object* status = json_object(value.get_object(), "status");
    if (status != nullptr) use(json_text(value.get_object(), "guest"), *status);
  }
}

std::string forward_key(const json::object& forward) {
  return json_text(forward, "id") + " " + json_text(forward, "kind") + " " +
         json_text(forward, "forward");
}

Counted channels_counted(const TopSample& sample) {
  Counted counted;
  for_each_bridge(sample, [&](const std::string& guest, const json::object& status) {
    for (const json::object* channel : channels_of(status)) {
      counted[guest + "/" + json_text(*channel, "name")] = bytes_of(*channel);
    }
  });
  return counted;
}

class Rates {
 public:
  Rates(Counted before, std::chrono::duration<double> between)
      : before_(std::move(before)), seconds_(between.count()) {}

  void fill(TopRow& row, const std::string& key, Bytes now) const {
    const auto found = before_.find(key);
    if (found == before_.end() || seconds_ <= 0) return;
    row.in_per_second = rate(found->second.in, now.in);
    row.out_per_second = rate(found->second.out, now.out);
  }

 private:
  double rate(std::uint64_t then, std::uint64_t now) const {
    return static_cast<double>(now >= then ? now - then : now) / seconds_;
  }
  Counted before_;
  double seconds_;
};

TopRow guest_row(const json::object& guest) {
  TopRow row;
  row.guest = json_text(guest, "guest", "-");
  row.state = json_text(guest, "state", "-");
  row.lane = "-";
  const json::object* status = json_object(guest, "status");
  if (status == nullptr) return row;
  if (const json::object* session = json_object(*status, "session")) {
    row.state = json_text(*session, "state", "-");
  }
  if (const json::object* lane = json_object(*status, "lane")) {
    row.lane = json_text(*lane, "kind", "-");
  }
  if (const json::object* streams = json_object(*status, "streams")) {
    row.open = json_number(*streams, "open");
  }
  return row;
}

double total(const TopRow& row) {
  return row.in_per_second + row.out_per_second;
}

Cell number_cell(std::string text) {
  return {std::move(text), Colour::none, true};
}

Cell text_cell(const std::string& untrusted) {
  return {escape_untrusted(untrusted, 80)};
}

/// A table's lines.
std::vector<std::string> lines_of(const std::vector<Cell>& head,
                                  const std::vector<std::vector<Cell>>& rows) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* memory = ::open_memstream(&text, &size);
  if (memory == nullptr) return {};
  print_table(memory, head, rows, false);
  std::fclose(memory);
  std::vector<std::string> lines;
  std::string_view rest(text, size);
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    lines.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  std::free(text);
  return lines;
}

const std::vector<Cell> rate_heads = {number_cell("IN"), number_cell("OUT")};

void add_table(std::vector<std::string>& lines, std::vector<Cell> head,
               std::vector<std::vector<Cell>> rows, const std::vector<TopRow>& of) {
  if (of.empty()) return;
  head.insert(head.end(), rate_heads.begin(), rate_heads.end());
  for (std::size_t i = 0; i < of.size(); ++i) {
    rows[i].push_back(number_cell(format_rate(of[i].in_per_second)));
    rows[i].push_back(number_cell(format_rate(of[i].out_per_second)));
  }
  if (!lines.empty()) lines.emplace_back();
  for (std::string& line : lines_of(head, rows)) lines.push_back(std::move(line));
}

template <typename Make>
std::vector<std::vector<Cell>> rows_of(const std::vector<TopRow>& of, Make make) {
  std::vector<std::vector<Cell>> rows;
  for (const TopRow& row : of) rows.push_back(make(row));
  return rows;
}

json::array json_rows(const std::vector<TopRow>& rows, const char* name) {
  json::array list;
  for (const TopRow& row : rows) {
    json::object one;
    if (!row.guest.empty()) one["guest"] = row.guest;
    if (!row.name.empty()) one[name] = row.name;
    if (!row.state.empty()) one["state"] = row.state;
    if (!row.lane.empty()) one["lane"] = row.lane;
    one["open"] = row.open;
    one["bytes_in_per_second"] = row.in_per_second;
    one["bytes_out_per_second"] = row.out_per_second;
    list.push_back(std::move(one));
  }
  return list;
}

}  // namespace

std::string format_rate(double bytes_per_second) {
  return files::in_units(bytes_per_second) + "/s";
}

TopView top_view(const TopSample& before, const TopSample& now) {
  TopView view;
  view.trouble = now.trouble;
  const Rates channels(channels_counted(before), now.at - before.at);
  for (const json::value& value : now.guests) {
    if (!value.is_object()) continue;
    TopRow guest = guest_row(value.get_object());
    const json::object* status = json_object(value.get_object(), "status");
    for (const json::object* channel :
         status != nullptr ? channels_of(*status) : std::vector<const json::object*>{}) {
      TopRow row;
      row.guest = guest.guest;
      row.name = json_text(*channel, "name", "-");
      row.open = json_number(*channel, "open");
      row.opened = json_number(*channel, "opened");
      channels.fill(row, row.guest + "/" + row.name, bytes_of(*channel));
      guest.in_per_second += row.in_per_second;
      guest.out_per_second += row.out_per_second;
      if (row.open > 0 || total(row) > 0) view.channels.push_back(std::move(row));
    }
    view.guests.push_back(std::move(guest));
  }
  std::ranges::stable_sort(view.channels,
                           [](const TopRow& a, const TopRow& b) { return total(a) > total(b); });
  Counted counted;
  for (const json::value& value : before.forwards) {
    if (value.is_object()) counted[forward_key(value.get_object())] = bytes_of(value.get_object());
  }
  const Rates forwards(std::move(counted), now.at - before.at);
  for (const json::value& value : now.forwards) {
    if (!value.is_object()) continue;
    const json::object& forward = value.get_object();
    TopRow row;
    row.guest = json_text(forward, "guest", "-");
    row.name = json_text(forward, "kind", "-") + " " + json_text(forward, "forward", "-");
    row.state = json_text(forward, "state", "-");
    row.open = json_number(forward, "open");
    row.opened = json_number(forward, "opened");
    forwards.fill(row, forward_key(forward), bytes_of(forward));
    view.forwards.push_back(std::move(row));
  }
  return view;
}

std::vector<std::string> top_lines(const TopView& view, std::size_t rows_max,
                                   std::size_t columns_max) {
  std::vector<std::string> lines;
  if (!view.trouble.empty()) lines.push_back(view.trouble);
  add_table(lines, {{"GUEST"}, {"SESSION"}, {"LANE"}, number_cell("STREAMS")},
            rows_of(view.guests,
                    [](const TopRow& row) -> std::vector<Cell> {
                      return {text_cell(row.guest), text_cell(row.state), text_cell(row.lane),
                              number_cell(std::to_string(row.open))};
                    }),
            view.guests);
  add_table(lines, {{"GUEST"}, {"CHANNEL"}, number_cell("OPEN"), number_cell("OPENED")},
            rows_of(view.channels,
                    [](const TopRow& row) -> std::vector<Cell> {
                      return {text_cell(row.guest), text_cell(row.name),
                              number_cell(std::to_string(row.open)),
                              number_cell(std::to_string(row.opened))};
                    }),
            view.channels);
  add_table(lines, {{"FORWARD"}, {"STATE"}, number_cell("OPEN"), number_cell("OPENED")},
            rows_of(view.forwards,
                    [](const TopRow& row) -> std::vector<Cell> {
                      return {text_cell(row.name), text_cell(row.state),
                              number_cell(std::to_string(row.open)),
                              number_cell(std::to_string(row.opened))};
                    }),
            view.forwards);
  if (rows_max > 0 && lines.size() > rows_max) lines.resize(rows_max);
  for (std::string& line : lines) {
    if (columns_max > 0 && line.size() > columns_max) line.resize(columns_max);
  }
  return lines;
}

json::object top_json(const TopView& view) {
  return {{"v", control_version},
          {"guests", json_rows(view.guests, "name")},
          {"channels", json_rows(view.channels, "channel")},
          {"forwards", json_rows(view.forwards, "forward")}};
}

}  // namespace xenlane::bridge::cli
