// Products at shapes that fill a GPU of 132 multiprocessors with tiles of 128 x 128: the numbers of
// the CPU, and the tiles counted.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>

#include "cpu/backend.h"
#include "cuda/backend.h"
#include "cuda/tuning.h"
#include "layer/memory_layer.h"
#include "native/tensors.h"
#include "simt/control.h"

using namespace ml;

namespace {

using ml::simt::kLargeTile, ml::simt::kLargeTileTokens, ml::simt::kKeyColumns, ml::simt::kSmallTile;

constexpr int kMultiprocessors = 132;
int failed = 0, passed = 0;

void expect(bool ok, const std::string& what) {
  ++(ok ? passed : failed);
  if (!ok) std::fprintf(stderr, "failed: %s\n", what.c_str());
}

template <class T = float>
std::vector<T> values(const Tensor& t) {
  std::vector<T> host(static_cast<size_t>(t.shape.size()));
  require(!read_now(t, host.data()), "no fault");
  return host;
}

// Within `tolerance` of the largest number: sums of products differ in their order alone.
void expect_close(const std::string& what, const Tensor& got, const Tensor& wanted,
                  float tolerance = 4e-6f) {
  const std::vector<float> g = values(got), w = values(wanted);
  float largest = 0, error = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    largest = std::fmax(largest, std::fabs(w[i]));
    const float e = std::fabs(g[i] - w[i]);
    error = e <= error ? error : e;  // a NaN stays
  }
  expect(largest > 0 && error <= tolerance * largest,
         what + " differs by " + std::to_string(error) + ", largest " + std::to_string(largest));
}

const char* text(Compute compute) { return compute == Compute::float32 ? "float32" : "bfloat16"; }

struct Tiles {
  uint64_t launches, blocks;
};

// What `work` runs of a kernel on the emulated GPU.
Tiles tiles_of(Device& d, const char* kernel, const std::function<void()>& work) {
  wait(d);
  ::simt::reset_counts();
  work();
  wait(d);
  const ::simt::Counts c = ::simt::counts(kernel);
  return {c.launches, c.blocks};
}

constexpr int64_t tiles(int64_t rows, int64_t columns, int64_t tile = kLargeTile) {
  return (rows + tile - 1) / tile * ((columns + tile - 1) / tile);
}

void expect_tiles(const std::string& what, const Tiles& got, uint64_t launches, int64_t blocks) {
  expect(got.launches == launches && got.blocks == static_cast<uint64_t>(blocks),
         what + ": " + std::to_string(got.blocks) + " blocks in " + std::to_string(got.launches) +
             " launches, wanted " + std::to_string(blocks) + " in " + std::to_string(launches));
}

struct Devices {
  std::shared_ptr<Device> cpu = ml::cpu::open(2), simt = ml::simt::open(0);
};

// y = x W^T + bias of R rows, I -> O.
void linear(const Devices& on, Compute compute, int64_t R, int64_t I, int64_t O) {
  Tensor y[2];
  Tiles t{};
  for (const auto& d : {on.cpu, on.simt}) {
    const Tensor x = random_normal(*d, {R, I}, 1), w = random_normal(*d, {O, I}, 2),
                 bias = random_normal(*d, {O}, 3), out = empty(*d, {R, O});
    const auto work = [&] {
      run(*d, Linear{.y = out.view(),
                     .x = x.view(),
                     .weight = w.view(),
                     .bias = bias.view(),
                     .compute = compute});
    };
    if (d == on.cpu)
      work();
    else
      t = tiles_of(*d, "product_kernel", work);
    y[d == on.simt] = out;
  }
  const std::string name = std::string("linear, ") + text(compute);
  expect_tiles(name, t, 1, tiles(R, O));
  expect_close(name, y[1], y[0]);
}

// Only dx, or only dW, which a shape of few products makes large.
void linear_backward(const Devices& on, Compute compute, int64_t R, int64_t I, int64_t O, bool dx) {
  Tensor results[2];
  Tiles t{};
  for (const auto& d : {on.cpu, on.simt}) {
    const Tensor x = random_normal(*d, {R, I}, 1), w = random_normal(*d, {O, I}, 2),
                 dy = random_normal(*d, {R, O}, 3);
    const Tensor result = dx ? empty(*d, {R, I}) : zeros(*d, {O, I});
    const auto work = [&] {
      run(*d, LinearBackward{.dx = dx ? result.view() : View{},
                             .dweight = dx ? View{} : result.view(),
                             .dy = dy.view(),
                             .x = x.view(),
                             .weight = w.view(),
                             .compute = compute});
    };
    if (d == on.cpu)
      work();
    else
      t = tiles_of(*d, "product_kernel", work);
    results[d == on.simt] = result;
  }
  const std::string name =
      std::string("linearBackward, ") + (dx ? "dx, " : "dweight, ") + text(compute);
  expect_tiles(name, t, 1, dx ? tiles(R, I) : tiles(O, I));
  expect_close(name, results[1], results[0]);
}

