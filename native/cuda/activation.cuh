#pragma once
// Activations and their derivatives (core/activation.h) of one number. NaN gives NaN, and
// infinities give the limits.

#include "core/activation.h"
#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Phi(x), the standard normal distribution function, accurate in the tail too
__device__ inline float normal_cdf(float x) { return 0.5f * erfcf(-0.70710678118654752f * x); }

// x within ±limit, so that no infinity is multiplied by 0. NaN stays.
__device__ inline float clamp_magnitude(float x, float limit) {
  return x < -limit ? -limit : (x > limit ? limit : x);
}

__device__ inline float activate(Activation kind, float x) {
  switch (kind) {
    case Activation::relu: return x < 0.0f ? 0.0f : x;
    case Activation::gelu: return x == -INFINITY ? -0.0f : x * normal_cdf(x);
    case Activation::silu: return x == -INFINITY ? -0.0f : x * sigmoid(x);
    case Activation::sigmoid: break;
  }
  return sigmoid(x);
}

__device__ inline float activate_derivative(Activation kind, float x) {
  switch (kind) {
    case Activation::relu: return x > 0.0f ? 1.0f : (x != x ? x : 0.0f);
    case Activation::gelu: {
      const float z = clamp_magnitude(x, 40.0f);
      return normal_cdf(z) + z * expf(-0.5f * z * z) * 0.39894228040143268f;
    }
    case Activation::silu: {
      const float s = sigmoid(x);
      return s * (1.0f + clamp_magnitude(x, 100.0f) * (1.0f - s));
    }
    case Activation::sigmoid: break;
  }
  const float s = sigmoid(x);
  return s * (1.0f - s);
}

}  // namespace ml::ML_CUDA_NAMESPACE
