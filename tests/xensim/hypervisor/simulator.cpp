#include "tests/xensim/hypervisor/simulator.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <thread>

namespace xensim_test {

Outcome shell(const std::string& command) {
  Outcome outcome;
  FILE* pipe = ::popen(("exec 2>&1; " + command).c_str(), "re");
  if (pipe == nullptr) return outcome;
  char buffer[4096];
  for (std::size_t got = 0; (got = ::fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
    outcome.output.append(buffer, got);
  }
  const int status = ::pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

bool eventually(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

Simulator::Simulator(const std::string& up_arguments) {
  std::string pattern = (std::filesystem::temp_directory_path() / "xensim-test-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) std::abort();
  dir_ = pattern;
  const Outcome up = xensim("up --dir " + dir_ + " " + up_arguments);
  EXPECT_EQ(up.code, 0) << up.output;
}

Simulator::~Simulator() {
  xensim("down");
  std::error_code ignored;
  std::filesystem::remove_all(dir_, ignored);
}

void Simulator::enter(std::uint32_t domid) const {
  ::setenv("XENSIM_HV", (dir_ + "/dom/" + std::to_string(domid) + "/hv").c_str(), 1);
}

Outcome Simulator::xensim(const std::string& arguments) const {
  return shell("XENSIM_DIR=" + dir_ + " " XENSIM_PROGRAM " " + arguments);
}

namespace {

boost::json::object listed_domain(const Simulator& simulator, std::uint32_t domid) {
  const Outcome list = simulator.xensim("list --json");
  boost::system::error_code error;
  const boost::json::value domains = boost::json::parse(list.output, error);
  if (error || !domains.is_array()) return {};
  for (const boost::json::value& domain : domains.get_array()) {
    if (boost::json::value_to<std::uint32_t>(domain.at("domid")) == domid) {
      return domain.as_object();
    }
  }
  return {};
}

}  // namespace

long Simulator::listed(std::uint32_t domid, const std::string& key) const {
  const boost::json::object domain = listed_domain(*this, domid);
  return domain.empty() ? -1 : boost::json::value_to<long>(domain.at(key));
}

std::string Simulator::listed_name(std::uint32_t domid) const {
  const boost::json::object domain = listed_domain(*this, domid);
  return domain.empty() ? "" : std::string(domain.at("name").as_string());
}

Helper::Helper(const Simulator& simulator, const std::string& domain,
               const std::string& arguments) {
  int ends[2] = {-1, -1};
  if (::pipe(ends) != 0) std::abort();
  const std::string command = "exec " XENSIM_PROGRAM " exec " + domain + " --dir " +
                              simulator.dir() + " -- " XENSIM_TEST_HELPER " " + arguments;
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(ends[1], 1);
    ::close(ends[0]);
    ::close(ends[1]);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  output_ = ends[0];
}

Helper::~Helper() {
  kill();
  ::close(output_);
}

std::vector<std::uint32_t> Helper::read_numbers() const {
  std::string line;
  char byte = 0;
  while (::read(output_, &byte, 1) == 1 && byte != '\n') line += byte;
  std::istringstream words(line);
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t number = 0; words >> number;) numbers.push_back(number);
  return numbers;
}

void Helper::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace xensim_test
