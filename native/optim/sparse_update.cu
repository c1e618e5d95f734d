#include "optim/sparse_update.h"

#include <type_traits>

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "ops/sparse_grad.cuh"
#include "optim/adagrad.h"
#include "optim/adamw.h"
#include "optim/rowwise_adagrad.h"
#include "optim/sgd.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// Rows that a lane group updates one after the other where every row of the table is: the touched
// ones among them are found by one search.
constexpr int kRowsOfPiece = 16;

// The table and its states; `exact` is the table itself, or the master of a 16-bit one, which then
// holds the rounded values.
struct TableState {
  float *exact, *state1, *state2;
  void* rounded;
  DType dtype;
  int64_t slots;
  int width;
};

// Lane's elements of a row that this kernel writes later. They are asked for before the gradient is
// summed, and wait for it in registers.
template <class Tile>
__device__ inline void load_tile(Tile& tile, const float* table, const LaneGroup& group, int64_t u,
                                 int column, int width) {
#pragma unroll
  for (int v = 0; v < Tile::vectors; ++v) {
    const int c = column + v * group.lanes * Tile::n;
    if (table == nullptr || u < 0 || c >= width) continue;
    const Pack<float, Tile::n> p = load<Tile::n>(row_at(table, u, width) + c);
#pragma unroll
    for (int e = 0; e < Tile::n; ++e) tile.v[v][e] = p.v[e];
  }
}

template <class T, class Tile>
__device__ inline void store_rounded(T* row, const Tile& tile, const LaneGroup& group, int column,
                                     int width) {
#pragma unroll
  for (int v = 0; v < Tile::vectors; ++v) {
    const int c = column + v * group.lanes * Tile::n;
    if (c < width) store<Tile::n>(row + c, narrow<T>(tile.v[v]));
  }
}

template <class Tile>
__device__ inline void store_row(const TableState& a, const Tile& x, const LaneGroup& group,
                                 int64_t u, int column) {
  store_tile(row_at(a.exact, u, a.width), x, group, column, a.width);
  if (a.dtype == DType::f16)
    store_rounded(row_at(static_cast<Half*>(a.rounded), u, a.width), x, group, column, a.width);
  if (a.dtype == DType::bf16)
    store_rounded(row_at(static_cast<BFloat16*>(a.rounded), u, a.width), x, group, column, a.width);
}

// One slice of row u of the table, whose gradient is that of touched row r, or 0 where r < 0. u <
// 0: no row.
template <class Tile, class Rule>
__device__ inline void update_row(const Rule& rule, const TableState& a, const TouchedRows& t,
                                  const LaneGroup& group, int64_t u, int64_t r, int) {
  const int column = Tile::column(group, blockIdx.y);
  const auto root = [](float v) { return sqrtf(v); };
  Tile x, first, second, g;
  load_tile(x, a.exact, group, u, column, a.width);
  load_tile(first, a.state1, group, u, column, a.width);
  load_tile(second, a.state2, group, u, column, a.width);
  row_gradient(g, t, group, r, column);
  if (u < 0) return;
#pragma unroll
  for (int v = 0; v < Tile::vectors; ++v)
#pragma unroll
    for (int e = 0; e < Tile::n; ++e)
      rule(x.v[v][e], first.v[v][e], second.v[v][e], g.v[v][e], root);
  store_row(a, x, group, u, column);
  if (a.state1) store_tile(row_at(a.state1, u, a.width), first, group, column, a.width);
  if (a.state2) store_tile(row_at(a.state2, u, a.width), second, group, column, a.width);
}

// All slices: the row's one state needs the whole gradient, which is summed twice where it does not
// fit in registers.
template <class Tile>
__device__ inline void update_row(const RowwiseAdagradRule& rule, const TableState& a,
                                  const TouchedRows& t, const LaneGroup& group, int64_t u,
                                  int64_t r, int slices) {
  const int steps = slices == 1 ? 1 : 2 * slices;
  float squares = 0, root = 0;
  for (int k = 0; k < steps; ++k) {
    const int column = Tile::column(group, k % slices);
    const bool last = k >= slices - 1, apply = steps == 1 || k >= slices;
    Tile x, g;
    if (apply) load_tile(x, a.exact, group, u, column, a.width);
    row_gradient(g, t, group, r, column);
    if (k < slices) {
#pragma unroll
      for (int v = 0; v < Tile::vectors; ++v)
#pragma unroll
        for (int e = 0; e < Tile::n; ++e) squares = fmaf(g.v[v][e], g.v[v][e], squares);
    }
    if (last && k < slices) {
      const float mean = group_sum(group, squares) / static_cast<float>(a.width);
      float sum = 0;
      if (u >= 0 && group.lane == 0) a.state1[u] = sum = a.state1[u] + mean;
      root = sqrtf(shuffle(sum, group.at(0))) + rule.eps;
    }
    if (!apply || u < 0) continue;
#pragma unroll
    for (int v = 0; v < Tile::vectors; ++v)
#pragma unroll
      for (int e = 0; e < Tile::n; ++e) rule(x.v[v][e], g.v[v][e], root);
    store_row(a, x, group, u, column);
  }
}

