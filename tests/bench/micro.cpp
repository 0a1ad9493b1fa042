// What single steps of the data path cost: ring, codec, mux. No sockets, no wake-ups; what they
// leave of a whole path's time is the kernel's. tests/bench/micro.sh runs it.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "bridge/mux/mux.hpp"
#include "bridge/session/session.hpp"
#include "transport/memory/memory_lane.hpp"
#include "transport/ring_cursor.hpp"

namespace {

using namespace xenlane;  // NOLINT(google-build-using-namespace)
using bridge::frame_header_bytes;

/// Index arithmetic and its checks alone, one frame through both ends.
void ring_cursors(benchmark::State& state) {
  constexpr std::uint32_t ring_bytes = 1 << 20;
  transport::SendCursor<std::uint32_t> send(ring_bytes, 0);
  transport::ReceiveCursor<std::uint32_t> receive(ring_bytes, 0);
  std::uint32_t producer = 0;
  std::uint32_t consumer = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(consumer);  // as if the peer might have written it
    bool ok = send.observe(consumer);
    send.commit(1000);
    producer = send.producer();
    benchmark::DoNotOptimize(producer);
    ok &= receive.observe(producer);
    receive.consume(receive.ready());
    consumer = receive.consumer();
    benchmark::DoNotOptimize(ok);
  }
}
BENCHMARK(ring_cursors);

/// A frame of so many bytes copied into the ring, shown, copied out and given back.
void ring_frame(benchmark::State& state) {
  auto [sender, receiver] = transport::MemoryLane::make_pair(1 << 20);
  std::vector<std::byte> bytes(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    bridge::copy_in(sender->writable(), 0, bytes);
    sender->commit(bytes.size());
    sender->publish();
    bridge::copy_out(receiver->readable(), 0, bytes);
    receiver->consume(bytes.size());
    receiver->publish();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(ring_frame)->Arg(64)->Arg(4096)->Arg(65536);

void codec_data_header(benchmark::State& state) {
  std::uint32_t bytes = 1;
  for (auto _ : state) {
    const auto frame = bridge::encode_frame(bridge::DataFrame{1, bytes});
    const auto header = bridge::decode_header(std::span(frame.bytes).first<frame_header_bytes>());
    bytes = header->payload_bytes % bridge::data_payload_bytes_max + 1;
    benchmark::DoNotOptimize(bytes);
  }
}
BENCHMARK(codec_data_header);

void codec_open(benchmark::State& state) {
  const bridge::OpenFrame open{1, bridge::EndShape::service, bridge::SocketKind::stream,
                               "org.example.channel.0"};
  for (auto _ : state) {
    const auto frame = bridge::encode_frame(open);
    const auto header = bridge::decode_header(std::span(frame.bytes).first<frame_header_bytes>());
    auto decoded = bridge::decode_frame(*header, frame.view().subspan(frame_header_bytes));
    benchmark::DoNotOptimize(decoded);
  }
}
BENCHMARK(codec_open);

/// Two muxes that hand each other their frames, without a lane in between.
class MuxPair {
 public:
  bridge::StreamId open() {
    const auto id = guest_.open(bridge::EndShape::service, "org.example.channel.0");
    settle();
    return id;
  }
  void say(bridge::StreamId id) { guest_.source_ready(id); }
  void close(bridge::StreamId id) {
    guest_.finish(id);
    settle();
    host_.finish(id);
    settle();
  }
  /// One DATA frame of so many bytes from whichever stream has its turn.
  void send_frame(std::uint32_t bytes) {
    const auto turn = std::get<bridge::DataTurn>(guest_.poll_output(1 << 20));
    const auto header = guest_.data_sent(turn.id, bytes);
    host_.handle_input({header.view(), {}});
    const auto step = host_.handle_input({std::span(payload_).first(bytes), {}});
    const auto& chunk = std::get<bridge::Chunk>(step.event);
    host_.delivered(chunk.id, chunk.size);
    pass_control(host_, guest_);
  }
  void settle() {
    while (pass_control(guest_, host_) || pass_control(host_, guest_)) {
    }
  }

 private:
  static bridge::MuxLimits limits() {
    bridge::MuxLimits limits;
    limits.streams_max = 16384;
    limits.stream_window_bytes_min = 1 << 20;
    limits.session_window_bytes = 1ULL << 40;
    return limits;
  }
  static bool pass_control(bridge::Mux& from, bridge::Mux& to) {
    bool any = false;
    for (;;) {
      const auto output = from.poll_output(bridge::control_payload_bytes_max + frame_header_bytes);
      const auto* control = std::get_if<bridge::ControlOutput>(&output);
      if (control == nullptr) return any;
      any = true;
      const auto step = to.handle_input({control->view(), {}});
      if (const auto* open = std::get_if<bridge::OpenRequested>(&step.event)) to.accept(open->id);
    }
  }

  std::vector<std::byte> payload_ = std::vector<std::byte>(bridge::data_payload_bytes_max);
  bridge::Mux guest_{bridge::Role::guest, limits(), limits()};
  bridge::Mux host_{bridge::Role::host, limits(), limits()};
};

/// One DATA frame through both muxes, credit included, while so many streams take turns.
void mux_frame(benchmark::State& state) {
  MuxPair muxes;
  for (std::int64_t i = 0; i < state.range(0); ++i) muxes.say(muxes.open());
  const auto bytes = static_cast<std::uint32_t>(state.range(1));
  for (auto _ : state) muxes.send_frame(bytes);
}
BENCHMARK(mux_frame)->Args({1, 64})->Args({1, 65536})->Args({100, 64})->Args({10000, 64});

/// A stream's whole life without data, beside so many others.
void mux_open_and_close(benchmark::State& state) {
  MuxPair muxes;
  for (std::int64_t i = 1; i < state.range(0); ++i) muxes.open();
  for (auto _ : state) muxes.close(muxes.open());
}
BENCHMARK(mux_open_and_close)->Arg(1)->Arg(10000);

}  // namespace

BENCHMARK_MAIN();
