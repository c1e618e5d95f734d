// Warp and block primitives, tensor cores and copies against plain arithmetic, in several orders
// of threads.

#include <cmath>
#include <cstdlib>

#include "harness.h"

namespace simt_test {
namespace {

using simt::Settings;

// Each order of the threads that the tests run in.
template <class F>
void in_orders(F test) {
  Settings s = simt::settings();
  for (int order = -2; order < 5; order++) {
    s.order = order == -2   ? Settings::Order::forward
              : order == -1 ? Settings::Order::reversed
                            : Settings::Order::random;
    s.seed = static_cast<uint64_t>(order);
    simt::set(s);
    test();
  }
}

float noise(int i) { return static_cast<float>((i * 7919 + 13) % 1000) / 500.0f - 1.0f; }

__global__ void shuffle_kernel(Guard guard, uint64_t* out) {
  if (guard.aborted()) return;
  const uint64_t v = 100 + lane() + (uint64_t{1} << 40);
  uint64_t* mine = out + 8 * threadIdx.x;
  mine[0] = shuffle(v, (lane() * 5 + 3) % 32);
  mine[1] = shuffle_xor(v, 9);
  mine[2] = ballot(lane() % 3 == 0);
  mine[3] = any(lane() == 17) + 2 * any(lane() == 99);
  const uint32_t half = lane() < 16 ? 0x0000ffffu : 0xffff0000u;
  mine[4] = shuffle(static_cast<uint32_t>(lane()), lane() < 16 ? 15 - lane() : 47 - lane(), half);
  mine[5] = reduce_max(lane() * 3 % 32u) + 100 * reduce_min(lane() + 5u);
}

void shuffles() {
  in_orders([] {
    Device d;
    auto* out = d.array<uint64_t>(64 * 8);
    launch(shuffle_kernel, 1, 64, 0, d.stream, out);
    const auto got = d.read(out, 64 * 8);
    for (int t = 0; t < 64; t++) {
      const int l = t % 32;
      const uint64_t base = 100 + (uint64_t{1} << 40);
      const uint64_t expected[6] = {base + (l * 5 + 3) % 32,    base + (l ^ 9), 0x49249249u, 1,
                                    l < 16 ? 15u - l : 47u - l, 31 + 500};
      for (int i = 0; i < 6; i++)
        expect(got[8 * t + i] == expected[i], "shuffles, votes and reductions");
    }
  });
}

__global__ void block_kernel(Guard guard, float* out) {
  if (guard.aborted()) return;
  float* scratch = reinterpret_cast<float*>(shared_bytes());
  const float sum = block_sum(static_cast<float>(threadIdx.x), scratch);
  const float max = block_max(-std::fabs(static_cast<float>(threadIdx.x) - 70.0f), scratch);
  out[blockIdx.x * blockDim.x + threadIdx.x] =
      sum + max + 1000000.0f * static_cast<float>(blockIdx.x);
}

void blocks() {
  in_orders([] {
    Device d;
    auto* out = d.array<float>(3 * 96);
    launch(block_kernel, 3, 96, 32 * sizeof(float), d.stream, out);
    const auto got = d.read(out, 3 * 96);
    for (int i = 0; i < 3 * 96; i++)
      expect(got[i] == 4560.0f + 1000000.0f * (i / 96), "sum and maximum of a block");
  });
}

// d [16, 8] = a [16, 16] b [16, 8] + d, as a kernel would do it: a and the transpose of b [8, 16]
// through ldmatrix.
template <class T>
__global__ void mma_kernel(Guard guard, float* out, const T* a, const T* b, const float* c) {
  if (guard.aborted()) return;
  struct Tile {
    alignas(16) T a[16][16];
    alignas(16) T b[16][16];
  };
  Tile& s = shared<Tile>();
  const int t = lane();
  for (int i = t; i < 32; i += kWarp) {
    copy_async16(&s.a[i / 2][8 * (i % 2)], a + 8 * i);
    // rows 8 … 15 are not there
    copy_async16(&s.b[i / 2][8 * (i % 2)], b + 8 * i, i < 16 ? 16 : 0);
  }
  copy_async_commit();
  copy_async_wait<0>();
  warp_sync();
  uint32_t ra[4], rb[4];
  ldmatrix_x4(ra, &s.a[t % 16][8 * (t / 16)]);
  ldmatrix_x4(rb, &s.b[t / 16 * 8 + t % 8][8 * (t / 8 % 2)]);
  float sums[4];
  for (int i = 0; i < 4; i++) sums[i] = c[(t / 4 + 8 * (i / 2)) * 8 + 2 * (t % 4) + i % 2];
  const uint32_t first[2] = {rb[0], rb[1]};
  mma_16x8x16(sums, ra, first, T{});
  for (int i = 0; i < 4; i++) out[(t / 4 + 8 * (i / 2)) * 8 + 2 * (t % 4) + i % 2] = sums[i];
  if (rb[2] != 0 || rb[3] != 0) out[0] = NAN;
}

template <class T>
void products() {
  in_orders([] {
    Device d;
    std::vector<T> a(256), b(256);
    std::vector<float> c(128);
    for (int i = 0; i < 256; i++)
      a[i] = ml::from_float<T>(noise(i)), b[i] = ml::from_float<T>(noise(3 * i + 1));
    for (int i = 0; i < 128; i++) c[i] = noise(5 * i + 2);
    auto* out = d.array<float>(128);
    launch(mma_kernel<T>, 1, 32, 2 * 256 * sizeof(T), d.stream, out, d.array(a), d.array(b),
           d.array(c));
    const auto got = d.read(out, 128);
    for (int row = 0; row < 16; row++) {
      for (int column = 0; column < 8; column++) {
        double sum = c[row * 8 + column];
        for (int k = 0; k < 16; k++)
          sum += double{ml::to_float(a[row * 16 + k])} * ml::to_float(b[column * 16 + k]);
        expect(std::fabs(got[row * 8 + column] - sum) < 1e-6, "product of 16-bit matrices");
      }
    }
  });
}

// 1 + 16 products of 2^-25, which are 2^-21: gone where terms are cut off at 24 bits.
template <class T>
void truncated_products() {
  const simt::Settings before = simt::settings();
  for (const bool truncating : {false, true}) {
    simt::Settings s = before;
    s.truncating_mma = truncating;
    simt::set(s);
    Device d;
    const std::vector<T> a(256, ml::from_float<T>(0x1p-12f)), b(256, ml::from_float<T>(0x1p-13f));
    auto* out = d.array<float>(128);
    launch(mma_kernel<T>, 1, 32, 2 * 256 * sizeof(T), d.stream, out, d.array(a), d.array(b),
           d.array(std::vector<float>(128, 1.0f)));
    const auto got = d.read(out, 128);
    for (int i = 0; i < 128; i++)
      expect(got[i] == (truncating ? 1.0f : 1.0f + 0x1p-21f), "product that truncates, or not");
  }
  simt::set(before);
}

// Lane l stores row l % 8 of matrix l / 8, with the elements 8 l … 8 l + 7, and loads all four
// matrices transposed.
__global__ void transposed_kernel(Guard guard, uint32_t* out) {
  if (guard.aborted()) return;
  auto& rows = shared<uint16_t[kWarp][8]>();
  for (int e = 0; e < 8; e++) rows[lane()][e] = static_cast<uint16_t>(8 * lane() + e);
  warp_sync();
  uint32_t r[4];
  ::simt::ldmatrix(r, rows[lane()], true, CallSite::here());
  for (int m = 0; m < 4; m++) out[4 * lane() + m] = r[m];
}

void transposed_matrices() {
  in_orders([] {
    Device d;
    auto* out = d.array<uint32_t>(4 * kWarp);
    launch(transposed_kernel, 1, kWarp, 8 * kWarp * sizeof(uint16_t), d.stream, out);
    const auto got = d.read(out, 4 * kWarp);
    for (uint32_t l = 0; l < kWarp; l++)
      for (uint32_t m = 0; m < 4; m++) {
        const uint32_t low = 8 * (8 * m + l % 4 * 2) + l / 4, high = low + 8;
        expect(got[4 * l + m] == (high << 16 | low), "transposed 8x8 matrices");
      }
  });
}

// The last block to arrive adds the partial sums of all blocks.
__global__ void last_arriver_kernel(Guard guard, float* out, float* partial, uint32_t* arrived) {
  if (guard.aborted()) return;
  uint32_t& arrival = shared<uint32_t>();
  partial[blockIdx.x * blockDim.x + threadIdx.x] = static_cast<float>(blockIdx.x + 1);
  block_sync();
  if (threadIdx.x == 0) arrival = atomic_add_acq_rel(arrived, 1);
  block_sync();
  if (arrival == gridDim.x - 1) {
    float sum = 0;
    for (unsigned b = 0; b < gridDim.x; b++)
      sum += partial[b * blockDim.x + (threadIdx.x + 1) % blockDim.x];
    out[threadIdx.x] = sum;
    if (threadIdx.x == 0) *arrived = 0;
  }
}

void last_arriver() {
  in_orders([] {
    Device d;
    auto* out = d.array<float>(64);
    auto* partial = d.array<float>(10 * 64);
    auto* arrived = d.array(std::vector<uint32_t>{0});
    for (int i = 0; i < 2; i++)
      launch(last_arriver_kernel, 10, 64, sizeof(uint32_t), d.stream, out, partial, arrived);
    for (const float v : d.read(out, 64))
      expect(v == 55.0f, "the last arriver sees all partial sums");
  });
}

__global__ void atomic_kernel(Guard guard, uint64_t* lowest) {
  if (guard.aborted()) return;
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  atomic_min(lowest, (uint64_t{i * 37 % 101 + 1}) << 40);
}

void atomics() {
  in_orders([] {
    Device d;
    auto* lowest = d.array(std::vector<uint64_t>{~uint64_t{0}});
    launch(atomic_kernel, 4, 50, 0, d.stream, lowest);
    expect(d.read(lowest, 1)[0] == uint64_t{1} << 40, "atomic_min");
  });
}

template <class T>
__global__ void convert_kernel(Guard guard, T* out, const T* in, int n) {
  if (guard.aborted()) return;
  constexpr int kWide = 16 / sizeof(T);
  for (int i = kWide * threadIdx.x; i < n; i += kWide * blockDim.x) {
    float v[kWide];
    widen(v, load<kWide>(in + i));
    store_streaming(out + i, narrow<T>(v));
  }
}

template <class T>
void conversions() {
  Device d;
  std::vector<T> in(65536);
  for (int i = 0; i < 65536; i++) in[i] = T{static_cast<uint16_t>(i)};
  auto* out = d.array<T>(65536);
  launch(convert_kernel<T>, 1, 256, 0, d.stream, out, d.array(in), 65536);
  const auto got = d.read(out, 65536);
  for (int i = 0; i < 65536; i++) {
    const float x = ml::to_float(in[i]), y = ml::to_float(got[i]);
    expect(std::isnan(x) ? std::isnan(y) : in[i].bits == got[i].bits,
           "every 16-bit number survives");
  }
}

void widest_loads() {
  expect(widest<float>(uintptr_t{64}, 12) == 4, "aligned rows of 12 floats");
  expect(widest<float>(uintptr_t{64}, 10) == 2, "rows of 10 floats");
  expect(widest<float>(uintptr_t{72}, 12) == 2, "rows at a multiple of 8");
  expect(widest<ml::Half>(uintptr_t{2}, 8) == 1, "halves at an odd address");
  expect(widest<ml::BFloat16>(uintptr_t{16}, 1000) == 8, "rows of 1000 bfloat16");
}

}  // namespace

const std::vector<Test>& primitive_tests() {
  static const std::vector<Test> tests = {
      {"shuffles, votes, reductions", shuffles},
      {"block sums", blocks},
      {"product of bfloat16", products<ml::BFloat16>},
      {"product of half", products<ml::Half>},
      {"product of bfloat16 that truncates", truncated_products<ml::BFloat16>},
      {"product of half that truncates", truncated_products<ml::Half>},
      {"transposed matrices", transposed_matrices},
      {"last arriver", last_arriver},
      {"atomics", atomics},
      {"conversions of half", conversions<ml::Half>},
      {"conversions of bfloat16", conversions<ml::BFloat16>},
      {"widest loads", widest_loads},
  };
  return tests;
}

}  // namespace simt_test
