// Sum, mean and max over axes (ops/reduce.h), and their gradients. The reduced elements of an
// output are cut into chunks of a fixed length, whose results are reduced in the same way until
// there is one: the order depends on the shape alone.

#include "ops/reduce.h"

#include "cuda/axes.cuh"
#include "cuda/block.cuh"
#include "cuda/lane_group.cuh"
#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {

void arithmetic(CudaStream& stream, const Arithmetic& a);  // ops/arithmetic.cu

namespace {

// A rule has the type of a result, the result of no elements, `combine`, and `element`: the p-th
// of output o, which is the element at `offset` of x.
struct SumRule {
  using Value = float;
  static constexpr Value kNone = 0;
  const float* x;
  float divisor;
  __device__ static Value combine(Value a, Value b) { return a + b; }
  __device__ Value element(int64_t, int64_t, int64_t offset) const { return x[offset]; }
  __device__ Value finish(Value v) const { return v / divisor; }
  SumRule of_partials(const Value* partials) const { return {partials, divisor}; }
};

// NaN counts as the greatest.
struct MaxRule {
  using Value = float;
  static constexpr Value kNone = -INFINITY;
  const float* x;
  __device__ static Value combine(Value a, Value b) { return b > a || b != b ? b : a; }
  __device__ Value element(int64_t, int64_t, int64_t offset) const { return x[offset]; }
  __device__ Value finish(Value v) const { return v; }
  MaxRule of_partials(const Value* partials) const { return {partials}; }
};

// The first position whose element is y[o].
struct FirstMatchRule {
  using Value = int64_t;
  static constexpr Value kNone = INT64_MAX;
  const float *x, *y;
  const Value* partials;  // of chunks, or nullptr
  __device__ static Value combine(Value a, Value b) { return b < a ? b : a; }
  __device__ Value element(int64_t o, int64_t p, int64_t offset) const {
    if (partials) return partials[offset];
    const float v = x[offset], max = y[o];
    return v == max || (v != v && max != max) ? p : kNone;
  }
  __device__ Value finish(Value v) const { return v; }
  FirstMatchRule of_partials(const Value* chunks) const { return {x, y, chunks}; }
};

// The axes of a reduction as a kernel takes them.
struct ReduceAxes {
  Loops<1> kept, reduced;
  int64_t outputs, count, chunks;

  __device__ int64_t kept_offset(int64_t o) const { return at(kept, o); }

  // f(p, offset) for every `step`-th reduced element of [begin, end). Axes that are not one loop
  // take divisions: so much code is not unrolled.
  template <int kUnroll, class F>
  __device__ void for_reduced(int64_t begin, int64_t end, int step, F f) const {
    if (reduced.rank == 1) {
#pragma unroll(kUnroll)
      for (int64_t p = begin; p < end; p += step) f(p, p * reduced.stride[0][0]);
    } else {
#pragma unroll 1
      for (int64_t p = begin; p < end; p += step) f(p, at(reduced, p));
    }
  }

