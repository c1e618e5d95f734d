#pragma once
// The tile product that linear, product_key_scores and product_key_lookup share: a block multiplies
// kRows rows of A by kColumns columns of B over the inner dimension ("depth"). Operands come
// through a ring of stages in shared memory, filled by cp.async; each thread keeps 64 sums in
// registers, so a block has kRows * kColumns / 64 threads. Every sum runs in ascending depth.
//
// Float32 operands (and mixed ones, widened when they leave shared memory) are multiplied by FMA,
// not by three TF32 products: the sums are then true float32 sums, infinities and NaN included (the
// small half of an infinity would be NaN), and cards that have few tensor cores are not the slower
// for it. Two 16-bit operands go through the tensor cores.

#include "cuda/block.cuh"
#include "cuda/ptx.cuh"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {

constexpr int kStages = 3;

// One matrix in memory: runs of contiguous elements, `stride` elements apart.
template <class T>
struct Operand {
  const T* data;
  int64_t stride;
  bool wide;  // every run starts at a multiple of 16 bytes

  static Operand of(const T* data, int64_t stride) {
    return {data, stride, widest<T>(data, stride) * sizeof(T) == 16};
  }
};

// What one thread copies of an operand, step by step. A step is kRuns runs of kRun elements: in
// units of 16 bytes where the operand is wide, else element by element, a warp's lanes side by
// side. kAlong: the next step lies further along the same runs (else in the runs behind). Past the
// ends of the matrix the tile gets zeros. kApart (1 or 4): how far apart the runs of neighbouring
// threads are. What a quarter warp writes at once must lie in different banks, and it is the tile's
// pitch that says which of the two does.
template <class T, bool kAlong, int kRuns, int kRun, int kThreads, int kApart>
struct Reader {
  static constexpr int kUnit = 16 / static_cast<int>(sizeof(T));
  static_assert(kRuns * kRun % (kThreads * kUnit) == 0 && kThreads % kRun == 0 && kRuns % 8 == 0);

  const T* at;
  int64_t stride;
  int runs, length;  // inside the matrix, from this thread's first unit on
  bool wide;

  // i0, n: the tile's first row or column, and their number; k0, k1 the depth
  __device__ Reader(const Operand<T>& from, int64_t i0, int64_t n, int64_t k0, int64_t k1)
      : stride(from.stride), wide(from.wide) {
    const int64_t run0 = (kAlong ? i0 : k0) + first_run(),
                  first = (kAlong ? k0 : i0) + first_element();
    at = from.data + run0 * stride + first;
    runs = clamped((kAlong ? n : k1) - run0);
    length = clamped((kAlong ? k1 : n) - first);
  }
  static __device__ int clamped(int64_t left) {
    constexpr int kMost = 1 << 30;
    return left < 0 ? 0 : (left < kMost ? static_cast<int>(left) : kMost);
  }

  // The runs in the order of the threads that copy them: as they lie, or 0 4 1 5 2 6 3 7, 8 12 … It
  // moves bits of i, and so run_of(i + j) = run_of(i) + run_of(j) where i is a multiple of a power
  // of two that is greater than j.
  static __device__ constexpr int run_of(int i) {
    return kApart == 1 ? i : i / 8 * 8 + i % 2 * 4 + i % 8 / 2;
  }
  __device__ int threads_of_run() const { return wide ? kRun / kUnit : kRun; }
  __device__ int first_run() const { return run_of(thread_of_block() / threads_of_run()); }
  __device__ int first_element() const {
    return thread_of_block() % threads_of_run() * (wide ? kUnit : 1);
  }

  // place(run, element): in shared memory
  template <class F>
  __device__ void copy(F place) {
    const int run = first_run(), element = first_element();
    const T* source = at;
    if (wide) {
      constexpr int kTogether = kThreads / (kRun / kUnit);  // runs
#pragma unroll
      for (int i = 0; i < kRuns; i += kTogether) {
        const int skipped = run_of(i);
        const int inside =
            skipped < runs ? (length < 0 ? 0 : (length < kUnit ? length : kUnit)) : 0;
        copy_async16(place(run + skipped, element), source, inside * static_cast<int>(sizeof(T)));
        source += (run_of(i + kTogether) - skipped) * stride;
      }
    } else {
      constexpr int kTogether = kThreads / kRun;
#pragma unroll 1  // for the registers: unrolled, they spill
      for (int i = 0; i < kRuns; i += kTogether) {
        const int skipped = run_of(i);
        const bool inside = skipped < runs && length > 0;
        T* target = place(run + skipped, element);
        if constexpr (sizeof(T) == 4) {
          copy_async4(target, source, inside ? 4 : 0);
        } else {
          Pack<T, 1> one{};
          if (inside) one = load<1>(source);
          store<1>(target, one);
        }
        source += (run_of(i + kTogether) - skipped) * stride;
      }
    }
    if constexpr (kAlong) {
      at += kRun;
      length -= kRun;
    } else {
      at += kRuns * stride;
      runs -= kRuns;
    }
  }
};

