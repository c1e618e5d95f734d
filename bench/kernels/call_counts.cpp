// What one training step of a memory layer asks of the CUDA runtime, in the steady state: launches
// by kernel, allocations, events that keep the time.

#include "counts.h"
#include "layer/memory_layer.h"
#include "layer/optimizer.h"

namespace ml {
namespace {

// A memory layer of the published shape, narrower, with an optimizer over all of it.
class TrainedLayer {
 public:
  TrainedLayer(Rule rule, Compute compute)
      : values_(std::make_shared<ValueTable>(normal({kKeys * kKeys, kDim}), Tensor{})),
        layer_(device, options(compute), values_) {
    std::vector<Optimizer::Dense> dense;
    for (const Parameter* p : layer_.parameters()) dense.push_back({p->value, p->grad});
    for (const Optimizer::Dense& d : dense) grads_.push_back(d.grad);
    optimizer_ = std::make_unique<Optimizer>(device, rule, dense, std::vector{values_});
  }

  void step() {
    {
      const ForwardResult result = layer_.forward(x_, true);
      layer_.backward(*result.context, dy_);
    }
    clip_grad_norm(*device, grads_, {values_}, 1);
    optimizer_->step(std::vector<Hyper>(optimizer_->parameters(), Hyper{.lr = 0.01f}), false, {});
    optimizer_->zero_grad();
  }

 private:
  static constexpr int64_t kTokens = 512, kDim = 64, kKeys = 32, kHalf = 32;

  static MemoryLayerOptions options(Compute compute) {
    return {.query = {.input_dim = kDim,
                      .heads = 2,
                      .knn = 8,
                      .n_keys = kKeys,
                      .key_dim = 2 * kHalf,
                      .bias = true,
                      .rms_norm = true,
                      .seed = 1,
                      .compute = compute},
            .output_dim = kDim,
            .silu_gate = true};
  }

  const std::shared_ptr<ValueTable> values_;
  MemoryLayer layer_;
  const Tensor x_ = normal({kTokens, kDim}), dy_ = normal({kTokens, kDim}, DType::f32, 2);
  std::vector<Tensor> grads_;
  std::unique_ptr<Optimizer> optimizer_;
};

void training_step(const std::string& name, Rule rule, Compute compute) {
  TrainedLayer layer(rule, compute);
  for (int i = 0; i < 2; ++i) layer.step();
  wait();
  ::simt::reset_counts();
  const ::simt::Calls before = ::simt::calls();
  layer.step();
  wait();
  const ::simt::Calls after = ::simt::calls();
  const auto count = [&](const char* call, uint64_t n, bool last = false) {
    std::printf("\"%s\": %llu%s", call, static_cast<unsigned long long>(n), last ? "}" : ", ");
  };
  std::printf(",\n  {\"name\": \"%s\", \"calls\": {", name.c_str());
  count("launches", after.launches - before.launches);
  count("allocations", after.allocations - before.allocations);
  count("frees", after.frees - before.frees);
  count("timedEvents", after.timed_events - before.timed_events, true);
  std::printf(", \"kernels\": %s}", ::simt::counts_json().c_str());
}

}  // namespace

void call_counts() {
  ::simt::Settings settings = ::simt::settings();
  settings.cached_blocks = true;  // as on a GPU
  wait();
  device.reset();
  ::simt::set(settings);
  device = ml::simt::open(0);
  for (const Rule rule : {Rule::adamw, Rule::rowwise_adagrad}) {
    const std::string name =
        std::string("training step, ") + (rule == Rule::adamw ? "adamw" : "rowwise_adagrad");
    training_step(name, rule, Compute::float32);
    training_step(name + ", bfloat16", rule, Compute::bfloat16);
  }
}

}  // namespace ml
