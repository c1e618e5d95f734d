// The native core without Node, for the sanitizers: odd shapes, every dtype, empty sizes, faults,
// several threads and streams. What the numbers must be is tested in TypeScript; here every access
// is.

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "cpu/backend.h"
#include "cpu/context.h"
#include "cpu/isa.h"
#include "cpu/placement.h"
#include "cpu/thread_pool.h"
#include "layer/memory_layer.h"
#include "layer/optimizer.h"
#include "layer/peer_layer.h"

using namespace ml;

namespace {

void require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

Tensor random_tensor(Device& device, const Shape& shape, uint64_t seed, DType dtype = DType::f32) {
  Tensor t = empty(device, shape, dtype);
  run(device, RandomFill{t.view(), RandomFill::Kind::normal, 0, 1, seed});
  return t;
}

Tensor index_tensor(Device& device, const Shape& shape, int64_t slots, uint64_t seed) {
  Tensor t = empty(device, shape, DType::i32);
  std::vector<int32_t> host(static_cast<size_t>(shape.size()));
  for (int32_t& i : host)
    i = static_cast<int32_t>((seed = seed * 6364136223846793005ull + 1) >> 33) %
            static_cast<int32_t>(slots + 1) -
        1;
  device.stream().write(t.storage->data(), host.data(), host.size() * 4);
  return t;
}

void wait(Device& device) { require(!device.stream().wait(), "no fault"); }

void bags(const std::shared_ptr<Device>& d) {
  for (int64_t V : {1, 3, 7, 8, 15, 16, 17, 33, 64, 65, 100, 255, 256, 257, 300, 1000}) {
    for (int64_t B : {0, 1, 5, 40}) {
      for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
        const int64_t L = 1 + V % 9, N = 37;
        const Tensor table = random_tensor(*d, {N, V}, 1, dtype),
                     weights = random_tensor(*d, {B, L}, 2);
        const Tensor indices = index_tensor(*d, {B, L}, N, static_cast<uint64_t>(V)),
                     y = empty(*d, {B, V});
        run(*d, EmbeddingBag{y.view(), table.view(), indices.view(), weights.view(), {}, {}});
        const Tensor dweights = empty(*d, {B, L});
        run(*d, EmbeddingBagWeightsBackward{
                    dweights.view(), y.view(), table.view(), indices.view(), {}, {}});
        const SparseGrad g =
            sparse_grad(*d, {{indices, weights, y, {}}, {indices, weights, y, {}}}, N, V);
        const Tensor dense = zeros(*d, {N, V});
        run(*d, SparseGradToDense{dense.view(), g.values.view(), g.rows.view(), g.count.view()});
      }
    }
  }
  wait(*d);
}

void lookups(const std::shared_ptr<Device>& d) {
  for (int64_t T : {0, 1, 3, 5, 50})
    for (int64_t n : {1, 2, 15, 31, 32, 33, 70, 300, 520, 601})
      for (int64_t k : {1, 5, 33, 70}) {
        const int64_t H = 2, half = 1 + n % 37;
        const Tensor query = random_tensor(*d, {T, H, 2, half}, 1),
                     keys = random_tensor(*d, {H, 2, n, half}, 2);
        const Tensor scores = empty(*d, {T, H, k}), indices = empty(*d, {T, H, k}, DType::i32),
                     weights = empty(*d, {T, H, k});
        run(*d, ProductKeyLookup{scores.view(),
                                 indices.view(),
                                 weights.view(),
                                 query.view(),
                                 keys.view(),
                                 {},
                                 Gate::softmax});
        const Tensor dquery = empty(*d, query.shape), dkeys = zeros(*d, keys.shape);
        run(*d, ProductKeyLookupBackward{dquery.view(), dkeys.view(), weights.view(), scores.view(),
                                         indices.view(), weights.view(), query.view(), keys.view(),
                                         Gate::softmax});
        const int64_t most = std::min(k, n);
        const Tensor values = empty(*d, {T * H * 2, most}),
                     ids = empty(*d, {T * H * 2, most}, DType::i32);
        const Tensor half_scores = empty(*d, {T, H, 2, n});
        run(*d, ProductKeyScores{half_scores.view(), query.view(), keys.view()});
        run(*d, TopK{values.view(), ids.view(), half_scores.reshaped({T * H * 2, n}).view()});
      }
  wait(*d);
}

