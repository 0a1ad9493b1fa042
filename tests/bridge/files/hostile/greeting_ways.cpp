// Misbehaviour before anything is copied: greetings, requests and refusals.
#include "bridge/cli/exit_codes.hpp"
#include "bridge/wire/bytes.hpp"
#include "tests/bridge/files/hostile/ways.hpp"

namespace xenlane::bridge::files::hostile {

namespace {

Request request_for(std::string path, bool pull) {
  Request request;
  request.pull = pull;
  request.paths = {std::move(path)};
  return request;
}

GreetingWay asks(std::string_view way, std::string_view what, const Request& request,
                 std::string_view reason) {
  return {way, what, exit_broken, reason, [request](Talk& talk) {
            talk.say(Hello{});
            talk.say(request);
            talk.await_end();
          }};
}

GreetingWay pulls(std::string_view way, std::string_view what, std::string path,
                  std::string_view reason) {
  return asks(way, what, request_for(std::move(path), true), reason);
}

GreetingWay pushes(std::string_view way, std::string_view what, std::string path,
                   std::string_view reason) {
  return asks(way, what, request_for(std::move(path), false), reason);
}

/// A request whose flags, digest or number of paths cannot be.
GreetingWay asks_raw(std::string_view way, std::string_view what, std::size_t at,
                     std::uint8_t value) {
  return {way, what, exit_broken, {}, [at, value](Talk& talk) {
            talk.say(Hello{});
            Bytes bytes;
            encode(bytes, request_for("file", true));
            bytes[header_bytes + at] = static_cast<std::byte>(value);
            talk.send(bytes);
            talk.await_end();
          }};
}

GreetingWay says(std::string_view way, std::string_view what, int exit_code,
                 std::string_view reason, Bytes bytes) {
  return {way, what, exit_code, reason, [bytes](Talk& talk) {
            talk.send(bytes);
            talk.await_end();
          }};
}

template <typename... T>
Bytes all_of(const T&... messages) {
  Bytes bytes;
  (encode(bytes, messages), ...);
  return bytes;
}

Bytes text(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

Bytes many_hellos() {
  Bytes bytes;
  for (int i = 0; i < 10'000; ++i) encode(bytes, Hello{});
  return bytes;
}

Bytes zeros(MessageType type, std::size_t size) {
  Bytes bytes;
  encode_header(bytes, type, size);
  bytes.resize(bytes.size() + size);
  return bytes;
}

Bytes reversed_versions() {
  Bytes bytes = all_of(Hello{});
  bytes[header_bytes + 8] = std::byte{2};  // the lowest is 2, the highest 1
  return bytes;
}

}  // namespace

std::vector<GreetingWay> client_greeting_ways() {
  const Request pull = request_for("file", true);
  std::string longest(path_bytes_max, 'p');
  std::string deepest;
  while (deepest.size() + 2 <= path_bytes_max) deepest += "d/";
  Request owner = request_for("in", false);
  owner.owner = true;
  constexpr std::string_view no_up = "a path here has no '..'";
  constexpr std::string_view no_link = "door";
  return {
      says("garbage-hello", "bytes of another protocol", exit_broken, {},
           text("GET / HTTP/1.0\r\n")),
      says("request-first", "a request before the greeting", exit_broken, {}, all_of(pull)),
      says("hello-without-magic", "a greeting of another protocol", exit_broken, {},
           zeros(MessageType::hello, 12)),
      says("hello-of-3", "a greeting of 3 bytes", exit_broken, {}, zeros(MessageType::hello, 3)),
      says("hello-reversed", "a lowest version above the highest", exit_broken, {},
           reversed_versions()),
      says("hello-of-later", "versions that are not here", exit_broken,
           "no common version of the file protocol", all_of(Hello{7, 9})),
      says("hello-twice-to-service", "a second greeting", exit_broken, {},
           all_of(Hello{}, Hello{})),
      says("entry-first", "an entry before any request", exit_broken, {},
           all_of(Hello{}, file_entry("file", 3))),
      asks_raw("request-of-unknown-flags", "options that do not exist", 3, 0xff),
      asks_raw("request-of-digest-3", "a digest that does not exist", 4, 3),
      asks_raw("request-of-digest-0", "no digest", 4, 0),
      asks_raw("request-of-no-path", "no path", 13, 0),
      asks_raw("request-of-65281-paths", "more paths than there are", 14, 0xff),
      says("request-of-65537", "a request of 65537 bytes", exit_broken, {},
           [] {
             Bytes bytes = all_of(Hello{});
             const Bytes more = zeros(MessageType::request, body_bytes_max + 1);
             bytes.insert(bytes.end(), more.begin(), more.end());
             return bytes;
           }()),
      pulls("pull-up", "a file above the folder", "../outside/secret", no_up),
      pulls("pull-up-late", "the same behind a folder", "folder/../../outside/secret", no_up),
      pulls("pull-through-link", "a file behind a link", "door/secret", no_link),
      pulls("pull-through-link-folder", "what is behind a link", "door/", no_link),
      pulls("pull-absolute", "an absolute path, which begins at the folder", "/etc/passwd",
            "No such file"),
      pulls("pull-with-nul", "a path that C ends early", std::string("small\0x", 7), "NUL"),
      pulls("pull-of-4095", "a path of one name of 4095 bytes", longest, "ppp"),
      pulls("pull-of-2047-folders", "a path of 2047 folders", deepest, "d/d/d"),
      pushes("push-up", "a folder above one's own", "../other/", no_up),
      pushes("push-through-link", "a folder that is a link", "door/file", no_link),
      pushes("push-into-link", "into a folder that is a link", "door/", no_link),
      pushes("push-below-file", "a file's name as a folder's", "old/file", "old"),
      pushes("push-partial", "what is kept for files that are not whole", "x.xenlane-part",
             "the name is for files that are not whole"),
      asks("push-owner", "files of other owners", owner, "does not set or tell owners"),
  };
}

std::vector<GreetingWay> service_greeting_ways() {
  const std::string nasty = "\x1b[2J\xe2\x80\xae\nerror: root: all is well";
  Bytes ready_7 = all_of(Hello{}, Ready{});
  ready_7.back() = std::byte{7};
  return {
      says("garbage-ready", "bytes of another protocol", exit_broken, "a message of no known type",
           text("HTTP/1.0 200 OK\r\n\r\n")),
      says("hello-without-magic-to-client", "a greeting of another protocol", exit_broken,
           "no file service talks there", zeros(MessageType::hello, 12)),
      says("hello-of-later-to-client", "versions that are not here", exit_refused,
           "no common version", all_of(Hello{7, 9})),
      says("ready-first", "ready before the greeting", exit_broken, "says something else first",
           all_of(Ready{})),
      says("hellos-without-end", "10,000 greetings", exit_broken, "says something else first",
           many_hellos()),
      says("ready-of-7", "a flag that does not exist", exit_broken, "a flag that is none", ready_7),
      says("entry-for-ready", "an entry before it is ready", exit_broken,
           "says something else first", all_of(Hello{}, file_entry("file", 3))),
      says("refusal-with-escapes", "a refusal that talks to the terminal", exit_refused,
           R"(refuses: \x1b[2J\xe2\x80\xae\x0aerror: root: all is well)",
           all_of(Hello{}, Refuse{1, nasty})),
      says("refusal-of-4095", "a refusal as long as can be", exit_refused, "refuses: xxx",
           all_of(Hello{}, Refuse{1, std::string(path_bytes_max, 'x')})),
      says("refusal-of-error-max", "a refusal for an error that does not exist", exit_broken,
           "an error that is none",
           [] {
             Bytes bytes = all_of(Hello{}, Refuse{1, ""});
             bytes[bytes.size() - 3] = std::byte{0xff};
             return bytes;
           }()),
      {"goes-before-ready", "the connection ends before it is ready", exit_broken,
       "ended before the service was ready",
       [](Talk& talk) {
         talk.say(Hello{});
         talk.finish_writing();
         talk.await_end();
       }},
  };
}

}  // namespace xenlane::bridge::files::hostile