 private:
  __device__ static int64_t at(const Loops<1>& loops, int64_t i) {
    if (loops.rank == 1) return i * loops.stride[0][0];
    int64_t offset[1];
    offsets_of(loops, loops.rank, i, offset);
    return offset[0];
  }
};

// One lane group reduces one chunk, kReduceLaneElements for each lane, of an output whose elements
// are contiguous. to [outputs, chunks]
template <class Rule>
__global__ void __launch_bounds__(kThreads)
    reduce_rows_kernel(Guard guard, typename Rule::Value* to, Rule rule, ReduceAxes axes,
                       int lanes) {
  if (guard.aborted()) return;
  const LaneGroup group = lane_group(lanes);
  const int64_t unit =
      static_cast<int64_t>(blockIdx.x) * (kThreads / lanes) + group_of_block(group);
  const bool exists = unit < axes.outputs * axes.chunks;
  const int64_t o = exists ? quotient(unit, axes.chunks) : 0, chunk = unit - o * axes.chunks,
                begin = chunk * lanes * kReduceLaneElements,
                end = begin + lanes * kReduceLaneElements;
  const int64_t base = axes.kept_offset(o),
                last = !exists ? begin : (end < axes.count ? end : axes.count);
  typename Rule::Value v = Rule::kNone;
  axes.for_reduced<8>(begin + group.lane, last, lanes, [&](int64_t p, int64_t offset) {
    v = Rule::combine(v, rule.element(o, p, base + offset));
  });
  for (int bit = lanes / 2; bit > 0; bit /= 2) v = Rule::combine(v, shuffle_xor(v, bit));
  if (exists && group.lane == 0) to[unit] = axes.chunks == 1 ? rule.finish(v) : v;
}

template <class Rule>
struct ColumnResults {
  typename Rule::Value v[kColumnSumsWarps][kWarp];
};

// One block reduces one chunk, of kColumnSumsRows elements, of 32 outputs that are neighbours in x:
// one thread every eighth element of one output, then the first warp combines the eight in order.
// to [outputs / columns, chunks, columns]
template <class Rule>
__global__ void __launch_bounds__(kColumnSumsWarps* kWarp, kReduceMinBlocks)
    reduce_columns_kernel(Guard guard, typename Rule::Value* to, Rule rule, ReduceAxes axes,
                          int64_t columns) {
  if (guard.aborted()) return;
  ColumnResults<Rule>& s = shared<ColumnResults<Rule>>();
  const int64_t column_blocks = (columns + kWarp - 1) / kWarp;
  const int64_t unit = quotient(blockIdx.x, column_blocks);  // [0, outputs / columns * chunks)
  const int64_t outer = quotient(unit, axes.chunks), chunk = unit - outer * axes.chunks;
  const int64_t column = (blockIdx.x - unit * column_blocks) * kWarp + lane();  // and past the last
  const int64_t begin = chunk * kColumnSumsRows + warp_of_block(),
                end = (chunk + 1) * kColumnSumsRows < axes.count ? (chunk + 1) * kColumnSumsRows
                                                                 : axes.count;
  typename Rule::Value v = Rule::kNone;
  if (column < columns) {
    const int64_t o = outer * columns + column, base = axes.kept_offset(o);
    axes.for_reduced<2>(begin, end, kColumnSumsWarps, [&](int64_t p, int64_t offset) {
      v = Rule::combine(v, rule.element(o, p, base + offset));  // unrolled more, registers spill
    });
  }
  s.v[warp_of_block()][lane()] = v;
  block_sync();
  if (warp_of_block() == 0 && column < columns) {
    v = s.v[0][lane()];
    for (int w = 1; w < kColumnSumsWarps; ++w) v = Rule::combine(v, s.v[w][lane()]);
    to[unit * columns + column] = axes.chunks == 1 ? rule.finish(v) : v;
  }
}

// Lanes of a group: a chunk of few elements leaves none idle.
inline int lanes_for(int64_t count) {
  if (count <= 8 * kReduceLaneElements) return 8;
  return count <= 16 * kReduceLaneElements ? 16 : kWarp;
}

template <class Rule>
void reduce_rows(CudaStream& stream, const Rule& rule, ReduceAxes axes,
                 typename Rule::Value* results) {
  const int lanes = lanes_for(axes.count);
  const int64_t chunk = lanes * kReduceLaneElements;
  axes.chunks = axes.count == 0 ? 1 : (axes.count + chunk - 1) / chunk;
  const int64_t units = axes.outputs * axes.chunks;
  auto* to = axes.chunks == 1 ? results : stream.scratch<typename Rule::Value>(units);
  launch(reduce_rows_kernel<Rule>, dim3(blocks_for(units, kThreads / lanes)), dim3(kThreads), 0,
         stream, to, rule, axes, lanes);
  if (axes.chunks == 1) return;
  ReduceAxes next{
      .kept = {}, .reduced = {}, .outputs = axes.outputs, .count = axes.chunks, .chunks = 1};
  next.kept.add(axes.outputs, {axes.chunks});
  next.reduced.add(axes.chunks, {1});
  reduce_rows(stream, rule.of_partials(to), next, results);
}

template <class Rule>
void reduce_columns(CudaStream& stream, const Rule& rule, ReduceAxes axes, int64_t columns,
                    typename Rule::Value* results) {
  axes.chunks = axes.count == 0 ? 1 : (axes.count + kColumnSumsRows - 1) / kColumnSumsRows;
  const int64_t outer = axes.outputs / columns, units = outer * axes.chunks,
                column_blocks = (columns + kWarp - 1) / kWarp;
  auto* to = axes.chunks == 1 ? results : stream.scratch<typename Rule::Value>(units * columns);
  launch(reduce_columns_kernel<Rule>, dim3(grid_width(units * column_blocks)),
         dim3(kColumnSumsWarps * kWarp), sizeof(ColumnResults<Rule>), stream, to, rule, axes,
         columns);
  if (axes.chunks == 1) return;
  ReduceAxes next{
      .kept = {}, .reduced = {}, .outputs = axes.outputs, .count = axes.chunks, .chunks = 1};
  next.kept.add(outer, {axes.chunks * columns});
  next.kept.add(columns, {1});
  next.reduced.add(axes.chunks, {columns});
  reduce_columns(stream, rule.of_partials(to), next, columns, results);
}

// results [outputs]
template <class Rule>
void reduce_by(CudaStream& stream, const Rule& rule, const Reduction& r,
               typename Rule::Value* results) {
  if (r.outputs == 0) return;
  const ReduceAxes axes{
      .kept = r.kept, .reduced = r.reduced, .outputs = r.outputs, .count = r.count, .chunks = 1};
  if (r.along_rows) return reduce_rows(stream, rule, axes, results);
  reduce_columns(stream, rule, axes, r.kept.size[r.kept.rank - 1], results);
}

// dx = dy at the position of the max of its output, else 0. Tensors of `loops`: outputs, and
// positions.
struct MaxBackwardRule {
  float* dx;
  const float* dy;
  const int64_t* first;  // [outputs]
  Loops<2> loops;
  template <int n>
  __device__ void at(int64_t i) const {
    Pack<float, n> p;
#pragma unroll
    for (int j = 0; j < n; ++j) {
      int64_t at[2];
      offsets_of(loops, loops.rank, i + j, at);
      p.v[j] = first[at[0]] == at[1] ? dy[at[0]] : 0.0f;
    }
    store<n>(dx + i, p);
  }
};

// The outputs and the positions of x's elements.
Loops<2> outputs_and_positions(const Shape& x, AxisSet axes) {
  int64_t stride[kMaxRank], output = 1, position = 1;
  for (int i = x.rank - 1; i >= 0; --i) {
    int64_t& next = has_axis(axes, i) ? position : output;
    stride[i] = next;
    next *= x.dims[i];
  }
  Loops<2> loops;
  for (int i = 0; i < x.rank; ++i) {
    if (has_axis(axes, i))
      loops.add(x.dims[i], {0, stride[i]});
    else
      loops.add(x.dims[i], {stride[i], 0});
  }
  return loops;
}

}  // namespace

