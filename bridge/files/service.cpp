#include "bridge/files/service.hpp"

#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "bridge/files/destination.hpp"
#include "bridge/files/sender.hpp"

namespace xenlane::bridge::files {

namespace {

/// Whoever asked is told over the connection; here there is nobody to tell.
class NoReport : public Report {
 public:
  void trouble(Trouble, int, const std::string&, const std::string&) override {}
  void copying(const std::string&) override {}
  void progress(const Counts&) override {}
};

/// Ends a request that cannot be granted.
struct Refused {
  Refuse refuse;
};

[[noreturn]] void refuse(int error, const std::string& text) {
  // It may quote a path that is as long as a text may be.
  throw Refused{{error, text.substr(0, path_bytes_max)}};
}

[[noreturn]] void refuse_path(int error, const std::string& path) {
  refuse(error, path + ": " + std::generic_category().message(error));
}

ServicePath path_of(const std::string& untrusted_path) {
  auto path = parse_service_path(untrusted_path);
  if (!path) refuse(EINVAL, untrusted_path + ": " + path.error().text);
  return std::move(*path);
}

class Connection {
 public:
  Connection(int socket, ServiceRules rules)
      : in_(socket), out_(socket), rules_(std::move(rules)) {}

  bool serve() {
    try {
      greet();
      const auto request = read<Request>(MessageType::request);
      if (request.owner && !rules_.allow_owner) {
        refuse(EPERM, "the service does not set or tell owners; start it with --allow-owner");
      }
      request.pull ? send(request) : receive(request);
      out_.flush();
      return true;
    } catch (const Refused& refused) {
      out_.say(refused.refuse);
      out_.flush();
      return false;
    }
  }

 private:
  template <typename T>
  T read(MessageType type) {
    Header header;
    if (!in_.next(header)) throw WireBroken("the connection ended at its beginning");
    if (header.type != type) throw WireBroken("the other side says something else first");
    return in_.read<T>();
  }

  void greet() {
    const auto theirs = read<Hello>(MessageType::hello);
    out_.say(Hello{});
    if (theirs.version_min <= protocol_version && protocol_version <= theirs.version_max) {
      return out_.flush();
    }
    refuse(EPROTO,
           "no common version of the file protocol; install the same xenlane on both sides");
  }

  void send(const Request& request) {
    if (!rules_.send) refuse(EACCES, "this service sends no files; start it with --send");
    std::vector<Source> sources;
    for (const std::string& untrusted_path : request.paths) {
      auto source = open_source_beneath(rules_.send.get(), path_of(untrusted_path));
      if (!source) refuse_path(source.error().value(), untrusted_path);
      sources.push_back(std::move(*source));
    }
    SendRules rules = send_rules(request);
    rules.tell_troubles = true;
    rules.bytes_per_second_max = request.bytes_per_second_max;
    for (const std::string& pattern : request.excludes) rules.excludes.emplace_back(pattern);
    out_.say(Ready{std::ranges::any_of(sources, is_folder)});
    NoReport report;
    Sender(in_, out_, std::move(sources), std::move(rules), report).run();
  }

  void receive(const Request& request) {
    if (!rules_.receive) refuse(EACCES, "this service takes no files; start it with --receive");
    if (!rules_.incoming_of.empty()) {
      auto folder = open_incoming(rules_.receive.get(), rules_.incoming_of);
      if (!folder) refuse_path(folder.error().value(), "incoming/" + rules_.incoming_of);
      rules_.receive = std::move(*folder);
    }
    if (rules_.has_quota && !rules_.incoming_of.empty()) charge_what_is_there();
    const std::string& untrusted_path = request.paths.front();
    const ServicePath path = path_of(untrusted_path);
    // Several transfers may not reach deeper than one.
    if (path.components.size() > rules_.quota.depth) refuse_path(EDQUOT, untrusted_path);
    rules_.quota.depth -= path.components.size();
    auto destination =
        open_destination_beneath(rules_.receive.get(), path, request.into_folder, request.dry_run);
    if (!destination) refuse_path(destination.error().value(), untrusted_path);
    ReceiveRules rules = receive_rules(request);
    rules.names = rules_.names;
    rules.quota = rules_.quota;
    rules.only_name = destination->only_name;
    out_.say(Ready{});
    out_.flush();
    NoReport report;
    Receiver(in_, out_, Tree(std::move(destination->folder)), std::move(rules), report).run();
  }

  /// One transfer after another, or two at once would each have all that is left.
  void charge_what_is_there() {
    if (::flock(rules_.receive.get(), LOCK_EX) != 0) refuse(errno, "the quota cannot be kept");
    const auto usage = usage_of(rules_.receive.get());
    if (!usage) {
      refuse(usage.error().value(),
             "what is there cannot be counted (" + usage.error().message() +
                 "); let the service's user into every folder, or take the deepest away");
    }
    Quota& quota = rules_.quota;
    quota.bytes -= std::min(quota.bytes, usage->bytes);
    quota.entries -= std::min(quota.entries, usage->entries);
  }

  WireReader in_;
  WireWriter out_;
  ServiceRules rules_;
};

}  // namespace

bool serve_files(int socket, ServiceRules rules) {
  try {
    return Connection(socket, std::move(rules)).serve();
  } catch (const WireBroken&) {
    return false;
  }
}

std::variant<Ready, Refuse> open_service(WireReader& in, WireWriter& out, const Request& request) {
  out.say(Hello{});
  out.say(request);
  out.flush();
  const auto next = [&in] {
    Header header;
    if (in.next(header)) return header.type;
    throw WireBroken("the connection ended before the service was ready");
  };
  if (next() != MessageType::hello) throw WireBroken("the other side says something else first");
  const auto theirs = in.read<Hello>();
  if (theirs.version_min > protocol_version || theirs.version_max < protocol_version) {
    return Refuse{EPROTO,
                  "no common version of the file protocol; install the same xenlane on both sides"};
  }
  switch (next()) {
    case MessageType::refuse:
      return in.read<Refuse>();
    case MessageType::ready:
      return in.read<Ready>();
    default:
      throw WireBroken("the other side says something else first");
  }
}

}  // namespace xenlane::bridge::files
