// Misbehaviour of single frames: every type too short and too long, values that do not exist.
// Protocol section 4; nothing here depends on the state of any stream.
#include "tests/hostile/ways.hpp"

namespace xenlane::hostile {

namespace {

/// Sends one frame in a session that is otherwise fine.
void send_one(Store& store, const Bytes& frame) {
  Talk talk(store);
  talk.shake_hands();
  talk.send(frame);
  talk.lane().await_end();
}

/// A header and nothing behind it: the host must not wait for a wrong frame's payload.
template <std::uint32_t type, std::uint32_t size, StreamId id>
void header(Store& store) {
  send_one(store, raw_frame(type, size, id));
}

/// A frame of zeros.
template <std::uint32_t type, std::uint32_t size, StreamId id>
void zeros(Store& store) {
  send_one(store, raw_frame(type, size, id, size));
}

void open_of_shape_2(Store& store) {
  send_one(store, open_frame(1, echo_channel, 2, 0));
}
void open_of_kind_2(Store& store) {
  send_one(store, open_frame(1, echo_channel, 0, 2));
}
void open_name_size_lies(Store& store) {
  Bytes frame = open_frame(1, echo_channel);
  overwrite(frame, 10, 0xffff, 2);
  send_one(store, frame);
}
void open_name_size_zero(Store& store) {
  Bytes frame = open_frame(1, echo_channel);
  overwrite(frame, 10, 0, 2);
  send_one(store, frame);
}
template <std::uint32_t wish>
void wish_of(Store& store) {
  Bytes frame = raw_frame(12, 1, 0, 1);
  overwrite(frame, 8, wish, 1);
  send_one(store, frame);
}
void notice_of_end_9(Store& store) {
  Bytes frame = raw_frame(14, 6, 0, 6);
  overwrite(frame, 8, 9, 1);
  overwrite(frame, 13, 'a', 1);
  send_one(store, frame);
}
void stop_of_code_9(Store& store) {
  Bytes frame = raw_frame(7, 4, 1, 4);
  overwrite(frame, 8, 9, 4);
  send_one(store, frame);
}

constexpr std::string_view too_short = "a frame shorter than its type allows";
constexpr std::string_view too_long = "a frame longer than its type allows";
constexpr std::string_view no_type = "a frame type that does not exist";
constexpr std::string_view names_a_stream = "a session frame that names a stream";
constexpr std::string_view names_none = "a stream frame that names no stream";
constexpr std::string_view no_wish = "LANE_WISH: a wish that does not exist";
constexpr std::string_view no_code = "a stream error code that does not exist";

constexpr Way ways[] = {
    {"open-short", "OPEN with 4 bytes", header<1, 4, 1>, Verdict::ends, too_short},
    {"open-long", "OPEN with 72 bytes: a name of 64", header<1, 72, 1>, Verdict::ends, too_long},
    {"accept-long", "ACCEPT with a byte", header<2, 1, 2>, Verdict::ends, too_long},
    {"refuse-short", "REFUSE with 1 byte", header<3, 1, 2>, Verdict::ends, too_short},
    {"refuse-long", "REFUSE with a reason of 121 bytes", header<3, 123, 2>, Verdict::ends,
     too_long},
    {"data-empty", "DATA of no bytes", header<4, 0, 1>, Verdict::ends, too_short},
    {"data-long", "DATA of 65537 bytes", header<4, 65537, 1>, Verdict::ends, too_long},
    {"data-longest", "DATA of 2^24 - 1 bytes", header<4, 0xffffff, 1>, Verdict::ends, too_long},
    {"credit-short", "CREDIT of 7 bytes", header<5, 7, 0>, Verdict::ends, too_short},
    {"credit-long", "CREDIT of 9 bytes", header<5, 9, 0>, Verdict::ends, too_long},
    {"finish-short", "FINISH of no bytes", header<6, 0, 1>, Verdict::ends, too_short},
    {"finish-long", "FINISH of 65536 bytes", header<6, 65536, 1>, Verdict::ends, too_long},
    {"stop-short", "STOP_SENDING of 3 bytes", header<7, 3, 1>, Verdict::ends, too_short},
    {"stop-long", "STOP_SENDING of 5 bytes", header<7, 5, 1>, Verdict::ends, too_long},
    {"reset-short", "RESET of no bytes", header<8, 0, 1>, Verdict::ends, too_short},
    {"reset-long", "RESET of 8 bytes", header<8, 8, 1>, Verdict::ends, too_long},
    {"ping-short", "PING of 7 bytes", header<9, 7, 0>, Verdict::ends, too_short},
    {"ping-long", "PING of 2^24 - 1 bytes", header<9, 0xffffff, 0>, Verdict::ends, too_long},
    {"pong-short", "PONG of 1 byte", header<10, 1, 0>, Verdict::ends, too_short},
    {"pong-long", "PONG of 16 bytes", header<10, 16, 0>, Verdict::ends, too_long},
    {"go-away-long", "GO_AWAY with a reason of 121 bytes", header<11, 121, 0>, Verdict::ends,
     too_long},
    {"type-0", "a frame of type 0", header<0, 0, 1>, Verdict::ends, no_type},
    {"lane-wish-short", "LANE_WISH of no bytes", header<12, 0, 0>, Verdict::ends, too_short},
    {"lane-wish-long", "LANE_WISH of 2 bytes", header<12, 2, 0>, Verdict::ends, too_long},
    {"lane-wish-of-3", "LANE_WISH for a lane that does not exist", wish_of<3>, Verdict::ends,
     no_wish},
    {"lane-wish-of-255", "LANE_WISH of all ones", wish_of<255>, Verdict::ends, no_wish},
    {"lane-wish-on-a-stream", "LANE_WISH that names stream 1", header<12, 1, 1>, Verdict::ends,
     names_a_stream},
    {"leave-short", "LEAVE of 3 bytes", header<13, 3, 0>, Verdict::ends, too_short},
    {"leave-long", "LEAVE of 2^24 - 1 bytes", header<13, 0xffffff, 0>, Verdict::ends, too_long},
    {"leave-on-a-stream", "LEAVE that names stream 2", header<13, 4, 2>, Verdict::ends,
     names_a_stream},
    {"notice-short", "NOTICE without a name", header<14, 5, 0>, Verdict::ends, too_short},
    {"notice-long", "NOTICE of a name of 64", header<14, 69, 0>, Verdict::ends, too_long},
    {"notice-on-a-stream", "NOTICE that names stream 1", header<14, 6, 1>, Verdict::ends,
     names_a_stream},
    {"notice-of-end-9", "NOTICE of an end that does not exist", notice_of_end_9, Verdict::ends,
     "NOTICE: an end that does not exist"},
    {"type-15", "a frame of the first type that is not there", header<15, 0, 0>, Verdict::ends,
     no_type},
    {"type-255", "a frame of all ones", header<255, 0xffffff, 0xffffffff>, Verdict::ends, no_type},
    {"ping-on-a-stream", "PING that names stream 1", header<9, 8, 1>, Verdict::ends,
     names_a_stream},
    {"go-away-on-a-stream", "GO_AWAY that names stream 2", header<11, 0, 2>, Verdict::ends,
     names_a_stream},
    {"open-on-stream-0", "OPEN of stream 0", header<1, 10, 0>, Verdict::ends, names_none},
    {"data-on-stream-0", "DATA on stream 0", header<4, 5, 0>, Verdict::ends, names_none},
    {"reset-of-stream-0", "RESET of stream 0", header<8, 4, 0>, Verdict::ends, names_none},
    {"open-of-shape-2", "OPEN of a shape that does not exist", open_of_shape_2, Verdict::ends,
     "OPEN: unknown shape"},
    {"open-of-kind-2", "OPEN of a socket kind that does not exist", open_of_kind_2, Verdict::ends,
     "OPEN: unknown socket kind"},
    {"open-name-size-65535", "OPEN whose name is longer than its frame", open_name_size_lies,
     Verdict::ends, "OPEN: name length differs from the payload"},
    {"open-name-size-0", "OPEN whose name is shorter than its frame", open_name_size_zero,
     Verdict::ends, "OPEN: name length differs from the payload"},
    {"refuse-of-error-0", "REFUSE for no error", zeros<3, 2, 2>, Verdict::ends,
     "REFUSE: error zero"},
    {"reset-of-code-0", "RESET for no error", zeros<8, 4, 1>, Verdict::ends, no_code},
    {"stop-of-code-9", "STOP_SENDING for an error that does not exist", stop_of_code_9,
     Verdict::ends, no_code},
};

}  // namespace

std::span<const Way> frame_ways() {
  return ways;
}

}  // namespace xenlane::hostile