// Where a thread stands in the block's tile: warps are patches of 8 by 4 threads.
template <int kColumns>
struct Patch {
  int x, y;
  __device__ Patch() {
    constexpr int kWarpsAcross = kColumns / 64;
    x = warp_of_block() % kWarpsAcross * 8 + lane() % 8;
    y = warp_of_block() / kWarpsAcross * 4 + lane() / 8;
  }
};

// Products by FMA. kAlong: the operand's runs go along the depth (else along the rows of A, the
// columns of B). One thread has 8 x 8 sums. Along the depth, its rows are kRows / 8 apart and a
// tile's pitch is one 16-byte unit more than its run, five units: the eight rows that a warp reads
// together then lie in different banks, and so do two runs of four units that are copied together,
// if they are four apart. Otherwise its rows are two packs of four.
template <class A, class B, bool kAAlong, bool kBAlong, int kRows, int kColumns>
struct FmaProduct {
  static constexpr int kThreads = kRows * kColumns / 64, kDepth = 16;
  static constexpr int kRun = kBAlong ? 1 : 4;  // columns side by side in a thread's sums

  template <class T, bool kAlong, int kLength>
  struct Tile {
    static constexpr int kRuns = kAlong ? kLength : kDepth, kLong = kAlong ? kDepth : kLength;
    static constexpr int kPitch = kAlong ? kDepth + 4 : kLength;
    static_assert(!kAlong || sizeof(T) == 4);
    alignas(16) T v[kRuns * kPitch];

    using From = Reader<T, kAlong, kRuns, kLong, kThreads, kAlong ? 4 : 1>;
    __device__ void fill(From& from) {
      from.copy([&](int run, int at) { return v + run * kPitch + at; });
    }
    // Element i of this thread's eight, depth k and k + 1
    __device__ Pack<T, 2> along(int thread, int i, int k) const {
      return load<2>(v + (thread + i * (kLength / 8)) * kPitch + k);
    }
    // Elements 4g … 4g + 3 of this thread's eight, depth k
    __device__ Pack<T, 4> across(int thread, int g, int k) const {
      return load<4>(v + k * kPitch + g * (kLength / 2) + thread * 4);
    }
    static __device__ int place(int thread, int i) {
      return kAlong ? thread + i * (kLength / 8) : i / 4 * (kLength / 2) + thread * 4 + i % 4;
    }
  };
  struct Stage {
    Tile<A, kAAlong, kRows> a;
    Tile<B, kBAlong, kColumns> b;
  };

  float sum[8][8];

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[i][j] = 0;
  }

  __device__ void multiply(const Stage& s) {
    const Patch<kColumns> at;
    // Two steps of the depth at a time: more do not fit into 128 registers beside the sums.
#pragma unroll 1
    for (int k = 0; k < kDepth; k += 2) {
      float a[8][2];  // [element][depth]
      if constexpr (kAAlong) {
#pragma unroll
        for (int i = 0; i < 8; ++i) widen(a[i], s.a.along(at.y, i, k));
      } else {
#pragma unroll
        for (int kk = 0; kk < 2; ++kk)
#pragma unroll
          for (int g = 0; g < 2; ++g) {
            float four[4];
            widen(four, s.a.across(at.y, g, k + kk));
#pragma unroll
            for (int e = 0; e < 4; ++e) a[g * 4 + e][kk] = four[e];
          }
      }
      if constexpr (kBAlong) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          float b[2];
          widen(b, s.b.along(at.x, j, k));
#pragma unroll
          for (int kk = 0; kk < 2; ++kk)
#pragma unroll
            for (int i = 0; i < 8; ++i) sum[i][j] = fmaf(a[i][kk], b[kk], sum[i][j]);
        }
      } else {
#pragma unroll
        for (int kk = 0; kk < 2; ++kk)
#pragma unroll
          for (int g = 0; g < 2; ++g) {
            float b[4];
            widen(b, s.b.across(at.x, g, k + kk));
#pragma unroll
            for (int e = 0; e < 4; ++e)
#pragma unroll
              for (int i = 0; i < 8; ++i)
                sum[i][g * 4 + e] = fmaf(a[i][kk], b[e], sum[i][g * 4 + e]);
          }
      }
    }
  }

  // f(row, column, sums): kRun sums side by side, for all of this thread's, in the block's tile
  template <class F>
  __device__ void each(F f) const {
    const Patch<kColumns> at;
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 8; j += kRun)
        f(Tile<A, kAAlong, kRows>::place(at.y, i), Tile<B, kBAlong, kColumns>::place(at.x, j),
          &sum[i][j]);
  }
};

