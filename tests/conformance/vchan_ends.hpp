// Ends of vchans for tests: our lane in either role and the real libxenvchan at the other end, over
// one xensim for all of the program.
//
// Both ends live in this process: the drop-in libraries and libxenstore look at the environment at
// every open, so it says for each end which domain it is in.
#pragma once

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "tests/xensim/hypervisor/simulator.hpp"
#include "transport/vchan/vchan_lane.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wconversion"
extern "C" {
#include <libxenvchan.h>
}
#pragma GCC diagnostic pop

namespace xenlane::transport::test {

inline constexpr Domid guest_domid = 1;
inline constexpr const char* guest_path = "data/conformance";
inline constexpr const char* host_path = "/local/domain/1/data/conformance";

/// One simulator for all of the program.
class Xen : public testing::Environment {
 public:
  void SetUp() override { simulator.emplace("--guest web:1"); }
  void TearDown() override { simulator.reset(); }

  static void enter(Domid domid) {
    simulator->enter(domid);
    const std::string path = simulator->dir() + "/dom/" + std::to_string(domid) + "/xenstored";
    ::setenv("XENSTORED_PATH", path.c_str(), 1);
  }
  static inline std::optional<xensim_test::Simulator> simulator;
};
inline const auto* const xen = testing::AddGlobalTestEnvironment(new Xen);

inline std::unique_ptr<Lane> server_lane(std::uint32_t ring_bytes) {
  Xen::enter(guest_domid);
  auto lane = offer_vchan({0, guest_path, ring_bytes, ring_bytes});
  EXPECT_TRUE(lane.has_value()) << lane.error().text;
  return lane ? std::move(*lane) : nullptr;
}

inline std::unique_ptr<Lane> client_lane() {
  Xen::enter(0);
  auto lane = attach_vchan(guest_domid, host_path);
  EXPECT_TRUE(lane.has_value()) << lane.error().text;
  return lane ? std::move(*lane) : nullptr;
}

using Raw = std::shared_ptr<libxenvchan>;

inline Raw raw_server(std::uint32_t ring_bytes) {
  Xen::enter(guest_domid);
  libxenvchan* raw = libxenvchan_server_init(nullptr, 0, guest_path, ring_bytes, ring_bytes);
  EXPECT_NE(raw, nullptr);
  raw->blocking = 0;
  return {raw, libxenvchan_close};
}

inline Raw raw_client() {
  Xen::enter(0);
  libxenvchan* raw = libxenvchan_client_init(nullptr, guest_domid, host_path);
  EXPECT_NE(raw, nullptr);
  raw->blocking = 0;
  return {raw, libxenvchan_close};
}

/// Our lane in that role and libxenvchan at the other end.
inline std::pair<std::unique_ptr<Lane>, Raw> with_libxenvchan(bool server,
                                                              std::uint32_t ring_bytes) {
  if (!server) {
    Raw raw = raw_server(ring_bytes);
    return {client_lane(), raw};
  }
  auto lane = server_lane(ring_bytes);
  Raw raw = raw_client();
  return {std::move(lane), raw};
}

}  // namespace xenlane::transport::test
