// Bytes both ways over consoles, each with faults of its own.
#include "tests/transport/console/cable.hpp"

namespace xenlane::transport::test {
namespace {

struct Weather {
  const char* name;
  Faults faults;
};
void PrintTo(const Weather& weather, std::ostream* out) {
  *out << weather.name;
}

class ConsoleLinkInWeather : public Cable, public testing::WithParamInterface<Weather> {};

TEST_P(ConsoleLinkInWeather, BytesArriveWholeInTextAndBinary) {
  for (std::uint32_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(seed);
    random.seed(seed);
    now = {};
    to_host.clear();
    to_guest.clear();
    faults = GetParam().faults;
    begin_both(seed % 2 == 0 && !faults.crlf ? link_own_device : 0);
    expect_transfer(150'000, seed);
  }
}

const Weather weathers[] = {
    {"Calm", {}},
    {"Lossy", {.lost = 10}},
    {"VeryLossy", {.lost = 30}},
    {"Cutting", {.cut = 15}},
    {"Repeating", {.repeated = 50}},
    {"Echoing", {.echoed = 100}},
    {"Noisy", {.noise = 80}},
    {"Damaging", {.damaged = 20}},
    {"Cooked", {.echoed = 100, .crlf = true}},
    {"Everything", {.lost = 6, .cut = 6, .repeated = 10, .echoed = 20, .noise = 20, .damaged = 6}},
};
INSTANTIATE_TEST_SUITE_P(Weathers, ConsoleLinkInWeather, testing::ValuesIn(weathers),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace xenlane::transport::test
