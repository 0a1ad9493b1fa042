// What the other side, a user or a configuration may say of forwards: lines of their protocol,
// addresses, rules and specifications. What is understood is written again as the same, and no rule
// but the one for every host lets a name pass for an address or an address for a name.
#include "bridge/forward/request.hpp"
#include "bridge/forward/rule.hpp"
#include "bridge/forward/spec.hpp"
#include "tests/fuzz/input.hpp"

namespace xenlane::fuzz {

void fuzz_forward(Bytes input);

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace)

template <typename Value, typename Parse>
void check_same(const Value& value, Parse parse) {
  std::string line = format_forward(value);
  FUZZ_CHECK(line.size() <= forward_line_bytes_max);
  FUZZ_CHECK(line.find('\n') == line.size() - 1);
  line.pop_back();
  const auto again = parse(line);
  FUZZ_CHECK(again.has_value());
}

void check_address(const ForwardAddress& address) {
  const auto again = ForwardAddress::parse(address.uri(), true);
  FUZZ_CHECK(again.has_value() && *again == address);
  if (address.is_unix()) {
    FUZZ_CHECK(address.path().find("/../") == std::string::npos);
    FUZZ_CHECK(address.path().find("//") == std::string::npos);
  }
}

void check_line(const std::string& line) {
  if (const auto request = parse_forward_request(line)) {
    check_same(*request, parse_forward_request);
    FUZZ_CHECK(*parse_forward_request(line) == *request);
    if (const auto* connect = std::get_if<ForwardConnect>(&*request)) {
      FUZZ_CHECK(connect->address.host_kind() != HostKind::any);
      check_address(connect->address);
    }
  }
  if (const auto answer = parse_forward_answer(line)) check_same(*answer, parse_forward_answer);
  if (const auto order = parse_forward_order(line)) check_same(*order, parse_forward_order);
  if (const auto news = parse_forward_news(line)) check_same(*news, parse_forward_news);
}

void check_rule(const std::string& text) {
  const auto rule = ForwardRule::parse(text);
  if (!rule) return;
  const bool name = rule->allows(*ForwardAddress::tcp("a1", 80));
  const bool four = rule->allows(*ForwardAddress::tcp("1.1.1.1", 80));
  const bool six = rule->allows(*ForwardAddress::tcp("::1", 80));
  const bool all = rule->allows(*ForwardAddress::tcp("*", 80, true));
  const bool is_for_every_host = text.starts_with("tcp:*:");
  FUZZ_CHECK(is_for_every_host || name + four + six + all <= 1);
  FUZZ_CHECK(is_for_every_host || !all);
}

}  // namespace

void fuzz_forward(Bytes input) {
  const std::string text = text_of(input);
  LineQueue lines;
  if (lines.add(text)) {
    while (const auto line = lines.next()) {
      FUZZ_CHECK(line->size() < forward_line_bytes_max);
      check_line(*line);
      check_rule(*line);
      for (const auto kind : {ForwardKind::local, ForwardKind::remote, ForwardKind::socks}) {
        const auto spec = parse_forward_spec(kind, *line);
        if (!spec) continue;
        check_address(spec->listen);
        FUZZ_CHECK(spec->target.has_value() == (kind != ForwardKind::socks));
        if (spec->target) check_address(*spec->target);
      }
    }
  }
  if (const auto address = ForwardAddress::parse(text, true)) check_address(*address);
}

}  // namespace xenlane::fuzz
