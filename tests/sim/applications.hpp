// The simulated applications at both ends, on real Unix sockets, and the model of what they may
// see. Everything an application sends is its own number and then a pattern that follows from that
// number and the position, so a byte that is lost, doubled, altered or another's is seen when it is
// read (I1, I3); and whoever reads an end of file knows how much there should have been (I2).
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "bridge/wire/frame.hpp"
#include "tests/sim/environment.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::sim {

using Side = bridge::Role;

/// What one application does with its connection.
struct Script {
  std::uint64_t to_send = 0;  ///< bytes, the eight of its number included
  bool holds = false;         ///< keeps its sending side open until told to finish
  bool reads = true;          ///< false: not before it is told to finish
  std::size_t read_bytes_max = 65536;
  std::size_t write_bytes_max = 16384;
  std::uint64_t closes_after = ~std::uint64_t{0};  ///< bytes received, then closes altogether
};

struct Application {
  std::uint64_t id = 0;
  std::size_t guest = 0;
  Side side = Side::host;
  std::string channel;
  Script script;
  transport::UniqueFd socket;
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  std::uint64_t partner = 0;  ///< whose bytes it reads; 0 until their number has come whole
  std::uint64_t partner_number = 0;
  bool sending_over = false;  ///< half-closed, closed, or its writes failed
  bool reading_over = false;
  bool clean = true;        ///< nothing but what a direct socket would have shown
  bool excused = false;     ///< the bridge it was connected to has died
  bool unanswered = false;  ///< for as long as a bridge waits for that
  std::uint64_t began_ns = 0;
  bool left = false;                ///< without waiting for its partner
  std::uint64_t breaks_before = 0;  ///< what could break its stream and had happened when it began
  bool over() const { return !socket; }
};

class Applications {
 public:
  explicit Applications(std::string folder) : folder_(std::move(folder)) {}
  /// The services for that guest, and on it, do as they should.
  void spare(std::size_t guest) { spared_.insert(guest); }
  /// What its applications send at most: where a window is a few bytes, much takes too long.
  void limit(std::size_t guest, std::uint64_t bytes_max) { bytes_max_[guest] = bytes_max; }
  /// How an application of that guest behaves: drawn from the environment.
  Script draw_script(std::size_t guest);
  bool spared(std::size_t guest) const { return spared_.contains(guest); }

  /// Where a service listens that the bridge of this side dials.
  std::string service_path(std::size_t guest, Side side) const;
  void serve(std::size_t guest, Side side, int backlog = 64);
  void stop_serving(std::size_t guest, Side side);
  bool serves(std::size_t guest, Side side) const { return services_.contains({guest, side}); }
  /// A service that is busy elsewhere: it accepts nothing until then.
  void busy_until(std::uint64_t time_ns) { busy_until_ns_ = time_ns; }

  /// Connects to a bridge's socket. Zero when nobody listens there, else the application's number.
  std::uint64_t open(std::size_t guest, Side side, const std::string& channel,
                     const std::string& path, const Script& script);
  /// Closes the connection at once, whatever is under way.
  void vanish(std::uint64_t id);

  /// Gives some of the applications a turn. True when any byte moved or a connection came or went.
  bool step();
  /// From now on everybody reads, and finishes when all is sent.
  void finish_all();
  /// Closes those that have not met a partner: nobody may ever come.
  void drop_unpaired();
  /// The bridge of that side has died: what ends now ends for a documented reason.
  void excuse(std::size_t guest, Side side);
  /// A session of that guest's has ended, and with it all its streams.
  void note_break(std::size_t guest) { ++breaks_[guest]; }

  const Application& at(std::uint64_t id) const { return all_.at(id); }
  std::size_t active() const { return active_.size(); }
  /// One that is active, or zero.
  std::uint64_t random_active() const;
  /// Ends of file on that side which no clean ending accounts for.
  std::uint64_t early_ends(std::size_t guest, Side side) { return early_ends_[{guest, side}]; }
  /// Connections that ended before their number was sent: their partner cannot know them.
  std::uint64_t nameless(std::size_t guest) { return nameless_[guest]; }
  std::uint64_t bytes_received() const { return bytes_received_; }
  std::uint64_t opened() const { return all_.size(); }
  /// Those that did not both read and were read in full.
  std::uint64_t incomplete() const;
  std::string describe_active() const;

 private:
  Application& add(std::size_t guest, Side side, const std::string& channel, const Script& script,
                   transport::UniqueFd socket);
  bool accept_some();
  bool turn(Application& application);
  bool write_some(Application& application);
  bool read_some(Application& application);
  void check_bytes(Application& reader, const std::byte* bytes, std::size_t count);
  void meet(Application& reader);
  void handle_end_of_file(Application& reader);
  static void note_unanswered(Application& application);
  void check_break(const Application& reader) const;
  std::uint64_t breaks(std::size_t guest) const;
  void handle_error(Application& application);
  void close(Application& application);
  void close_if_over(Application& application);

  std::string folder_;
  std::map<std::pair<std::size_t, Side>, transport::UniqueFd> services_;
  std::map<std::uint64_t, Application> all_;
  std::vector<std::uint64_t> active_;
  std::map<std::pair<std::size_t, Side>, std::uint64_t> early_ends_;
  std::map<std::size_t, std::uint64_t> nameless_;
  std::map<std::size_t, std::uint64_t> breaks_;
  std::set<std::size_t> spared_;
  std::map<std::size_t, std::uint64_t> bytes_max_;
  std::map<std::uint64_t, std::uint64_t> reader_of_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(65536);
  std::uint64_t busy_until_ns_ = 0;
  std::uint64_t bytes_received_ = 0;
  std::size_t next_turn_ = 0;
  bool finishing_ = false;
};

}  // namespace xenlane::sim
