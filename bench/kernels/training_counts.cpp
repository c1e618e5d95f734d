// Counts of a mixture of experts, and of the small operations around a training step.

#include "counts.h"
#include "layer/value_table.h"

namespace ml {
namespace {

// Floor: rows, weights and gradients once; a group's weights are read again by each of its tiles.
void groups() {
  const int64_t T = 64, k = 2, G = 4, I = 128, O = 256, R = T * k;
  const Tensor chosen = integers({T, k}, G), order = empty(*device, {R}, DType::i32),
               bags = empty(*device, {R}, DType::i32),
               positions = empty(*device, {T, k}, DType::i32),
               offsets = empty(*device, {G + 1}, DType::i32);
  const GroupByIndex group{.order = order.view(),
                           .bags = bags.view(),
                           .positions = positions.view(),
                           .offsets = offsets.view(),
                           .indices = chosen.view(),
                           .groups = G};
  count("group_by_index", 4 * R * 4 + (G + 1) * 4, group);
  const Tensor x = normal({R, I}), w = normal({G, O, I}), bias = normal({G, O}),
               y = empty(*device, {R, O}), dx = empty(*device, {R, I}),
               dw = zeros(*device, {G, O, I}), db = zeros(*device, {G, O});
  const int64_t operands = (R * I + G * O * I) * 4;
  count("grouped_linear", operands + (R * O + G * O) * 4,
        GroupedLinear{.y = y.view(),
                      .x = x.view(),
                      .weights = w.view(),
                      .offsets = offsets.view(),
                      .bias = bias.view()});
  count("grouped_linear_backward", operands + (R * I + 2 * G * O * I + R * O + 2 * G * O) * 4,
        GroupedLinearBackward{.dx = dx.view(),
                              .dweights = dw.view(),
                              .dbias = db.view(),
                              .dy = y.view(),
                              .x = x.view(),
                              .weights = w.view(),
                              .offsets = offsets.view()});
}

void steps() {
  const int64_t T = 4096, N = 1 << 15;
  const Tensor targets = integers({T}, 1000), kept = empty(*device, {T}, DType::i32),
               weights = empty(*device, {T});
  count("target_weights", T * 12,
        TargetWeights{.kept = kept.view(), .weights = weights.view(), .targets = targets.view()});
  const Tensor loss = normal({1}), value = empty(*device, {1}), unit = empty(*device, {1});
  count("require_finite", 12,
        RequireFinite{.values = value.view(), .unit = unit.view(), .x = loss.view(), .after = {}});
  const Tensor counts = zeros(*device, {N}, DType::i32), reads = integers({T}, N),
               stats = empty(*device, {2 * kSlotStatistics}, DType::i32);
  count("count_reads", T * 4 + T * 8,
        CountReads{.counts = counts.view(),
                   .batches = {},
                   .marks = {},
                   .total = {},
                   .indices = reads.view()});
  count("slot_usage", N * 4, SlotUsage{.stats = stats.view(), .counts = counts.view()});
}

// Floor: rows of dy once for each entry, as the gradient's values.
void table_norm() {
  const int64_t B = 64, L = 16, V = 256, N = 500, entries = B * L;
  const Tensor indices = integers({B, L}, N), weights = normal({B, L}), dy = normal({B, V}),
               sum = zeros(*device, {2}, DType::i32);
  const ValueTable::Read one{.indices = indices, .weights = weights, .dy = dy};
  const TouchedRows t = find_touched_rows(*device, {&one, 1}, N);
  count("sparse_squares", entries * (V * 4 + 12),
        SparseSquares{.sum = sum.view(),
                      .rows = t.rows.view(),
                      .starts = t.starts.view(),
                      .order = t.order.view(),
                      .count = t.count.view(),
                      .reads = t.reads,
                      .width = V});
}

}  // namespace

void training_counts() {
  groups();
  steps();
  table_norm();
}

}  // namespace ml
