// The channels of one peer while the daemon runs: what the files say, what was added and removed by
// hand since, and the sockets of both. Whoever serves them is told of every change, and of nothing
// that stays as it is.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bridge/daemon/config.hpp"
#include "bridge/daemon/listeners.hpp"

namespace xenlane::bridge {

/// Who serves channels: the guest's channel table, or on the host the worker by way of its broker.
class ChannelServer {
 public:
  ChannelServer() = default;
  ChannelServer(const ChannelServer&) = delete;
  ChannelServer& operator=(const ChannelServer&) = delete;

  /// The channel is new or has changed. `listener` is its new socket; empty: it has none, or keeps
  /// the one it has. `path` is empty when it has none.
  virtual void set_channel(const ChannelConfig& channel, const std::string& path,
                           transport::UniqueFd listener) = 0;
  virtual void remove_channel(const ChannelName& name) = 0;

 protected:
  ~ChannelServer() = default;
};

/// The one that has the streams.
class ServedChannels final : public ChannelServer {
 public:
  explicit ServedChannels(ChannelTable& table) : table_(table) {}
  void set_channel(const ChannelConfig& channel, const std::string& path,
                   transport::UniqueFd listener) override {
    table_.set(channel, path, std::move(listener));
  }
  void remove_channel(const ChannelName& name) override { table_.remove(name); }

 private:
  ChannelTable& table_;
};

/// What a reload did, by names.
struct ChannelChanges {
  std::vector<std::string> added;
  std::vector<std::string> changed;
  std::vector<std::string> removed;
  std::vector<std::string> failed;  ///< "NAME: why": they are disabled

  bool empty() const { return added.empty() && changed.empty() && removed.empty(); }
};

class LiveChannels {
 public:
  /// Both must outlive this.
  LiveChannels(ListenerFiles& files, ChannelServer& server) : files_(files), server_(server) {}

  /// The channels are those of the files, and what was added by hand. What was removed by hand is
  /// back if a file has it.
  ChannelChanges apply(const std::vector<const ChannelConfig*>& configured);
  /// Adds one by hand. What is wrong, or empty: its name is taken, there are too many, or it cannot
  /// have its socket.
  std::string add(ChannelConfig channel);
  /// Removes one, by hand or a file's, until the next apply(). False when there is none.
  bool remove(const ChannelName& name);

 private:
  struct Entry {
    ChannelConfig wanted;  ///< as it was asked for
    bool by_hand = false;
    bool has_socket = false;
  };

  std::string serve(ChannelConfig channel, bool by_hand);

  ListenerFiles& files_;
  ChannelServer& server_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace xenlane::bridge
