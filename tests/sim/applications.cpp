#include "tests/sim/applications.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "bridge/channel/channel_table.hpp"

namespace xenlane::sim {

using transport::UniqueFd;

namespace {

constexpr std::uint64_t number_bytes = 8;
constexpr std::size_t turns_per_step = 4;

std::byte pattern_byte(std::uint64_t id, std::uint64_t position) {
  if (position < number_bytes) return static_cast<std::byte>(id >> (8 * position));
  const std::uint64_t mixed = (position * 0x9E3779B97F4A7C15U) ^ (id << 17);
  return static_cast<std::byte>((mixed >> 16) ^ mixed ^ (mixed >> 41));
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw Failure("path too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

UniqueFd new_socket() {
  UniqueFd made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made) throw Failure("socket: " + std::string(std::strerror(errno)));
  return made;
}

std::string_view name_of(Side side) {
  return side == Side::host ? "host" : "guest";
}

}  // namespace

Script Applications::draw_script(std::size_t guest) {
  Environment& env = *environment();
  Script script;
  script.to_send = number_bytes;
  if (!env.one_in(5)) script.to_send += env.below(env.one_in(6) ? 200'000 : 4'000);
  if (bytes_max_.contains(guest)) script.to_send = std::min(script.to_send, bytes_max_[guest]);
  script.holds = env.one_in(6);
  script.write_bytes_max = env.one_in(4) ? env.between(1, 200) : 16384;
  if (spared(guest)) return script;
  if (env.strikes(Fault::slow_reader)) script.read_bytes_max = env.between(1, 400);
  if (env.strikes(Fault::stopped_reader)) script.reads = false;
  if (env.strikes(Fault::early_close)) script.closes_after = env.below(20'000);
  if (env.strikes(Fault::connect_and_leave)) script.closes_after = 0;
  return script;
}

std::string Applications::service_path(std::size_t guest, Side side) const {
  return fmt::format("{}/svc-{}-{}", folder_, name_of(side), guest);
}

void Applications::serve(std::size_t guest, Side side, int backlog) {
  const std::string path = service_path(guest, side);
  ::unlink(path.c_str());
  UniqueFd listener = new_socket();
  const sockaddr_un address = address_of(path);
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), backlog) != 0) {
    throw Failure(path + ": " + std::strerror(errno));
  }
  services_[{guest, side}] = std::move(listener);
}

void Applications::stop_serving(std::size_t guest, Side side) {
  // Connections that wait in the backlog are gone with it: no clean ending, and nobody's error.
  if (services_.erase({guest, side}) > 0) ::unlink(service_path(guest, side).c_str());
}

Application& Applications::add(std::size_t guest, Side side, const std::string& channel,
                               const Script& script, UniqueFd socket) {
  const std::uint64_t id = all_.size() + 1;
  Application& added = all_[id];
  added.id = id;
  added.guest = guest;
  added.side = side;
  added.channel = channel;
  added.script = script;
  added.socket = std::move(socket);
  added.began_ns = environment()->now_ns();
  added.breaks_before = breaks(guest);
  active_.push_back(id);
  if (finishing_) added.script.holds = false, added.script.reads = true;
  return added;
}

std::uint64_t Applications::open(std::size_t guest, Side side, const std::string& channel,
                                 const std::string& path, const Script& script) {
  UniqueFd socket = new_socket();
  const sockaddr_un address = address_of(path);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return 0;
  }
  Application& opened = add(guest, side, channel, script, std::move(socket));
  environment()->note("open", opened.id, guest);
  write_some(opened);
  return opened.id;
}

void Applications::vanish(std::uint64_t id) {
  Application& application = all_.at(id);
  environment()->note("vanish", id);
  application.left = true;
  close(application);
}

bool Applications::step() {
  bool moved = accept_some();
  const std::size_t turns = std::min(turns_per_step, active_.size());
  for (std::size_t i = 0; i < turns && !active_.empty(); ++i) {
    next_turn_ = (next_turn_ + 1) % active_.size();
    moved |= turn(all_.at(active_[next_turn_]));
  }
  std::erase_if(active_, [this](std::uint64_t id) { return all_.at(id).over(); });
  return moved;
}