// Products by tensor cores: both operands 16-bit, with runs along the depth. One warp has 32 x 64
// sums, as 2 x 8 tiles of 16 x 8. A run of a tile is 64 bytes, four units of 16; unit u of run r
// lies at u ^ (r / 2 % 4), so that the eight runs of an ldmatrix touch every bank once.
template <class T, int kRows, int kColumns>
struct MmaProduct {
  static constexpr int kThreads = kRows * kColumns / 64, kDepth = 32;
  static constexpr int kRun = 2;

  template <int kLength>
  struct Tile {
    alignas(16) T v[kLength * kDepth];

    __device__ static int place(int run, int unit) {
      return run * kDepth + (unit ^ (run / 2 % 4)) * 8;
    }
    using From = Reader<T, true, kLength, kDepth, kThreads, 1>;
    __device__ void fill(From& from) {
      from.copy([&](int run, int at) { return v + place(run, at / 8) + at % 8; });
    }
  };
  struct Stage {
    Tile<kRows> a;
    Tile<kColumns> b;
  };

  float sum[2][8][4];

  __device__ static int row0() { return warp_of_block() / (kColumns / 64) * 32; }
  __device__ static int column0() { return warp_of_block() % (kColumns / 64) * 64; }

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[i][j][e] = 0;
  }

  __device__ void multiply(const Stage& s) {
    const int l = lane();
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      uint32_t a[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        ldmatrix_x4(a[i], s.a.v + Tile<kRows>::place(row0() + i * 16 + l % 16, k * 2 + l / 16));
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        uint32_t b[4];  // of two tiles of 8 columns
        ldmatrix_x4(b, s.b.v + Tile<kColumns>::place(column0() + j * 8 + l / 16 * 8 + l % 8,
                                                     k * 2 + l / 8 % 2));
        const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          mma_16x8x16(sum[i][j], a[i], first, T{});
          mma_16x8x16(sum[i][j + 1], a[i], second, T{});
        }
      }
    }
  }

  template <class F>
  __device__ void each(F f) const {
    const int row = row0() + lane() / 4, column = column0() + lane() % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          f(row + i * 16 + half * 8, column + j * 8, &sum[i][j][half * 2]);
  }
};

// Which of the two multiplies x [rows, depth] by y [columns, depth] of one dtype.
template <class T, int kRows, int kColumns>
struct ProductAlong {
  using type = MmaProduct<T, kRows, kColumns>;
};
template <int kRows, int kColumns>
struct ProductAlong<float, kRows, kColumns> {
  using type = FmaProduct<float, float, true, true, kRows, kColumns>;
};

// Rows row0 … of A by columns column0 … of B, depth k0 … k1 (k0 a multiple of kDepth), into p's
// sums. `ring` has kStages stages; it is free again, for all threads, when this returns.
template <class Product, class A, class B>
__device__ inline void multiply_tile(Product& p, typename Product::Stage* ring, const Operand<A>& a,
                                     int64_t row0, int64_t rows, const Operand<B>& b,
                                     int64_t column0, int64_t columns, int64_t k0, int64_t k1) {
  const int steps = static_cast<int>((k1 - k0 + Product::kDepth - 1) / Product::kDepth);
  typename decltype(Product::Stage::a)::From from_a(a, row0, rows, k0, k1);
  typename decltype(Product::Stage::b)::From from_b(b, column0, columns, k0, k1);
  const auto fill = [&](int step, int stage) {
    if (step < steps) {
      ring[stage].a.fill(from_a);
      ring[stage].b.fill(from_b);
    }
    copy_async_commit();  // also where there is nothing: the wait counts groups
  };
  p.clear();
  for (int step = 0; step < kStages - 1; ++step) fill(step, step);
  int stage = 0;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<kStages - 2>();
    block_sync();
    // the stage that all have left at the barrier
    fill(step + kStages - 1, stage == 0 ? kStages - 1 : stage - 1);
    p.multiply(ring[stage]);
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
  copy_async_wait<0>();
  block_sync();
}

}  // namespace ml::ML_CUDA_NAMESPACE
