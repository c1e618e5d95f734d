#pragma once
// Sums over the rows of a matrix, for gradients of biases and gains. Rows are cut into fixed
// chunks, whose sums are added in order: the bits depend on the shape alone.

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

// to[j] += sum over r of dy[r, j] * x[r, j] * factors[r], or of dy[r, j] alone
struct ColumnSums {
  float* to;             // [columns]
  const float* dy;       // [rows, columns]
  const float* x;        // [rows, columns], or nullptr
  const float* factors;  // [rows], with x
  int64_t rows, columns;
};

namespace {

constexpr int kSumWarps = 8;
constexpr int kSumRows = 256;  // of a chunk: 32 for each warp

struct SumTile {
  float v[kSumWarps][kWarp];
};

// One block sums 32 columns of one chunk: a thread a column of every eighth row, then the first
// warp adds the eight in order.
__global__ void __launch_bounds__(kSumWarps* kWarp)
    column_chunks_kernel(Guard guard, float* partials, ColumnSums a) {
  if (guard.aborted()) return;
  SumTile& s = shared<SumTile>();
  const int64_t across = (a.columns + kWarp - 1) / kWarp;
  // [0, columns) and past it
  const int64_t chunk = blockIdx.x / across, column = blockIdx.x % across * kWarp + lane();
  const int64_t end = (chunk + 1) * kSumRows < a.rows ? (chunk + 1) * kSumRows : a.rows;
  float sum = 0;
  if (column < a.columns) {
    for (int64_t r = chunk * kSumRows + warp_of_block(); r < end; r += kSumWarps) {
      const float dy = a.dy[r * a.columns + column];
      sum += a.x ? dy * (a.x[r * a.columns + column] * a.factors[r]) : dy;
    }
  }
  s.v[warp_of_block()][lane()] = sum;
  block_sync();
  if (warp_of_block() == 0 && column < a.columns) {
    sum = s.v[0][lane()];
    for (int w = 1; w < kSumWarps; ++w) sum += s.v[w][lane()];
    partials[chunk * a.columns + column] = sum;
  }
}

// One thread adds the chunks of a column.
__global__ void __launch_bounds__(kThreads)
    add_chunks_kernel(Guard guard, float* to, const float* partials, int64_t chunks,
                      int64_t columns) {
  if (guard.aborted()) return;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column < columns) {
    float sum = 0;
    for (int64_t c = 0; c < chunks; ++c) sum += partials[c * columns + column];
    to[column] += sum;
  }
}

void column_sums(CudaStream& stream, const ColumnSums& a) {
  if (a.rows == 0 || a.columns == 0) return;
  const int64_t chunks = (a.rows + kSumRows - 1) / kSumRows,
                across = (a.columns + kWarp - 1) / kWarp;
  float* partials = stream.scratch<float>(chunks * a.columns);
  launch(column_chunks_kernel, dim3(static_cast<unsigned>(chunks * across)),
         dim3(kSumWarps * kWarp), sizeof(SumTile), stream, partials, a);
  launch(add_chunks_kernel, dim3(blocks_for(a.columns, kThreads)), dim3(kThreads), 0, stream, a.to,
         partials, chunks, a.columns);
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
