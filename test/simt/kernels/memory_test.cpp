// The table kernels on the emulator: the same bits in every order of threads and blocks, the bytes
// that they move, 64-bit offsets.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "cpu/backend.h"
#include "cuda/backend.h"
#include "cuda/gather.cuh"
#include "layer/run.h"
#include "simt/control.h"

using namespace ml;

namespace {

void require(bool ok, const std::string& what) {
  if (ok) return;
  std::fprintf(stderr, "failed: %s\n", what.c_str());
  std::exit(1);
}

void expect_no_fault(Device& device) {
  device.stream().wait();
  require(!device.stream().report_fault(device.stream().submitted()), "no fault");
}

struct Source {
  std::shared_ptr<Device> device;
  uint64_t seed = 1;

  uint32_t bits() {
    return static_cast<uint32_t>((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 32);
  }

  template <class T>
  Tensor upload(const Shape& shape, DType dtype, const std::vector<T>& values) {
    Tensor t = empty(*device, shape, dtype);
    write(t.view(), values.data());
    return t;
  }
  // Numbers in [-1, 1), of a float dtype by rounding.
  Tensor numbers(const Shape& shape, DType dtype = DType::f32) {
    std::vector<float> values(static_cast<size_t>(shape.size()));
    for (float& v : values) v = static_cast<float>(bits() >> 8) * 0x1p-23f - 1;
    Tensor exact = upload(shape, DType::f32, values);
    if (dtype == DType::f32) return exact;
    Tensor t = empty(*device, shape, dtype);
    run(*device, Copy{.out = t.view(), .in = exact.view()});
    return t;
  }
  // Slots of [-1, slots); every `hot`-th is 3.
  Tensor indices(const Shape& shape, int64_t slots, int hot) {
    std::vector<int32_t> values(static_cast<size_t>(shape.size()));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = i % static_cast<size_t>(hot) == 0
                      ? 3
                      : static_cast<int32_t>(bits() % static_cast<uint32_t>(slots + 1)) - 1;
    return upload(shape, DType::i32, values);
  }
  std::string read(const Tensor& t, int64_t elements = -1) {
    std::string host(static_cast<size_t>(elements < 0 ? t.bytes() : elements * bytes_of(t.dtype)),
                     '\0');
    if (host.empty()) return host;
    View part = t.view();
    part.dtype = DType::u8;
    part.shape = {static_cast<int64_t>(host.size())};
    ml::read(host.data(), part, nullptr);
    expect_no_fault(*device);
    return host;
  }
};

struct Case {
  int64_t B, L, V, N;
  int hot;
  DType dtype;
};
// Few bags, which are cut into chunks; a hot row of many chunks; odd widths; several slices.
constexpr Case kCases[] = {{1, 128, 64, 40, 5, DType::bf16}, {40, 32, 20, 9, 2, DType::f32},
                           {5, 33, 7, 30, 3, DType::f16},    {3, 40, 600, 12, 4, DType::f32},
                           {6, 9, 264, 8, 9, DType::bf16},   {300, 2, 3, 4, 1, DType::f32}};

// Every result of forward, backward and update of a table, as bytes of int32 or float32.
using Results = std::map<std::string, std::string>;

Results forward_and_backward(const std::shared_ptr<Device>& device, const Case& c) {
  const auto [B, L, V, N, hot, dtype] = c;
  Source s{device};
  Device& d = *device;
  Results results;
  const Tensor ids = s.indices({B, L}, N, hot), w = s.numbers({B, L}), dy = s.numbers({B, V});
  const Tensor exact = s.numbers({N, V}), table = empty(d, {N, V}, dtype), y = empty(d, {B, V}),
               dw = empty(d, {B, L});
  run(d, Copy{.out = table.view(), .in = exact.view()});
  run(d, EmbeddingBag{
             .y = y.view(), .table = table.view(), .indices = ids.view(), .weights = w.view()});
  run(d, EmbeddingBagWeightsBackward{
             .dweights = dw.view(), .dy = dy.view(), .table = table.view(), .indices = ids.view()});
  results["y"] = s.read(y);
  results["dweights"] = s.read(dw);

  const int64_t C = std::min(2 * B * L, N);
  const Tensor rows = empty(d, {C}, DType::i32), starts = empty(d, {C + 1}, DType::i32),
               order = empty(d, {2 * B * L}, DType::i32), count = empty(d, {1}, DType::i32),
               values = empty(d, {C, V});
  // of two layers
  const std::vector<TableRead> reads(
      2, TableRead{.indices = ids.view(), .weights = w.view(), .dy = dy.view()});
  run(d, SortRows{.rows = rows.view(),
                  .starts = starts.view(),
                  .order = order.view(),
                  .count = count.view(),
                  .reads = reads,
                  .slots = N});
  run(d, SparseGradValues{.values = values.view(),
                          .rows = rows.view(),
                          .starts = starts.view(),
                          .order = order.view(),
                          .count = count.view(),
                          .reads = reads,
                          .width = V});
  results["count"] = s.read(count);
  const int32_t R = *reinterpret_cast<const int32_t*>(results["count"].data());
  results["rows"] = s.read(rows, R);
  results["values"] = s.read(values, int64_t{R} * V);

  const Tensor step = zeros(d, {1}, DType::i32), sum = zeros(d, {2}, DType::i32);
  run(d, SparseSquares{.sum = sum.view(),
                       .rows = rows.view(),
                       .starts = starts.view(),
                       .order = order.view(),
                       .count = count.view(),
                       .reads = reads,
                       .width = V});
  results["sum"] = s.read(sum);
  table.storage->exact = new_exact_rows(table);
  for (Rule rule : {Rule::sgd, Rule::adagrad, Rule::rowwise_adagrad, Rule::adamw}) {
    const bool per_row = rule == Rule::rowwise_adagrad;
    const Tensor s1 = zeros(d, per_row ? Shape{N} : Shape{N, V}), s2 = zeros(d, {N, V});
    run(d, Copy{.out = table.view(), .in = exact.view()});
    if (dtype != DType::f32) set_exact_values(table, exact);
    const Hyper hyper{.lr = 0.1f, .weight_decay = 0.1f};
    SparseUpdate update{.table = table.view(),
                        .exact = exact_rows(table).view(),
                        .state1 = rule == Rule::sgd ? View{} : s1.view(),
                        .state2 = rule == Rule::adamw ? s2.view() : View{},
                        .step = step.view(),
                        .rows = rows.view(),
                        .starts = starts.view(),
                        .order = order.view(),
                        .count = count.view(),
                        .reads = reads,
                        .rule = rule,
                        .hyper = hyper,
                        .every_row = rule == Rule::adamw};
    run(d, update);
    const std::string name = std::to_string(static_cast<int>(rule));
    const Tensor widened = empty(d, {N, V});
    run(d, Copy{.out = widened.view(), .in = table.view()});
    results["table " + name] = s.read(widened);
    results["state " + name] = s.read(s1);
    if (dtype != DType::f32) results["exact " + name] = s.read(exact_values(table));
  }
  return results;
}

void same_bits_in_every_order() {
  using Order = ::simt::Settings::Order;
  const ::simt::Settings usual = ::simt::settings();
  for (const Case& c : kCases) {
    const Results expected = forward_and_backward(ml::simt::open(0), c);
    for (int seed = 0; seed < 6; ++seed) {
      ::simt::Settings settings = usual;
      settings.order = seed == 0 ? Order::reversed : Order::random;
      settings.seed = static_cast<uint64_t>(seed);
      settings.multiprocessors = seed % 2 ? 2 : 7;  // other grids
      ::simt::set(settings);
      for (const auto& [name, bytes] : forward_and_backward(ml::simt::open(0), c))
        require(bytes == expected.at(name), name + " has the same bits in order " +
                                                std::to_string(seed) + ", V " +
                                                std::to_string(c.V));
    }
    ::simt::set(usual);
  }
}

void same_numbers_as_the_cpu() {
  for (const Case& c : kCases) {
    const Results expected = forward_and_backward(cpu::open(1), c);
    for (const auto& [name, bytes] : forward_and_backward(ml::simt::open(0), c)) {
      const std::string& other = expected.at(name);
      if (name == "rows" || name == "count") {
        require(bytes == other, name + " is the CPU's, V " + std::to_string(c.V));
        continue;
      }
      require(bytes.size() == other.size(), name + " has the CPU's size");
      const bool rounded = c.dtype != DType::f32 && name.starts_with("table");
      // one step of the dtype
      const double tolerance = !rounded ? 1e-5 : c.dtype == DType::bf16 ? 0x1p-7 : 0x1p-10;
      for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
        float x, y;
        std::memcpy(&x, &bytes[i], 4);
        std::memcpy(&y, &other[i], 4);
        require(std::fabs(x - y) <= tolerance * std::fmax(1.0f, std::fabs(y)),
                name + "[" + std::to_string(i / 4) + "] is " + std::to_string(x) + ", on the CPU " +
                    std::to_string(y) + ", V " + std::to_string(c.V));
      }
    }
  }
}

// Bytes of all sectors over the floor, with bags enough that none is cut into chunks.
void bags_move_their_floor() {
  for (DType dtype : {DType::f32, DType::bf16, DType::i8})
    for (int64_t V : {64, 256, 768, 1024}) {
      Source s{ml::simt::open(0)};
      const int64_t B = 512, L = 32, N = 100, e = bytes_of(dtype);
      std::vector<int32_t> ids(static_cast<size_t>(B * L));
      for (int32_t& i : ids) i = static_cast<int32_t>(s.bits() % N);
      const Tensor indices = s.upload({B, L}, DType::i32, ids), w = s.numbers({B, L}),
                   y = empty(*s.device, {B, V});
      const Tensor table =
          dtype == DType::i8
              ? s.upload({N, V}, dtype, std::vector<int8_t>(static_cast<size_t>(N * V), 3))
              : s.numbers({N, V}, dtype);
      expect_no_fault(*s.device);
      ::simt::reset_counts();
      run(*s.device, EmbeddingBag{.y = y.view(),
                                  .table = table.view(),
                                  .indices = indices.view(),
                                  .weights = w.view()});
      expect_no_fault(*s.device);
      double sectors = 0;
      for (const char* kernel : {"embedding_bag_kernel", "add_bag_chunks_kernel"}) {
        const ::simt::Counts c = ::simt::counts(kernel);
        sectors += static_cast<double>(c.loads.sectors + c.stores.sectors);
      }
      const double floor = static_cast<double>(B * L * (V * e + 8) + B * V * 4),
                   ratio = sectors * 32 / floor;
      std::printf("embedding bag, %s, V %lld: %.4f of its floor\n", name_of(dtype),
                  static_cast<long long>(V), ratio);
      require(ratio <= 1.02, "embedding bag moves at most 1.02 times its floor");
    }
}

void offsets_have_64_bits() {
  const auto* base = reinterpret_cast<const uint16_t*>(uintptr_t{1} << 40);
  const auto at = [&](int64_t index, int64_t width) {
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(ml::simt::row_at(base, index, width)) -
                                (uintptr_t{1} << 40));
  };
  require(at(0x7ffffffe, 1024) == int64_t{0x7ffffffe} * 2048, "the last row of the largest table");
  require(at(int64_t{1} << 22, 1025) == (int64_t{1} << 22) * 2050, "a row after 2^32 elements");
}

}  // namespace

int main() {
  offsets_have_64_bits();
  bags_move_their_floor();
  same_numbers_as_the_cpu();
  same_bits_in_every_order();
  std::printf("4 passed, 0 failed\n");
}
