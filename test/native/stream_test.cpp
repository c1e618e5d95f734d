// The CPU's stream: order, completions and faults, whichever thread runs the work.

#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <vector>

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
    const Tensor end{c.storage, (kLong - 1) * 4, DType::f32, {1}};
    require(!read_now(end, &last), "no fault");
    require(last == static_cast<float>(i), "work runs in the order in which it was enqueued");
  }
}

// After wait() an environment that shuts down destroys what completions use.
void completions(Device& d) {
  const Tensor t = zeros(d, {4});
  float target[4];
  for (int i = 0; i < 200; ++i) {
    std::atomic<bool> called{false};
    read(target, t.view(), [&called](const FaultPtr&) {
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
    write(t.view(), &value);
    value = -1;
    run(d, Copy{.out = copy.view(), .in = t.view()});
    value = -2;
    write(t.view(), &value);
    wait(d);
    require(first_of(copy) == static_cast<float>(i) && first_of(t) == -2,
            "writes keep their order and their values");
  }
}

// One chain of work has a fault, and another beside it has none.
void faults(Device& d) {
  Stream& stream = d.stream();
  const Tensor table = random_normal(d, {4, 5}, 1), y = zeros(d, {1, 5}), next = zeros(d, {1, 5}),
               other = zeros(d, {5}), weights = zeros(d, {1, 1}), gradient = zeros(d, {5, 5}),
               matrix = zeros(d, {5, 5});
  const Tensor indices = empty(d, {1, 1}, DType::i32);
  fill(gradient, 6);
  fill(indices, 4);
  const OutcomePtr failed = run(d, EmbeddingBag{.y = y.view(),
                                                .table = table.view(),
                                                .indices = indices.view(),
                                                .weights = weights.view()});
  const Ticket first = stream.submitted();
  run(d, Copy{.out = next.view(), .in = y.view()});
  const OutcomePtr update = run(
      d, LinearBackward{
             .dweight = gradient.view(), .dy = y.view(), .x = y.view(), .weight = matrix.view()});
  fill(other, 2);
  std::atomic<bool> released{false};
  stream.always([&] { released = true; });
  float host[25] = {-1};
  const FaultPtr fault = read_now(next, host);
  require(fault && fault->first == first, "a read has the fault of the work that failed");
  require(host[0] == -1, "a void read copies nothing");
  require(fault->error.code() == Code::index_range, "an index out of range is a fault");
  require(failed->fault() == fault && update->fault() == fault, "what depends on it is void");
  require(released, "always() runs whatever is void");
  require(!fault_of(d), "what a read has reported is not reported again");
  require(!read_now(other, host) && host[0] == 2, "work beside it has run");
  require(!read_now(gradient, host) && host[0] == 6 && host[24] == 6,
          "a void update leaves its target as it was");
  require(read_now(y, host) == fault, "what is void stays void after the report");
  const Tensor row{y.storage, 4, DType::f32, {2}}, end{y.storage, 12, DType::f32, {2}};
  fill(row, 3);
  require(!read_now(row, host) && host[1] == 3, "a part that is overwritten can be read");
  require(read_now(y, host) == fault && read_now(end, host) == fault, "the rest stays void");
  fill(y, 4);
  require(!read_now(y, host) && host[0] == 4, "and so can the whole");
}

void reports(Device& d) {
  Stream& stream = d.stream();
  const Tensor t = zeros(d, {1});
  const auto bad = [&](const char* message) {
    produce(t.view(), [message](void*) -> FaultPtr { throw Error(Code::value, message); });
  };
  bad("first");
  const Ticket first = stream.submitted();
  bad("second");
  d.stream().wait();
  require(!stream.report_fault(first - 1), "faults of later work are not reported");
  require(stream.report_fault(stream.submitted())->error.what() == std::string("first"),
          "the earliest fault is reported first");
  require(fault_of(d)->error.what() == std::string("second"), "then the next");
  wait(d);
  for (int i = 0; i < 1000; ++i) bad("one of many");
  d.stream().wait();
  int reported = 0;
  while (fault_of(d)) ++reported;
  require(reported == 256, "faults that nobody asks for are forgotten at some number");
  float host;
  require(read_now(t, &host) != nullptr, "but what they have made void stays void");
}

// What an open batch keeps runs in order after its commit, on memory that is its own until then.
void batches(Device& d) {
  const Shape shape{1000};
  const Tensor sum = zeros(d, shape), t = empty(d, shape);
  wait(d);
  const Ticket before = d.stream().submitted();
  const void* memory;
  {
    Batch batch(d);
    {
      const Tensor gone = empty(d, shape);
      memory = gone.view().data;
      fill(gone, 5);
      run(d, Copy{.out = sum.view(), .in = gone.view()});
    }
    for (int i = 0; i < 300; ++i) {
      fill(t, i);
      if (i == 200) run(d, Copy{.out = sum.view(), .in = t.view()});
    }
    const Tensor next = empty(d, shape);
    require(next.view().data != memory, "memory that kept work uses is not given away");
    require(d.stream().submitted() == before, "work is kept until the commit");
    batch.commit();
    require(d.stream().submitted() == before + 303, "and then enqueued");
  }
  float host[1000];
  require(!read_now(sum, host) && host[999] == 200, "in the order of its calls");
  require(empty(d, shape).view().data == memory, "the memory ends with the batch");
  {
    Batch batch(d);
    fill(sum, 7);
  }
  require(!read_now(sum, host) && host[0] == 200, "a batch without commit drops its work");
}

// While work runs, what is written waits in host memory, which is bounded.
void staging(Device& d) {
  const std::vector<float> data(1000);
  constexpr int64_t kBytes = 4000;
  const Tensor t = zeros(d, {1000}), blocked = zeros(d, {1});
  wait(d);
  std::promise<void> go;
  produce(blocked.view(), [wait = go.get_future().share()](void*) -> FaultPtr {
    wait.wait();
    return nullptr;
  });
  d.stream().limit_staging(2 * kBytes);
  write(t.view(), data.data());
  write(t.view(), data.data());
  require(d.stream().staged() == 2 * kBytes, "staged bytes are counted");
  const auto start = std::chrono::steady_clock::now();
  try {
    write(t.view(), data.data());
    require(false, "more than the limit is refused");
  } catch (const Error& error) {
    require(error.code() == Code::out_of_memory, "with ERR_OUT_OF_MEMORY");
  }
  require(std::chrono::steady_clock::now() - start < std::chrono::seconds(2), "after a short wait");
  go.set_value();
  wait(d);
  d.stream().limit_staging(1);
  write(t.view(), data.data());
  wait(d);
  float value = -1;
  require(!read_now(Tensor{t.storage, 0, DType::f32, {1}}, &value) && value == 0,
          "one write is admitted, however large");
}

void transfers(Device& d) {
  const Tensor t = zeros(d, {1});
  produce(t.view(), [](void* target) -> FaultPtr {
    *static_cast<float*>(target) = 7;
    return nullptr;
  });
  float host = 0;
  require(!read_now(t, &host) && host == 7, "a producer fills the target");
  const auto foreign = std::make_shared<const Fault>(Error(Code::value, "elsewhere"), 1);
  produce(t.view(), [foreign](void*) -> FaultPtr { return foreign; });
  require(read_now(t, &host) == foreign, "its fault is that of the target");
  wait(d);
}

}  // namespace

int main() {
  for (int threads : {1, 2, 3}) {
    const auto device = cpu::open(threads);
    faults(*device);
    reports(*device);
    transfers(*device);
    staging(*device);
    writes(*device);
    order(*device);
    completions(*device);
    batches(*device);
  }
  report();
}
