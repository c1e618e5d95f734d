#pragma once
// Rows anywhere in memory: their weighted sum, and their dot products with one vector. A lane group
// of a warp walks the entries of one bag. The warp's groups go through the same loop together, for
// `max_count` entries, the maximum over the groups. A row is cut into slices: of slice s, vector
// v in [0, vectors), lane l of a group has the n elements from
//   column + v * lanes * n   on, where   column = s * lanes * n * vectors + l * n.

#include "cuda/lane_group.cuh"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// Where a row of a table begins: offsets are 64-bit, since tables have more than 2^32 bytes.
template <class T>
__host__ __device__ constexpr T* row_at(T* table, int64_t index, int64_t width) {
  return table + index * width;
}

// An entry of a bag: its row, nullptr for a padding index, and its weight.
template <class T>
struct alignas(16) RowEntry {
  const T* row;
  float weight;
};

// A lane's elements of one slice of a row: `vectors` packs of n. Kernels keep `rows`
// rows in flight.
template <int n_, int vectors_, int rows_>
struct RowSlice {
  static constexpr int n = n_, vectors = vectors_, rows = rows_;
  float v[vectors][n] = {};

  __device__ static int column(const LaneGroup& group, int slice) {
    return slice * group.lanes * (n * vectors) + group.lane * n;
  }
};

// How a row of `packs` packs is cut: the smallest lane group that has it in one slice, or else
// slices of a warp each.
struct Slicing {
  int lanes, slices;
};
constexpr Slicing slicing(int64_t packs, int vectors) {
  int lanes = 8;  // shuffles hand out rows eight at a time
  while (lanes < kWarp && lanes * vectors < packs) lanes *= 2;
  return {lanes, static_cast<int>((packs + lanes * vectors - 1) / (lanes * vectors))};
}

// sum.v += weight * row over the `count` entries of this group, in order. fetch(i), i in [0,
// count), gives a RowEntry<T>. kCaching: streaming for rows of a large table, each read for one
// bag; kept for rows that other warps read too.
template <Caching kCaching, class T, class Slice, class Fetch>
__device__ inline void add_rows(Slice& sum, const LaneGroup& group, int count, int max_count,
                                int column, int width, Fetch fetch) {
  constexpr int n = Slice::n;
  const int step = group.lanes * n;
  const auto entry = [&](int i) { return i < count ? fetch(i) : RowEntry<T>{nullptr, 0.0f}; };
  RowEntry<T> next = entry(group.lane);
  for (int begin = 0; begin < max_count; begin += group.lanes) {
    const RowEntry<T> own = next;
    next = entry(begin + group.lanes + group.lane);  // in flight together with the rows of `own`
    const int steps = max_count - begin < group.lanes ? max_count - begin : group.lanes;
    for (int j = 0; j < steps; j += Slice::rows) {  // `lanes` is a multiple of `rows`
      Pack<T, n> x[Slice::rows][Slice::vectors];
      float weight[Slice::rows];
      // All loads before the first use, so that rows * vectors of them are in flight at once.
#pragma unroll
      for (int r = 0; r < Slice::rows; ++r) {
        const T* row = reinterpret_cast<const T*>(
            shuffle(reinterpret_cast<uint64_t>(own.row), group.at(j + r)));
        weight[r] = shuffle(own.weight, group.at(j + r));
#pragma unroll
        for (int v = 0; v < Slice::vectors; ++v) {
          const int c = column + v * step;
          // a padding entry adds 0 * 0, never 0 * NaN
          const bool inside = row != nullptr && c < width;
          x[r][v] = load_if<n, kCaching>(inside, row + c);
        }
      }
#pragma unroll
      for (int r = 0; r < Slice::rows; ++r)
#pragma unroll
        for (int v = 0; v < Slice::vectors; ++v)
#pragma unroll
          for (int e = 0; e < n; ++e)
            sum.v[v][e] = fmaf(weight[r], widen(x[r][v].v[e]), sum.v[v][e]);
    }
  }
}

