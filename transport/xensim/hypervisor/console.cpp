#include "transport/xensim/hypervisor/console.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <stdexcept>

namespace xensim::hv {
namespace {

constexpr std::size_t loss_run_bytes_max = 64;
/// Between two lines of the kernel's log pass 1 to this many bytes of the guest's.
constexpr std::size_t noise_gap_bytes_max = 512;
constexpr std::uint64_t noise_gap_us_max = 5'000'000;

constexpr std::string_view noise_lines[] = {
    "xen:balloon: Cannot add additional memory (-17)",
    "random: crng reseeded on system resumption",
    "systemd[1]: Started Daily apt download activities.",
    "hrtimer: interrupt took 3251847 ns",
    "EXT4-fs (xvda1): re-mounted. Quota mode: none.",
};

std::size_t up_to(std::size_t last, std::mt19937_64& random) {
  return static_cast<std::size_t>(random() % (std::uint64_t{last} + 1));
}

/// As a tty with ICRNL, ECHO, ECHOCTL, OPOST and ONLCR does.
std::string echo_of(std::string_view bytes) {
  std::string echo;
  for (const char byte : bytes) {
    const auto code = static_cast<unsigned char>(byte);
    if (byte == '\r' || byte == '\n') {
      echo += "\r\n";
    } else if (byte != '\t' && (code < 0x20 || code == 0x7f)) {
      echo += '^';
      echo += static_cast<char>(code ^ 0x40);
    } else {
      echo += byte;
    }
  }
  return echo;
}

std::size_t to_number(std::string_view key, const std::string& text, std::size_t first,
                      std::size_t last) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < first || value > last) {
    throw std::invalid_argument(
        fmt::format("{} '{}': use a number from {} to {}", key, text, first, last));
  }
  return value;
}

bool to_switch(std::string_view key, const std::string& text) {
  if (text == "on") return true;
  if (text == "off") return false;
  throw std::invalid_argument(fmt::format("{} '{}': use on or off", key, text));
}

}  // namespace

void check_channel_name(const std::string& name) {
  constexpr std::string_view alphanumeric =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  const bool is_good = !name.empty() && name.size() <= channel_name_bytes_max &&
                       alphanumeric.find(name[0]) != std::string_view::npos &&
                       std::all_of(name.begin(), name.end(), [&](char byte) {
                         return std::string_view("._-").find(byte) != std::string_view::npos ||
                                alphanumeric.find(byte) != std::string_view::npos;
                       });
  if (is_good) return;
  throw std::invalid_argument(
      fmt::format("channel name '{}': use 1 to {} of A-Z a-z 0-9 . _ -, a letter or digit first",
                  name, channel_name_bytes_max));
}

bool is_console_setting(std::string_view key) {
  return key == "console" || key.starts_with("console-");
}

void apply_console_setting(ConsoleFaults& faults, std::string_view key, const std::string& value) {
  if (key == "console") {
    faults.is_on = to_switch(key, value);
  } else if (key == "console-loss") {
    faults.loss_permille = static_cast<unsigned>(to_number(key, value, 0, 1000));
  } else if (key == "console-echo") {
    faults.echoes = to_switch(key, value);
  } else if (key == "console-noise") {
    faults.has_noise = to_switch(key, value);
  } else if (key == "console-limit") {
    faults.limit = to_number(key, value, 1, console_limit_bytes);
  } else {
    throw std::invalid_argument(
        fmt::format("no setting {}: there are console, console-loss, console-echo, console-noise "
                    "and console-limit",
                    key));
  }
}

void ConsoleRing::put(std::string_view bytes) {
  const std::size_t end = (begin_ + held_) % bytes_.size();
  const std::size_t before_wrap = std::min(bytes.size(), bytes_.size() - end);
  bytes.copy(bytes_.data() + end, before_wrap);
  bytes.substr(before_wrap).copy(bytes_.data(), bytes.size() - before_wrap);
  held_ += bytes.size();
}

std::string_view ConsoleRing::front() const {
  return std::string_view(bytes_).substr(begin_, held_);
}

void ConsoleRing::drop(std::size_t bytes) {
  begin_ = (begin_ + bytes) % bytes_.size();
  held_ -= bytes;
}

