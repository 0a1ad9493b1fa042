// The little that is there of libxenctrl. A file of its own, as xenctrl.h must come before any
// other Xen header.
#include <gtest/gtest.h>

#include <cerrno>

extern "C" {
#include <xenctrl.h>
}

#include "tests/xensim/hypervisor/simulator.hpp"

namespace xensim_test {
namespace {

TEST(DomainInfo, IsForDomainZeroOnly) {
  const Simulator sim("--guest a --guest b:5");
  xc_dominfo_t info[4] = {};
  sim.enter(0);
  xc_interface* host = xc_interface_open(nullptr, nullptr, 0);
  ASSERT_NE(host, nullptr);
  ASSERT_EQ(xc_domain_getinfo(host, 1, 4, info), 2);
  EXPECT_EQ(info[0].domid, 1U);
  EXPECT_EQ(info[1].domid, 5U);
  EXPECT_EQ(info[0].dying, 0U);
  EXPECT_EQ(xc_domain_getinfo(host, 6, 1, info), -1);
  EXPECT_EQ(errno, ESRCH);
  xc_interface_close(host);
  sim.enter(1);
  xc_interface* guest = xc_interface_open(nullptr, nullptr, 0);
  ASSERT_NE(guest, nullptr);
  EXPECT_EQ(xc_domain_getinfo(guest, 0, 1, info), -1);
  EXPECT_EQ(errno, EPERM);
  xc_interface_close(guest);
}

}  // namespace
}  // namespace xensim_test
