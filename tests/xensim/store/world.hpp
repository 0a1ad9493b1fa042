// A Store with a host and guests to talk to it, for the tests of the part without sockets.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "transport/xensim/store/store.hpp"

extern "C" {
#include <xen/io/xs_wire.h>
}

namespace xensim::test {

/// The name of an error, or "" and the payload.
struct Reply {
  std::string error;
  std::string payload;

  friend bool operator==(const Reply&, const Reply&) = default;
};

inline Reply success(std::string payload) {
  return {"", std::move(payload)};
}
inline Reply ok() {
  return success(std::string("OK", 3));
}
inline Reply failure(std::string error) {
  return {std::move(error), ""};
}

inline void PrintTo(const Reply& reply, std::ostream* out) {
  *out << "{error \"" << reply.error << "\", payload \"" << reply.payload << "\"}";
}

/// Strings as a payload has them, each with its NUL.
inline std::string strings(std::initializer_list<std::string_view> parts) {
  std::string payload;
  for (const auto part : parts) payload.append(part).append(1, '\0');
  return payload;
}

/// Domain 0 and guests 5 and 6, introduced.
class World : public testing::Test {
 protected:
  explicit World(Quotas quotas = {}) : store(quotas) {
    store.introduce({5, "five", "uuid-5", 65536});
    store.introduce({6, "six", "uuid-6", 65536});
    host = store.connect(0);
    five = store.connect(5);
    six = store.connect(6);
  }

  /// Hands out events, keeps `closed`, returns the reply.
  Reply take(const Outcome& outcome) {
    Reply reply;
    for (const auto& [to, message, is_event] : outcome.messages) {
      if (is_event) {
        const auto parts = split_strings(message.payload);
        events[to].push_back(std::string(parts.at(0)) + " " + std::string(parts.at(1)));
      } else if (message.type == XS_ERROR) {
        reply = failure(message.payload.substr(0, message.payload.size() - 1));
      } else {
        reply = success(message.payload);
      }
    }
    closed.insert(closed.end(), outcome.closed.begin(), outcome.closed.end());
    return reply;
  }

  Reply ask(ConnectionId who, std::uint32_t type, std::string payload, std::uint32_t tx = 0) {
    return take(store.handle(who, {type, 1, tx, std::move(payload)}));
  }
  Reply read(ConnectionId who, std::string_view path, std::uint32_t tx = 0) {
    return ask(who, XS_READ, strings({path}), tx);
  }
  Reply write(ConnectionId who, std::string_view path, std::string_view value,
              std::uint32_t tx = 0) {
    return ask(who, XS_WRITE, strings({path}) + std::string(value), tx);
  }
  Reply mkdir(ConnectionId who, std::string_view path, std::uint32_t tx = 0) {
    return ask(who, XS_MKDIR, strings({path}), tx);
  }
  Reply rm(ConnectionId who, std::string_view path, std::uint32_t tx = 0) {
    return ask(who, XS_RM, strings({path}), tx);
  }
  Reply list(ConnectionId who, std::string_view path, std::uint32_t tx = 0) {
    return ask(who, XS_DIRECTORY, strings({path}), tx);
  }
  Reply get_perms(ConnectionId who, std::string_view path) {
    return ask(who, XS_GET_PERMS, strings({path}));
  }
  Reply set_perms(ConnectionId who, std::string_view path,
                  std::initializer_list<std::string_view> permissions, std::uint32_t tx = 0) {
    return ask(who, XS_SET_PERMS, strings({path}) + strings(permissions), tx);
  }
  Reply watch(ConnectionId who, std::string_view path, std::string_view token) {
    return ask(who, XS_WATCH, strings({path, token}));
  }
  std::uint32_t begin(ConnectionId who) {
    const auto reply = ask(who, XS_TRANSACTION_START, strings({""}));
    EXPECT_EQ(reply.error, "");
    return static_cast<std::uint32_t>(std::stoul(reply.payload));
  }
  Reply commit(ConnectionId who, std::uint32_t tx) {
    return ask(who, XS_TRANSACTION_END, strings({"T"}), tx);
  }
  Reply abort(ConnectionId who, std::uint32_t tx) {
    return ask(who, XS_TRANSACTION_END, strings({"F"}), tx);
  }

  /// What came for `who` since the last call.
  std::vector<std::string> new_events(ConnectionId who) { return std::exchange(events[who], {}); }

  Store store;
  ConnectionId host = 0;
  ConnectionId five = 0;
  ConnectionId six = 0;
  std::map<ConnectionId, std::vector<std::string>> events;
  std::vector<ConnectionId> closed;
};

using testing::ElementsAre;
using testing::IsEmpty;

}  // namespace xensim::test
