// The CPU's stream: order, completions and faults, whichever thread runs the work.

#include <string>
#include <thread>

#include "cpu/backend.h"
#include "tensors.h"

using namespace ml;

namespace {

float first_of(const Tensor& t) { return *t.view().as<float>(); }

// Work runs in order, whether the stream's thread, the waiting thread, or first one and then the
// other runs it.
void order(Device& d) {
  constexpr int64_t kLong = 100000;
  const Tensor a = empty(d, {kLong}), b = empty(d, {kLong}), c = empty(d, {kLong});
  for (int i = 0; i < 300; ++i) {
    fill(a, i);
    run(d, Copy{.out = b.view(), .in = a.view()});
    sleep_wake_times(i % 3);
    fill(a, -1);
    run(d, Copy{.out = c.view(), .in = b.view()});
    fill(b, -1);
    if (i % 5 == 0) sleep_wake_times(1);
    float last = 0;
    d.stream().read(&last, c.view().as<float>() + kLong - 1, sizeof(last),
                    [](const std::optional<Fault>&) {});
    wait(d);
    require(last == static_cast<float>(i), "work runs in the order in which it was enqueued");
  }
}

// After wait() an environment that shuts down destroys what completions use.
void completions(Device& d) {
  const Tensor t = zeros(d, {4});
  float target[4];
  for (int i = 0; i < 200; ++i) {
    std::atomic<bool> called{false};
    d.stream().read(target, t.view().data, sizeof(target), [&called](const std::optional<Fault>&) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
      called.store(true, std::memory_order_release);
    });
    sleep_wake_times(i % 4);
    wait(d);
    require(called.load(std::memory_order_acquire),
            "completions have been called when wait() returns");
  }
}

// A write copies its source before it returns, at once or staged behind the work before it.
void writes(Device& d) {
  const Tensor t = zeros(d, {1}), copy = empty(d, {1});
  for (int i = 0; i < 100; ++i) {
    float value = static_cast<float>(i);
    d.stream().write(t.view().data, &value, sizeof(value));
    value = -1;
    run(d, Copy{.out = copy.view(), .in = t.view()});
    value = -2;
    d.stream().write(t.view().data, &value, sizeof(value));
    wait(d);
    require(first_of(copy) == static_cast<float>(i) && first_of(t) == -2,
            "writes keep their order and their values");
  }
}

void faults(Device& d) {
  Stream& stream = d.stream();
  const Tensor table = random_normal(d, {4, 5}, 1), y = zeros(d, {1, 5}),
               weights = zeros(d, {1, 1});
  const Tensor indices = empty(d, {1, 1}, DType::i32);
  fill(indices, 4);
  run(d, EmbeddingBag{.y = y.view(),
                      .table = table.view(),
                      .indices = indices.view(),
                      .weights = weights.view()});
  const Ticket failed = stream.submitted();
  fill(y, 2);
  std::atomic<bool> completed{false}, released{false};
  float target = -1;
  stream.read(&target, y.view().data, sizeof(target),
              [&](const std::optional<Fault>& f) { completed = f && f->first == failed; });
  stream.always([&] { released = true; });
  const Ticket last = stream.submitted();
  const auto fault = stream.wait();
  require(fault && fault->first == failed, "the fault names the work that failed");
  require(fault->error.code() == Code::index_range, "an index out of range is a fault");
  require(completed && target == -1, "a void read gets the fault, and copies nothing");
  require(released, "always() runs although the work around it is void");
  require(stream.faulted(), "the fault is not acknowledged yet");
  stream.acknowledge(fault->first);
  stream.acknowledge(fault->first);
  require(stream.voided(failed) && stream.voided(last) && !stream.voided(failed - 1) &&
              !stream.voided(last + 1),
          "the work from the fault to its report is void");
  wait(d);
  require(first_of(y) == 0, "void work changes nothing");
  fill(y, 3);
  wait(d);
  require(first_of(y) == 3 && !stream.faulted(), "work after the report runs");
  stream.produce(y.view().data, 4, [](void*) { throw Error(Code::value, "no data"); });
  const auto second = stream.wait();
  require(second && second->error.code() == Code::value, "an error of a producer is a fault");
  stream.acknowledge(second->first);
  wait(d);
}

}  // namespace

int main() {
  for (int threads : {1, 2, 3}) {
    const auto device = cpu::open(threads);
    faults(*device);
    writes(*device);
    order(*device);
    completions(*device);
  }
  report();
}
