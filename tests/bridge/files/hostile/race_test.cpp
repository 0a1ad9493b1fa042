// Somebody on the same machine swaps folders and files for links that lead out, as fast as it goes,
// while files come or are read: nothing outside is made, changed or read (QSB-14, CVE-2024-12747).
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "bridge/files/destination.hpp"
#include "bridge/files/receiver.hpp"
#include "bridge/files/sender.hpp"
#include "tests/bridge/files/hostile/scene.hpp"
#include "tests/support/patience.hpp"

namespace xenlane::bridge::files::hostile {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t swaps_min = 30'000;
constexpr int rounds_min = 10;
constexpr int files_of_a_round = 400;

class Silent : public Report {
 public:
  void trouble(Trouble, int, const std::string&, const std::string&) override {}
  void copying(const std::string&) override {}
  void progress(const Counts&) override {}
};

/// Does the same again and again in a thread of its own.
class Loop {
 public:
  explicit Loop(std::function<void()> swap) {
    thread_ = std::thread([this, swap = std::move(swap)] {
      while (!stop_) {
        swap();
        ++count_;
      }
    });
  }
  ~Loop() {
    stop_ = true;
    thread_.join();
  }
  std::uint64_t count() const { return count_; }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint64_t> count_ = 0;
  std::thread thread_;
};

void exchange(const std::string& one, const std::string& other) {
  ::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE);
}

class FilesRace : public testing::Test {
 protected:
  FilesRace() {
    dir_.write("outside/secret", secret);
    for (int i = 0; i < 50; ++i) {
      const std::string name = "/f" + std::to_string(i);
      // The same size and time: a sender cannot tell by them.
      for (const std::string folder : {"outside", "source/d"}) {
        const std::string path = dir_.write(
            folder + name, folder == "outside" ? secret : std::string(secret.size(), 'h'));
        const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 1, .tv_nsec = 0}};
        ::utimensat(AT_FDCWD, path.c_str(), times, 0);
      }
    }
    fs::create_directory(dir_ / "base");
    outside_ = look_at(dir_ / "outside");
  }

  /// One connection: `half` runs in a thread, and is at its end when this returns.
  template <typename Hostile>
  void connect(const std::function<void(WireReader&, WireWriter&)>& half,
               const std::function<void(Hostile&)>& other) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    std::thread thread([&half, end = ends[1]] {
      const transport::UniqueFd socket(end);
      WireReader in(socket.get());
      WireWriter out(socket.get());
      try {
        half(in, out);
      } catch (const WireBroken&) {
        // An error is a good end too.
      }
    });
    {
      Hostile talk{transport::UniqueFd(ends[0])};
      other(talk);
      EXPECT_FALSE(talk.is_stuck());
      heard_secret_ = heard_secret_ || talk.heard().find(secret) != std::string::npos;
    }
    thread.join();
  }

  void receive(const std::function<void(HostileSender&)>& sender) {
    connect<HostileSender>(
        [this](WireReader& in, WireWriter& out) {
          auto destination = open_destination(dir_ / "base/", true, false);
          if (!destination) return;
          Silent report;
          Receiver(in, out, Tree(std::move(destination->folder)), {}, report).run();
        },
        sender);
  }

  /// Rounds until there were enough swaps.
  void go(Loop& loop, const std::function<void()>& round) {
    const auto end = std::chrono::steady_clock::now() + test::patience();
    int rounds = 0;
    while ((rounds < rounds_min || loop.count() < swaps_min) &&
           std::chrono::steady_clock::now() < end) {
      round();
      ++rounds;
    }
    EXPECT_GE(loop.count(), swaps_min);
    EXPECT_GE(rounds, rounds_min);
  }

  TempDir dir_;
  std::map<std::string, std::string> outside_;
  bool heard_secret_ = false;
};

/// Files in more folders than are kept open, so that each is entered again and again.
void send_files(HostileSender& sender) {
  const std::string content = "a file in a folder that is being swapped";
  std::vector<std::uint32_t> folders{sender.announce(folder_entry("d"))};
  folders.push_back(sender.announce(folder_entry("deep", folders[0])));
  for (std::size_t i = 0; i <= open_folders_max; ++i) {
    folders.push_back(sender.announce(folder_entry("e" + std::to_string(i))));
  }
  int open = 0;
  for (int i = 0; i < files_of_a_round; ++i) {
    const auto other = 2 + static_cast<std::size_t>(i) % (folders.size() - 2);
    for (const std::uint32_t folder : {folders[0], folders[1], folders[other]}) {
      sender.announce(file_entry("f" + std::to_string(i), content.size(), folder));
      sender.announce(link_entry("l" + std::to_string(i), "f0", folder));
      open += 2;
    }
  }
  while (open > 0) {
    const auto message = sender.next();
    if (!message) return;
    if (message->type == MessageType::want) {
      sender.content(decode<Want>(message->body)->id, content);
    } else if (message->type == MessageType::failed) {
      // Of folders too, which are not counted.
      open -= decode<Failed>(message->body)->id > folders.back() ? 1 : 0;
    } else if (message->type != MessageType::result) {
      --open;
    }
  }
  sender.finish();
}

