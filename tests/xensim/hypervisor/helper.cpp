// What a test runs in a domain that is going to be killed or destroyed.
//   share         shares a page with domain 0, byte 0 set, unmap notification on byte 0 and a port;
//                 prints the reference and the port, then waits to be killed
//   share-daemon  the same, in the background with a session of its own
//   map REF PORT  binds domain 0's port, maps domain 0's page writable with an unmap notification
//                 on byte 1, which it sets; prints its own port, then waits to be killed
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" {
#include <xenevtchn.h>
#include <xengnttab.h>
}

namespace {

int share() {
  xenevtchn_handle* events = xenevtchn_open(nullptr, 0);
  xengntshr_handle* sharer = xengntshr_open(nullptr, 0);
  if (events == nullptr || sharer == nullptr) return 1;
  const int port = xenevtchn_bind_unbound_port(events, 0);
  uint32_t ref = 0;
  auto* page = static_cast<char*>(
      xengntshr_share_page_notify(sharer, 0, &ref, 1, 0, static_cast<evtchn_port_t>(port)));
  if (port < 0 || page == nullptr) return 1;
  page[0] = 1;
  std::printf("%u %d\n", ref, port);
  std::fflush(stdout);
  for (;;) ::pause();
}

int map(uint32_t ref, uint32_t remote_port) {
  xenevtchn_handle* events = xenevtchn_open(nullptr, 0);
  xengnttab_handle* mapper = xengnttab_open(nullptr, 0);
  if (events == nullptr || mapper == nullptr) return 1;
  const int port = xenevtchn_bind_interdomain(events, 0, remote_port);
  if (port < 0) return 1;
  auto* page = static_cast<char*>(xengnttab_map_grant_ref_notify(
      mapper, 0, ref, PROT_READ | PROT_WRITE, 1, static_cast<evtchn_port_t>(port)));
  if (page == nullptr) return 1;
  page[1] = 1;
  std::printf("%d\n", port);
  std::fflush(stdout);
  for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "share") == 0) return share();
  if (argc == 2 && std::strcmp(argv[1], "share-daemon") == 0)
    return ::fork() == 0 ? (::setsid(), share()) : 0;
  if (argc == 4 && std::strcmp(argv[1], "map") == 0) {
    return map(static_cast<uint32_t>(std::strtoul(argv[2], nullptr, 10)),
               static_cast<uint32_t>(std::strtoul(argv[3], nullptr, 10)));
  }
  return 2;
}
