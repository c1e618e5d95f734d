#include "ceilings.h"

#ifdef ML_ISA
#include "cpu/prefetch.h"

namespace ml::cpu::ML_ISA {
namespace {

typedef uint32_t UVec __attribute__((vector_size(4 * kWidth)));
constexpr int64_t kVectorBytes = 4 * kWidth;
constexpr int kLineVectors = kCacheLine > kVectorBytes ? static_cast<int>(kCacheLine / kVectorBytes)
                                                       : 1;
constexpr int kChains = 12;  // more than FMA latency times ports of any known core

template <int level>
[[gnu::always_inline]] inline void prefetch_into(const void* p) {
  if constexpr (level == 1)
    prefetch_l1d(p);
  else
    prefetch_l2(p);
}

// Adds integers: the rows may hold any bits, and denormal floats are slow to add.
template <int level>
uint32_t gather_with(const bench::RowWalk& w, int64_t begin, int64_t end) {
  UVec sum[4] = {};
  uint32_t scales = 0;
  for (int64_t i = begin; i < end; ++i) {
    const char* row = w.data + w.rows[i] * w.row_bytes;
    const bool prefetch = w.distance > 0 && i + w.distance < w.count;
    const bool prefetch_l1 = w.l1_distance > 0 && i + w.l1_distance < w.count;
    const int64_t next = w.rows[prefetch ? i + w.distance : i];
    const int64_t next_l1 = w.rows[prefetch_l1 ? i + w.l1_distance : i];
    if (w.scales) {
      if (prefetch) prefetch_into<level>(w.scales + next);
      if (prefetch_l1) prefetch_l1d(w.scales + next_l1);
      scales += __builtin_bit_cast(uint32_t, w.scales[w.rows[i]]);
    }
    for (int64_t c = 0; c < w.row_bytes; c += kCacheLine) {
      if (prefetch) prefetch_into<level>(w.data + next * w.row_bytes + c);
      if (prefetch_l1) prefetch_l1d(w.data + next_l1 * w.row_bytes + c);
      for (int v = 0; v < kLineVectors; ++v)
        sum[v] += reinterpret_cast<UVec>(
            load(reinterpret_cast<const float*>(row + c + v * kVectorBytes)));
    }
  }
  const UVec all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  for (int i = 0; i < kWidth; ++i) scales += all[i];
  return scales;
}

// The same for rows of kLines cache lines, unrolled, with one prefetch a line.
template <int level, int kLines>
uint32_t gather_unrolled(const bench::RowWalk& w, int64_t begin, int64_t end) {
  UVec sum[4] = {};
  uint32_t scales = 0;
  const auto add = [&](int64_t i, int64_t next) __attribute__((always_inline)) {
    const char* row = w.data + int64_t{w.rows[i]} * kLines * kCacheLine;
    const char* ahead = w.data + next * kLines * kCacheLine;
    if (w.scales) {
      prefetch_into<level>(w.scales + next);
      scales += __builtin_bit_cast(uint32_t, w.scales[w.rows[i]]);
    }
#pragma GCC unroll 16
    for (int l = 0; l < kLines; ++l) {
      prefetch_into<level>(ahead + l * kCacheLine);
      for (int v = 0; v < kLineVectors; ++v)
        sum[(l * kLineVectors + v) % 4] += reinterpret_cast<UVec>(
            load(reinterpret_cast<const float*>(row + l * kCacheLine + v * kVectorBytes)));
    }
  };
  const int64_t prefetched = w.count - w.distance < end ? w.count - w.distance : end;
  int64_t i = begin;
  for (; i < prefetched; ++i) add(i, w.rows[i + w.distance]);
  for (; i < end; ++i) add(i, w.rows[i]);
  const UVec all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  for (int k = 0; k < kWidth; ++k) scales += all[k];
  return scales;
}

template <int level>
uint32_t gather_lines(const bench::RowWalk& w, int64_t begin, int64_t end) {
  switch (w.unrolled ? w.row_bytes / kCacheLine : 0) {
    case 1: return gather_unrolled<level, 1>(w, begin, end);
    case 2: return gather_unrolled<level, 2>(w, begin, end);
    case 4: return gather_unrolled<level, 4>(w, begin, end);
    case 8: return gather_unrolled<level, 8>(w, begin, end);
    case 16: return gather_unrolled<level, 16>(w, begin, end);
  }
  return gather_with<level>(w, begin, end);
}

uint32_t gather_range(const bench::RowWalk& w, int64_t begin, int64_t end) {
  return w.level == 1 ? gather_lines<1>(w, begin, end) : gather_lines<2>(w, begin, end);
}

template <int level>
void update_with(const bench::RowWalk& w, int64_t begin, int64_t end) {
  const Vec one = set1(1.0f);
  for (int64_t i = begin; i < end; ++i) {
    const bool prefetch = w.distance > 0 && i + w.distance < w.count;
    const int64_t next = w.rows[prefetch ? i + w.distance : i];
    if (w.states) {
      if (prefetch) prefetch_into<level>(w.states + next);
      w.states[w.rows[i]] += 1.0f;
    }
    for (int table = 0; table < w.tables; ++table) {
      char* data = w.data + table * w.stride;
      char* row = data + w.rows[i] * w.row_bytes;
      const char* next_row = data + next * w.row_bytes;
      for (int64_t c = 0; c < w.row_bytes; c += kCacheLine) {
        if (prefetch) prefetch_into<level>(next_row + c);
        for (int v = 0; v < kLineVectors; ++v) {
          float* at = reinterpret_cast<float*>(row + c + v * kVectorBytes);
          store(at, load(at) + one);
        }
      }
    }
  }
}

void update_range(const bench::RowWalk& w, int64_t begin, int64_t end) {
  w.level == 1 ? update_with<1>(w, begin, end) : update_with<2>(w, begin, end);
}

float fma_range(int64_t rounds) {
  Vec sum[kChains];
  // all different, else the compiler computes one
  for (int j = 0; j < kChains; ++j) sum[j] = set1(static_cast<float>(j));
  const Vec a = set1(0.5f), b = set1(1.0f);
  for (int64_t i = 0; i < rounds; ++i)
    for (int j = 0; j < kChains; ++j) sum[j] = fma(sum[j], a, b);
  Vec all{};
  for (int j = 0; j < kChains; ++j) all += sum[j];
  return reduce_add(all);
}

int64_t fma_flops() { return 2 * kChains * kWidth; }  // of one round

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <new>

#include "cpu/thread_pool.h"

#define ML_ISA_SOURCE "ceilings.cpp"
#include "cpu/foreach_isa.h"

namespace ml::bench {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kGrain = 256;  // rows of a chunk

std::atomic<float> fma_sum;  // keep the sums from being optimised away
std::atomic<uint32_t> gather_sum;

template <class F>
void parallel(int threads, int64_t n, int64_t grain, F body) {
  cpu::pool_run(
      threads, n, grain,
      {[](void* o, int64_t begin, int64_t end, int) { (*static_cast<F*>(o))(begin, end); }, &body});
}

}  // namespace

Memory::Memory(int64_t bytes) : mapped_bytes_(bytes + kHugePage), bytes_(bytes) {
  void* p = mmap(nullptr, static_cast<size_t>(mapped_bytes_), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  mapped_ = static_cast<char*>(p);
  data_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(p) + kHugePage - 1) / kHugePage *
                                  kHugePage);
  madvise(data_, static_cast<size_t>(bytes_), MADV_HUGEPAGE);
  std::fill_n(reinterpret_cast<float*>(data_), bytes_ / 4, 1.0f);
}

Memory::~Memory() { munmap(mapped_, static_cast<size_t>(mapped_bytes_)); }

uint32_t gather_rows(const RowWalk& walk, int threads) {
  const auto range = ML_DISPATCH(gather_range);
  parallel(threads, walk.count, kGrain, [&](int64_t begin, int64_t end) {
    gather_sum.store(range(walk, begin, end), std::memory_order_relaxed);
  });
  return gather_sum.load();
}

void update_rows(const RowWalk& walk, int threads) {
  const auto range = ML_DISPATCH(update_range);
  parallel(threads, walk.count, kGrain,
           [&](int64_t begin, int64_t end) { range(walk, begin, end); });
}

double fma_peak(int64_t rounds, int threads) {
  const auto range = ML_DISPATCH(fma_range);
  parallel(threads, threads, 1,
           [&](int64_t, int64_t) { fma_sum.store(range(rounds), std::memory_order_relaxed); });
  return static_cast<double>(rounds) * static_cast<double>(threads) *
         static_cast<double>(ML_DISPATCH(fma_flops)());
}

}  // namespace ml::bench
#endif
