#include "transport/xensim/store/outbox.hpp"

#include <utility>

namespace xensim {

void Outbox::push_reply(const Message& reply, std::shared_ptr<RequestTicket> ticket) {
  entries_.push_back({encode(reply), false, std::move(ticket)});
  ++reply_count_;
}

Outbox::Pushed Outbox::push_event(const Message& event, std::shared_ptr<RequestTicket> ticket) {
  auto bytes = encode(event);
  if (waiting_events_.contains(bytes)) return Pushed::merged;
  if (event_bytes_ + bytes.size() > event_bytes_max) return Pushed::full;
  if (!event.payload.starts_with('@')) waiting_events_.insert(bytes);
  event_bytes_ += bytes.size();
  entries_.push_back({std::move(bytes), true, std::move(ticket)});
  return Pushed::queued;
}

std::string_view Outbox::front() const {
  if (entries_.empty()) return {};
  return std::string_view(entries_.front().bytes).substr(front_sent_bytes_);
}

void Outbox::consume(std::size_t byte_count) {
  front_sent_bytes_ += byte_count;
  const auto& entry = entries_.front();
  if (front_sent_bytes_ < entry.bytes.size()) return;
  if (entry.is_event) {
    waiting_events_.erase(entry.bytes);
    event_bytes_ -= entry.bytes.size();
  } else {
    --reply_count_;
  }
  front_sent_bytes_ = 0;
  entries_.pop_front();
}

}  // namespace xensim
