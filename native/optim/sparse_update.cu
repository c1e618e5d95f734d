// SparseUpdate (optim/sparse_update.h): one lane group sums the gradient of a slice of a row and
// applies the rule to it, in registers; the gradient never reaches global memory. For row-wise
// Adagrad a slice has all of a row; wider rows are summed twice: for the state, then for the
// update.

#include "optim/sparse_update.h"

#include <algorithm>
#include <type_traits>

#include "core/split_float.h"
#include "cuda/last_block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "ops/row_visits.cuh"
#include "ops/sparse_grad.cuh"
#include "optim/adagrad.h"
#include "optim/adamw.h"
#include "optim/rowwise_adagrad.h"
#include "optim/sgd.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// The table and its states.
struct TableState {
  void* table;
  void* exact;  // of a 16-bit table (optim/exact_rows.h)
  float *state1, *state2;
  DType dtype;
  int64_t slots;
  int width;
};

// The lane's elements of a row that this kernel writes later. They are loaded before the gradient
// is summed, and stay in registers meanwhile.
template <class Slice>
__device__ inline void load_slice(Slice& slice, const float* table, const LaneGroup& group,
                                  int64_t u, int column, int width) {
#pragma unroll
  for (int v = 0; v < Slice::vectors; ++v) {
    const int c = column + v * group.lanes * Slice::n;
    const auto p =
        load_if<Slice::n, Caching::once>(u >= 0 && c < width, row_at(table, u, width) + c);
#pragma unroll
    for (int e = 0; e < Slice::n; ++e) slice.v[v][e] = p.v[e];
  }
}

// The exact values of a slice of row u.
template <class Slice>
__device__ inline void load_exact(Slice& x, const TableState& a, const LaneGroup& group, int64_t u,
                                  int column) {
  if (a.dtype != DType::bf16) {
    const auto* exact = static_cast<const float*>(a.dtype == DType::f32 ? a.table : a.exact);
    return load_slice(x, exact, group, u, column, a.width);
  }
  const auto* high = static_cast<const BFloat16*>(a.table);
  const auto* low = static_cast<const int16_t*>(a.exact);
#pragma unroll
  for (int v = 0; v < Slice::vectors; ++v) {
    const int c = column + v * group.lanes * Slice::n;
    const bool inside = u >= 0 && c < a.width;
    const auto h = load_if<Slice::n, Caching::once>(inside, row_at(high, u, a.width) + c);
    const auto l = load_if<Slice::n, Caching::once>(inside, row_at(low, u, a.width) + c);
#pragma unroll
    for (int e = 0; e < Slice::n; ++e) x.v[v][e] = join(h.v[e], l.v[e]);
  }
}

template <class Slice>
__device__ inline void store_rounded(Half* row, const Slice& x, const LaneGroup& group, int column,
                                     int width) {
#pragma unroll
  for (int v = 0; v < Slice::vectors; ++v) {
    const int c = column + v * group.lanes * Slice::n;
    if (c < width) store_streaming<Slice::n>(row + c, narrow<Half>(x.v[v]));
  }
}

template <class Slice>
__device__ inline void store_split(BFloat16* high, int16_t* low, const Slice& x,
                                   const LaneGroup& group, int column, int width) {
#pragma unroll
  for (int v = 0; v < Slice::vectors; ++v) {
    const int c = column + v * group.lanes * Slice::n;
    Pack<BFloat16, Slice::n> h;
    Pack<int16_t, Slice::n> l;
#pragma unroll
    for (int e = 0; e < Slice::n; ++e) {
      h.v[e] = high_half(x.v[v][e]);
      l.v[e] = low_half(x.v[v][e]);
    }
    if (c >= width) continue;
    store_streaming<Slice::n>(high + c, h);
    store_streaming<Slice::n>(low + c, l);
  }
}

template <class Slice>
__device__ inline void store_exact(const TableState& a, const Slice& x, const LaneGroup& group,
                                   int64_t u, int column) {
  if (a.dtype == DType::bf16)
    return store_split(row_at(static_cast<BFloat16*>(a.table), u, a.width),
                       row_at(static_cast<int16_t*>(a.exact), u, a.width), x, group, column,
                       a.width);
  auto* exact = static_cast<float*>(a.dtype == DType::f32 ? a.table : a.exact);
  store_slice<true>(row_at(exact, u, a.width), x, group, column, a.width);
  if (a.dtype == DType::f16)
    store_rounded(row_at(static_cast<Half*>(a.table), u, a.width), x, group, column, a.width);
}

