// Long random use by all domains at once, after which the books must agree with the tree.
#include <random>

#include "tests/xensim/store/world.hpp"

namespace xensim::test {
namespace {

class Consistency : public World, public testing::WithParamInterface<unsigned> {
 protected:
  int pick(int below) { return std::uniform_int_distribution<>(0, below - 1)(random_); }

  /// A path in one of two guests' data, up to three levels down.
  std::string some_path() {
    auto path = "/local/domain/" + std::to_string(5 + pick(2)) + "/data";
    for (int levels = pick(4); levels > 0; --levels) path += "/" + std::to_string(pick(3));
    return path;
  }

  void act() {
    const ConnectionId actors[] = {host, five, six};
    const auto who = actors[pick(3)];
    auto& open = open_[who];
    const auto tx = open.empty() || pick(2) == 0
                        ? 0
                        : open[static_cast<std::size_t>(pick(static_cast<int>(open.size())))];
    switch (pick(9)) {
      case 0:
      case 1:
        write(who, some_path(), std::to_string(pick(100)), tx);
        break;
      case 2:
        mkdir(who, some_path(), tx);
        break;
      case 3:
        rm(who, some_path() + "/" + std::to_string(pick(3)), tx);
        break;
      case 4:
        set_perms(who, some_path(), {pick(2) == 0 ? "b5" : "b6", "r0"}, tx);
        break;
      case 5:
        read(who, some_path(), tx);
        break;
      case 6:
        if (open.size() < 5) open.push_back(begin(who));
        break;
      case 7:
      case 8:
        if (tx == 0) break;
        pick(4) == 0 ? abort(who, tx) : commit(who, tx);
        std::erase(open, tx);
        break;
      default:
        break;
    }
  }

  void come_back() {
    take(store.remove(6));
    take(store.introduce({6, "six", "uuid-6", 1024}));
    store.disconnect(six);
    open_.erase(six);
    six = store.connect(6);
  }

  /// Counts what is below `path` by owner, as the host sees it.
  void count(const std::string& path, std::map<std::string, std::size_t>& by_owner) {
    const auto permissions = get_perms(host, path);
    ASSERT_EQ(permissions.error, "") << path << " is listed but not there";
    ++by_owner[permissions.payload.substr(1, permissions.payload.find('\0') - 1)];
    const auto names = list(host, path).payload;
    for (const auto name : split_strings(names)) {
      count((path == "/" ? "" : path) + "/" + std::string(name), by_owner);
    }
  }

  std::mt19937 random_{GetParam()};
  std::map<ConnectionId, std::vector<std::uint32_t>> open_;
};

TEST_P(Consistency, CountsAgreeWithTheTree) {
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 100; ++i) act();
    if (pick(4) == 0) come_back();
    std::map<std::string, std::size_t> by_owner;
    count("/", by_owner);
    ASSERT_EQ(store.usage(0).nodes, by_owner["0"]);
    ASSERT_EQ(store.usage(5).nodes, by_owner["5"]);
    ASSERT_EQ(store.usage(6).nodes, by_owner["6"]);
    ASSERT_EQ(store.usage(5).transactions, open_[five].size());
    ASSERT_EQ(store.usage(6).transactions, open_[six].size());
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Consistency, testing::Range(1U, 21U));

}  // namespace
}  // namespace xensim::test
