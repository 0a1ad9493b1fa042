// Worlds with something wrong about files, daemons and consoles.
#include <cerrno>

#include "tests/bridge/doctor/story.hpp"
#include "tests/bridge/doctor/worlds.hpp"

namespace xenlane::bridge::doctor {

void without_daemon(Facts& facts) {
  facts.daemon = {};
  facts.daemon.control = "/run/xenlane/control";
  facts.daemon.trouble = "No such file or directory";
  facts.bridge.reset();
  facts.control = file("/run/xenlane/control", FileKind::missing, 0);
  facts.sockets.clear();
}

namespace {

void without_console_channel(GuestFact& guest) {
  guest.consoles.clear();
  guest.console_socket.kind = FileKind::missing;
  guest.console_taken = 0;
  guest.bridge->console_open = false;
}

}  // namespace

const std::vector<Story> file_stories{
    {"ConfigurationError", host,
     [](Facts& f) {
       f.config.diagnostics = {{{"/etc/xenlane/host.d/10-a.toml", 7},
                                bridge::Severity::error,
                                Scope::channel,
                                "mode: is wrong"}};
     },
     check::config_fault, error, 3, "10-a.toml:7", "xenlane-host --check"},
    {"ConfigurationWarning", guest,
     [](Facts& f) {
       f.config.diagnostics = {
           {{"/etc/xenlane/guest.d/a.toml", 0}, bridge::Severity::warning, Scope::file, "unread"}};
     },
     check::config_fault, warning, 1, "guest.d/a.toml", "xenlane-guest --check"},
    {"ConfigurationForAllToWrite", host, [](Facts& f) { f.config_files[0].mode = 0666; },
     check::config_permissions, error, 3, "0666", "chmod o-w /etc/xenlane/host.toml"},
    {"ConfigurationOfSomebody", host, [](Facts& f) { f.config_files[1].owner = 1000; },
     check::config_permissions, error, 3, "user 1000", "chown root /etc/xenlane"},
    {"ConfigurationForItsGroup", host, [](Facts& f) { f.config_files[0].mode = 0664; },
     check::config_permissions, warning, 1, "group", "chmod g-w"},
    {"NoConfiguration", host, [](Facts& f) { f.config_files[0].kind = FileKind::missing; },
     check::config_permissions, note, 0, "default", ""},
    {"ConfigurationHidden", host,
     [](Facts& f) {
       f.config_files[0].kind = FileKind::hidden;
       f.config_files[0].error = EACCES;
     },
     check::config_permissions, note, 0, "Permission denied", ""},
    {"RunFolderForAll", guest, [](Facts& f) { f.run_folder.mode = 01777; }, check::run_folder,
     error, 3, "1777", "chmod o-w /run/xenlane"},
    {"RunFolderForItsGroup", guest, [](Facts& f) { f.run_folder.mode = 0775; }, check::run_folder,
     warning, 1, "0775", "chmod g-w"},
    {"RunFolderIsAFile", guest, [](Facts& f) { f.run_folder.kind = FileKind::regular; },
     check::run_folder, error, 3, "not a folder", "run_dir"},
    {"RunFolderIsAnother", guest,
     [](Facts& f) {
       without_daemon(f);
       f.config.config.run_dir = "/srv/x";
     },
     check::run_folder, warning, 6, "/srv/x", "--run-dir /srv/x"},
    {"ControlForAll", guest, [](Facts& f) { f.control.mode = 0666; }, check::run_control, error, 3,
     "0666", "chmod 0600"},
    {"StaleSockets", guest,
     [](Facts& f) {
       without_daemon(f);
       f.sockets = {"/run/xenlane/org.example.echo"};
     },
     check::run_stale, warning, 6, "org.example.echo", "systemctl start xenlane-guest"},
    {"PathTooLong", host,
     [](Facts& f) {
       ChannelConfig channel{ChannelName::parse("org." + std::string(59, 'a')).value()};
       f.config.config.channels = {channel};
       f.guests[0].name = std::string(40, 'g');
     },
     check::run_path, warning, 1, "117 bytes", "shorten"},
};

const std::vector<Story> daemon_stories{
    {"NoDaemon", guest, without_daemon, check::daemon_answer, error, 6, "no xenlane-guest",
     "systemctl start xenlane-guest"},
    {"NoBroker", host, without_daemon, check::daemon_answer, error, 6, "no xenlane-host",
     "systemctl start xenlane-host"},
    {"DaemonForbidden", guest, [](Facts& f) { f.daemon.answer = DaemonFact::Answer::forbidden; },
     check::daemon_answer, note, 0, "may not be asked", "root"},
    {"DaemonHangs", guest, [](Facts& f) { f.daemon.answer = DaemonFact::Answer::failed; },
     check::daemon_answer, error, 6, "does not answer", "journalctl"},
    {"DaemonOfAnotherVersion", guest, [](Facts& f) { f.daemon.version = "1.2.2"; },
     check::daemon_version, warning, 1, "1.2.2", "restart xenlane-guest"},
    {"WorkerOfAnotherVersion", host, [](Facts& f) { f.guests[0].worker.version = "1.2.2"; },
     check::daemon_version, warning, 1, "1.2.2", "restart xenlane-host"},
    {"GuestThatPolicyLeavesOut", host,
     [](Facts& f) { f.guests[0].known = f.guests[0].matches = false; }, check::guest_served, note,
     0, "not one of [daemon] guests", ""},
    {"GuestThatIsNotServed", host, [](Facts& f) { f.guests[0].known = false; }, check::guest_served,
     warning, 1, "is to be served", "journalctl"},
    {"WorkerRestartsAllTheTime", host, [](Facts& f) { f.guests[0].worker_restarts = 3; },
     check::guest_worker, warning, 1, "3 times", "journalctl"},
    {"WorkerIsGone", host,
     [](Facts& f) {
       f.guests[0].worker.answer = DaemonFact::Answer::absent;
       f.guests[0].state = "waiting";
     },
     check::guest_worker, warning, 1, "waiting", "journalctl"},
    {"WorkerForbidden", host,
     [](Facts& f) { f.guests[0].worker.answer = DaemonFact::Answer::forbidden; },
     check::guest_worker, note, 0, "may not be asked", "root"},
    {"SessionIsDown", guest,
     [](Facts& f) {
       f.bridge->session_state = "down";
       f.bridge->session_reason = "the host bridge has gone";
     },
     check::session_state, warning, 1, "the host bridge has gone", "xenlane-host"},
    {"SessionIsCut", host, [](Facts& f) { f.guests[0].bridge->session_state = "cut"; },
     check::session_state, warning, 1, "web", "xenlane-guest"},
    {"NoCommonVersion", guest,
     [](Facts& f) {
       f.bridge->session_state = "down";
       f.bridge->session_reason =
           "refused by the host: no common protocol version: the guest "
           "speaks 3 to 4, the host 2 to 2; upgrade the older side";
     },
     check::session_version, error, 5, "3 to 4", "same version"},
    {"OtherSideIsOlder", guest, [](Facts& f) { --*f.bridge->protocol_version; },
     check::session_version, note, 0, "older", "same version"},
    {"OtherSideIsNewer", host, [](Facts& f) { ++f.guests[0].bridge->peer_version; },
     check::session_version, note, 0, "newer", "same version"},
    {"VersionUntold", host, [](Facts& f) { f.guests[0].bridge->protocol_version.reset(); },
     check::session_version, note, 0, "does not tell", ""},
    {"LaneSetByHand", host, [](Facts& f) { f.guests[0].bridge->lane_set = "console"; },
     check::lane_carrier, note, 0, "web", "xenlane lane web auto"},
    {"NoVchanThoughAlwaysWanted", guest,
     [](Facts& f) {
       f.config.config.lanes.policy.mode = LaneMode::always;
       f.bridge->lane = "console";
       f.bridge->lane_why = "the host refuses";
       f.bridge->ring_bytes = 0;
     },
     check::lane_carrier, warning, 1, "the host refuses", "grants"},
    {"ChannelDisabled", guest, [](Facts& f) { f.bridge->channels[0].error = "no such user"; },
     check::channel_disabled, error, 3, "no such user", "[[channel]]"},
    {"ChannelRefusedNow", guest,
     [](Facts& f) {
       f.bridge->channels[0].refused = 2;
       f.bridge->channels[0].last_refusal = "nobody listens";
       f.bridge->channels[0].last_refused_s = refused_recently_s;
     },
     check::channel_refused, warning, 1, "nobody listens", "target"},
    {"ChannelRefusedLongAgo", host,
     [](Facts& f) {
       f.guests[0].bridge->channels[0].refused = 2;
       f.guests[0].bridge->channels[0].last_refused_s = refused_recently_s + 1;
     },
     check::channel_refused, note, 0, "web/org.example.echo", ""},
};

const std::vector<Story> console_stories{
    {"QemuIsGone", host, [](Facts& f) { f.guests[0].console_socket.kind = FileKind::missing; },
     check::console_socket, warning, 1, "is its QEMU gone", "xl create"},
    {"NoChannelAndNoSocket", host, [](Facts& f) { without_console_channel(f.guests[0]); },
     check::console_socket, warning, 1, "no console lane", "connection=pty,name=unused"},
    {"NoSocketButAFile", host,
     [](Facts& f) { f.guests[0].console_socket.kind = FileKind::regular; }, check::console_socket,
     warning, 1, "is no socket", "remove it"},
    {"SocketHidden", host,
     [](Facts& f) {
       f.guests[0].console_socket.kind = FileKind::hidden;
       f.guests[0].console_socket.error = EACCES;
     },
     check::console_socket, note, 0, "Permission denied", "root"},
    {"SocketForbidden", host, [](Facts& f) { f.guests[0].console_socket.usable = false; },
     check::console_socket, note, 0, "may not use it", "root"},
    {"SomebodyElseIsConnected", host,
     [](Facts& f) {
       f.guests[0].bridge->console_open = false;
       f.guests[0].console_waiting = 1;
     },
     check::console_client, warning, 1, "another program", "ss -xp"},
    {"SomebodyIsConnectedAndNoWorkerRuns", host, [](Facts& f) { f.guests[0].bridge.reset(); },
     check::console_client, warning, 1, "another program", "ss -xp"},
    {"GuestDoesNotAnswerOnTheConsole", host,
     [](Facts& f) { f.guests[0].bridge->console_open = false; }, check::console_client, note, 0,
     "does not answer", "in the guest"},
    {"ClientsUnseen", host, [](Facts& f) { f.guests[0].console_taken.reset(); },
     check::console_client, note, 0, "/proc/net/unix", ""},
    {"XlLostTheFirstChannel", host,
     [](Facts& f) {
       without_console_channel(f.guests[0]);
       f.guests[0].consoles = {{"1", "org.example.agent", "/run/agent.sock"}};
       f.guests[0].told_channels = {{"org.xenlane.lane.0", "org.example.agent"}};
     },
     check::console_channel, warning, 1, "xl lost org.xenlane.lane.0",
     "\"connection=pty,name=unused\", \"connection=socket"},
    {"XlLostItsOnlyChannel", host,
     [](Facts& f) {
       without_console_channel(f.guests[0]);
       f.guests[0].told_channels = {{"org.xenlane.lane.0"}};
     },
     check::console_channel, warning, 1, "xl lost org.xenlane.lane.0", "name=unused"},
    {"ChannelAtAnotherSocket", host,
     [](Facts& f) {
       f.guests[0].consoles[0].socket = "/run/elsewhere.sock";
       f.guests[0].told_channels.reset();
     },
     check::console_channel, warning, 1, "there are: org.xenlane.lane.0", "[console] socket"},
    {"NoChannelForTheGuest", guest,
     [](Facts& f) {
       f.console.nodes = {{"2", "org.example.agent", ""}};
       f.console.device = {};
     },
     check::console_device, note, 0, "org.example.agent", "on the host"},
    {"NoDeviceForTheChannel", guest, [](Facts& f) { f.console.device.kind = FileKind::missing; },
     check::console_device, warning, 1, "CONFIG_HVC_XEN_FRONTEND", "udevadm"},
    {"DeviceIsAFile", guest, [](Facts& f) { f.console.device.kind = FileKind::regular; },
     check::console_device, warning, 1, "is no device", "[console] device"},
    {"DeviceForbidden", guest, [](Facts& f) { f.console.device.usable = false; },
     check::console_device, note, 0, "may not open it", "root"},
    {"GettyReads", guest,
     [](Facts& f) {
       f.console.readers = {{77, "agetty"}};
     },
     check::console_reader, warning, 1, "agetty (pid 77)",
     "disable --now serial-getty@hvc1.service"},
    {"ProgramReads", guest,
     [](Facts& f) {
       f.console.readers = {{77, "cat"}};
     },
     check::console_reader, warning, 1, "cat (pid 77)", "process 77"},
    {"ReadersUnseen", guest, [](Facts& f) { f.console.readers_seen = false; },
     check::console_reader, note, 0, "cannot be seen", "root"},
    {"NoLink", guest, [](Facts& f) { f.console.link.kind = FileKind::missing; },
     check::console_link, note, 0, "needs none", "udev"},
    {"LinkLeadsElsewhere", guest, [](Facts& f) { f.console.link.target = "/dev/hvc2"; },
     check::console_link, warning, 1, "/dev/hvc2", "ln -sfn /dev/hvc1"},
};

}  // namespace xenlane::bridge::doctor