// <x, row> at the columns of x for the entries [begin, begin + count), count <= lanes: lane l gets
// the dot product of entry begin + l, whose terms are added over the lanes in a fixed order. `own`
// is that entry; the result of a padding entry is undefined.
template <class T, class Slice>
__device__ inline float dot_rows(const Slice& x, const LaneGroup& group, const RowEntry<T>& own,
                                 int count, int column, int width) {
  constexpr int n = Slice::n, rows = Slice::rows;
  const int step = group.lanes * n;
  float product = 0;
  for (int j = 0; j < count; j += rows) {
    Pack<T, n> y[rows][Slice::vectors];
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      const T* row =
          reinterpret_cast<const T*>(shuffle(reinterpret_cast<uint64_t>(own.row), group.at(j + r)));
#pragma unroll
      for (int v = 0; v < Slice::vectors; ++v) {
        const int c = column + v * step;
        y[r][v] = load_if<n, Caching::streaming>(row != nullptr && c < width, row + c);
      }
    }
    float sums[rows];
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      sums[r] = 0;
#pragma unroll
      for (int v = 0; v < Slice::vectors; ++v)
#pragma unroll
        for (int e = 0; e < n; ++e) sums[r] = fmaf(x.v[v][e], widen(y[r][v].v[e]), sums[r]);
    }
    const float sum = group_sums(group, sums);
    const int r = group.lane - j;  // which of these rows is this lane's entry
    const float result = shuffle(sum, group.at((r & (rows - 1)) * (group.lanes / rows)));
    if (r >= 0 && r < rows) product = result;
  }
  return product;
}

// A float row that goes with rows of another dtype: n floats of a lane are more than 16 bytes where
// n is 8 or 16. Even and odd lanes then exchange vec4 (four floats), so that each of their loads
// and stores covers full 32-byte sectors.
template <int n>
__device__ inline void exchange_vec4(float (&x)[n]) {
  const bool odd = (lane() & 1) != 0;
#pragma unroll
  for (int k = 0; k < n; k += 8)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float low = x[k + e], high = x[k + 4 + e];
      const float received = shuffle_xor(odd ? low : high, 1);
      x[k + e] = odd ? received : low;
      x[k + 4 + e] = odd ? high : received;
    }
}

// After exchange_vec4 an even lane has, as vec4 2 q and 2 q + 1, vec4 2 q of its own and of its
// neighbour; an odd lane vec4 2 q + 1 of its neighbour and of its own. The column of vec4 k, given
// the column of the lane's first element.
template <int n>
__device__ inline int vec4_column(int column, int k) {
  const int odd = lane() & 1;
  return column - odd * n + (k & 1) * n + ((k & ~1) + odd) * 4;
}

// row[column …] = the n elements of one vector of a slice, as far as they are below `width`.
// `aligned`: the row can be accessed in packs of min(n, 4). All lanes of the warp call it; those
// with `active` write.
template <int n>
__device__ inline void store_floats(float* row, const float (&values)[n], int column, int width,
                                    bool active, bool aligned) {
  if (!aligned) {
#pragma unroll
    for (int e = 0; e < n; ++e)
      if (active && column < width) row[column + e] = values[e];
    return;
  }
  if constexpr (n <= 4) {
    Pack<float, n> p;
#pragma unroll
    for (int e = 0; e < n; ++e) p.v[e] = values[e];
    if (active && column < width) store_streaming<n>(row + column, p);
  } else {
    float x[n];
#pragma unroll
    for (int e = 0; e < n; ++e) x[e] = values[e];
    exchange_vec4(x);
#pragma unroll
    for (int k = 0; k < n / 4; ++k) {
      const int c = vec4_column<n>(column, k);
      const Pack<float, 4> p{{x[4 * k], x[4 * k + 1], x[4 * k + 2], x[4 * k + 3]}};
      if (active && c < width) store_streaming<4>(row + c, p);
    }
  }
}

// The inverse of store_floats; elements past `width` are 0.
template <int n>
__device__ inline void load_floats(float (&values)[n], const float* row, int column, int width,
                                   bool active, bool aligned) {
#pragma unroll
  for (int e = 0; e < n; ++e) values[e] = 0;
  if (!aligned) {
#pragma unroll
    for (int e = 0; e < n; ++e)
      if (active && column < width) values[e] = row[column + e];
    return;
  }
  if constexpr (n <= 4) {
    if (!active || column >= width) return;
    const Pack<float, n> p = load<n>(row + column);
#pragma unroll
    for (int e = 0; e < n; ++e) values[e] = p.v[e];
  } else {
#pragma unroll
    for (int k = 0; k < n / 4; ++k) {
      const int c = vec4_column<n>(column, k);
      if (!active || c >= width) continue;
      const Pack<float, 4> p = load<4>(row + c);
#pragma unroll
      for (int e = 0; e < 4; ++e) values[4 * k + e] = p.v[e];
    }
    exchange_vec4(values);
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
