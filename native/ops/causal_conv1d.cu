// Depthwise causal convolution (ops/causal_conv1d.h): a lane has one channel, a warp a strip of
// tokens, each of which it reads once for all outputs of the strip.

#include "ops/causal_conv1d.h"

#include <algorithm>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/strided_copy.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr int kWarps = kThreads / kWarp;

struct ConvShape {
  int64_t batch, time, channels, width, dilation;
  // Strips of a sequence: tokens `dilation` apart, kConvOutputs of them.
  int64_t residues, strips;
  bool reversed;  // time runs backwards: the gradient of x
};

struct ConvWeights {
  float v[kConvTaps][kWarp];
};

// One block: 32 channels of kWarps strips. weights [width, channels] are taken kConvTaps at a time.
__global__ void __launch_bounds__(kThreads)
    causal_conv1d_kernel(Guard guard, float* to, const float* from, const float* weights,
                         const float* bias, ConvShape a) {
  if (guard.aborted()) return;
  ConvWeights& w = shared<ConvWeights>();
  const int64_t column_blocks = (a.channels + kWarp - 1) / kWarp;
  const int64_t channel = blockIdx.x % column_blocks * kWarp + lane();
  const int64_t strip = blockIdx.x / column_blocks * kWarps + warp_of_block();
  const int64_t b = strip / (a.residues * a.strips), own = strip % (a.residues * a.strips);
  const int64_t t0 = own % a.residues + own / a.residues * kConvOutputs * a.dilation;
  const bool active = channel < a.channels && b < a.batch;
  const auto at = [&](int64_t t) {
    return (b * a.time + (a.reversed ? a.time - 1 - t : t)) * a.channels + channel;
  };
  float sum[kConvOutputs];
#pragma unroll
  for (int s = 0; s < kConvOutputs; ++s) sum[s] = active && bias ? bias[channel] : 0.0f;
  for (int64_t j0 = 0; j0 < a.width; j0 += kConvTaps) {
    const int taps = a.width - j0 < kConvTaps ? static_cast<int>(a.width - j0) : kConvTaps;
    block_sync();  // the taps before are used up
    for (int j = warp_of_block(); j < taps; j += kWarps)
      w.v[j][lane()] = channel < a.channels ? weights[(j0 + j) * a.channels + channel] : 0.0f;
    block_sync();
    // token t0 + (j0 - (width - 1) + m) * dilation is tap j0 + m - s of output s
    for (int m = 0; active && m < taps + kConvOutputs - 1; ++m) {
      const int64_t t = t0 + (j0 - (a.width - 1) + m) * a.dilation;
      if (t < 0 || t >= a.time) continue;
      const float x = from[at(t)];
#pragma unroll
      for (int s = 0; s < kConvOutputs; ++s)
        if (m >= s && m - s < taps) sum[s] += w.v[m - s][lane()] * x;
    }
  }
#pragma unroll
  for (int s = 0; s < kConvOutputs; ++s)
    if (active && t0 + s * a.dilation < a.time) to[at(t0 + s * a.dilation)] = sum[s];
}

struct ConvGradientStorage {
  float v[kWarps][kConvTapsAtOnce + 1][kWarp];
};

// One block sums dweight, and dbias, of 32 channels over kColumnSumsRows tokens: one lane one
// channel of every eighth token, then the first warp adds the eight sums in order.
// partials [chunks, width + 1, channels]
__global__ void __launch_bounds__(kThreads)
    causal_conv1d_gradient_kernel(Guard guard, float* partials, const float* dy, const float* x,
                                  ConvShape a) {
  if (guard.aborted()) return;
  ConvGradientStorage& store = shared<ConvGradientStorage>();
  const int64_t column_blocks = (a.channels + kWarp - 1) / kWarp;
  const int64_t channel = blockIdx.x % column_blocks * kWarp + lane();
  const int64_t chunk = blockIdx.x / column_blocks, tokens = a.batch * a.time;
  const int64_t end =
      (chunk + 1) * kColumnSumsRows < tokens ? (chunk + 1) * kColumnSumsRows : tokens;
  const bool active = channel < a.channels;
  for (int64_t j0 = 0; j0 < a.width; j0 += kConvTapsAtOnce) {
    float sum[kConvTapsAtOnce + 1] = {};
    for (int64_t r = chunk * kColumnSumsRows + warp_of_block(); active && r < end; r += kWarps) {
      const float d = dy[r * a.channels + channel];
      const int64_t t = r % a.time;
#pragma unroll
      for (int j = 0; j < kConvTapsAtOnce; ++j) {
        const int64_t back = (a.width - 1 - j0 - j) * a.dilation;
        if (j0 + j < a.width && back <= t) sum[j] += d * x[(r - back) * a.channels + channel];
      }
      sum[kConvTapsAtOnce] += d;
    }
#pragma unroll
    for (int j = 0; j <= kConvTapsAtOnce; ++j) store.v[warp_of_block()][j][lane()] = sum[j];
    block_sync();
    for (int j = warp_of_block(); active && j <= kConvTapsAtOnce; j += kWarps) {
      float total = store.v[0][j][lane()];
      for (int w = 1; w < kWarps; ++w) total += store.v[w][j][lane()];
      const int64_t row = j == kConvTapsAtOnce ? a.width : j0 + j;
      if (j == kConvTapsAtOnce ? j0 == 0 : row < a.width)
        partials[(chunk * (a.width + 1) + row) * a.channels + channel] = total;
    }
    block_sync();
  }
}

