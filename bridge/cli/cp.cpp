// xenlane cp: copies files and folders between this domain and one on the other side, over the file
// service's channel. Which side receives is where the destination is; the same halves run here and
// in the service (bridge/files).
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <optional>
#include <set>
#include <system_error>

#include "bridge/channel/name.hpp"
#include "bridge/channel/text.hpp"
#include "bridge/cli/channel_door.hpp"
#include "bridge/cli/cp_display.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/files/destination.hpp"
#include "bridge/files/sender.hpp"
#include "bridge/files/service.hpp"

namespace xenlane::bridge::cli {
namespace {

/// Who listens, and in which domain the files are that it serves.
constexpr const char* files_in_guest = "org.xenlane.files-in-guest.0";
constexpr const char* files_on_host = "org.xenlane.files-on-host.0";
/// How a guest writes the other side.
constexpr const char* host_name = "host";

struct CopyOptions {
  std::vector<std::string> paths;
  std::vector<std::string> excludes;
  std::string channel;
  std::string digest = "xxh3";
  std::uint64_t bytes_per_second_max = 0;
  bool archive = false;
  bool checksum = false;
  bool verify = false;
  bool dry_run = false;
  bool xattrs = false;
  bool owner = false;
  bool any_names = false;
  bool verbose = false;
  bool as_json = false;
};

/// A path as it was written: "GUEST:path" is the other side's.
struct Operand {
  std::string guest;  ///< empty: local
  std::string path;
};

/// One transfer, as the operands mean it.
struct Copy {
  bool pull = false;
  std::string guest;
  std::vector<std::string> sources;
  std::string destination;
};

// For the signal handler: the connection, and whether it was asked to end.
volatile std::sig_atomic_t copy_socket = -1;
volatile std::sig_atomic_t copy_signal = 0;

void interrupt(int signal) {
  copy_signal = signal;
  if (copy_socket >= 0) ::shutdown(static_cast<int>(copy_socket), SHUT_RDWR);
}

/// As scp and rsync read it: a colon before any slash parts the other side's name from its path.
Operand parse_operand(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos || colon == 0 || text.find('/') < colon) return {"", text};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

/// Whether the service can be asked for all of it at once.
bool fits_request(const std::vector<std::string>& sources,
                  const std::vector<std::string>& excludes) {
  constexpr std::size_t others = 64;  // bytes of a request besides its texts, and more
  std::size_t bytes = others;
  for (const auto* texts : {&sources, &excludes}) {
    if (texts->size() > files::request_texts_max) return false;
    for (const std::string& text : *texts) {
      if (text.size() > files::path_bytes_max) return false;
      bytes += text.size() + 2;
    }
  }
  return bytes <= files::body_bytes_max;
}

Answer<Copy> parse_operands(const CopyOptions& options) {
  const auto wrong = [](const std::string& text) {
    return Answer<Copy>{{}, Failure{exit_usage, text + "; see 'xenlane cp --help'"}};
  };
  if (options.paths.size() < 2) return wrong("a source and a destination are needed");
  Copy copy;
  const Operand destination = parse_operand(options.paths.back());
  copy.destination = destination.path;
  std::set<std::string> guests;
  for (std::size_t i = 0; i + 1 < options.paths.size(); ++i) {
    const Operand source = parse_operand(options.paths[i]);
    guests.insert(source.guest);
    copy.sources.push_back(source.path);
  }
  if (guests.size() > 1) return wrong("all sources have to be on the same side");
  copy.pull = !guests.begin()->empty();
  copy.guest = copy.pull ? *guests.begin() : destination.guest;
  if (copy.pull && !destination.guest.empty()) {
    return wrong("one side has to be here; copy from one guest to another in two steps");
  }
  if (copy.guest.empty()) {
    return wrong(
        "one side has to be another domain's: GUEST:path on the host, host:path in a guest");
  }
  const auto dashes = std::ranges::count(copy.sources, "-");
  if (!copy.pull && dashes > 0 && copy.sources.size() > 1) {
    return wrong("standard input cannot be copied together with others");
  }
  if (!copy.pull && dashes > 0 && (copy.destination.empty() || copy.destination.back() == '/')) {
    return wrong("what comes from standard input needs a name at its destination");
  }
  if (copy.pull && copy.destination == "-" && copy.sources.size() > 1) {
    return wrong("only one file can go to standard output");
  }
  if (copy.pull && copy.destination.empty()) return wrong("the destination is empty");
  if (copy.destination.size() > files::path_bytes_max) return wrong("too long a destination");
  if (copy.pull && !fits_request(copy.sources, options.excludes)) {
    return wrong("too many or too long sources and patterns; name the folder that they are in");
  }
  return {std::move(copy), {}};
}

/// The channel of the file service on the other side.
Answer<Wanted> pick_channel(const Context& context, const CopyOptions& options, const Copy& copy) {
  const Answer<Here> here = ask_here(context);
  const bool is_host = here.failure ? copy.guest != host_name : here.value.is_host;
  Wanted wanted;
  wanted.guest = is_host ? copy.guest : "";
  wanted.name = is_host ? files_in_guest : files_on_host;
  if (!options.channel.empty()) wanted.name = options.channel;
  wanted.shown = escape_untrusted(is_host ? copy.guest + "/" + wanted.name : wanted.name);
  if (!is_host && copy.guest != host_name) {
    return {{},
            Failure{exit_unknown, fmt::format("{}: unknown; in a guest the other side is '{}:'",
                                              escape_untrusted(copy.guest), host_name)}};
  }
  if (!ChannelName::parse(wanted.name)) {
    return {{}, failure_about(wanted, exit_usage, "invalid channel name; see 'xenlane ls'")};
  }
  if (is_host && (wanted.guest == "." || wanted.guest == "..")) {
    return {{}, failure_about(wanted, exit_usage, "invalid guest name; see 'xenlane ls'")};
  }
  return {std::move(wanted), {}};
}

ExitCode code_of_errno(int error) {
  if (error == EACCES || error == EPERM) return exit_not_permitted;
  return error == ENOENT || error == ENOTDIR ? exit_source : exit_destination;
}

files::Request request_for(const CopyOptions& options, const Copy& copy) {
  files::Request request;
  request.pull = copy.pull;
  request.checksum = options.checksum;
  request.dry_run = options.dry_run;
  request.verify = options.verify;
  request.xattrs = options.xattrs;
  request.owner = options.owner;
  request.digest = options.digest == "sha256" ? files::DigestKind::sha256 : files::DigestKind::xxh3;
  request.into_folder = copy.sources.size() > 1 || copy.destination.ends_with('/');
  if (copy.pull) {
    request.paths = copy.sources;
    request.excludes = options.excludes;
    request.bytes_per_second_max = options.bytes_per_second_max;
  } else {
    request.paths = {copy.destination};
  }
  return request;
}

/// The sources that are there; the others are said not to be, and the rest is copied all the same.
std::vector<files::Source> open_sources(const Copy& copy, CopyDisplay& display) {
  std::vector<files::Source> sources;
  for (const std::string& path : copy.sources) {
    auto source = files::open_source(path);
    if (source) {
      sources.push_back(std::move(*source));
    } else {
      display.trouble(files::Trouble::source, source.error().value(), path, {});
    }
  }
  return sources;
}

class Run {
 public:
  Run(const CopyOptions& options, const Copy& copy, CopyDisplay& display, int socket)
      : options_(options),
        copy_(copy),
        display_(display),
        request_(request_for(options, copy)),
        in_(socket),
        out_(socket) {}

