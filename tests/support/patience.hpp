// How long a test waits for what should come before it says that it did not.
#pragma once

#include <chrono>
#include <cstdlib>
#include <string>

namespace xenlane::test {

/// Long, because the machine may be busy, and a test that passes never waits so long. Who expects
/// the test to fail (tests/mutants/run.sh) has less of it: XENLANE_TEST_PATIENCE_S.
inline std::chrono::seconds patience() {
  const char* seconds = std::getenv("XENLANE_TEST_PATIENCE_S");
  return std::chrono::seconds(seconds != nullptr ? std::stoi(seconds) : 20);
}

}  // namespace xenlane::test