// One thread adds the partial sums of one element of dweight or dbias, in order.
__global__ void __launch_bounds__(kThreads)
    causal_conv1d_total_kernel(Guard guard, float* dweight, float* dbias, const float* partials,
                               int64_t chunks, int64_t width, int64_t channels) {
  if (guard.aborted()) return;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= (width + 1) * channels) return;
  const int64_t j = i / channels, channel = i % channels;
  float* to = j < width ? dweight : dbias;
  if (!to) return;
  if (j < width)
    to += channel * width + j;
  else
    to += channel;
  double sum = *to;
  for (int64_t c = 0; c < chunks; ++c) sum += partials[c * (width + 1) * channels + i];
  *to = static_cast<float>(sum);
}

ConvShape shape_of(const View& x, const View& weight, int64_t dilation, bool reversed) {
  const int64_t T = x.dim(1), residues = std::min(T, dilation);
  const int64_t outputs = (T + residues - 1) / residues;  // of one residue, at most
  return {.batch = x.dim(0),
          .time = T,
          .channels = x.dim(2),
          .width = weight.dim(1),
          .dilation = dilation,
          .residues = residues,
          .strips = (outputs + kConvOutputs - 1) / kConvOutputs,
          .reversed = reversed};
}

void convolve(CudaStream& stream, const View& to, const View& from, const View& weight,
              const View& bias, const ConvShape& shape) {
  float* weights = stream.scratch<float>(weight.size());
  // [channels, width] to [width, channels]
  strided_copy(stream, weights, weight.data, sizeof(float),
               box_loops({shape.width, shape.channels}, {shape.channels, 1}, {1, shape.width}));
  const int64_t column_blocks = (shape.channels + kWarp - 1) / kWarp,
                strip_blocks = (shape.batch * shape.residues * shape.strips + kWarps - 1) / kWarps;
  launch(causal_conv1d_kernel, dim3(grid_width(column_blocks * strip_blocks)), dim3(kThreads),
         sizeof(ConvWeights), stream, to.as<float>(), from.as<float>(), weights,
         bias ? bias.as<float>() : nullptr, shape);
}

}  // namespace

void causal_conv1d(CudaStream& stream, const CausalConv1d& a) {
  if (a.x.size() == 0) return;
  convolve(stream, a.y, a.x, a.weight, a.bias, shape_of(a.x, a.weight, a.dilation, false));
}

void causal_conv1d_backward(CudaStream& stream, const CausalConv1dBackward& a) {
  if (a.x.size() == 0) return;
  const ConvShape shape = shape_of(a.x, a.weight, a.dilation, true);
  if (a.dx) convolve(stream, a.dx, a.dy, a.weight, {}, shape);
  if (!a.dweight && !a.dbias) return;
  const int64_t chunks = (shape.batch * shape.time + kColumnSumsRows - 1) / kColumnSumsRows,
                column_blocks = (shape.channels + kWarp - 1) / kWarp,
                sums = (shape.width + 1) * shape.channels;
  float* partials = stream.scratch<float>(chunks * sums);
  launch(causal_conv1d_gradient_kernel, dim3(grid_width(chunks * column_blocks)), dim3(kThreads),
         sizeof(ConvGradientStorage), stream, partials, a.dy.as<float>(), a.x.as<float>(), shape);
  launch(causal_conv1d_total_kernel, dim3(blocks_for(sums, kThreads)), dim3(kThreads), 0, stream,
         a.dweight ? a.dweight.as<float>() : nullptr, a.dbias ? a.dbias.as<float>() : nullptr,
         partials, chunks, shape.width, shape.channels);
}

}  // namespace ml::ML_CUDA_NAMESPACE
