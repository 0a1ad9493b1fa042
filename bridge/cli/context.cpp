#include "bridge/cli/context.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace xenlane::bridge::cli {

int fail(ExitCode code, const std::string& message) {
  fmt::print(stderr, "xenlane: {}\n", message);
  return code;
}

bool colours_wanted() {
  const char* refused = std::getenv("NO_COLOR");
  return (refused == nullptr || *refused == '\0') && ::isatty(STDOUT_FILENO) == 1;
}

}  // namespace xenlane::bridge::cli
