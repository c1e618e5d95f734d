#pragma once
// The table of contents: every operation, and the slot each backend fills for it. There is no empty
// slot: a backend without some kernel doesn't compile, or doesn't link.

#include "ops/attention.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/embedding_bag.h"
#include "ops/linear.h"
#include "ops/peer.h"
#include "ops/product_key_lookup.h"
#include "ops/product_key_scores.h"
#include "ops/random_fill.h"
#include "ops/rms_norm.h"
#include "ops/silu_gate.h"
#include "ops/softmax.h"
#include "ops/sparse_grad.h"
#include "ops/topk.h"
#include "optim/optim.h"

namespace ml {

class Stream;

template <class Args>
class Slot {
 public:
  using Launch = void (*)(Stream&, const Args&);
  constexpr Slot(Launch launch) : launch_(launch) {}
  void operator()(Stream& stream, const Args& args) const { launch_(stream, args); }

 private:
  Launch launch_;
};

struct Operations {
  Slot<Fill> fill;
  Slot<Copy> copy;
  Slot<Combine> combine;
  Slot<Activate> activate;
  Slot<ActivateBackward> activate_backward;
  Slot<RandomFill> random_fill;
  Slot<Linear> linear;
  Slot<LinearBackward> linear_backward;
  Slot<ProductKeyScores> product_key_scores;
  Slot<TopK> topk;
  Slot<ProductKeyLookup> product_key_lookup;
  Slot<ProductKeyLookupBackward> product_key_lookup_backward;
  Slot<Softmax> softmax;
  Slot<SoftmaxBackward> softmax_backward;
  Slot<EmbeddingBag> embedding_bag;
  Slot<EmbeddingBagWeightsBackward> embedding_bag_weights_backward;
  Slot<SortRows> sort_rows;
  Slot<SparseGradValues> sparse_grad_values;
  Slot<SparseGradToDense> sparse_grad_to_dense;
  Slot<SiluGate> silu_gate;
  Slot<SiluGateBackward> silu_gate_backward;
  Slot<SigmoidGate> sigmoid_gate;
  Slot<SigmoidGateBackward> sigmoid_gate_backward;
  Slot<RmsNorm> rms_norm;
  Slot<RmsNormBackward> rms_norm_backward;
  Slot<CrossEntropy> cross_entropy;
  Slot<CrossEntropyBackward> cross_entropy_backward;
  Slot<Attention> attention;
  Slot<AttentionBackward> attention_backward;
  Slot<Peer> peer;
  Slot<PeerBackward> peer_backward;
  Slot<StepAdvance> step_advance;
  Slot<DenseUpdate> dense_update;
  Slot<SparseUpdate> sparse_update;
  Slot<SumSquares> sum_squares;
  Slot<ClipScale> clip_scale;
};

}  // namespace ml