bool Applications::accept_some() {
  if (environment()->now_ns() < busy_until_ns_ || !environment()->one_in(3)) return false;
  bool accepted = false;
  for (auto& [key, listener] : services_) {
    UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) continue;
    const auto& [guest, side] = key;
    Application& added =
        add(guest, side, side == Side::host ? "org.sim.to-host" : "org.sim.to-guest",
            draw_script(guest), std::move(socket));
    environment()->note("accepted", added.id, guest);
    accepted = true;
  }
  return accepted;
}

bool Applications::turn(Application& application) {
  if (application.over()) return false;
  bool moved = write_some(application);
  if (!application.over()) moved |= read_some(application);
  if (!application.over() && application.received >= application.script.closes_after &&
      !finishing_) {
    environment()->note("closes early", application.id, application.received);
    application.left = true;
    close(application);
    moved = true;
  }
  return moved;
}

bool Applications::write_some(Application& application) {
  if (application.sending_over) return false;
  const std::uint64_t left = application.script.to_send - application.sent;
  if (left == 0) {
    if (application.script.holds) return false;
    ::shutdown(application.socket.get(), SHUT_WR);
    application.sending_over = true;
    environment()->note("half-closes", application.id, application.sent);
    close_if_over(application);
    return true;
  }
  const auto count =
      static_cast<std::size_t>(std::min<std::uint64_t>(left, application.script.write_bytes_max));
  for (std::size_t i = 0; i < count; ++i) {
    buffer_[i] = pattern_byte(application.id, application.sent + i);
  }
  const ssize_t written =
      ::send(application.socket.get(), buffer_.data(), count, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (written > 0) {
    application.sent += static_cast<std::uint64_t>(written);
    environment()->mix(application.sent);
    return true;
  }
  if (errno == EAGAIN) return false;
  environment()->note("cannot write", application.id, application.sent);
  application.sending_over = true;
  close_if_over(application);
  return true;
}

bool Applications::read_some(Application& application) {
  if (application.reading_over || !application.script.reads) return false;
  const ssize_t got = ::recv(application.socket.get(), buffer_.data(),
                             application.script.read_bytes_max, MSG_DONTWAIT);
  if (got > 0) {
    check_bytes(application, buffer_.data(), static_cast<std::size_t>(got));
    return true;
  }
  if (got < 0 && errno == EAGAIN) return false;
  application.reading_over = true;
  if (got == 0) {
    handle_end_of_file(application);
  } else {
    handle_error(application);
  }
  close_if_over(application);
  return true;
}

void Applications::check_bytes(Application& reader, const std::byte* bytes, std::size_t count) {
  bytes_received_ += count;
  for (std::size_t i = 0; i < count; ++i) {
    if (reader.received < number_bytes) {
      reader.partner_number |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * reader.received);
      if (++reader.received == number_bytes) meet(reader);
      continue;
    }
    if (bytes[i] != pattern_byte(reader.partner, reader.received)) {
      throw Failure(fmt::format("I1: application {} read a wrong byte of {} at {}", reader.id,
                                reader.partner, reader.received));
    }
    ++reader.received;
  }
  environment()->mix(reader.received);
  if (reader.partner != 0 && reader.received > all_.at(reader.partner).sent) {
    throw Failure(fmt::format("I1: application {} read {} bytes of {}, who sent {}", reader.id,
                              reader.received, reader.partner, all_.at(reader.partner).sent));
  }
}

// The number that comes first says whose bytes these are. They must be those of one application on
// the other side of the same guest and channel, and nobody else may be reading them.
void Applications::meet(Application& reader) {
  const auto found = all_.find(reader.partner_number);
  if (found == all_.end()) {
    throw Failure(fmt::format("I1: application {} read a number that nobody sent: {}", reader.id,
                              reader.partner_number));
  }
  const Application& sender = found->second;
  const bool fits = sender.guest == reader.guest && sender.side != reader.side &&
                    sender.channel == reader.channel;
  const bool first = reader_of_.emplace(sender.id, reader.id).second;
  const auto back = reader_of_.find(reader.id);
  const bool mutual = back == reader_of_.end() || back->second == sender.id;
  if (!fits || !first || !mutual) {
    throw Failure(
        fmt::format("I3: application {} ({} {} of guest {}) reads bytes of {} ({} {} of "
                    "guest {})",
                    reader.id, reader.channel, name_of(reader.side), reader.guest, sender.id,
                    sender.channel, name_of(sender.side), sender.guest));
  }
  reader.partner = sender.id;
}

