#include "bridge/daemon/program.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "bridge/cli/exit_codes.hpp"

namespace xenlane::bridge {

BridgeConfig load_or_fail(Side side, const std::optional<std::string>& path,
                          const std::optional<std::string>& run_dir) {
  ConfigLoad load = load_config(side, path);
  for (const auto& diagnostic : load.diagnostics) {
    fmt::print(stderr, "{}\n", format_diagnostic(diagnostic));
  }
  if (load.is_fatal()) {
    throw StartFailure{exit_configuration,
                       fmt::format("{}: not a configuration to start with; the lines above say why",
                                   load.config.file)};
  }
  if (run_dir) load.config.run_dir = *run_dir;
  return std::move(load.config);
}

void start_logging(LogLevel level) {
  auto logger = std::make_shared<spdlog::logger>("xenlane",
                                                 std::make_shared<spdlog::sinks::stderr_sink_st>());
  logger->set_pattern("%l: %v");
  switch (level) {
    case LogLevel::error:
      logger->set_level(spdlog::level::err);
      break;
    case LogLevel::warn:
      logger->set_level(spdlog::level::warn);
      break;
    case LogLevel::info:
      logger->set_level(spdlog::level::info);
      break;
    case LogLevel::debug:
      logger->set_level(spdlog::level::debug);
      break;
  }
  spdlog::set_default_logger(std::move(logger));
}

void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

transport::UniqueFd lock_run_dir(const std::string& run_dir) {
  std::error_code error;
  std::filesystem::create_directories(run_dir, error);
  if (error) {
    throw StartFailure{error == std::errc::permission_denied ? exit_not_permitted : exit_broken,
                       fmt::format("{}: {}; run as root or choose another folder with --run-dir",
                                   run_dir, error.message())};
  }
  const std::string path = run_dir + "/.lock";
  transport::UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) {
    throw StartFailure{errno == EACCES ? exit_not_permitted : exit_broken,
                       fmt::format("{}: {}; run as root or choose another folder with --run-dir",
                                   path, std::strerror(errno))};
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    throw StartFailure{
        exit_broken,
        fmt::format("{}: another xenlane daemon serves this folder; stop it first", run_dir)};
  }
  return lock;
}

void require_xenstore(const std::string& path) {
  if (::access(path.c_str(), R_OK | W_OK) == 0) return;
  const int error = errno;
  const bool forbidden = error == EACCES || error == EPERM;
  throw StartFailure{
      forbidden ? exit_not_permitted : exit_no_xen,
      fmt::format("{}: {}; {}", path, std::strerror(error),
                  forbidden ? "run as root or give this user access to it"
                            : "this is no Xen domain, or its xenstore is not up; to try "
                              "xenlane without Xen, use xensim")};
}

int exit_code_of(transport::LaneFailureKind kind) {
  switch (kind) {
    case transport::LaneFailureKind::no_xen:
      return exit_no_xen;
    case transport::LaneFailureKind::no_permission:
      return exit_not_permitted;
    case transport::LaneFailureKind::no_grants:
      return exit_too_few_grants;
    case transport::LaneFailureKind::no_event_channel:
    case transport::LaneFailureKind::no_ring:
    case transport::LaneFailureKind::timed_out:
      return exit_broken;
  }
  return exit_broken;
}

}  // namespace xenlane::bridge