void reduce(CudaStream& stream, const Reduce& a) {
  const Reduction r(a.x.shape, a.axes);
  const float* x = a.x.as<float>();
  float* y = a.y.as<float>();
  const float divisor = a.kind == ReduceKind::mean ? static_cast<float>(r.count) : 1.0f;
  if (a.kind == ReduceKind::max) return reduce_by(stream, MaxRule{.x = x}, r, y);
  reduce_by(stream, SumRule{.x = x, .divisor = divisor}, r, y);
}

void sum_backward(CudaStream& stream, const SumBackward& a) { arithmetic(stream, as_division(a)); }

void max_backward(CudaStream& stream, const MaxBackward& a) {
  const Reduction r(a.x.shape, a.axes);
  if (r.outputs == 0 || r.count == 0) return;
  int64_t* first = stream.scratch<int64_t>(r.outputs);
  reduce_by(stream, FirstMatchRule{.x = a.x.as<float>(), .y = a.y.as<float>(), .partials = nullptr},
            r, first);
  map(stream,
      MaxBackwardRule{.dx = a.dx.as<float>(),
                      .dy = a.dy.as<float>(),
                      .first = first,
                      .loops = outputs_and_positions(a.x.shape, a.axes)},
      a.dx.size(), aligned<float>(a.dx));
}

}  // namespace ml::ML_CUDA_NAMESPACE
