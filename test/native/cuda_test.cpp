// The CUDA backend's machinery without Node, on the emulated device: recorded training steps,
// faults and what they void, several devices at once, memory.

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <thread>

#include "cuda/backend.h"
#include "cuda/graph.h"
#include "layer/memory_layer.h"
#include "layer/optimizer.h"
#include "layer/peer_layer.h"

using namespace ml;

namespace {

std::atomic<int> checks = 0;

void require(bool ok, const char* what) {
  ++checks;
  if (ok) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

Tensor normal(Device& device, const Shape& shape, uint64_t seed) {
  Tensor t = empty(device, shape);
  run(device, RandomFill{t.view(), RandomFill::Kind::normal, 0, 1, seed});
  return t;
}

template <class T>
Tensor from_host(Device& device, const Shape& shape, DType dtype, const std::vector<T>& values) {
  Tensor t = empty(device, shape, dtype);
  device.stream().write(t.view().data, values.data(), values.size() * sizeof(T), true);
  return t;
}

std::vector<char> bytes_of(const Tensor& t) {
  std::vector<char> host(static_cast<size_t>(t.bytes()));
  t.device().stream().read(host.data(), t.view().data, host.size(), nullptr);
  require(!t.device().stream().wait(), "no fault while reading");
  return host;
}

float first_of(const Tensor& t) {
  float value = 0;
  std::memcpy(&value, bytes_of(t).data(), sizeof(value));
  return value;
}

// Two memory layers and a PEER layer over shared tables, with clipping and an optimizer.
class Model {
 public:
  Model(const std::shared_ptr<Device>& device, Rule rule, uint64_t seed)
      : device_(device),
        table_(std::make_shared<ValueTable>(normal(*device, {64, 12}, seed), Tensor{})),
        down_(std::make_shared<ValueTable>(normal(*device, {64, 10}, seed + 1), Tensor{})),
        x_(normal(*device, {9, 10}, seed + 2)) {
    MemoryLayerOptions o;
    o.query = {10, 2, 4, 8, 6, true, true, seed};
    o.output_dim = 10;
    o.silu_gate = true;
    o.output_gate = true;
    for (auto& layer : layers_) {
      layer = std::make_unique<MemoryLayer>(device, o, table_);
      ++o.query.seed;
    }
    peer_ = std::make_unique<PeerLayer>(device, PeerLayerOptions{o.query, Activation::gelu}, down_,
                                        table_);
    for (auto& layer : layers_)
      for (Parameter* p : layer->parameters()) dense_.push_back({p->value, p->grad});
    for (Parameter* p : peer_->parameters()) dense_.push_back({p->value, p->grad});
    optimizer_ = std::make_unique<Optimizer>(device, rule, dense_, std::vector{table_, down_});
  }

  void step() {
    optimizer_->zero_grad();
    for (auto& layer : layers_) {
      ForwardResult r = layer->forward(x_, true);
      layer->backward(*r.context, r.output);
    }
    PeerLayer::Result r = peer_->forward(x_, true);
    peer_->backward(*r.context, r.output);
    std::vector<Tensor> grads;
    for (const auto& d : dense_) grads.push_back(d.grad);
    clip_grad_norm(*device_, grads, {table_, down_}, 1);
    Hyper h;
    h.lr = 0.05f;
    optimizer_->step(h, h, false);
  }

  std::vector<std::vector<char>> state() {
    std::vector<std::vector<char>> all{bytes_of(table_->weight()), bytes_of(down_->weight()),
                                       bytes_of(optimizer_->step_count())};
    for (const auto& d : dense_) all.push_back(bytes_of(d.value));
    for (size_t i = 0; i < 2; ++i)
      if (const Tensor& s = optimizer_->table_state(i).state1) all.push_back(bytes_of(s));
    return all;
  }

 private:
  std::shared_ptr<Device> device_;
  std::shared_ptr<ValueTable> table_, down_;
  Tensor x_;
  std::unique_ptr<MemoryLayer> layers_[2];
  std::unique_ptr<PeerLayer> peer_;
  std::vector<Optimizer::Dense> dense_;
  std::unique_ptr<Optimizer> optimizer_;
};

void recorded_steps_equal_eager_ones(Rule rule) {
  const auto device = simt::open(0);
  Model eager(device, rule, 3), recorded(device, rule, 3);
  require(eager.state() == recorded.state(), "two models from one seed are equal");
  const auto before = recorded.state();
  int64_t held = 0;
  {
    const auto work = simt::record(device, [&] { recorded.step(); });
    require(recorded.state() == before, "recording runs nothing");
    for (int i = 0; i < 3; ++i) {
      eager.step();
      work->replay();
      require(eager.state() == recorded.state(), "a replayed step gives the bits of an eager one");
    }
    require(recorded.state() != before, "steps change the model");
    held = device->allocator().stats().allocated;
  }
  require(device->allocator().stats().allocated < held, "a recording gives its memory back");
}

void faults_void_what_follows() {
  const auto d = simt::open(0);
  Stream& stream = d->stream();
  const Tensor table = normal(*d, {4, 5}, 1), y = zeros(*d, {2, 5}),
               weights = normal(*d, {2, 2}, 2);
  const Tensor bad = from_host<int32_t>(*d, {2, 2}, DType::i32, {3, -1, 4, -2}),
               good = from_host<int32_t>(*d, {2, 2}, DType::i32, {3, -1, 2, 0});
  const auto bag = [&](const Tensor& indices) {
    run(*d, EmbeddingBag{y.view(), table.view(), indices.view(), weights.view(), {}, {}});
  };
  fill(y, 7);
  bag(bad);
  const Ticket failed = stream.submitted();
  fill(y, 8);
  const float nine = 9;
  stream.write(y.view().data, &nine, sizeof(nine), false);
  std::promise<std::optional<Fault>> told;
  float seen = -1;
  stream.read(&seen, y.view().data, sizeof(seen),
              [&](const std::optional<Fault>& f) { told.set_value(f); });
  const Ticket last = stream.submitted();
  const auto fault = stream.wait();
  require(fault && fault->first == failed, "the fault names the work that failed");
  require(fault->error.code() == Code::index_range, "an index out of range is ERR_INDEX_RANGE");
  require(std::string(fault->error.what()) ==
              "embeddingBag: \"indices\"[2] is 4, outside [0, 4).\n  -1 marks a padding entry.",
          "the lowest position is named");
  require(told.get_future().get().has_value() && seen == -1,
          "a read of void work is told, and copies nothing");
  require(stream.faulted(), "not acknowledged yet");
  bag(good);
  const Ticket after = stream.submitted();
  stream.acknowledge(fault->first);
  stream.acknowledge(fault->first);
  require(stream.voided(failed) && stream.voided(last) && stream.voided(after) &&
              !stream.voided(failed - 1),
          "what is void");
  require(first_of(y) == 7, "nothing has changed since the work before the fault");
  fill(y, 11);
  require(first_of(y) == 11 && !stream.faulted(), "work after the report runs");

  // The same inside recorded work: a replay that fails is void as a whole from there on.
  Tensor indices = empty(*d, {2, 2}, DType::i32);
  run(*d, Copy{indices.view(), good.view()});
  const auto work = simt::record(d, [&] { bag(indices); });
  work->replay();
  const float right = first_of(y);
  run(*d, Copy{indices.view(), bad.view()});
  fill(y, 12);
  work->replay();
  const Ticket replay = stream.submitted();
  const auto second = stream.wait();
  require(second && second->first == replay, "a fault of recorded work belongs to its replay");
  stream.acknowledge(second->first);
  require(first_of(y) == 12, "the replay was void");
  run(*d, Copy{indices.view(), good.view()});
  work->replay();
  require(first_of(y) == right, "and can be run again");
}

// A fault of the host, in the middle of a device's work, is as any other.
void faults_of_the_host() {
  const auto d = simt::open(0);
  Stream& stream = d->stream();
  const Tensor y = zeros(*d, {3000});
  stream.produce(y.view().data, 12000, [](void*) { throw Error(Code::value, "no data"); });
  const Ticket failed = stream.submitted();
  fill(y, 1);
  auto fault = stream.wait();
  require(fault && fault->first == failed && fault->error.code() == Code::value,
          "an error of a producer is a fault");
  stream.acknowledge(fault->first);
  require(first_of(y) == 0, "what followed it was void");
  stream.produce(y.view().data, 12000,
                 [](void* target) { std::fill_n(static_cast<float*>(target), 3000, 5.0f); });
  require(first_of(y) == 5, "and the stream works again");
}

void large_copies_come_in_pieces() {
  const auto d = simt::open(0);
  std::vector<float> host(7'000'000);
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<float>(i);
  const Tensor t = from_host(*d, {7'000'000}, DType::f32, host);
  const std::vector<char> back = bytes_of(t);
  require(std::memcmp(back.data(), host.data(), back.size()) == 0, "28 MB there and back");
}

void too_much_memory_is_an_error() {
  const auto d = simt::open(0);
  const MemoryStats before = d->allocator().stats();
  try {
    empty(*d, {int64_t{1} << 40});
    require(false, "a tensor larger than the device is refused");
  } catch (const Error& error) {
    require(error.code() == Code::out_of_memory, "ERR_OUT_OF_MEMORY");
  }
  require(d->allocator().stats().reserved == before.reserved, "nothing was taken");
}

}  // namespace

int main() {
  faults_void_what_follows();
  faults_of_the_host();
  large_copies_come_in_pieces();
  too_much_memory_is_an_error();
  for (Rule rule : {Rule::sgd, Rule::adagrad, Rule::rowwise_adagrad, Rule::adamw})
    recorded_steps_equal_eager_ones(rule);
  // Several devices at once give what each gives alone.
  const auto train = [] {
    Model model(simt::open(0), Rule::adamw, 5);
    for (int i = 0; i < 2; ++i) model.step();
    return model.state();
  };
  const auto alone = train();
  auto one = std::async(std::launch::async, train), two = std::async(std::launch::async, train);
  require(one.get() == alone && two.get() == alone, "two devices at once");
  std::printf("%d passed, 0 failed\n", checks.load());
}
