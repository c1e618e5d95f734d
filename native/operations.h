#pragma once
// Every operation, and the table of kernels that a backend fills. One line of the list is the
// operation's argument struct (its header in ops/ or optim/) and the name of its kernel, in
// namespace cpu and in the CUDA backend, and in profiles. The table, both backends' declarations
// and both backends' tables follow from the list: a backend without some kernel does not link.

#include "ops/activation.h"
#include "ops/arithmetic.h"
#include "ops/attention.h"
#include "ops/causal_conv1d.h"
#include "ops/concat.h"
#include "ops/copy.h"
#include "ops/cross_entropy.h"
#include "ops/dropout.h"
#include "ops/embedding.h"
#include "ops/embedding_bag.h"
#include "ops/fill.h"
#include "ops/filter_read.h"
#include "ops/group_by_index.h"
#include "ops/grouped_linear.h"
#include "ops/journal_rows.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "ops/matmul.h"
#include "ops/multinomial.h"
#include "ops/overlap.h"
#include "ops/peer.h"
#include "ops/permute.h"
#include "ops/product_key_lookup.h"
#include "ops/product_key_scores.h"
#include "ops/queue_read.h"
#include "ops/random_fill.h"
#include "ops/reduce.h"
#include "ops/require_finite.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/row_bits.h"
#include "ops/sigmoid_gate.h"
#include "ops/silu_gate.h"
#include "ops/slice.h"
#include "ops/slot_usage.h"
#include "ops/softmax.h"
#include "ops/sparse_grad.h"
#include "ops/target_weights.h"
#include "ops/topk.h"
#include "ops/unary.h"
#include "optim/clip.h"
#include "optim/dense_update.h"
#include "optim/exact_rows.h"
#include "optim/sparse_update.h"

#define ML_OPERATIONS(OPERATION)                                         \
  OPERATION(Fill, fill)                                                  \
  OPERATION(FillEach, fill_each)                                         \
  OPERATION(Copy, copy)                                                  \
  OPERATION(Arithmetic, arithmetic)                                      \
  OPERATION(Unary, unary)                                                \
  OPERATION(Reduce, reduce)                                              \
  OPERATION(SumBackward, sum_backward)                                   \
  OPERATION(MaxBackward, max_backward)                                   \
  OPERATION(Activate, activate)                                          \
  OPERATION(ActivateBackward, activate_backward)                         \
  OPERATION(Dropout, dropout)                                            \
  OPERATION(Concat, concat)                                              \
  OPERATION(Slice, slice)                                                \
  OPERATION(SliceBackward, slice_backward)                               \
  OPERATION(Permute, permute)                                            \
  OPERATION(RandomFill, random_fill)                                     \
  OPERATION(Linear, linear)                                              \
  OPERATION(LinearBackward, linear_backward)                             \
  OPERATION(GroupedLinear, grouped_linear)                               \
  OPERATION(GroupedLinearBackward, grouped_linear_backward)              \
  OPERATION(MatMul, matmul)                                              \
  OPERATION(MatMulBackward, matmul_backward)                             \
  OPERATION(ProductKeyScores, product_key_scores)                        \
  OPERATION(TopK, topk)                                                  \
  OPERATION(Multinomial, multinomial)                                    \
  OPERATION(ProductKeyLookup, product_key_lookup)                        \
  OPERATION(ProductKeyLookupBackward, product_key_lookup_backward)       \
  OPERATION(Softmax, softmax)                                            \
  OPERATION(SoftmaxBackward, softmax_backward)                           \
  OPERATION(Embedding, embedding)                                        \
  OPERATION(EmbeddingBag, embedding_bag)                                 \
  OPERATION(EmbeddingBagWeightsBackward, embedding_bag_weights_backward) \
  OPERATION(QueueRead, queue_read)                                       \
  OPERATION(FilterRead, filter_read)                                     \
  OPERATION(SortRows, sort_rows)                                         \
  OPERATION(GroupByIndex, group_by_index)                                \
  OPERATION(SparseGradValues, sparse_grad_values)                        \
  OPERATION(SparseGradToDense, sparse_grad_to_dense)                     \
  OPERATION(SiluGate, silu_gate)                                         \
  OPERATION(SiluGateBackward, silu_gate_backward)                        \
  OPERATION(SigmoidGate, sigmoid_gate)                                   \
  OPERATION(SigmoidGateBackward, sigmoid_gate_backward)                  \
  OPERATION(RmsNorm, rms_norm)                                           \
  OPERATION(RmsNormBackward, rms_norm_backward)                          \
  OPERATION(LayerNorm, layer_norm)                                       \
  OPERATION(LayerNormBackward, layer_norm_backward)                      \
  OPERATION(CrossEntropy, cross_entropy)                                 \
  OPERATION(CrossEntropyBackward, cross_entropy_backward)                \
  OPERATION(TargetWeights, target_weights)                               \
  OPERATION(Attention, attention)                                        \
  OPERATION(AttentionBackward, attention_backward)                       \
  OPERATION(Rope, rope)                                                  \
  OPERATION(CausalConv1d, causal_conv1d)                                 \
  OPERATION(CausalConv1dBackward, causal_conv1d_backward)                \
  OPERATION(Peer, peer)                                                  \
  OPERATION(PeerBackward, peer_backward)                                 \
  OPERATION(CountReads, count_reads)                                     \
  OPERATION(ListReads, list_reads)                                       \
  OPERATION(SlotUsage, slot_usage)                                       \
  OPERATION(RequireFinite, require_finite)                               \
  OPERATION(StepAdvance, step_advance)                                   \
  OPERATION(DenseUpdate, dense_update)                                   \
  OPERATION(SparseUpdate, sparse_update)                                 \
  OPERATION(ExactValues, exact_values)                                   \
  OPERATION(SetExactValues, set_exact_values)                            \
  OPERATION(ReadRows, read_rows)                                         \
  OPERATION(WriteRows, write_rows)                                       \
  OPERATION(JournalRows, journal_rows)                                   \
  OPERATION(SumSquares, sum_squares)                                     \
  OPERATION(SparseSquares, sparse_squares)                               \
  OPERATION(ClipScale, clip_scale)

namespace ml {

#define ML_OPERANDS(Args, name)           \
  static_assert(lists_every_view<Args>(), \
                #Args ": each view is an input or an output (operands.h)");
ML_OPERATIONS(ML_OPERANDS)
#undef ML_OPERANDS

// The name of an operation, as in profiles.
#define ML_NAME(Args, name) \
  constexpr const char* name_of(const Args&) { return #name; }
ML_OPERATIONS(ML_NAME)
#undef ML_NAME

// Runs an operation on its stream, with what the backend gives to kernels: the CPU's KernelContext,
// or the CUDA stream.
template <class Args>
using Kernel = void (*)(void* context, const Args&);

// A backend's kernels, found by the type of their arguments.
struct Operations {
#define ML_KERNEL(Args, name) \
  Kernel<Args> name;          \
  Kernel<Args> of(const Args&) const { return name; }
  ML_OPERATIONS(ML_KERNEL)
#undef ML_KERNEL
};

}  // namespace ml
