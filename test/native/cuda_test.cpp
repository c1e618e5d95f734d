// The CUDA backend without Node, on the emulated device: recorded training steps, faults and the
// work that they void, several devices at once, memory.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>

#include "cuda/backend.h"
#include "cuda/driver.h"
#include "device/recording.h"
#include "layer/memory_layer.h"
#include "layer/optimizer.h"
#include "layer/peer_layer.h"
#include "simt/control.h"
#include "tensors.h"

using namespace ml;

namespace {

std::vector<char> bytes_of(const Tensor& t) {
  std::vector<char> host(static_cast<size_t>(t.bytes()));
  require(!read_now(t, host.data()), "no fault while reading");
  return host;
}

float first_of(const Tensor& t) {
  float value = 0;
  std::memcpy(&value, bytes_of(t).data(), sizeof(value));
  return value;
}

std::unique_ptr<Recording> record(const std::shared_ptr<Device>& device,
                                  const std::function<void()>& work) {
  auto recording = std::make_unique<Recording>(device);
  work();
  recording->finish();
  return recording;
}

// Two memory layers and a PEER layer over shared tables, with clipping and an optimizer.
class Model {
 public:
  Model(const std::shared_ptr<Device>& device, Rule rule, uint64_t seed)
      : device_(device),
        table_(std::make_shared<ValueTable>(random_normal(*device, {64, 12}, seed), Tensor{})),
        down_(std::make_shared<ValueTable>(random_normal(*device, {64, 10}, seed + 1), Tensor{})),
        x_(random_normal(*device, {9, 10}, seed + 2)) {
    MemoryLayerOptions o{.query = {.input_dim = 10,
                                   .heads = 2,
                                   .knn = 4,
                                   .n_keys = 8,
                                   .key_dim = 6,
                                   .bias = true,
                                   .rms_norm = true,
                                   .seed = seed},
                         .output_dim = 10,
                         .silu_gate = true,
                         .output_gate = true};
    for (auto& layer : layers_) {
      layer = std::make_unique<MemoryLayer>(device, o, table_);
      ++o.query.seed;
    }
    peer_ = std::make_unique<PeerLayer>(
        device, PeerLayerOptions{.query = o.query, .activation = Activation::gelu}, down_, table_);
    for (auto& layer : layers_)
      for (Parameter* p : layer->parameters()) dense_.push_back({p->value, p->grad});
    for (Parameter* p : peer_->parameters()) dense_.push_back({p->value, p->grad});
    optimizer_ = std::make_unique<Optimizer>(device, rule, dense_, std::vector{table_, down_});
  }

