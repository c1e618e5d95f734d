#include "ops/multinomial.h"

#include <algorithm>
#include <functional>

#include "cpu/context.h"
#include "cpu/tuning.h"

namespace ml::cpu {
namespace {

// The largest key of a row.
uint64_t largest_choice(const float* x, int64_t n) {
  uint64_t largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, choice_key(x[i], i));
  return largest;
}

uint64_t median(uint64_t a, uint64_t b, uint64_t c) {
  return std::max(std::min(a, b), std::min(std::max(a, b), c));
}

// Moves the fewest largest keys whose weights sum to `wanted` or more to the front, and returns
// their number: a quickselect by weight. All weights sum to `wanted` or more.
int64_t select_weight(uint64_t* keys, int64_t count, const uint64_t* weights, uint64_t wanted) {
  int64_t begin = 0, end = count;  // the last of them is here
  while (end - begin > 1) {
    // never the smallest of three keys or more, so both parts are shorter
    const uint64_t pivot =
        end - begin == 2 ? std::max(keys[begin], keys[end - 1])
                         : median(keys[begin], keys[begin + (end - begin) / 2], keys[end - 1]);
    const int64_t split =
        std::partition(keys + begin, keys + end, [=](uint64_t key) { return key >= pivot; }) - keys;
    uint64_t sum = 0;
    for (int64_t i = begin; i < split; ++i) sum += weights[index_of(keys[i])];
    if (sum >= wanted) {
      end = split;
    } else {
      wanted -= sum;
      begin = split;
    }
  }
  return end;
}

// Sets the weights of all but the choices that top_k and top_p leave to 0. keys [n]: scratch
void restrict_choices(const Multinomial& a, const float* x, int64_t n, uint64_t* weights,
                      uint64_t* keys) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i)
    if (weights[i] > 0) keys[count++] = choice_key(x[i], i);
  int64_t left = count;
  if (a.top_k > 0 && a.top_k < left) {
    left = a.top_k;
    std::nth_element(keys, keys + left - 1, keys + count, std::greater<>());
  }
  if (a.top_p < 1) {
    uint64_t total = 0;
    for (int64_t i = 0; i < left; ++i) total += weights[index_of(keys[i])];
    left = select_weight(keys, left, weights, nucleus_weight(a.top_p, total));
  }
  for (int64_t i = left; i < count; ++i) weights[index_of(keys[i])] = 0;
}

// weights, keys [n]: scratch
void sample_row(const Multinomial& a, int64_t row, uint64_t* weights, uint64_t* keys) {
  const int64_t n = a.logits.dim(-1);
  const float* x = a.logits.as<float>() + row * n;
  int32_t* out = a.out.as<int32_t>() + row * a.count;
  const uint64_t largest = largest_choice(x, n);
  if (is_empty_choice(largest) || a.temperature == 0) {
    const int32_t index = is_empty_choice(largest) ? -1 : static_cast<int32_t>(index_of(largest));
    std::fill_n(out, a.count, index);
    return;
  }
  const float max = x[index_of(largest)], inverse = 1.0f / a.temperature;
  for (int64_t i = 0; i < n; ++i) weights[i] = choice_weight(x[i], max, inverse);
  if (a.top_k > 0 || a.top_p < 1) restrict_choices(a, x, n, weights, keys);
  for (int64_t i = 1; i < n; ++i) weights[i] += weights[i - 1];
  for (int64_t s = 0; s < a.count; ++s)
    out[s] = static_cast<int32_t>(
        std::upper_bound(weights, weights + n, draw(a, row, s, weights[n - 1])) - weights);
}

}  // namespace

void multinomial(KernelContext& ctx, const Multinomial& a) {
  const int64_t n = a.logits.dim(-1), rows = a.logits.size() / n;
  uint64_t* scratch = ctx.scratch<uint64_t>(2 * n * ctx.threads());
  ctx.parallel_for(rows, std::max<int64_t>(1, kCrossEntropyGrain / n),
                   [&](int64_t begin, int64_t end, int worker) {
                     uint64_t* own = scratch + 2 * n * worker;
                     for (int64_t r = begin; r < end; ++r) sample_row(a, r, own, own + n);
                   });
}

}  // namespace ml::cpu