// Blocks of a multiprocessor: 128 registers hold a slice and the loads in flight, but not of many
// single floats, each with a predicate of its own.
template <class Slice>
constexpr int kUpdateBlocks = Slice::vectors > 8 ? 1 : kSparseUpdateMinBlocks;

// Updates one slice of row u of the table, whose gradient is that of touched row r, or 0 where
// r < 0. u < 0: no row.
template <class Slice, class Rule>
__device__ inline void update_row(const Rule& rule, const TableState& a, const ResolvedRows& t,
                                  const LaneGroup& group, int64_t u, int64_t r, int) {
  const int column = Slice::column(group, blockIdx.y);
  const auto root = [](float v) { return sqrtf(v); };
  Slice x, first, second, g;
  load_exact(x, a, group, u, column);
  if constexpr (Rule::kStates > 0) load_slice(first, a.state1, group, u, column, a.width);
  if constexpr (Rule::kStates > 1) load_slice(second, a.state2, group, u, column, a.width);
  row_gradient(g, t, group, r, column);
  if (u < 0) return;
#pragma unroll
  for (int v = 0; v < Slice::vectors; ++v)
#pragma unroll
    for (int e = 0; e < Slice::n; ++e)
      rule(x.v[v][e], first.v[v][e], second.v[v][e], g.v[v][e], root);
  store_exact(a, x, group, u, column);
  if constexpr (Rule::kStates > 0)
    store_slice<true>(row_at(a.state1, u, a.width), first, group, column, a.width);
  if constexpr (Rule::kStates > 1)
    store_slice<true>(row_at(a.state2, u, a.width), second, group, column, a.width);
}

// The state of a row depends on all of its gradient, which is summed once where the slice has all
// of the row. The state of wider rows has been updated by row_states_kernel.
template <class Slice>
__device__ inline void update_row(const RowwiseAdagradRule& rule, const TableState& a,
                                  const ResolvedRows& t, const LaneGroup& group, int64_t u,
                                  int64_t r, int slices) {
  // 128 registers do not hold 32 floats of the table while those of the gradient are summed.
  constexpr bool kEarly = Slice::vectors * Slice::n <= 16;
  const int column = Slice::column(group, blockIdx.y);
  Slice x, g;
  if constexpr (kEarly) load_exact(x, a, group, u, column);
  row_gradient(g, t, group, r, column);
  if constexpr (!kEarly) load_exact(x, a, group, u, column);
  float state = u >= 0 ? a.state1[u] : 0;
  if (slices == 1) {
    double squares = 0;
    add_squares(squares, g);
    state += static_cast<float>(group_sum(group, squares) / a.width);
    warp_sync();  // all lanes have read the state
    if (u >= 0 && group.lane == 0) a.state1[u] = state;
  }
  if (u < 0) return;
  const float root = sqrtf(state) + rule.eps;
#pragma unroll
  for (int v = 0; v < Slice::vectors; ++v)
#pragma unroll
    for (int e = 0; e < Slice::n; ++e) rule(x.v[v][e], g.v[v][e], root);
  store_exact(a, x, group, u, column);
}

// Row-wise Adagrad's states of touched rows of several slices: one lane group sums the squares of
// one slice (blockIdx.y) of every gridDim-th row, and the last block of some rows adds those of
// their slices in order. squares [slices, capacity]
template <class Slice>
__global__ void __launch_bounds__(kThreads, kSparseUpdateMinBlocks)
    row_states_kernel(Guard guard, float* states, double* squares, int64_t capacity, ResolvedRows t,
                      int lanes) {
  if (guard.aborted()) return;
  const LaneGroup group = lane_group(lanes);
  const int64_t R = t.count[0];
  for_rows(group, R, [&](int64_t r) {
    Slice g;
    row_gradient(g, t, group, r, Slice::column(group, blockIdx.y));
    double sum = 0;
    add_squares(sum, g);
    sum = group_sum(group, sum);
    if (r >= 0 && group.lane == 0) squares[blockIdx.y * capacity + r] = sum;
  });
  if (!arrives_last(guard, shared<LastBlock>(), blockIdx.x, gridDim.y)) return;
  for_rows(group, R, [&](int64_t r) {
    if (r < 0 || group.lane != 0) return;
    double sum = 0;
    for (unsigned slice = 0; slice < gridDim.y; ++slice) sum += squares[slice * capacity + r];
    states[t.rows[r]] += static_cast<float>(sum / t.width);
  });
}

