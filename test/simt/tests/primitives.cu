// Warp and block primitives, tensor cores and copies against plain arithmetic, in every order of
// threads.

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
  mine[2] = shuffle_up(v, 3);
  mine[3] = shuffle_down(v, 7);
  mine[4] = ballot(lane() % 3 == 0);
  mine[5] = any(lane() == 17) + 2 * any(lane() == 99) + 4 * all(lane() < 32) + 8 * all(lane() != 5);
  const uint32_t half = lane() < 16 ? 0x0000ffffu : 0xffff0000u;
  mine[6] = shuffle(static_cast<uint32_t>(lane()), lane() < 16 ? 15 - lane() : 47 - lane(), half);
  mine[7] = reduce_max(lane() * 3 % 32u) + 100 * reduce_min(lane() + 5u) + 10000 * reduce_add(1u);
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
      const uint64_t wanted[8] = {
          base + (l * 5 + 3) % 32,         base + (l ^ 9),   base + (l >= 3 ? l - 3 : l),
          base + (l + 7 < 32 ? l + 7 : l), 0x49249249u,      1 + 4,
          l < 16 ? 15u - l : 47u - l,      31 + 500 + 320000};
      for (int i = 0; i < 8; i++)
        expect(got[8 * t + i] == wanted[i], "shuffles, votes and reductions");
    }
  });
}

__global__ void block_kernel(Guard guard, float* out) {
  if (guard.aborted()) return;
  float* scratch = reinterpret_cast<float*>(shared_bytes());
  const float sum = block_sum(static_cast<float>(threadIdx.x), scratch);
  const float most = block_max(-std::fabs(static_cast<float>(threadIdx.x) - 70.0f), scratch);
  out[blockIdx.x * blockDim.x + threadIdx.x] =
      sum + most + 1000000.0f * static_cast<float>(blockIdx.x);
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

// d [16, 8] = a [16, 16] b [16, 8] + d, as a kernel would do it: a through ldmatrix, b through
// ldmatrix transposed.
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
    // columns 8 … 15 are not there
    copy_async16(&s.b[i / 2][8 * (i % 2)], b + 8 * i, i % 2 ? 0 : 16);
  }
  copy_async_commit();
  copy_async_wait<0>();
  warp_sync();
  uint32_t ra[4], rb[4];
  ldmatrix_x4(ra, &s.a[t % 16][8 * (t / 16)]);
  ldmatrix_x4_trans(rb, &s.b[t % 16][8 * (t / 16)]);
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
          sum += double{ml::to_float(a[row * 16 + k])} * ml::to_float(b[k * 16 + column]);
        expect(std::fabs(got[row * 8 + column] - sum) < 1e-6, "product of 16-bit matrices");
      }
    }
  });
}

__global__ void tf32_kernel(Guard guard, float* out, const float* a, const float* b) {
  if (guard.aborted()) return;
  const int g = lane() / 4, t = lane() % 4;
  uint32_t ra[4], rb[2];
  for (int i = 0; i < 4; i++) ra[i] = to_tf32(a[(g + 8 * (i % 2)) * 8 + t + 4 * (i / 2)]);
  for (int i = 0; i < 2; i++) rb[i] = to_tf32(b[(t + 4 * i) * 8 + g]);
  float sums[4] = {};
  mma_16x8x8_tf32(sums, ra, rb);
  for (int i = 0; i < 4; i++) out[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sums[i];
}

void tf32_products() {
  Device d;
  std::vector<float> a(128), b(64);
  for (int i = 0; i < 128; i++) a[i] = noise(i);
  for (int i = 0; i < 64; i++) b[i] = static_cast<float>(i % 9 - 4);  // exact in TF32
  a[5] = 1.0f + 0x1p-11f;                                             // a tie: away from zero
  auto* out = d.array<float>(128);
  launch(tf32_kernel, 1, 32, 0, d.stream, out, d.array(a), d.array(b));
  const auto got = d.read(out, 128);
  for (int row = 0; row < 16; row++) {
    for (int column = 0; column < 8; column++) {
      double sum = 0;
      for (int k = 0; k < 8; k++) {
        const float x = a[row * 8 + k];
        const double rounded = row * 8 + k == 5 ? 1.0 + 0x1p-10
                                                : std::round(std::ldexp(x, 10 - std::ilogb(x))) *
                                                      std::ldexp(1.0, std::ilogb(x) - 10);
        sum += (x == 0 ? 0.0 : rounded) * b[k * 8 + column];
      }
      expect(std::fabs(got[row * 8 + column] - sum) < 1e-6, "product of TF32 matrices");
    }
  }
}

// The last block to arrive adds what the others left.
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

__global__ void atomic_kernel(Guard guard, int32_t* sum, uint64_t* least, uint32_t* most,
                              uint32_t* bits) {
  if (guard.aborted()) return;
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  atomic_add(sum, -static_cast<int32_t>(i));
  atomic_min(least, (uint64_t{i * 37 % 101 + 1}) << 40);
  atomic_max(most, i * 37 % 101);
  atomic_or(bits, 1u << (i % 7));
}

void atomics() {
  in_orders([] {
    Device d;
    auto* sum = d.array(std::vector<int32_t>{5});
    auto* least = d.array(std::vector<uint64_t>{~uint64_t{0}});
    auto* most = d.array(std::vector<uint32_t>{0});
    auto* bits = d.array(std::vector<uint32_t>{256});
    launch(atomic_kernel, 4, 50, 0, d.stream, sum, least, most, bits);
    expect(d.read(sum, 1)[0] == 5 - 19900, "atomic_add");
    expect(d.read(least, 1)[0] == uint64_t{1} << 40, "atomic_min");
    expect(d.read(most, 1)[0] == 100, "atomic_max");
    expect(d.read(bits, 1)[0] == 256 + 127, "atomic_or");
  });
}

template <class T>
__global__ void convert_kernel(Guard guard, T* out, const T* in, int n) {
  if (guard.aborted()) return;
  constexpr int kWide = 16 / sizeof(T);
  for (int i = kWide * threadIdx.x; i < n; i += kWide * blockDim.x) {
    float v[kWide];
    widen(v, load_once<kWide>(in + i));
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
      {"product of TF32", tf32_products},
      {"last arriver", last_arriver},
      {"atomics", atomics},
      {"conversions of half", conversions<ml::Half>},
      {"conversions of bfloat16", conversions<ml::BFloat16>},
      {"widest loads", widest_loads},
  };
  return tests;
}

}  // namespace simt_test