void Applications::handle_end_of_file(Application& reader) {
  bool clean = false;
  if (reader.partner != 0) {
    const Application& sender = all_.at(reader.partner);
    clean = sender.sending_over && reader.received == sender.sent;
  }
  environment()->note(clean ? "end of file" : "end of file, not clean", reader.id, reader.received);
  if (clean) return;
  reader.clean = false;
  note_unanswered(reader);
  check_break(reader);
  if (!reader.excused) ++early_ends_[{reader.guest, reader.side}];
}

void Applications::handle_error(Application& application) {
  environment()->note("read error", application.id, static_cast<std::uint64_t>(errno));
  application.clean = false;
  note_unanswered(application);
  check_break(application);
}

void Applications::note_unanswered(Application& application) {
  const std::chrono::nanoseconds age(environment()->now_ns() - application.began_ns);
  application.unanswered = application.received == 0 && age >= bridge::answer_wait_max;
}

// Sessions that have ended, and writes to a socket that the kernel had no memory for.
std::uint64_t Applications::breaks(std::size_t guest) const {
  const auto found = breaks_.find(guest);
  const auto no_buffers = static_cast<std::size_t>(Fault::write_no_buffers);
  return environment()->hits()[no_buffers] + (found == breaks_.end() ? 0 : found->second);
}

// A stream lasts for as long as its session and its two applications, whatever becomes of lanes.
void Applications::check_break(const Application& reader) const {
  const std::uint64_t now = breaks(reader.guest);
  if (reader.partner == 0 || reader.left || reader.breaks_before != now) return;
  const Application& partner = all_.at(reader.partner);
  if (partner.left || partner.unanswered || partner.breaks_before != now) return;
  throw Failure(
      fmt::format("I2: the stream of applications {} and {} broke though its session "
                  "went on: {} of {} bytes read",
                  reader.id, partner.id, reader.received, partner.sent));
}

std::uint64_t Applications::incomplete() const {
  std::uint64_t count = 0;
  for (const auto& [id, application] : all_) {
    const auto partner = all_.find(application.partner);
    const bool complete =
        application.clean && partner != all_.end() && application.received == partner->second.sent;
    if (!complete) ++count;
  }
  return count;
}

void Applications::close(Application& application) {
  application.sending_over = application.reading_over = true;
  if (application.sent < number_bytes) ++nameless_[application.guest];
  application.socket.reset();
}

void Applications::close_if_over(Application& application) {
  if (application.sending_over && application.reading_over) close(application);
}

void Applications::finish_all() {
  finishing_ = true;
  for (const std::uint64_t id : active_) {
    Application& application = all_.at(id);
    Script& script = application.script;
    script.holds = false;
    script.reads = true;
    script.read_bytes_max = 65536;
    script.write_bytes_max = 16384;
    script.to_send = std::min(script.to_send, std::max(number_bytes, application.sent + 5'000));
  }
}

void Applications::drop_unpaired() {
  for (const std::uint64_t id : active_) {
    Application& application = all_.at(id);
    if (application.over() || application.partner != 0 || reader_of_.contains(id)) continue;
    application.left = true;
    ++nameless_[application.guest];  // who meets it later reads its number and then its end
    close(application);
  }
}

void Applications::excuse(std::size_t guest, Side side) {
  for (const std::uint64_t id : active_) {
    Application& application = all_.at(id);
    if (application.guest == guest && application.side == side) application.excused = true;
  }
}

std::uint64_t Applications::random_active() const {
  return active_.empty() ? 0 : active_[environment()->below(active_.size())];
}

std::string Applications::describe_active() const {
  std::string text;
  for (const std::uint64_t id : active_) {
    const Application& one = all_.at(id);
    text += fmt::format(
        "\n  application {} of guest {}, {} {}: sent {} of {}{}, received {}{}, "
        "partner {}{}",
        one.id, one.guest, name_of(one.side), one.channel, one.sent, one.script.to_send,
        one.sending_over ? " (over)" : "", one.received, one.reading_over ? " (over)" : "",
        one.partner, one.excused ? ", its bridge died" : "");
  }
  return text;
}

}  // namespace xenlane::sim
