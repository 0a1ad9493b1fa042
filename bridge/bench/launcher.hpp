// Starts the built-in service of `xenlane bench` for whoever dials it, and waits for its end.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/json.hpp>
#include <boost/system/result.hpp>
#include <functional>
#include <memory>

#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// Services of one bridge at a time: the peer decides how many it asks for.
inline constexpr std::size_t bench_services_max = 16;

class BenchLauncher {
 public:
  /// `usage` is what the daemon has used until now, for those who ask the service for it.
  BenchLauncher(const boost::asio::any_io_executor& executor,
                std::function<boost::json::object()> usage)
      : executor_(executor), usage_(std::move(usage)) {}

  /// A connected, non-blocking socket. EAGAIN: bench_services_max run already.
  boost::system::result<transport::UniqueFd> start();

 private:
  boost::asio::any_io_executor executor_;
  std::function<boost::json::object()> usage_;
  std::shared_ptr<std::size_t> running_ = std::make_shared<std::size_t>(0);
};

}  // namespace xenlane::bridge
