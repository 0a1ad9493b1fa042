#include "bridge/forward/desk.hpp"

#include <sys/random.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "bridge/forward/far_control.hpp"
#include "bridge/wire/hello.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using std::chrono::steady_clock;
using transport::UniqueFd;

asio::awaitable<bool> ForwardGate::enter(steady_clock::duration longest) {
  const auto state = state_;
  if (state->places > 0 && state->row.empty()) {
    --state->places;
    co_return true;
  }
  const auto turn = std::make_shared<transport::Signal>(executor_);
  const auto place = state->row.insert(state->row.end(), turn);
  const bool raised = co_await turn->wait_for(longest);
  // leave() has taken it out of the row, and its place goes with it.
  if (!raised) state->row.erase(place);
  co_return raised;
}

void ForwardGate::leave() {
  if (state_->row.empty()) {
    ++state_->places;
    return;
  }
  const auto next = state_->row.front();
  state_->row.pop_front();
  next->raise();
}

ForwardDesk::ForwardDesk(const asio::any_io_executor& executor, std::function<void(StreamId)> reset)
    : executor_(executor),
      reset_stream_(std::move(reset)),
      expiry_(executor),
      names_(executor, forward_name_dials_max),
      addresses_(executor, forward_dials_max) {}

ForwardDesk::~ForwardDesk() {
  *alive_ = false;
  const std::vector<std::shared_ptr<FarControl>> controls(controls_.begin(), controls_.end());
  for (const auto& control : controls) control->close();
}

std::string ForwardDesk::new_token() const {
  RandomId id{};
  if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    throw std::system_error(errno, std::generic_category(), "getrandom");
  }
  return to_hex(id);
}

std::string ForwardDesk::enlist(StreamId id) {
  std::string token = new_token();
  tokens_[id] = token;
  streams_[token] = id;
  return token;
}

void ForwardDesk::handle_end(StreamId id, bool reset) {
  const auto found = tokens_.find(id);
  if (found == tokens_.end()) return;
  const std::string token = std::move(found->second);
  tokens_.erase(found);
  streams_.erase(token);
  if (!reset) return;
  if (reset_order_.size() == forward_resets_max) {
    resets_.erase(reset_order_.front());
    reset_order_.pop_front();
  }
  resets_.insert(token);
  reset_order_.push_back(token);
}

void ForwardDesk::handle_session_ended() {
  tokens_.clear();
  streams_.clear();
  resets_.clear();
  reset_order_.clear();
}

void ForwardDesk::reset(const std::string& token) {
  if (const auto found = streams_.find(token); found != streams_.end()) {
    reset_stream_(found->second);
  }
}

boost::system::result<UniqueFd, ForwardError> ForwardDesk::take(const std::string& token) {
  const auto found = pending_.find(token);
  if (found == pending_.end()) return ForwardError{ENOENT, "there is no such connection any more"};
  UniqueFd socket = std::move(found->second.socket);
  const auto control = found->second.control.lock();
  due_.erase(found->second.due);
  pending_.erase(found);
  if (control) control->handle_taken();
  return socket;
}

std::string ForwardDesk::hold(UniqueFd socket, const std::shared_ptr<FarControl>& control) {
  std::string token = new_token();
  const auto due = due_.emplace(due_.end(), steady_clock::now() + forward_take_wait, token);
  pending_.emplace(token, Pending{std::move(socket), control, due});
  if (!expiry_runs_) expire();
  return token;
}

void ForwardDesk::drop_pending_of(const FarControl* control) {
  std::erase_if(pending_, [&](const auto& one) {
    const auto of = one.second.control.lock();
    if (of != nullptr && of.get() != control) return false;
    due_.erase(one.second.due);
    return true;
  });
}

void ForwardDesk::expire() {
  expiry_runs_ = false;
  const auto now = steady_clock::now();
  while (!due_.empty() && due_.front().first <= now) {
    const std::string token = due_.front().second;
    (void)take(token);  // closes it
  }
  if (due_.empty()) return;
  expiry_runs_ = true;
  expiry_.expires_at(due_.front().first);
  expiry_.async_wait([this, alive = alive_](const auto& error) {
    if (!error && *alive) expire();
  });
}

boost::system::result<UniqueFd, ForwardError> ForwardDesk::start_control(ForwardTerms terms) {
  if (controls_.size() >= forward_controls_max) {
    return ForwardError{EAGAIN, "as many forwards run as there may be"};
  }
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return ForwardError{errno, std::generic_category().message(errno)};
  }
  UniqueFd ours(ends[0]);
  const auto control =
      std::make_shared<FarControl>(executor_, UniqueFd(ends[1]), *this, std::move(terms));
  controls_.insert(control);
  control->start();
  return ours;
}

ForwardGate& ForwardDesk::gate_for(const ForwardAddress& address) {
  const bool is_looked_up =
      !address.is_unix() && address.host_kind() == HostKind::name && address.host() != "localhost";
  return is_looked_up ? names_ : addresses_;
}

}  // namespace xenlane::bridge