std::size_t ConsoleBacklog::append(std::string_view bytes, std::size_t limit) {
  bytes_ += bytes;
  if (bytes_.size() <= limit) return 0;
  const std::size_t waited = bytes_.size() - taken_;
  const std::size_t kept_new = std::min(bytes_.size() - limit, limit);
  bytes_.replace(limit - kept_new, bytes_.size() - limit, "");
  taken_ = std::min(taken_, limit - kept_new);
  return waited - (bytes_.size() - taken_);
}

void ConsoleBacklog::drop(std::size_t bytes) {
  taken_ += bytes;
  if (taken_ != bytes_.size()) return;
  taken_ = 0;
  bytes_.clear();
}

std::string ByteLoss::pass(std::string_view bytes, unsigned permille, std::mt19937_64& random) {
  if (permille == 0) return std::string(bytes);
  std::string left;
  while (!bytes.empty()) {
    if (until_change_ == 0) {
      is_losing_ = !is_losing_;
      // Runs of 32.5 on average, so that gaps of this average make up the share.
      const std::size_t gap_bytes_max = (loss_run_bytes_max + 1) * (1000 - permille);
      until_change_ = is_losing_ ? 1 + up_to(loss_run_bytes_max - 1, random)
                                 : up_to(gap_bytes_max + permille - 1, random) / permille;
      continue;
    }
    const std::size_t step = std::min(until_change_, bytes.size());
    if (!is_losing_) left += bytes.substr(0, step);
    until_change_ -= step;
    bytes.remove_prefix(step);
  }
  return left;
}

void Console::handle_guest_output(std::string_view bytes) {
  out_.put(bytes);
  handle_event();
}

void Console::handle_input_taken(std::size_t bytes) {
  in_.drop(bytes);
  counts_.to_guest += bytes;
  handle_event();
}

void Console::handle_event() {
  if (!faults_.is_on) return;
  while (!out_.is_empty()) {
    const std::string_view bytes = out_.front();
    append(faults_.has_noise ? with_noise(bytes) : std::string(bytes));
    out_.drop(bytes.size());
  }
  is_due_ = has_client_;
}

void Console::append(std::string_view bytes) {
  const std::string left = loss_to_host_.pass(bytes, faults_.loss_permille, random_);
  counts_.dropped += bytes.size() - left.size() + backlog_.append(left, faults_.limit);
}

std::string Console::with_noise(std::string_view bytes) {
  std::string noisy;
  while (!bytes.empty()) {
    if (until_noise_ == 0) {
      until_noise_ = 1 + up_to(noise_gap_bytes_max - 1, random_);
      kernel_us_ += up_to(noise_gap_us_max, random_);
      noisy += fmt::format("[{:5}.{:06}] {}\r\n", kernel_us_ / 1'000'000, kernel_us_ % 1'000'000,
                           noise_lines[up_to(std::size(noise_lines) - 1, random_)]);
    }
    const std::size_t step = std::min(until_noise_, bytes.size());
    noisy += bytes.substr(0, step);
    until_noise_ -= step;
    bytes.remove_prefix(step);
  }
  return noisy;
}

void Console::handle_client(bool is_there) {
  has_client_ = is_there;
  is_due_ = false;
}

std::size_t Console::client_room() const {
  return faults_.is_on && has_client_ ? in_.room() : 0;
}

void Console::handle_client_bytes(std::string_view bytes) {
  const std::string left = loss_to_guest_.pass(bytes, faults_.loss_permille, random_);
  counts_.dropped += bytes.size() - left.size();
  in_.put(left);
  if (!faults_.echoes) return;
  append(echo_of(left));
  is_due_ = has_client_;
}

std::string_view Console::poll_output() const {
  return is_due_ ? backlog_.front() : std::string_view();
}

void Console::handle_output_taken(std::size_t bytes) {
  backlog_.drop(bytes);
  counts_.to_host += bytes;
  is_due_ = false;
}

void Console::set_faults(const ConsoleFaults& faults) {
  const bool was_on = faults_.is_on;
  if (faults.loss_permille != faults_.loss_permille) {
    loss_to_guest_.start_afresh();
    loss_to_host_.start_afresh();
  }
  faults_ = faults;
  if (was_on && !faults.is_on) {
    counts_.dropped += backlog_.front().size();
    backlog_ = ConsoleBacklog{};
    handle_client(false);
  }
  counts_.dropped += backlog_.append("", faults.limit);
  if (!was_on && faults.is_on) handle_event();
}

}  // namespace xensim::hv