// The first of rows[0 … R) that is not below u.
__device__ inline int64_t first_from(const int32_t* rows, int64_t R, int64_t u) {
  int64_t low = 0, high = R;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (rows[middle] < u) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// A lane group updates one slice of every gridDim-th touched row, or of kRowsOfPiece neighbouring
// rows. Slices are slowest: all rows take one slice of dy, which L2 then holds, before the next.
// Row-wise Adagrad: all slices. Two blocks a multiprocessor, so that states, row and the rows of dy
// in flight all stay in registers.
template <class Rule, class Tile>
__global__ void __launch_bounds__(kThreads, 2)
    sparse_update_kernel(Guard guard, TableState a, TouchedRows t, const int32_t* step, Hyper hyper,
                         bool every_row, Slicing slicing) {
  if (guard.aborted()) return;
  const Rule rule(hyper, *step);
  const LaneGroup group = lane_group(slicing.lanes);
  const int64_t R = t.count[0];
  const int size = every_row ? kRowsOfPiece : 1;
  for_rows(group, every_row ? (a.slots + size - 1) / size : R, [&](int64_t piece) {
    int64_t next = every_row && piece >= 0 ? first_from(t.rows, R, piece * size) : piece;
    for (int k = 0; k < size; ++k) {
      int64_t u = -1, r = -1;
      if (every_row && piece >= 0) {
        u = piece * size + k < a.slots ? piece * size + k : -1;
        if (next < R && t.rows[next] == u) r = next++;
      } else if (piece >= 0) {
        r = piece;
        u = t.rows[r];
      }
      update_row<Tile>(rule, a, t, group, u, r, slicing.slices);
    }
  });
}

template <class Rule>
void update_with(CudaStream& stream, const SparseUpdate& a) {
  const int64_t width = a.table.dim(1), slots = a.table.dim(0);
  const TouchedRows t = touched_rows(stream, a.rows, a.starts, a.order, a.count, a.reads, width);
  const TableState state{(a.master ? a.master : a.table).template as<float>(),
                         a.state1 ? a.state1.as<float>() : nullptr,
                         a.state2 ? a.state2.as<float>() : nullptr,
                         a.table.data,
                         a.master ? a.table.dtype : DType::f32,
                         slots,
                         static_cast<int>(width)};
  constexpr bool whole_rows = std::is_same_v<Rule, RowwiseAdagradRule>;
  const bool fours = in_fours(a.reads, width) && in_fours(a.table, width) &&
                     in_fours(a.master, width) && (whole_rows || in_fours(a.state1, width)) &&
                     in_fours(a.state2, width);
  with_gradient_tile(fours, width, [&]<class Tile>(Tile, Slicing s) {
    const int64_t pieces = a.every_row ? (slots + kRowsOfPiece - 1) / kRowsOfPiece : a.rows.dim(0);
    const dim3 grid(striding_blocks(pieces, kThreads / s.lanes, stream.limits().multiprocessors),
                    whole_rows ? 1 : s.slices);
    launch(sparse_update_kernel<Rule, Tile>, grid, dim3(kThreads), 0, stream, state, t,
           a.step.as<int32_t>(), a.hyper, a.every_row, s);
  });
}

}  // namespace

void sparse_update(CudaStream& stream, const SparseUpdate& a) {
  switch (a.rule) {
    case Rule::sgd: return update_with<SgdRule>(stream, a);
    case Rule::adagrad: return update_with<AdagradRule>(stream, a);
    case Rule::rowwise_adagrad: return update_with<RowwiseAdagradRule>(stream, a);
    case Rule::adamw: return update_with<AdamWRule>(stream, a);
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
