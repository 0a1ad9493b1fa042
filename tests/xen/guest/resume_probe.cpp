// Shows what a guest's user space is left with when its domain is saved and restored: a page of
// domain 0 that it has mapped, and an event channel that it has bound. One line per change of what
// it sees; once the page is no longer what it was, it closes the event channel.
//
//   resume_probe GRANT PORT
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

extern "C" {
#include <xenevtchn.h>
#include <xengnttab.h>
}

namespace {

sigjmp_buf before_access;  // NOLINT: a signal handler has no other way to reach it

void leave_access(int number) {
  siglongjmp(before_access, number);
}

/// What reading the mapped word gives: its value, or the signal that ended it.
std::string read_word(const volatile std::uint64_t* page) {
  if (const int number = sigsetjmp(before_access, 1); number != 0) {
    return std::string("signal ") + strsignal(number);
  }
  char text[32];
  std::snprintf(text, sizeof text, "%#llx", static_cast<unsigned long long>(*page));
  return text;
}

std::string poll_events(xenevtchn_handle* events) {
  pollfd entry{.fd = xenevtchn_fd(events), .events = POLLIN, .revents = 0};
  if (poll(&entry, 1, 0) == 0) return "none";
  if ((entry.revents & POLLIN) != 0) {
    const auto port = xenevtchn_pending(events);
    if (port >= 0) xenevtchn_unmask(events, static_cast<evtchn_port_t>(port));
  }
  return "events " + std::to_string(entry.revents);
}

int fail(const char* what) {
  std::fprintf(stderr, "resume_probe: %s: %s\n", what, strerror(errno));
  return 1;
}

void say(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: resume_probe GRANT PORT\n", stderr);
    return 2;
  }
  auto* const grants = xengnttab_open(nullptr, 0);
  if (grants == nullptr) return fail("xengnttab_open");
  const auto grant = static_cast<std::uint32_t>(std::strtoul(argv[1], nullptr, 10));
  const auto* const page = static_cast<const volatile std::uint64_t*>(
      xengnttab_map_grant_ref(grants, 0, grant, PROT_READ | PROT_WRITE));
  if (page == nullptr) return fail("xengnttab_map_grant_ref");
  auto* const events = xenevtchn_open(nullptr, 0);
  if (events == nullptr) return fail("xenevtchn_open");
  const auto remote = static_cast<evtchn_port_t>(std::strtoul(argv[2], nullptr, 10));
  const auto port = xenevtchn_bind_interdomain(events, 0, remote);
  if (port < 0) return fail("xenevtchn_bind_interdomain");
  struct sigaction action {};
  action.sa_handler = leave_access;
  sigaction(SIGBUS, &action, nullptr);
  sigaction(SIGSEGV, &action, nullptr);

  const std::string first_word = read_word(page);
  std::string word = first_word;
  std::string before;
  while (word == first_word) {
    usleep(100'000);
    word = read_word(page);
    const std::string polled = poll_events(events);
    const int notified = xenevtchn_notify(events, static_cast<evtchn_port_t>(port));
    const std::string now = "word " + word + ", poll " + polled + ", notify " +
                            (notified == 0 ? std::string("0") : strerror(errno));
    if (now != before) say(now);
    before = now;
  }
  say("closing the event channel");
  xenevtchn_close(events);
  say("closed");
  return 0;
}
