// The far end of `xenlane bench`: one program for each connection, so that what it costs is not
// mistaken for the bridge's work. It is the daemon's own program, started again on one end of a
// socket pair, without privileges and for a limited time.
#pragma once

#include <string>
#include <string_view>

namespace xenlane::bridge {

/// Whoever starts a daemon's program with this and what it has used so far, starts the service.
inline constexpr std::string_view bench_service_option = "--bench-service";

/// Serves the one request that comes from `fd` (bridge/bench/request.hpp). `usage` answers those
/// who ask for it. Returns an exit code; ends by a signal when its time is over.
int serve_bench(int fd, const std::string& usage);

}  // namespace xenlane::bridge