  void step() {
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
    optimizer_->step(std::vector<Hyper>(optimizer_->parameters(), h), false, {});
    optimizer_->zero_grad();
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
  const auto device = ml::simt::open(0);
  Model eager(device, rule, 3), recorded(device, rule, 3);
  require(eager.state() == recorded.state(), "two models from one seed are equal");
  const auto before = recorded.state();
  int64_t allocated = 0;
  {
    const auto work = record(device, [&] { recorded.step(); });
    require(recorded.state() == before, "recording runs nothing");
    for (int i = 0; i < 3; ++i) {
      eager.step();
      work->replay(nullptr, 0);
      require(eager.state() == recorded.state(),
              "a replayed step is bitwise identical to an eager one");
    }
    require(recorded.state() != before, "steps change the model");
    allocated = device->allocator().stats().allocated;
  }
  require(device->allocator().stats().allocated < allocated, "a recording frees its memory");
}

Tensor bag_of(Device& d, const Tensor& y, const Tensor& table, const Tensor& indices,
              const Tensor& weights) {
  run(d, EmbeddingBag{.y = y.view(),
                      .table = table.view(),
                      .indices = indices.view(),
                      .weights = weights.view()});
  return y;
}

void faults_void_what_depends_on_them() {
  const auto d = ml::simt::open(0);
  const Tensor table = random_normal(*d, {4, 5}, 1), y = zeros(*d, {2, 5}), z = zeros(*d, {2, 5}),
               weights = random_normal(*d, {2, 2}, 2), gradient = zeros(*d, {5, 5}),
               matrix = zeros(*d, {5, 5});
  const Tensor bad = from_host<int32_t>(*d, {2, 2}, DType::i32, {3, -1, 4, -2}),
               good = from_host<int32_t>(*d, {2, 2}, DType::i32, {3, -1, 2, 0});
  fill(gradient, 6);
  bag_of(*d, y, table, bad, weights);
  const Ticket failed = d->stream().submitted();
  run(*d, LinearBackward{
              .dweight = gradient.view(), .dy = y.view(), .x = y.view(), .weight = matrix.view()});
  bag_of(*d, z, table, good, weights);
  const float right = first_of(z);
  run(*d, Copy{.out = z.view(), .in = y.view()});
  float host[25] = {-1};
  const FaultPtr fault = read_now(z, host);
  require(fault && fault->first == failed && host[0] == -1,
          "a void read has the fault of the work that failed, and copies nothing");
  require(fault->error.code() == Code::index_range, "an index out of range is ERR_INDEX_RANGE");
  require(std::string(fault->error.what())
              .starts_with("embeddingBag: \"indices\"[2] is 4, outside [0, 4).\n"),
          "the lowest position is named");
  wait(*d);
  require(first_of(gradient) == 6, "a void update leaves its target as it was");
  require(read_now(y, host) == fault, "what is void stays void after the report");
  require(first_of(bag_of(*d, y, table, good, weights)) == right, "until it is overwritten");

  // More checks than there are bits, every third of which fails, without a wait between them.
  std::vector<Tensor> made;
  for (int i = 0; i < 100; ++i) {
    const Tensor one = bag_of(*d, empty(*d, {2, 5}), table, i % 3 == 0 ? bad : good, weights);
    const Tensor sum = empty(*d, {2, 5});
    run(*d, Arithmetic{.out = sum.view(), .x = one.view(), .y = one.view()});
    made.push_back(sum);
  }
  for (int i = 0; i < 100; ++i) {
    const FaultPtr void_sum = read_now(made[static_cast<size_t>(i)], host);
    require((void_sum != nullptr) == (i % 3 == 0), "each chain has its own fault or none");
    if (!void_sum) require(host[0] == 2 * right, "and its own numbers");
  }
  wait(*d);
}

void recorded_faults() {
  const auto d = ml::simt::open(0);
  const Tensor table = random_normal(*d, {4, 5}, 1), y = zeros(*d, {2, 5}), z = zeros(*d, {2, 5}),
               weights = random_normal(*d, {2, 2}, 2);
  const Tensor bad = from_host<int32_t>(*d, {2, 2}, DType::i32, {3, -1, 4, -2}),
               good = from_host<int32_t>(*d, {2, 2}, DType::i32, {3, -1, 2, 0});
  const Tensor indices = empty(*d, {2, 2}, DType::i32);
  const auto put = [&](const Tensor& source) {
    run(*d, Copy{.out = indices.view(), .in = source.view()});
  };
  put(good);
  const auto work = record(d, [&] {
    bag_of(*d, y, table, indices, weights);
    run(*d, Copy{.out = z.view(), .in = y.view()});
  });
  work->replay(nullptr, 0);
  const float right = first_of(z);
  put(bad);
  work->replay(nullptr, 0);
  const Ticket replay = d->stream().submitted() - 1;
  float host[10];
  const FaultPtr fault = read_now(z, host);
  require(fault && fault->first == replay, "a fault of recorded work is that of its step");
  put(good);
  work->replay(nullptr, 0);
  require(first_of(z) == right && first_of(y) == right, "and it can be run again");
  // what a replay reads is void
  run(*d,
      EmbeddingBag{
          .y = z.view(), .table = table.view(), .indices = bad.view(), .weights = weights.view()});
  const Ticket failed = d->stream().submitted();
  const Tensor row{z.storage, 0, DType::f32, {2, 2}};
  run(*d, Copy{.out = weights.view(), .in = row.view()});
  work->replay(nullptr, 0);
  const FaultPtr inherited = read_now(y, host);
  require(inherited && inherited->first == failed, "a replay is void where its inputs are");
  fill(weights, 1);
  work->replay(nullptr, 0);
  require(!read_now(y, host), "and sound again with them");
  wait(*d);
}

// An error on the host, in the middle of a device's work, is a fault as any other.
void host_errors_are_faults() {
  const auto d = ml::simt::open(0);
  const Tensor y = zeros(*d, {3000}), z = zeros(*d, {3000});
  produce(y.view(), [](void*) -> FaultPtr { throw Error(Code::value, "no data"); });
  const Ticket failed = d->stream().submitted();
  run(*d, Copy{.out = z.view(), .in = y.view()});
  std::vector<float> host(3000);
  const FaultPtr fault = read_now(z, host.data());
  require(fault && fault->first == failed && fault->error.code() == Code::value,
          "an error of a producer is a fault");
  produce(y.view(), [](void* target) -> FaultPtr {
    std::fill_n(static_cast<float*>(target), 3000, 5.0f);
    return nullptr;
  });
  require(first_of(y) == 5, "and the tensor can be written again");
}

void large_copies_are_chunked() {
  const auto d = ml::simt::open(0);
  std::vector<float> host(7'000'000);
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<float>(i);
  const Tensor t = from_host(*d, {7'000'000}, DType::f32, host);
  const std::vector<char> back = bytes_of(t);
  require(std::memcmp(back.data(), host.data(), back.size()) == 0, "28 MB there and back");
}

void too_much_memory_is_an_error() {
  const auto d = ml::simt::open(0);
  const MemoryStats before = d->allocator().stats();
  try {
    empty(*d, {int64_t{1} << 40});
    require(false, "a tensor larger than the device is refused");
  } catch (const Error& error) {
    require(error.code() == Code::out_of_memory, "ERR_OUT_OF_MEMORY");
  }
  require(d->allocator().stats().reserved == before.reserved, "nothing was allocated");
}

// As on a GPU, where cudaMalloc and cudaFree wait for all work.
void steady_steps_allocate_nothing() {
  const ::simt::Settings exact = ::simt::settings();
  ::simt::Settings cached = exact;
  cached.cached_blocks = true;
  ::simt::set(cached);
  {
    const auto device = ml::simt::open(0);
    Model model(device, Rule::adamw, 3);
    for (int i = 0; i < 3; ++i) model.step();
    device->stream().wait();
    const ::simt::Calls before = ::simt::calls();
    const uint64_t checks = ::simt::counts("check_kernel").launches;
    model.step();
    device->stream().wait();
    const ::simt::Calls after = ::simt::calls();
    require(::simt::counts("check_kernel").launches == checks,
            "indices of the layers' own lookups are not checked again");
    require(after.allocations == before.allocations, "a steady step allocates no device memory");
    require(after.frees == before.frees, "and frees none");
    require(after.launches > before.launches, "it launches kernels");
    require(after.timed_events == before.timed_events,
            "operations are not timed before anybody asks");
  }
  ::simt::set(exact);
}

// Every product reads its weights once, and nothing is added by a launch of its own.
void one_token_is_few_launches() {
  const auto d = ml::simt::open(0);
  for (const Compute compute : {Compute::float32, Compute::bfloat16}) {
    MemoryLayerOptions o{.query = {.input_dim = 512,
                                   .heads = 2,
                                   .knn = 32,
                                   .n_keys = 256,
                                   .key_dim = 64,
                                   .compute = compute},
                         .output_dim = 512};
    MemoryLayer layer(
        d, o, std::make_shared<ValueTable>(random_normal(*d, {256 * 256, 512}, 2), Tensor{}));
    const Tensor x = random_normal(*d, {1, 512}, 3);
    const auto launches = [&](bool save) {
      d->stream().wait();
      const uint64_t before = ::simt::calls().launches;
      layer.forward(x, save);
      d->stream().wait();
      return ::simt::calls().launches - before;
    };
    // query, half lists, pairs, check of the slots, bag, gate, product with it, projection
    require(launches(false) <= 7, "infer of one token");
    require(launches(true) <= 8, "forward of one token, which counts its reads");
  }
}

// What was freed and is cached makes way for the memory of operations.
void scratch_memory_takes_what_is_cached() {
  const ::simt::Settings exact = ::simt::settings();
  ::simt::Settings small = exact;
  small.cached_blocks = true;
  small.memory = uint64_t{64} << 20;
  ::simt::set(small);
  {
    const auto d = ml::simt::open(0);
    zeros(*d, {int64_t{14} << 20});  // 56 MiB, freed at once; the first scratch memory is 8 MiB
    const MemoryStats full = d->allocator().stats();
    require(full.reserved == int64_t{56} << 20 && full.allocated == 0, "a large block is cached");
    (void)bytes_of(clip_grad_norm(*d, {random_normal(*d, {100}, 1)}, {}, 1));
    require(d->stream().scratch() == int64_t{8} << 20, "scratch memory is counted");
    require(d->allocator().stats().reserved < int64_t{1} << 20, "and the cached block is gone");
  }
  ::simt::set(exact);
}

// Of two GPUs the thread that calls has one current, and works with the other.
void the_callers_device_stays_current() {
  using namespace ml::simt;
  const ::simt::Settings one = ::simt::settings();
  ::simt::Settings two = one;
  two.devices = 2;
  two.cached_blocks = true;  // so that scratch memory and cached blocks are freed at the end
  ::simt::set(two);
  for (const int callers : {1, 0}) {
    const int other = 1 - callers;
    (void)cudaSetDevice(callers);
    const auto expect_kept = [&](const char* when) {
      int current = -1;
      (void)cudaGetDevice(&current);
      require(current == callers, when);
    };
    require(devices().size() == 2, "two devices");
    auto d = ml::simt::open(other);
    require(d->name == "simt:" + std::to_string(other), "a device of several has a number");
    expect_kept("after a device is opened");
    const Tensor x = from_host(*d, {3000}, DType::f32, std::vector<float>(3000, 2));
    expect_kept("after a write");
    require(first_of(x) == 2, "what was written is read");
    expect_kept("after a read");
    {
      const Tensor sum = empty(*d, {3000});
      const auto work =
          record(d, [&] { run(*d, Arithmetic{.out = sum.view(), .x = x.view(), .y = x.view()}); });
      work->replay(nullptr, 0);
      (void)d->stream().take_times();
      work->replay(nullptr, 0);
      require(first_of(sum) == 4, "a graph runs on its device");
      expect_kept("after a replay");
    }
    (void)bytes_of(clip_grad_norm(*d, {x}, {}, 1));
    require(!d->stream().take_times().empty(), "events of the device");
    d->allocator().release_cached();
    expect_kept("after cached memory is freed");
    // of its tensors, too
    d->end();
    d.reset();
    expect_kept("after a device has ended");
  }
  ::simt::set(one);
}

// What is nearly there is waited for awake, and what is not, asleep. Either may not come about, as
// threads are scheduled, so there are several tries.
void waits_poll_before_they_sleep() {
  const auto d = ml::simt::open(0);
  const Tensor x = zeros(*d, {1 << 16});
  bool seen = false;
  for (int i = 0; i < 50 && !seen; ++i) {
    d->stream().wait();
    const ::simt::Calls before = ::simt::calls();
    fill(x, 1);
    d->stream().wait();
    const ::simt::Calls after = ::simt::calls();
    const uint64_t queries = after.event_queries - before.event_queries,
                   waits = after.event_waits - before.event_waits;
    seen = waits > 0 && queries > 2 * waits;  // more than once
  }
  require(seen, "a long wait asks the event more than once, and then sleeps");
}

void too_old_is_named_with_its_driver() {
  using namespace ml::simt;
  char folder[] = "/tmp/memory-layers-driver-XXXXXX";
  require(mkdtemp(folder) != nullptr, "a folder");
  const std::string root = folder, proc = root + "/proc/driver/nvidia";
  require(loaded_driver(root).empty(), "no driver is loaded");
  std::filesystem::create_directories(proc + "/gpus/0000:01:00.0");
  std::ofstream(proc + "/version") << "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  "
                                      "Sat Aug 19\nGCC version:  12.3.0\n";
  std::ofstream(proc + "/gpus/0000:01:00.0/information") << "Model: \t\t NVIDIA L4\nIRQ: 12\n";
  const std::string loaded = loaded_driver(root), version = loaded_driver_version(root);
  std::filesystem::remove_all(root);
  require(loaded == "NVIDIA L4 with driver 535.104.05", "GPU and driver by the system's files");
  require(no_device_reason(cudaErrorInsufficientDriver, 13000, 12020, loaded) ==
              "no usable NVIDIA driver (the binary's CUDA 13.0 needs driver 580 or newer; found "
              "NVIDIA L4 with driver 535.104.05; the driver's libcuda.so.1 is for CUDA 12.2)",
          "a driver that is too old");
  require(no_device_reason(cudaErrorInsufficientDriver, 12040, 0, "") ==
              "no usable NVIDIA driver (the binary's CUDA 12.4 needs driver 525 or newer; "
              "libcuda.so.1 was not found)",
          "no driver");
  require(too_old_reason("Quadro P4000, sm_61", version, 12020) ==
              "Quadro P4000, sm_61 is too old: must be sm_75 (Turing) or newer (driver 535.104.05, "
              "libcuda.so.1 for CUDA 12.2)",
          "a GPU that is too old, with its driver");
  const ::simt::Settings before = ::simt::settings();
  ::simt::Settings old = before;
  old.compute = 70;
  ::simt::set(old);
  const std::string reason = devices().at(0).reason;
  ::simt::set(before);
  require(reason.find("sm_70") != std::string::npos &&
              reason.find("too old: must be sm_75 (Turing) or newer") != std::string::npos &&
              reason.find("libcuda.so.1 for CUDA 13.0") != std::string::npos,
          "a GPU that is too old");
}

}  // namespace

int main() {
  too_old_is_named_with_its_driver();
  the_callers_device_stays_current();
  waits_poll_before_they_sleep();
  steady_steps_allocate_nothing();
  scratch_memory_takes_what_is_cached();
  one_token_is_few_launches();
  faults_void_what_depends_on_them();
  recorded_faults();
  host_errors_are_faults();
  large_copies_are_chunked();
  too_much_memory_is_an_error();
  for (Rule rule : {Rule::sgd, Rule::adagrad, Rule::rowwise_adagrad, Rule::adamw})
    recorded_steps_equal_eager_ones(rule);
  // Several devices at once compute what each computes alone.
  const auto train = [] {
    Model model(ml::simt::open(0), Rule::adamw, 5);
    for (int i = 0; i < 2; ++i) model.step();
    return model.state();
  };
  const auto alone = train();
  auto one = std::async(std::launch::async, train), two = std::async(std::launch::async, train);
  require(one.get() == alone && two.get() == alone, "two devices at once");
  report();
}