void products(const std::shared_ptr<Device>& d) {
  for (int64_t R : {0, 1, 2, 5, 13, 50, 130})
    for (int64_t I : {0, 1, 17, 64, 390, 650})
      for (int64_t O : {1, 2, 31, 33, 100, 200}) {
        const Tensor x = random_tensor(*d, {R, I}, 1), w = random_tensor(*d, {O, I}, 2),
                     b = random_tensor(*d, {O}, 3);
        const Tensor y = empty(*d, {R, O}), dx = empty(*d, {R, I}), dw = zeros(*d, {O, I}),
                     db = zeros(*d, {O});
        run(*d, Linear{y.view(), x.view(), w.view(), b.view()});
        run(*d,
            LinearBackward{dx.view(), dw.view(), db.view(), y.view(), x.view(), w.view(), false});
      }
  wait(*d);
}

// Layers, shared tables and every optimizer, on a stream of its own.
void training(int threads, uint64_t seed) {
  const auto d = cpu::open(threads);
  const auto table = std::make_shared<ValueTable>(random_tensor(*d, {400, 19}, seed), Tensor{});
  const auto half =
      std::make_shared<ValueTable>(random_tensor(*d, {400, 19}, seed, DType::bf16), Tensor{});
  const auto down = std::make_shared<ValueTable>(random_tensor(*d, {400, 13}, seed), Tensor{});
  MemoryLayerOptions o;
  o.query = {13, 2, 6, 20, 10, true, true, seed};
  o.output_dim = 13;
  o.output_gate = true;
  MemoryLayer one(d, o, table), two(d, o, table), three(d, o, half);
  PeerLayer peer(d, {o.query, Activation::gelu}, down, table);
  for (Rule rule : {Rule::sgd, Rule::adagrad, Rule::rowwise_adagrad, Rule::adamw}) {
    std::vector<Optimizer::Dense> dense;
    for (auto* layer : {&one, &two, &three})
      for (Parameter* p : layer->parameters()) dense.push_back({p->value, p->grad});
    Optimizer optimizer(d, rule, dense, {table, half, down});
    for (int step = 0; step < 3; ++step) {
      const Tensor x = random_tensor(*d, {70, 13}, seed + static_cast<uint64_t>(step));
      for (auto* layer : {&one, &two, &three}) {
        ForwardResult r = layer->forward(x, true);
        layer->backward(*r.context, r.output);
        layer->forward(x, false);
      }
      PeerLayer::Result r = peer.forward(x, true);
      peer.backward(*r.context, r.output);
      clip_grad_norm(*d, {dense[0].grad}, {table, half, down}, 1);
      Hyper h;
      h.lr = 1e-3f;
      optimizer.step(h, h, step == 2);
      optimizer.zero_grad();
    }
  }
  wait(*d);
}

// So long that the stream's own thread, which may be asleep, has begun the work before the caller
// waits for it.
void pause(int turns) {
  if (turns > 0) std::this_thread::sleep_for(std::chrono::microseconds(60 * turns));
}

// Work keeps its order, whether the stream's thread runs it, or the caller who waits, or one after
// the other.
void hand_over(const std::shared_ptr<Device>& d) {
  constexpr int64_t kLong = 100000;
  const Tensor a = empty(*d, {kLong}), b = empty(*d, {kLong}), c = empty(*d, {kLong});
  for (int i = 0; i < 300; ++i) {
    fill(a, i);
    run(*d, Copy{b.view(), a.view()});
    pause(i % 3);
    fill(a, -1);
    run(*d, Copy{c.view(), b.view()});
    fill(b, -1);
    if (i % 5 == 0) pause(1);
    float last = 0;
    d->stream().read(&last, static_cast<float*>(c.storage->data()) + kLong - 1, sizeof(last),
                     [](const std::optional<Fault>&) {});
    wait(*d);
    require(last == static_cast<float>(i), "work runs in the order in which it was enqueued");
  }
}

// Helpers that have not come are sent from the caller's core, and may go everywhere afterwards.
void placement() {
  const auto cores_of = [](pid_t thread) {
    cpu_set_t set;
    require(sched_getaffinity(thread, sizeof(set), &set) == 0,
            "the cores of a thread can be asked for");
    return set;
  };
  const cpu_set_t all = cores_of(0);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  require(sched_setaffinity(0, sizeof(one), &one) == 0, "a thread can be kept on its core");
  cpu::Whereabouts helper;
  std::atomic<int> core{-1};
  std::atomic<pid_t> thread{0};
  std::atomic<bool> done{false};
  std::thread running([&] {
    helper.introduce();
    helper.look();
    thread = static_cast<pid_t>(syscall(SYS_gettid));
    while (!done) core = sched_getcpu();
  });
  while (thread == 0) std::this_thread::yield();
  require(sched_setaffinity(thread, sizeof(all), &all) == 0, "a thread can be let go");
  cpu::send_off(&helper, 1, 1);
  const cpu_set_t after = cores_of(thread);
  require(CPU_EQUAL(&after, &all), "a helper may go everywhere afterwards");
  // It runs, though this thread does not leave its own core.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (CPU_COUNT(&all) > 1 && core.exchange(-1) == -1)
    require(std::chrono::steady_clock::now() < end, "a helper has a core of its own");
  sched_setaffinity(0, sizeof(all), &all);
  done = true;
  running.join();
}