// The first r in [0, R) with rows[r] >= u, or R.
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

// One lane group updates one slice of every gridDim-th touched row, in the order of `visits` if
// given (ops/row_visits.cuh), or with every_row of every gridDim-th chunk of kRowsPerChunk rows.
// The slice is blockIdx.y, the slowest index: all rows read one slice of dy, which is then resident
// in L2, before the next. One thread computes the rule, whose bias corrections are float64.
template <class Rule, class Slice>
__global__ void __launch_bounds__(kThreads, kUpdateBlocks<Slice>)
    sparse_update_kernel(Guard guard, TableState a, ResolvedRows t, const uint64_t* visits,
                         const int32_t* step, const float* rate, Hyper hyper, bool every_row,
                         Slicing slicing) {
  if (guard.aborted()) return;
  if (threadIdx.x == 0) shared<Rule>() = Rule(with_rate(hyper, rate), next_step(*step));
  block_sync();
  const Rule rule = shared<Rule>();
  const LaneGroup group = lane_group(slicing.lanes);
  const int64_t R = t.count[0];
  const int size = every_row ? kRowsPerChunk : 1;
  for_rows(group, every_row ? (a.slots + size - 1) / size : R, [&](int64_t chunk) {
    int64_t next = every_row && chunk >= 0 ? first_from(t.rows, R, chunk * size) : chunk;
    for (int k = 0; k < size; ++k) {
      int64_t u = -1, r = -1;
      if (every_row && chunk >= 0) {
        u = chunk * size + k < a.slots ? chunk * size + k : -1;
        if (next < R && t.rows[next] == u) r = next++;
      } else if (chunk >= 0) {
        r = visits ? visited_row(visits[chunk]) : chunk;
        u = t.rows[r];
      }
      update_row<Slice>(rule, a, t, group, u, r, slicing.slices);
    }
  });
}

template <class Rule>
void update_with(CudaStream& stream, const SparseUpdate& a) {
  const int64_t width = a.table.dim(1), slots = a.table.dim(0), touched = a.rows.dim(0);
  const ResolvedRows t = resolve_rows(stream, a.rows, a.starts, a.order, a.count, a.reads, width);
  const TableState state{.table = a.table.data,
                         .exact = a.exact.data,
                         .state1 = a.state1 ? a.state1.as<float>() : nullptr,
                         .state2 = a.state2 ? a.state2.as<float>() : nullptr,
                         .dtype = a.table.dtype,
                         .slots = slots,
                         .width = static_cast<int>(width)};
  constexpr bool by_row = std::is_same_v<Rule, RowwiseAdagradRule>;
  const bool vec4 = vec4_aligned(a.reads, width) && vec4_aligned(a.table, width) &&
                    vec4_aligned(a.exact, width) && (by_row || vec4_aligned(a.state1, width)) &&
                    vec4_aligned(a.state2, width);
  const int multiprocessors = stream.limits().multiprocessors;
  const uint64_t* visits = nullptr;
  const auto update = [&]<class Slice>(Slice, Slicing s) {
    const int64_t chunks = a.every_row ? (slots + kRowsPerChunk - 1) / kRowsPerChunk : touched;
    const unsigned blocks = striding_blocks(chunks, kThreads / s.lanes, multiprocessors),
                   resident = static_cast<unsigned>(multiprocessors * kUpdateBlocks<Slice>);
    // visits are in order where all blocks run at once
    launch(sparse_update_kernel<Rule, Slice>,
           dim3(visits ? std::min(blocks, resident) : blocks, s.slices), dim3(kThreads),
           sizeof(Rule), stream, state, t, visits, a.step.as<int32_t>(),
           a.rate ? a.rate.as<float>() : nullptr, a.hyper, a.every_row, s);
  };
  if constexpr (by_row)
    if (width <= kWholeRow) {
      if (!a.every_row) visits = visit_by_tokens(stream, t, a.order, a.reads, touched);
      return with_whole_row(vec4, width, update);
    }
  with_gradient_slice(vec4, width, [&]<class Slice>(Slice slice, Slicing s) {
    if (by_row)
      launch(row_states_kernel<Slice>,
             dim3(striding_blocks(touched, kThreads / s.lanes, multiprocessors), s.slices),
             dim3(kThreads), sizeof(LastBlock), stream, state.state1,
             stream.scratch<double>(s.slices * touched), touched, t, s.lanes);
    update(slice, s);
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
