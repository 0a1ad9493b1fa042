// Messages on their way to one connection.
//
// The one idea: a request stays outstanding until its reply, and every watch event that it caused
// for anybody, has left (XSA-326). Each of these messages holds a share in the request's ticket.
//
// Bounded: replies by the reader, which stops reading a connection that has too many; events by
// event_bytes_max here.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>

#include "transport/xensim/store/wire.hpp"

namespace xensim {

/// Counts a request as outstanding for as long as it lives.
class RequestTicket {
 public:
  explicit RequestTicket(std::shared_ptr<std::size_t> outstanding)
      : outstanding_(std::move(outstanding)) {
    ++*outstanding_;
  }
  ~RequestTicket() { --*outstanding_; }
  RequestTicket(const RequestTicket&) = delete;
  RequestTicket& operator=(const RequestTicket&) = delete;

 private:
  std::shared_ptr<std::size_t> outstanding_;
};

class Outbox {
 public:
  /// Most bytes of events that wait for one connection: C xenstored's hard memory quota of a
  /// domain.
  static constexpr std::size_t event_bytes_max = 2560 * 1024;

  enum class Pushed {
    queued,
    merged,  ///< the same event waits already; events named "@..." are never merged
    full,    ///< no room: not queued
  };

  void push_reply(const Message& reply, std::shared_ptr<RequestTicket> ticket);
  Pushed push_event(const Message& event, std::shared_ptr<RequestTicket> ticket);

  bool is_empty() const { return entries_.empty(); }
  std::size_t reply_count() const { return reply_count_; }
  std::size_t event_bytes() const { return event_bytes_; }

  /// What is to be sent next, not empty unless the outbox is.
  std::string_view front() const;
  /// The first `byte_count` bytes of front() have been sent.
  void consume(std::size_t byte_count);

 private:
  struct Entry {
    std::string bytes;
    bool is_event = false;
    std::shared_ptr<RequestTicket> ticket;
  };

  std::deque<Entry> entries_;
  std::size_t front_sent_bytes_ = 0;
  std::unordered_set<std::string> waiting_events_;  ///< encoded
  std::size_t reply_count_ = 0;
  std::size_t event_bytes_ = 0;
};

}  // namespace xensim
