#pragma once
// Sums over the rows of a matrix, for gradients of biases and gains. Rows are cut into fixed
// chunks, whose float32 sums are added in order in float64: the result depends on the shape alone.

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

// to[j] += sum over r of dy[r, j] * (x[r, j] - means[r]) * factors[r], or of dy[r, j] alone
struct ColumnSums {
  float* to;                       // [columns]
  const float* dy;                 // [rows, columns]
  const float* x = nullptr;        // [rows, columns], or nullptr
  const float* means = nullptr;    // [rows], with x, or nullptr: zeros
  const float* factors = nullptr;  // [rows], with x
  int64_t rows, columns;
};

namespace {

struct ColumnSumsStorage {
  float v[kColumnSumsWarps][kWarp];
};

// One block sums 32 columns of one chunk: one thread one column of every eighth row, then the first
// warp adds the eight sums in order.
__global__ void __launch_bounds__(kColumnSumsWarps* kWarp)
    partial_column_sums_kernel(Guard guard, float* partials, ColumnSums a) {
  if (guard.aborted()) return;
  ColumnSumsStorage& s = shared<ColumnSumsStorage>();
  const int64_t column_blocks = (a.columns + kWarp - 1) / kWarp;
  const int64_t chunk = blockIdx.x / column_blocks;
  const int64_t column = blockIdx.x % column_blocks * kWarp + lane();  // [0, columns) and past it
  const int64_t end =
      (chunk + 1) * kColumnSumsRows < a.rows ? (chunk + 1) * kColumnSumsRows : a.rows;
  float sum = 0;
  if (column < a.columns) {
    for (int64_t r = chunk * kColumnSumsRows + warp_of_block(); r < end; r += kColumnSumsWarps) {
      const float dy = a.dy[r * a.columns + column];
      if (!a.x) {
        sum += dy;
        continue;
      }
      const float x = a.x[r * a.columns + column];
      sum += dy * ((a.means ? x - a.means[r] : x) * a.factors[r]);
    }
  }
  s.v[warp_of_block()][lane()] = sum;
  block_sync();
  if (warp_of_block() == 0 && column < a.columns) {
    sum = s.v[0][lane()];
    for (int w = 1; w < kColumnSumsWarps; ++w) sum += s.v[w][lane()];
    partials[chunk * a.columns + column] = sum;
  }
}

// One thread adds the sums of all chunks of one column, in order.
__global__ void __launch_bounds__(kThreads)
    total_column_sums_kernel(Guard guard, float* to, const float* partials, int64_t chunks,
                             int64_t columns) {
  if (guard.aborted()) return;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column < columns) {
    double sum = to[column];
    for (int64_t c = 0; c < chunks; ++c) sum += partials[c * columns + column];
    to[column] = static_cast<float>(sum);
  }
}

[[maybe_unused]] void column_sums(CudaStream& stream, const ColumnSums& a) {
  if (a.rows == 0 || a.columns == 0) return;
  const int64_t chunks = (a.rows + kColumnSumsRows - 1) / kColumnSumsRows,
                column_blocks = (a.columns + kWarp - 1) / kWarp;
  float* partials = stream.scratch<float>(chunks * a.columns);
  launch(partial_column_sums_kernel, dim3(grid_width(chunks * column_blocks)),
         dim3(kColumnSumsWarps * kWarp), sizeof(ColumnSumsStorage), stream, partials, a);
  launch(total_column_sums_kernel, dim3(blocks_for(a.columns, kThreads)), dim3(kThreads), 0, stream,
         a.to, partials, chunks, a.columns);
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