TEST_F(FilesRace, DestinationFolderAgainstALinkThatLeadsOut) {
  fs::create_directory(dir_ / "base/d");
  fs::create_directory_symlink(dir_ / "outside", dir_ / "base/s");
  Loop loop([this] { exchange(dir_ / "base/d", dir_ / "base/s"); });
  go(loop, [this] { receive(send_files); });
  EXPECT_EQ(look_at(dir_ / "outside"), outside_);
}

TEST_F(FilesRace, FolderWithinAgainstALinkThatLeadsOut) {
  fs::create_directories(dir_ / "base/d/deep");
  fs::create_directory_symlink(dir_ / "outside", dir_ / "base/d/s");
  Loop loop([this] { exchange(dir_ / "base/d/deep", dir_ / "base/d/s"); });
  go(loop, [this] { receive(send_files); });
  EXPECT_EQ(look_at(dir_ / "outside"), outside_);
}

TEST_F(FilesRace, PartialFileAgainstWhateverHasAName) {
  const std::string partial = dir_ / "base/" + partial_name("large");
  const std::string aside = dir_ / "base/aside";
  const std::string victim = dir_ / "outside/secret";
  {
    Loop loop([&, turn = 0]() mutable {
      switch (++turn % 5) {
        case 0:
          (void)::symlink(victim.c_str(), aside.c_str());
          break;
        case 1:
          (void)::link(victim.c_str(), aside.c_str());
          break;
        case 2:
          (void)::mkfifo(aside.c_str(), 0600);
          break;
        default:
          exchange(aside, partial);
          return;
      }
      ::rename(aside.c_str(), partial.c_str());
      ::unlink(aside.c_str());
    });
    const std::string content(kept_bytes_min, 'l');
    std::int64_t time = 0;
    go(loop, [&] {
      receive([&](HostileSender& sender) {
        Entry entry = file_entry("large", content.size());
        entry.mtime_s = ++time;  // or it would be there already
        const auto id = sender.announce(entry);
        const auto answer = sender.next();
        if (answer && answer->type == MessageType::want) sender.content(id, content);
        sender.finish();
      });
    });
  }
  fs::remove_all(dir_ / "base");
  EXPECT_EQ(look_at(dir_ / "outside"), outside_);
}

/// Asks for all that is announced.
void take_all(HostileReceiver& receiver) {
  std::vector<std::uint32_t> late;
  std::uint32_t current = 0;
  while (const auto message = receiver.next()) {
    if (message->type == MessageType::entry) {
      const auto entry = decode<Entry>(message->body);
      if (entry->kind == EntryKind::file) {
        receiver.want(entry->id);
      } else if (entry->kind == EntryKind::symlink) {
        receiver.say_id(MessageType::done, entry->id);
      } else {
        late.push_back(entry->id);
      }
    } else if (message->type == MessageType::file) {
      current = decode<FileBegin>(message->body)->id;
    } else if (message->type == MessageType::file_end) {
      receiver.say_id(MessageType::done, current);
    } else if (message->type == MessageType::sent) {
      for (const std::uint32_t id : late) receiver.say_id(MessageType::done, id);
      receiver.say(Result{});
      return;
    }
  }
}

class FilesSourceRace : public FilesRace {
 protected:
  void send_all() {
    connect<HostileReceiver>(
        [this](WireReader& in, WireWriter& out) {
          std::vector<Source> sources;
          auto source = open_source(dir_ / "source/");
          if (!source) return;
          sources.push_back(std::move(*source));
          SendRules rules;
          rules.xattrs = true;
          Silent report;
          Sender(in, out, std::move(sources), std::move(rules), report).run();
        },
        take_all);
  }
};

TEST_F(FilesSourceRace, FolderAgainstALinkThatLeadsOut) {
  fs::create_directory_symlink(dir_ / "outside", dir_ / "source/s");
  Loop loop([this] { exchange(dir_ / "source/d", dir_ / "source/s"); });
  go(loop, [this] { send_all(); });
  EXPECT_FALSE(heard_secret_);
}

TEST_F(FilesSourceRace, FilesAgainstLinksThatLeadOut) {
  fs::create_directory(dir_ / "source/links");
  for (int i = 0; i < 50; ++i) {
    const std::string name = "/f" + std::to_string(i);
    fs::create_symlink(dir_ / "outside" + name, dir_ / "source/links" + name);
  }
  Loop loop([this, i = 0]() mutable {
    const std::string name = "/f" + std::to_string(i++ % 50);
    exchange(dir_ / "source/d" + name, dir_ / "source/links" + name);
  });
  go(loop, [this] { send_all(); });
  EXPECT_FALSE(heard_secret_);
}

}  // namespace
}  // namespace xenlane::bridge::files::hostile
