// In place of transport/console/console_opener.cpp: what is opened are the ends of simulated
// cables.
#include <cerrno>

#include "tests/sim/processes.hpp"
#include "transport/console/console_opener.hpp"

namespace xenlane::transport {

using sim::environment;
using sim::Fault;
using sim::hypervisor;

namespace {

using Opened = boost::system::result<std::shared_ptr<ConsolePort>>;

boost::system::error_code error_of(int number) {
  return {number, boost::system::system_category()};
}

}  // namespace

Opened open_console_tty(const std::string& path) {
  sim::Cable* cable = hypervisor()->cable_of(environment()->running->domid);
  if (cable == nullptr || path != sim::tty_path) return error_of(ENOENT);
  if (environment()->strikes(Fault::socket_out_of_files)) return error_of(EMFILE);
  UniqueFd tty;
  {
    const sim::OutsideOfProcess outside;
    tty = cable->open_tty();
    environment()->note("console's tty opened");
  }
  return ConsolePort::make(std::move(tty));
}

Opened connect_console_socket(const std::string& path) {
  if (environment()->strikes(Fault::socket_out_of_files)) return error_of(EMFILE);
  const auto found = hypervisor()->console_sockets.find(path);
  sim::Cable* cable = found == hypervisor()->console_sockets.end()
                          ? nullptr
                          : hypervisor()->cable_of(found->second);
  if (cable == nullptr) return error_of(ENOENT);
  if (environment()->strikes(Fault::connect_again)) return error_of(EAGAIN);
  UniqueFd socket;
  {
    const sim::OutsideOfProcess outside;
    socket = cable->connect();
    environment()->note("console's client connects");
  }
  return ConsolePort::make(std::move(socket));
}

}  // namespace xenlane::transport
