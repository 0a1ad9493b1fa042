// How long a console's reader looks away: by the rate at which bytes come, never for long, and not
// at all when nothing is known to be on its way.
#include "transport/console/input_pause.hpp"

#include <gtest/gtest.h>

namespace xenlane::transport {
namespace {

using namespace std::chrono_literals;

class InputPauseTest : public testing::Test {
 protected:
  /// A look after so long.
  InputPause::Duration look(std::chrono::microseconds after, std::size_t bytes, bool more = true) {
    now_ += after;
    pause_.looked(bytes, more, now_);
    return pause_.current();
  }

 private:
  InputPause pause_{3000};
  InputPause::TimePoint now_{1h};
};

TEST_F(InputPauseTest, IsAsLongAsEnoughBytesTake) {
  EXPECT_EQ(look(1s, 1000), 0us) << "the first piece says nothing of the rate";
  EXPECT_EQ(look(2ms, 1000), 6ms);
  EXPECT_EQ(look(6ms, 2000), 9ms) << "fewer have come: it has become slower";
  EXPECT_EQ(look(9ms, 9000), 3ms) << "faster";
}

TEST_F(InputPauseTest, IsOverWithTheLastByte) {
  look(1s, 1000);
  look(2ms, 1000);
  EXPECT_EQ(look(6ms, 3000, false), 0us);
  EXPECT_EQ(look(1ms, 1000), 0us) << "what came in between was silence, not a rate";
  EXPECT_EQ(look(1ms, 1000), 3ms);
}

TEST_F(InputPauseTest, IsOverWhenNothingHasCome) {
  look(1s, 1000);
  EXPECT_EQ(look(2ms, 1000), 6ms);
  EXPECT_EQ(look(6ms, 0), 0us);
}

TEST_F(InputPauseTest, IsNotLongerThanASmallMessageMayWait) {
  look(1s, 1000);
  EXPECT_EQ(look(4ms, 1000), 0us) << "for the next piece alone there is no need";
  EXPECT_EQ(look(20ms, 4000), InputPause::longest) << "several pieces at once are worth it";
}

}  // namespace
}  // namespace xenlane::transport