  /// A failure that ends everything; else the display knows how it went.
  std::optional<Failure> run() {
    std::vector<files::Source> sources;
    if (!copy_.pull) {
      sources = open_sources(copy_, display_);
      if (sources.empty()) return std::nullopt;
      request_.into_folder |= std::ranges::any_of(sources, files::is_folder);
    }
    const auto answer = files::open_service(in_, out_, request_);
    if (const auto* refuse = std::get_if<files::Refuse>(&answer)) return refused(*refuse);
    if (copy_.pull) {
      return receive(request_.into_folder || std::get<files::Ready>(answer).has_folder);
    }
    send(std::move(sources));
    return std::nullopt;
  }

 private:
  Failure refused(const files::Refuse& untrusted_refuse) const {
    return {exit_refused,
            fmt::format("{}: the file service refuses: {}", escape_untrusted(copy_.guest),
                        escape_untrusted(untrusted_refuse.text, 512))};
  }

  void send(std::vector<files::Source> sources) {
    files::SendRules rules = files::send_rules(request_);
    rules.bytes_per_second_max = options_.bytes_per_second_max;
    for (const std::string& pattern : options_.excludes) rules.excludes.emplace_back(pattern);
    files::Sender(in_, out_, std::move(sources), std::move(rules), display_).run();
  }

  std::optional<Failure> receive(bool into_folder) {
    files::ReceiveRules rules = files::receive_rules(request_);
    files::Destination destination;
    rules.to_stdout = copy_.destination == "-";
    if (!rules.to_stdout) {
      auto opened = files::open_destination(copy_.destination, into_folder, options_.dry_run);
      if (!opened) {
        return Failure{code_of_errno(opened.error().value()),
                       fmt::format("{}: {}; make the folder first",
                                   escape_untrusted(copy_.destination), opened.error().message())};
      }
      destination = std::move(*opened);
    }
    rules.names = options_.any_names ? files::NameRule::any : files::NameRule::printable;
    rules.only_name = destination.only_name;
    rules.top_names = names_of_sources();
    files::Receiver(in_, out_, files::Tree(std::move(destination.folder)), std::move(rules),
                    display_)
        .run();
    return std::nullopt;
  }

