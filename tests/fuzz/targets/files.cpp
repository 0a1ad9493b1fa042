// The file service (docs/files.md): what its decoders take they say again byte for byte; names and
// links that are let in can do no harm; and a receiver that is fed with any bytes leaves everything
// outside its folder alone.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "bridge/files/receiver.hpp"
#include "tests/fuzz/input.hpp"

namespace xenlane::fuzz {

void fuzz_files(Bytes input);

namespace {

namespace fs = std::filesystem;
using namespace bridge::files;  // NOLINT(google-build-using-namespace): this file is about it

template <typename T>
void decode_as(const std::vector<std::byte>& body) {
  const auto decoded = decode<T>(body);
  if (!decoded) {
    FUZZ_CHECK(is_printable(decoded.error().text) && !decoded.error().text.empty());
    return;
  }
  std::vector<std::byte> again;
  encode(again, *decoded);
  const auto header = decode_header(Bytes(again).first<header_bytes>());
  FUZZ_CHECK(header && header->body_bytes == again.size() - header_bytes);
  if constexpr (!std::is_same_v<T, Hello>) {
    FUZZ_CHECK(std::ranges::equal(Bytes(again).subspan(header_bytes), body));
  }
}

void decode_any(Input& choices) {
  const auto type = choices.below(13);
  const auto body = choices.rest();
  using Decode = void (*)(const std::vector<std::byte>&);
  static constexpr Decode decoders[] = {
      decode_as<Hello>,      decode_as<Refuse>,    decode_as<Request>, decode_as<Ready>,
      decode_as<Entry>,      decode_as<FileBegin>, decode_as<FileEnd>, decode_as<FileFailed>,
      decode_as<Unreadable>, decode_as<Listed>,    decode_as<Want>,    decode_as<Failed>,
      decode_as<Result>};
  decoders[type](body);
}

/// Where a target would lead if every name in it were a folder: never above the destination.
bool stays_inside(const std::string& target, std::size_t depth) {
  auto at = static_cast<std::ptrdiff_t>(depth);
  for (const auto& part : fs::path(target)) {
    if (part == ".." && --at < 0) return false;
    if (part != ".." && part != "." && !part.empty()) ++at;
  }
  return !target.empty() && target.front() != '/';
}

void judge(Input& choices) {
  const NameRule rule = choices.flag() ? NameRule::any : NameRule::printable;
  const std::size_t depth = choices.below(4);
  const std::string text = text_of(choices.rest());
  if (fault_of_name(text, rule).empty()) {
    FUZZ_CHECK(!text.empty() && text != "." && text != ".." && text.size() <= name_bytes_max);
    FUZZ_CHECK(text.find('/') == std::string::npos && text.find('\0') == std::string::npos);
    FUZZ_CHECK(rule == NameRule::any || text.find('\x1b') == std::string::npos);
    FUZZ_CHECK(fault_of_name(partial_name(text), NameRule::any) != "");
  }
  if (fault_of_link(text, depth, rule).empty()) FUZZ_CHECK(stays_inside(text, depth));
  if (const auto path = parse_service_path(text)) {
    for (const std::string& name : path->components) {
      FUZZ_CHECK(fault_of_name(name, NameRule::any).empty());
    }
  }
}

class Silent : public Report {
 public:
  void trouble(Trouble, int, const std::string&, const std::string&) override {}
  void copying(const std::string&) override {}
  void progress(const Counts&) override {}
};

/// A folder in memory with a base in it, and a file that nobody may touch.
class Place {
 public:
  Place() {
    std::string path = fs::is_directory("/dev/shm") ? "/dev/shm/" : fs::temp_directory_path();
    path += "/xenlane-fuzz-XXXXXX";
    FUZZ_CHECK(::mkdtemp(path.data()) != nullptr);
    path_ = fs::canonical(path);
    fs::create_directory(base());
    std::ofstream(path_ / "outside") << "outside";
    fs::create_symlink("../outside", base() / "door");
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  fs::path base() const { return path_ / "base"; }

  void check() const {
    FUZZ_CHECK(std::distance(fs::directory_iterator(path_), {}) == 2);
    std::ifstream file(path_ / "outside");
    FUZZ_CHECK((std::string(std::istreambuf_iterator<char>(file), {}) == "outside"));
    FUZZ_CHECK(fs::hard_link_count(path_ / "outside") == 1);
    for (const auto& entry : fs::recursive_directory_iterator(base())) {
      const fs::file_status status = entry.symlink_status();
      FUZZ_CHECK((status.permissions() & fs::perms(07000)) == fs::perms::none);
      if (!entry.is_symlink()) continue;
      std::error_code dangles;
      const std::string to = fs::canonical(entry.path(), dangles);
      const std::string target = fs::read_symlink(entry.path());
      FUZZ_CHECK(dangles || target == "../outside" || to == base() ||
                 to.starts_with(base().string() + "/") || to == path_ / "outside");
      const std::string within = entry.path().string().substr(base().string().size() + 1);
      const auto depth = static_cast<std::size_t>(std::ranges::count(within, '/'));
      FUZZ_CHECK(target == "../outside" || stays_inside(target, depth));
    }
  }

 private:
  fs::path path_;
};

void receive(Input& choices) {
  ReceiveRules rules;
  rules.quota.bytes = 1 << 20;
  rules.quota.entries = 100;
  rules.checksum = choices.flag();
  rules.verify = choices.flag();
  rules.xattrs = choices.flag();
  const auto bytes = choices.rest();
  const Place place;
  int ends[2];
  FUZZ_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const transport::UniqueFd ours(ends[0]);
  const transport::UniqueFd theirs(ends[1]);
  // What does not fit is as if the connection had ended; the answers fit behind.
  [[maybe_unused]] const auto sent =
      ::send(ours.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ::shutdown(ours.get(), SHUT_WR);
  WireReader in(theirs.get());
  WireWriter out(theirs.get());
  Silent report;
  try {
    Tree tree{
        transport::UniqueFd(::open(place.base().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC))};
    Receiver(in, out, std::move(tree), std::move(rules), report).run();
  } catch (const WireBroken& broken) {
    FUZZ_CHECK(is_printable(broken.what()));
  }
  place.check();
}

}  // namespace

void fuzz_files(Bytes input) {
  Input choices(input);
  switch (choices.below(3)) {
    case 0:
      return decode_any(choices);
    case 1:
      return judge(choices);
    default:
      return receive(choices);
  }
}

}  // namespace xenlane::fuzz