// Every piece is done once, by one thread of a number at a time, whoever is slow.
void pieces() {
  for (int threads : {1, 2, 3, 7}) {
    for (int64_t n : {1, 6, 41, 1000}) {
      constexpr int64_t kGrain = 7;
      for (int slow = 0; slow < threads; ++slow) {
        std::vector<std::atomic<int>> done(static_cast<size_t>((n + kGrain - 1) / kGrain)),
            inside(static_cast<size_t>(threads));
        cpu::Context(threads).parallel_for(n, kGrain, [&](int64_t begin, int64_t end, int worker) {
          require(begin % kGrain == 0 && end == std::min(n, begin + kGrain),
                  "pieces are cut by the grain alone");
          require(inside[static_cast<size_t>(worker)].fetch_add(1) == 0, "one thread has a number");
          if (worker == slow) pause(2);
          done[static_cast<size_t>(begin / kGrain)].fetch_add(1);
          inside[static_cast<size_t>(worker)].fetch_sub(1);
        });
        for (const auto& count : done) require(count == 1, "every piece is done once");
      }
    }
  }
}

// Who waits takes part in runs, is counted like a helper, and goes when it may. Where a thread is
// expected and does not come, a helper is called.
void waiting() {
  std::atomic<bool> stop{false};
  std::atomic<int> helped{0};
  std::vector<std::thread> others;
  for (int i = 0; i < 2; ++i)
    others.emplace_back([&] {
      while (!stop) {
        cpu::Waiting self;
        helped += self.help([] { return false; });
        std::this_thread::yield();
      }
    });
  while (helped < 100) pieces();
  stop = true;
  for (std::thread& t : others) t.join();

  const auto here = std::this_thread::get_id();
  std::atomic<int> mine{0};
  std::thread caller([&] {
    cpu::Context(2).parallel_for(50, 1, [&](int64_t, int64_t, int) {
      pause(1);
      mine += std::this_thread::get_id() == here;
    });
    stop = false;
  });
  {
    cpu::Waiting self;
    while (stop && !self.help([] { return true; })) std::this_thread::yield();
  }
  caller.join();
  require(mine <= 1, "who waits does no more pieces once it may go");

  cpu::Waiting::expect();
  std::atomic<int> elsewhere{0};
  cpu::Context(2).parallel_for(100, 1, [&](int64_t, int64_t, int worker) {
    pause(10);
    elsewhere += worker;
  });
  require(elsewhere > 0, "a helper comes in place of a thread that does not");
}

// An environment that goes down waits for the stream, and then takes down what completions call.
void completions(const std::shared_ptr<Device>& d) {
  const Tensor t = zeros(*d, {4});
  float target[4];
  for (int i = 0; i < 200; ++i) {
    std::atomic<bool> told{false};
    d->stream().read(target, t.storage->data(), sizeof(target),
                     [&told](const std::optional<Fault>&) {
                       std::this_thread::sleep_for(std::chrono::microseconds(20));
                       told.store(true, std::memory_order_release);
                     });
    pause(i % 4);
    wait(*d);
    require(told.load(std::memory_order_acquire),
            "completions have been called when wait() returns");
  }
}

void faults(const std::shared_ptr<Device>& d) {
  const Tensor table = random_tensor(*d, {4, 5}, 1), y = empty(*d, {1, 5}),
               weights = zeros(*d, {1, 1});
  Tensor indices = empty(*d, {1, 1}, DType::i32);
  fill(indices, 4);
  run(*d, EmbeddingBag{y.view(), table.view(), indices.view(), weights.view(), {}, {}});
  const auto fault = d->stream().wait();
  require(fault && fault->error.code() == Code::index_range, "an index out of range is a fault");
  d->stream().acknowledge(fault->first);
  fill(y, 3);
  wait(*d);
  require(static_cast<float*>(y.storage->data())[0] == 3, "work after the report runs");
}

}  // namespace

int main() {
  placement();
  pieces();
  waiting();
  for (int threads : {1, 2, 3}) {
    const auto device = cpu::open(threads);
    bags(device);
    lookups(device);
    products(device);
    faults(device);
    hand_over(device);
    completions(device);
  }
  std::vector<std::thread> streams;
  for (int i = 0; i < 3; ++i)
    streams.emplace_back([i] { training(1 + i, static_cast<uint64_t>(i)); });
  for (std::thread& t : streams) t.join();
  std::printf("native core: passed on %s\n", cpu::isa_name());
}