  /// What the service may call things at the top: it does not choose (CVE-2019-6111).
  std::optional<std::set<std::string>> names_of_sources() const {
    std::set<std::string> names;
    for (const std::string& source : copy_.sources) {
      const auto path = files::parse_service_path(source);
      if (!path || path->is_folder) return std::nullopt;
      names.insert(path->components.back());
    }
    return names;
  }

  const CopyOptions& options_;
  const Copy& copy_;
  CopyDisplay& display_;
  files::Request request_;
  files::WireReader in_;
  files::WireWriter out_;
};

int run_copy(const Context& context, const CopyOptions& options) {
  const Answer<Copy> copy = parse_operands(options);
  if (copy.failure) return fail(copy.failure->code, copy.failure->message);
  if (options.owner && copy.value.pull && ::geteuid() != 0) {
    return fail(exit_not_permitted, "--owner: only root can set owners; run this as root");
  }
  const Answer<Wanted> wanted = pick_channel(context, options, copy.value);
  if (wanted.failure) return fail(wanted.failure->code, wanted.failure->message);
  const Answer<Known> known = look_up(context, wanted.value);
  if (known.failure) return fail(known.failure->code, known.failure->message);
  const auto socket = open_channel(known.value, wanted.value);
  if (socket.failure) return fail(socket.failure->code, socket.failure->message);

  copy_socket = socket.value.get();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, interrupt);
  CopyDisplayOptions shown{options.as_json, options.verbose, options.dry_run, false};
  shown.progress = !options.as_json && ::isatty(STDERR_FILENO) == 1;
  CopyDisplay display(shown);
  std::optional<Failure> failure;
  try {
    failure = Run(options, copy.value, display, socket.value.get()).run();
  } catch (const files::WireBroken& broken) {
    failure = Failure{exit_broken, escape_untrusted(broken.what(), 256) +
                                       "; run the same again, and it goes on where it was"};
    if (const auto ending = bad_ending(known.value, wanted.value)) failure = ending;
  }
  display.clear_line();
  if (copy_signal != 0) {
    fail(exit_broken, "interrupted; run the same again, and it goes on where it was");
    return 128 + static_cast<int>(copy_signal);
  }
  if (failure) {
    display.finish();
    return fail(failure->code, failure->message);
  }
  return display.finish();
}

}  // namespace

void add_cp(CLI::App& app, Action& action) {
  auto options = std::make_shared<CopyOptions>();
  CLI::App* verb = app.add_subcommand("cp", "Copy files to or from the other side");
  verb->add_option("PATH", options->paths,
                   "Sources, then the destination; one side as GUEST:path (in a guest host:path), "
                   "'-' for standard input or output")
      ->required();
  verb->add_flag("-a,--archive,-r", options->archive,
                 "Folders with all that is in them, modes and times: always so");
  verb->add_flag("-c,--checksum", options->checksum,
                 "Compare by content what is there already, not by size and time");
  verb->add_flag("-n,--dry-run", options->dry_run, "Only say what would be copied");
  verb->add_option("--exclude", options->excludes,
                   "Leave out what matches; with '/' the whole path counts, else the name")
      ->allow_extra_args(false);
  verb->add_option("--bwlimit", options->bytes_per_second_max,
                   "Bytes a second at most, as 500K or 10M")
      ->transform(CLI::AsSizeValue(false));
  verb->add_flag("--verify", options->verify, "Read back from the disk what was written");
  verb->add_option("--digest", options->digest, "What contents are compared by: xxh3 or sha256")
      ->check(CLI::IsMember({"xxh3", "sha256"}));
  verb->add_flag("-X,--xattrs", options->xattrs, "Extended attributes of users too");
  verb->add_flag("-o,--owner", options->owner, "Owner and group too, by number; for root");
  verb->add_flag("--any-names", options->any_names,
                 "Take names that are not UTF-8 or have control characters");
  verb->add_option("--channel", options->channel, "The file service's channel");
  verb->add_flag("-v,--verbose", options->verbose, "Name what is copied");
  verb->add_flag("--json", options->as_json, "Progress and the end as JSON, a line each");
  verb->footer(
      "What was interrupted goes on where it was when the same is run again; what is there and\n"
      "unchanged is not copied. 'DIR' copies the folder, 'DIR/' what is in it.\n"
      "Examples:\n"
      "  xenlane cp disk.img web:images/             on the host, to guest web\n"
      "  xenlane cp -v web:/logs/ ./logs             from it\n"
      "  xenlane cp report.pdf host:                 in a guest\n"
      "  tar c src | xenlane cp - web:src.tar        from standard input\n"
      "Exit codes besides the usual ones: 10 a source could not be read, 11 it changed meanwhile,\n"
      "12 it could not be written, 13 no room, 14 refused by the receiver, 15 another digest;\n"
      "the highest of several.");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_copy(context, *options); };
  });
}

}  // namespace xenlane::bridge::cli
