// The fuzz targets without libFuzzer: each takes every file of its corpus, and then a few thousand
// inputs made from them with a fixed seed. What a target objects to ends the program, as it does
// under libFuzzer; the last words then name the input, and a file holds its bytes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>

#include "tests/fuzz/input.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#include <sanitizer/common_interface_defs.h>
#define XENLANE_SANITIZED 1
#endif

namespace xenlane::fuzz {

void fuzz_ring_consume(Bytes input);
void fuzz_frame(Bytes input);
void fuzz_mux(Bytes input);
void fuzz_handshake(Bytes input);
void fuzz_xenstore_values(Bytes input);
void fuzz_xenstore_wire(Bytes input);
void fuzz_config(Bytes input);
void fuzz_names(Bytes input);
void fuzz_control(Bytes input);
void fuzz_console_scanner(Bytes input);
void fuzz_console_packer(Bytes input);
void fuzz_xl_channels(Bytes input);
void fuzz_libvirt_channels(Bytes input);
void fuzz_names_registry(Bytes input);
void fuzz_forward(Bytes input);
void fuzz_socks(Bytes input);
void fuzz_files(Bytes input);

namespace {

namespace fs = std::filesystem;

struct Target {
  const char* name;
  void (*run)(Bytes input);
  std::size_t mutations = 3000;
};

void PrintTo(const Target& target, std::ostream* out) {
  *out << target.name;
}

constexpr std::array targets{Target{"ring_consume", fuzz_ring_consume},
                             Target{"frame", fuzz_frame},
                             Target{"mux", fuzz_mux},
                             Target{"handshake", fuzz_handshake},
                             Target{"xenstore_values", fuzz_xenstore_values},
                             Target{"xenstore_wire", fuzz_xenstore_wire, 800},
                             Target{"config", fuzz_config},
                             Target{"names", fuzz_names},
                             Target{"control", fuzz_control},
                             Target{"console_scanner", fuzz_console_scanner},
                             Target{"console_packer", fuzz_console_packer},
                             Target{"xl_channels", fuzz_xl_channels},
                             Target{"libvirt_channels", fuzz_libvirt_channels},
                             Target{"names_registry", fuzz_names_registry},
                             Target{"forward", fuzz_forward},
                             Target{"socks", fuzz_socks},
                             Target{"files", fuzz_files, 2000}};

constexpr std::size_t input_bytes_max = 4096;

/// What is being tried, for the last words. Only calls that a signal's handler may make read it.
struct Trial {
  std::array<char, 512> what{};
  Bytes input;
};
Trial trial;

void say(const char* text) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
}

void tell_last_words() {
  const int file = ::open("fuzz-replay-input", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  [[maybe_unused]] const auto saved = ::write(file, trial.input.data(), trial.input.size());
  say("fuzz_replay_test: the input is ");
  say(trial.what.data());
  say("; its bytes are in ./fuzz-replay-input\n");
}

void handle_signal(int signal) {
  tell_last_words();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void prepare_last_words() {
  std::signal(SIGABRT, handle_signal);
#ifdef XENLANE_SANITIZED
  __sanitizer_set_death_callback(tell_last_words);
#else
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, handle_signal);
#endif
}

using Corpus = std::map<std::string, std::vector<std::byte>>;

Corpus read_corpus(const std::string& target) {
  Corpus corpus;
  const fs::path folder = fs::path(FUZZ_CORPUS) / target;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const Bytes bytes = bytes_of(text);
    corpus["corpus/" + target + '/' + entry.path().filename().string()] = {bytes.begin(),
                                                                           bytes.end()};
  }
  return corpus;
}

void try_input(const Target& target, const std::string& what, const std::vector<std::byte>& input) {
  const std::size_t size = std::min(what.size(), trial.what.size() - 1);
  std::copy_n(what.begin(), size, trial.what.begin());
  trial.what[size] = '\0';
  trial.input = input;
  target.run(input);
}

class Mutator {
 public:
  explicit Mutator(const Corpus& corpus) {
    for (const auto& [name, bytes] : corpus) inputs_.push_back(bytes);
  }

  std::vector<std::byte> next() {
    std::vector<std::byte> input = inputs_[random_() % inputs_.size()];
    for (auto changes = 1 + random_() % 4; changes > 0; --changes) change(input);
    if (input.size() > input_bytes_max) input.resize(input_bytes_max);
    return input;
  }

 private:
  std::byte any_byte() {
    static constexpr std::array<unsigned char, 6> telling{0, 1, 0x7f, 0x80, 0xff, '\n'};
    return static_cast<std::byte>(random_() % 2 == 0 ? random_() & 0xff
                                                     : telling[random_() % telling.size()]);
  }

  void change(std::vector<std::byte>& input) {
    const auto place = static_cast<std::ptrdiff_t>(random_() % (input.size() + 1));
    const auto at = input.begin() + place;
    switch (random_() % 5) {
      case 0:
        input.insert(at, any_byte());
        return;
      case 1:
        if (at != input.end()) *at = any_byte();
        return;
      case 2:
        if (at != input.end()) *at ^= static_cast<std::byte>(1U << random_() % 8);
        return;
      case 3: {
        const auto left = static_cast<std::size_t>(input.end() - at);
        input.erase(at,
                    at + static_cast<std::ptrdiff_t>(std::min<std::size_t>(left, random_() % 8)));
        return;
      }
      default: {  // the tail of another
        const auto& other = inputs_[random_() % inputs_.size()];
        input.erase(at, input.end());
        input.insert(input.end(),
                     other.begin() + static_cast<std::ptrdiff_t>(random_() % (other.size() + 1)),
                     other.end());
      }
    }
  }

  std::mt19937 random_{1};
  std::vector<std::vector<std::byte>> inputs_;
};

class FuzzReplay : public testing::TestWithParam<Target> {};

TEST_P(FuzzReplay, TakesItsCorpusAndWhatIsLikeIt) {
  prepare_last_words();
  const Target& target = GetParam();
  const Corpus corpus = read_corpus(target.name);
  ASSERT_GE(corpus.size(), 3U) << target.name << " has no corpus";
  for (const auto& [name, input] : corpus) try_input(target, name, input);
  Mutator mutator(corpus);
  for (std::size_t i = 0; i < target.mutations; ++i) {
    try_input(target, std::string(target.name) + ", mutation " + std::to_string(i), mutator.next());
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzReplay, testing::ValuesIn(targets),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(FuzzCorpus, HasAFolderForEachTargetAndNoOther) {
  std::vector<std::string> folders;
  for (const auto& entry : fs::directory_iterator(FUZZ_CORPUS)) {
    folders.push_back(entry.path().filename().string());
  }
  std::vector<std::string> names;
  for (const Target& target : targets) names.emplace_back(target.name);
  std::sort(folders.begin(), folders.end());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(folders, names);
}

}  // namespace
}  // namespace xenlane::fuzz
