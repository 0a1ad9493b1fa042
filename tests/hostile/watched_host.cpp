#include "tests/hostile/watched_host.hpp"

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "tests/e2e/process.hpp"

namespace xenlane::hostile {

namespace fs = std::filesystem;
using tests::read_file;
using tests::write_file;

void LogTail::restart() {
  lines();
  lines_.clear();
}

const std::vector<std::string>& LogTail::lines() {
  const std::string all = read_file(path_);
  for (std::size_t end = all.find('\n', offset_); end != std::string::npos;
       end = all.find('\n', offset_)) {
    lines_.push_back(all.substr(offset_, end - offset_));
    offset_ = end + 1;
  }
  return lines_;
}

std::size_t LogTail::count(std::string_view beginning, std::string_view part) {
  const auto& all = lines();
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [&](const auto& line) {
    return line.starts_with(beginning) && line.find(part, beginning.size()) != std::string::npos;
  }));
}

std::string LogTail::text() {
  constexpr std::size_t lines_shown = 40;
  std::string text;
  const auto& all = lines();
  for (std::size_t i = all.size() - std::min(all.size(), lines_shown); i < all.size(); ++i) {
    text += "    " + all[i] + "\n";
  }
  return text;
}

bool is_plain(const std::string& line) {
  constexpr std::size_t line_bytes_max = 600;
  return line.size() <= line_bytes_max && std::all_of(line.begin(), line.end(), [](char byte) {
           return byte >= ' ' && byte <= '~';
         });
}

std::string Watched::file(const std::string& name) const {
  return "/proc/" + std::to_string(pid_) + "/" + name;
}

bool Watched::lives() const {
  return ::kill(pid_, 0) == 0;
}

std::size_t Watched::descriptors() const {
  std::error_code error;
  const fs::directory_iterator entries(file("fd"), error);
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

std::size_t Watched::threads() const {
  std::error_code error;
  const fs::directory_iterator entries(file("task"), error);
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

std::uint64_t Watched::ticks() const {
  const std::string stat = read_file(file("stat"));
  // The fields behind the program's name, which may itself hold spaces: state is the third.
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  std::uint64_t user = 0;
  std::uint64_t system = 0;
  fields >> user >> system;
  return user + system;
}

std::uint64_t Watched::status_bytes(const std::string& field) const {
  const std::string status = read_file(file("status"));
  const std::size_t at = status.find(field);
  if (at == std::string::npos) return 0;
  return std::stoull(status.substr(at + field.size())) * 1024;
}

void Watched::forget_peak() const {
  write_file(file("clear_refs"), "5");  // proc(5)
}

}  // namespace xenlane::hostile
