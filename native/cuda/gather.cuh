#pragma once
// Rows that lie anywhere in memory: their weighted sum, and their products with one vector. A lane
// group of a warp walks the places of one bag; the warp's groups go together, `longest` places
// each. Rows are cut into slices: lane l of a group holds the elements
//   column + v * lanes * n … + n   of vector v in [0, vectors),   column = slice * lanes * n *
//   vectors + l * n.

#include "cuda/lane_group.cuh"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// Where a row of a table begins: offsets are 64-bit, since tables have more than 2^32 bytes.
template <class T>
__host__ __device__ constexpr T* row_at(T* table, int64_t index, int64_t width) {
  return table + index * width;
}

// A place of a bag: its row, nullptr where there is none, and its weight.
template <class T>
struct alignas(16) RowEntry {
  const T* row;
  float weight;
};

// How the lanes of a group share a row: `vectors` packs of n elements a lane in each of `slices`
// slices; `rows` rows in flight.
template <int n_, int vectors_, int rows_>
struct Tile {
  static constexpr int n = n_, vectors = vectors_, rows = rows_;
  float v[vectors][n] = {};

  __device__ static int column(const LaneGroup& group, int slice) {
    return slice * group.lanes * (n * vectors) + group.lane * n;
  }
};

// once: rows of a large table, each for one bag. again: rows that other warps want too.
enum class Reading { once, again };

// sum.v += weight * row over the `count` places of this group, in order. fetch(i), i in [0, count),
// gives a RowEntry<T>.
template <Reading reading, class T, class Tile, class Fetch>
__device__ inline void add_rows(Tile& sum, const LaneGroup& group, int count, int longest,
                                int column, int width, Fetch fetch) {
  constexpr int n = Tile::n;
  const int step = group.lanes * n;
  const auto place = [&](int i) { return i < count ? fetch(i) : RowEntry<T>{nullptr, 0.0f}; };
  RowEntry<T> coming = place(group.lane);
  for (int done = 0; done < longest; done += group.lanes) {
    const RowEntry<T> mine = coming;
    // while the rows of these places are on their way
    coming = place(done + group.lanes + group.lane);
    const int these = longest - done < group.lanes ? longest - done : group.lanes;
    for (int j = 0; j < these; j += Tile::rows) {  // `lanes` is a multiple of `rows`
      Pack<T, n> x[Tile::rows][Tile::vectors];
      float weight[Tile::rows];
      // All loads before the first use, so that rows * vectors of them are on their way at once.
#pragma unroll
      for (int r = 0; r < Tile::rows; ++r) {
        const T* row = reinterpret_cast<const T*>(
            shuffle(reinterpret_cast<uint64_t>(mine.row), group.at(j + r)));
        weight[r] = shuffle(mine.weight, group.at(j + r));
#pragma unroll
        for (int v = 0; v < Tile::vectors; ++v) {
          const int c = column + v * step;
          // an empty place adds 0 * 0, never 0 * NaN
          const bool there = row != nullptr && c < width;
          x[r][v] = reading == Reading::once ? load_once_if<n>(there, row + c)
                                             : load_if<n>(there, row + c);
        }
      }
#pragma unroll
      for (int r = 0; r < Tile::rows; ++r)
#pragma unroll
        for (int v = 0; v < Tile::vectors; ++v)
#pragma unroll
          for (int e = 0; e < n; ++e)
            sum.v[v][e] = fmaf(weight[r], widen(x[r][v].v[e]), sum.v[v][e]);
    }
  }
}

// <x, row> at the columns of x for the places [begin, begin + count), count <= lanes: lane l gets
// the product of place begin + l, in which the lanes' parts are added in a fixed order. `mine` is
// that place; the result of an empty one is undefined.
template <class T, class Tile>
__device__ inline float dot_rows(const Tile& x, const LaneGroup& group, const RowEntry<T>& mine,
                                 int count, int column, int width) {
  constexpr int n = Tile::n, rows = Tile::rows;
  const int step = group.lanes * n;
  float product = 0;
  for (int j = 0; j < count; j += rows) {
    Pack<T, n> y[rows][Tile::vectors];
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      const T* row = reinterpret_cast<const T*>(
          shuffle(reinterpret_cast<uint64_t>(mine.row), group.at(j + r)));
#pragma unroll
      for (int v = 0; v < Tile::vectors; ++v) {
        const int c = column + v * step;
        y[r][v] = load_once_if<n>(row != nullptr && c < width, row + c);
      }
    }
    float sums[rows];
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      sums[r] = 0;
#pragma unroll
      for (int v = 0; v < Tile::vectors; ++v)
#pragma unroll
        for (int e = 0; e < n; ++e) sums[r] = fmaf(x.v[v][e], widen(y[r][v].v[e]), sums[r]);
    }
    const float sum = group_sums(group, sums);
    const int r = group.lane - j;  // which of these rows is this lane's own
    const float own = shuffle(sum, group.at((r & (rows - 1)) * (group.lanes / rows)));
    if (r >= 0 && r < rows) product = own;
  }
  return product;
}

// Rows of float that go with the packs of another dtype: n floats a lane are more than 16 bytes
// where n is 8 or 16. Neighbouring lanes then exchange quads, so that each instruction of the two
// covers whole 32-byte sectors.
template <int n>
__device__ inline void exchange_quads(float (&x)[n]) {
  const bool odd = (lane() & 1) != 0;
#pragma unroll
  for (int k = 0; k < n; k += 8)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float low = x[k + e], high = x[k + 4 + e];
      const float got = shuffle_xor(odd ? low : high, 1);
      x[k + e] = odd ? got : low;
      x[k + 4 + e] = odd ? high : got;
    }
}

// After exchange_quads an even lane holds, as quads 2 q and 2 q + 1, its own quad 2 q and its
// neighbour's; an odd lane its neighbour's quad 2 q + 1 and its own. The column of quad k, given
// the column of the lane's first element.
template <int n>
__device__ inline int quad_column(int column, int k) {
  const int odd = lane() & 1;
  return column - odd * n + (k & 1) * n + ((k & ~1) + odd) * 4;
}

// row[column … ] of a float row and a tile's vector, at most n elements below `width`. `aligned`:
// the row can be moved in packs of min(n, 4). All lanes of the warp come; `active` ones write.
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
    exchange_quads(x);
#pragma unroll
    for (int k = 0; k < n / 4; ++k) {
      const int c = quad_column<n>(column, k);
      const Pack<float, 4> p{{x[4 * k], x[4 * k + 1], x[4 * k + 2], x[4 * k + 3]}};
      if (active && c < width) store_streaming<4>(row + c, p);
    }
  }
}

// The other way round; elements that are not there are 0.
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
      const int c = quad_column<n>(column, k);
      if (!active || c >= width) continue;
      const Pack<float, 4> p = load<4>(row + c);
#pragma unroll
      for (int e = 0; e < 4; ++e) values[4 * k + e] = p.v[e];
    }
    exchange_quads(values);
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
