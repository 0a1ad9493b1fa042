#include "tests/e2e/copy_world.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <sstream>

namespace xenlane::tests {

namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

constexpr const char* files_in_guest = "org.xenlane.files-in-guest.0";
constexpr const char* files_on_host = "org.xenlane.files-on-host.0";

std::vector<std::string> words(std::vector<std::string> first,
                               const std::vector<std::string>& more) {
  first.insert(first.end(), more.begin(), more.end());
  return first;
}

}  // namespace

Copies::Copies(const std::string& more, const std::string& lines, const std::string& lanes)
    : world({"web"}, lanes) {
  // Whose lane is cut is to notice soon.
  world.timeouts = "[timeouts]\nresume_ms = 2000\npeer_stall_ms = 500\nretry_ms_max = 200\n";
  const auto service = [&](const std::string& folder) {
    fs::create_directory(folder);
    return "target = \"exec:" + program("xenlane") + " serve-files --receive " + folder +
           " --send " + folder + " " + more + "\"\n" + lines;
  };
  write_file(world.host_config_path(),
             world.host_config() + channel(files_in_guest, "listen", "", "mode = \"0666\"\n") +
                 channel(files_on_host, "dial", "", service(on_host())));
  write_file(world.guest_config_path("web"),
             world.guest_config("web") + channel(files_on_host, "listen") +
                 channel(files_in_guest, "dial", "", service(in_guest())));
  world.start();
}

Outcome Copies::copy(std::vector<std::string> arguments, const std::string& in) {
  return world.tool("0", words({"cp"}, arguments), in);
}

Outcome Copies::copy_in_guest(std::vector<std::string> arguments, const std::string& in) {
  return world.tool("web", words({"cp"}, arguments), in);
}

json::object Copies::copy_json(std::vector<std::string> arguments) {
  const Outcome outcome = copy(words({"--json"}, arguments));
  std::istringstream lines(outcome.out);
  json::object last;
  for (std::string line; std::getline(lines, line);) {
    boost::system::error_code error;
    const json::value value = json::parse(line, error);
    if (!error && value.is_object()) last = value.as_object();
  }
  return last;
}

Process Copies::begin(std::vector<std::string> arguments) {
  return Process(words({program("xensim"), "exec", "0", "--", program("xenlane"), "cp"}, arguments),
                 {"/dev/null", dir() + "/cp.out", dir() + "/cp.err"});
}

std::int64_t number(const json::object& line, const char* key) {
  const auto* value = line.if_contains(key);
  return value == nullptr ? -1 : value->to_number<std::int64_t>();
}

std::map<std::string, std::string> snapshot(const std::string& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string path = entry.path().string();
    struct stat status = {};
    if (::lstat(path.c_str(), &status) != 0) continue;
    std::string text = std::to_string(status.st_mode) + " " +
                       std::to_string(status.st_mtim.tv_sec) + "." +
                       std::to_string(status.st_mtim.tv_nsec) + " ";
    if (S_ISREG(status.st_mode)) {
      Digest digest;
      digest.add(read_file(path));
      text += std::to_string(status.st_nlink) + " " + digest.text();
    }
    if (S_ISLNK(status.st_mode)) text += "-> " + fs::read_symlink(path).string();
    all[fs::relative(path, folder).string()] = std::move(text);
  }
  return all;
}

void make_file(const std::string& path, std::uint64_t bytes, std::uint64_t seed) {
  Pattern pattern(seed);
  std::string content(bytes, '\0');
  pattern.fill(content);
  write_file(path, content);
}

void make_tree(const std::string& folder) {
  fs::create_directories(folder + "/deep/er/still");
  fs::create_directories(folder + "/empty");
  write_file(folder + "/nothing", "");
  make_file(folder + "/large", 3 * mebibyte + 17, 3);
  for (std::uint64_t i = 0; i < 40; ++i) {
    make_file(folder + "/deep/er/small" + std::to_string(i), i * 1000, i);
  }
  write_file(folder + "/with blank and \xC3\xA4", "umlaut");
  fs::create_symlink("../small7", folder + "/deep/er/still/link");
  fs::create_hard_link(folder + "/large", folder + "/deep/twice");
  ::chmod((folder + "/deep/er/small1").c_str(), 0751);
  const transport::UniqueFd hole(
      ::open((folder + "/hole").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_EQ(::pwrite(hole.get(), "end", 3, 20 * mebibyte), 3);
  const timespec old[2] = {{1'000'000'000, 1}, {1'000'000'000, 123'456'789}};
  ::utimensat(AT_FDCWD, (folder + "/deep/er/still/link").c_str(), old, AT_SYMLINK_NOFOLLOW);
  ::utimensat(AT_FDCWD, (folder + "/deep").c_str(), old, 0);
}

std::uint64_t bytes_below(const std::string& folder) {
  std::uint64_t sum = 0;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(folder, error)) {
    if (entry.is_regular_file(error) && !entry.is_symlink(error)) sum += entry.file_size(error);
  }
  return sum;
}

}  // namespace xenlane::tests