void lookup(const Devices& on, Compute compute) {
  constexpr int64_t T = 300, H = 2, n = 300, d = 24, k = 8;
  std::vector<Tensor> results[2];
  Tiles t{};
  for (const auto& device : {on.cpu, on.simt}) {
    Device& at = *device;
    const Tensor query = random_normal(at, {T, H, 2, d}, 1),
                 keys = random_normal(at, {H, 2, n, d}, 2), scores = empty(at, {T, H, k}),
                 indices = empty(at, {T, H, k}, DType::i32), weights = empty(at, {T, H, k}),
                 dweights = random_normal(at, {T, H, k}, 3), dquery = empty(at, {T, H, 2, d}),
                 dkeys = zeros(at, {H, 2, n, d});
    const auto work = [&] {
      run(at, ProductKeyLookup{.scores = scores.view(),
                               .indices = indices.view(),
                               .weights = weights.view(),
                               .query = query.view(),
                               .keys = keys.view(),
                               .k = k,
                               .compute = compute});
    };
    if (device == on.cpu)
      work();
    else
      t = tiles_of(at, "half_lists_kernel", work);
    run(at, ProductKeyLookupBackward{.dquery = dquery.view(),
                                     .dkeys = dkeys.view(),
                                     .dweights = dweights.view(),
                                     .scores = scores.view(),
                                     .indices = indices.view(),
                                     .weights = weights.view(),
                                     .query = query.view(),
                                     .keys = keys.view(),
                                     .compute = compute});
    results[device == on.simt] = {scores, weights, dquery, dkeys, indices};
  }
  const std::string name = std::string("productKeyLookup, ") + text(compute);
  // a block for each tile of tokens and of half-keys, since there are multiprocessors idle
  expect_tiles(name, t, 1,
               2 * H * ((T + kLargeTileTokens - 1) / kLargeTileTokens) *
                   ((n + kKeyColumns - 1) / kKeyColumns));
  const char* names[] = {"scores", "weights", "dquery", "dkeys"};
  for (size_t i = 0; i < 4; ++i)
    expect_close(name + ", " + names[i], results[1][i], results[0][i], 2e-5f);
  expect(values<int32_t>(results[1][4]) == values<int32_t>(results[0][4]), name + ", indices");
}

// A layer as wide as it has tokens, with narrow queries and values: its projection and the gradient
// of its input are products of large tiles. Backward is slow in float32, and the same products.
void memory_layer(const Devices& on, Compute compute) {
  constexpr int64_t T = 1410, C = 1450;
  const MemoryLayerOptions options{.query = {.input_dim = C,
                                             .heads = 2,
                                             .knn = 4,
                                             .n_keys = 24,
                                             .key_dim = 16,
                                             .bias = true,
                                             .seed = 1,
                                             .compute = compute},
                                   .output_dim = C,
                                   .silu_gate = false};
  const bool rounds = compute == Compute::bfloat16;
  std::vector<Tensor> results[2];
  Tiles forward{}, backward{};
  for (const auto& d : {on.cpu, on.simt}) {
    MemoryLayer layer(d, options,
                      std::make_shared<ValueTable>(random_normal(*d, {24 * 24, 24}, 2), Tensor{}));
    const Tensor x = random_normal(*d, {T, C}, 3), dy = random_normal(*d, {T, C}, 4);
    ForwardResult result;
    Tensor dx;
    const auto ahead = [&] { result = layer.forward(x, true); };
    const auto back = [&] {
      if (rounds) dx = layer.backward(*result.context, dy);
    };
    if (d == on.cpu) {
      ahead();
      back();
    } else {
      forward = tiles_of(*d, "product_kernel", ahead);
      backward = tiles_of(*d, "product_kernel", back);
    }
    auto& r = results[d == on.simt] = {result.output};
    if (!rounds) continue;
    r.push_back(dx);
    for (const Parameter* p : layer.parameters()) r.push_back(p->grad);
  }
  const std::string name = std::string("MemoryLayer, ") + text(compute);
  // a narrow product: small tiles of one column, and five splits of its depth
  constexpr int64_t narrow = 5 * tiles(T, 1, kSmallTile), large = tiles(T, C);
  static_assert(tiles(T, 1, kSmallTile) == tiles(C, 1, kSmallTile));
  expect_tiles(name + ", forward", forward, 2, narrow + large);
  if (rounds) expect_tiles(name + ", backward", backward, 4, 3 * narrow + large);
  for (size_t i = 0; i < results[0].size(); ++i)
    expect_close(name + ", result " + std::to_string(i), results[1][i], results[0][i],
                 // what a product gives is rounded for the next one, where it may be a tie here
                 rounds ? 0x1p-9f : 2e-5f);
}

}  // namespace

int main() {
  ::simt::Settings settings = ::simt::settings();
  settings.multiprocessors = kMultiprocessors;
  settings.cached_blocks = true;
  ::simt::set(settings);
  const Devices on;
  for (const Compute compute : {Compute::float32, Compute::bfloat16}) {
    linear(on, compute, 1450, 20, 1410);
    linear_backward(on, compute, 1450, 1410, 20, true);
    linear_backward(on, compute, 20, 1410, 1450, false);
    lookup(on, compute);
    memory_layer(on, compute);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
