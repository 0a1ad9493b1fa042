// hostile_guest: runs in a guest of xensim in xenlane-guest's place. `hostile_guest WAY` goes one
// of the ways to misbehave and exits with 0 when it could be gone to its end; `hostile_guest
// honest` runs one honest session; `hostile_guest --list` names all ways.
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "tests/hostile/ways.hpp"

namespace {

using namespace xenlane::hostile;  // NOLINT(google-build-using-namespace)

int list() {
  for (const Group& group : groups()) {
    for (const Way& way : group.ways) {
      std::printf("%-10s %-28s %s\n", group.name.data(), way.name.data(), way.what.data());
    }
  }
  return 0;
}

void go(const std::string& name) {
  Store store;
  if (name == "honest") return honest_session(store);
  for (const Group& group : groups()) {
    for (const Way& way : group.ways) {
      if (way.name == name) return way.act(store);
    }
  }
  throw Stuck("there is no such way");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: hostile_guest WAY | honest | --list\n");
    return 2;
  }
  if (std::strcmp(argv[1], "--list") == 0) return list();
  // For what waits inside a library.
  ::alarm(static_cast<unsigned>(2 * patience.count()));
  try {
    go(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hostile_guest: %s: %s\n", argv[1], error.what());
    return 1;
  }
  return 0;
}
