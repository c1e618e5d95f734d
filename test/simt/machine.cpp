#include "machine.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#include "access.h"
#include "memory.h"

namespace simt {

Machine machine;

using toolkit::dim3;
using toolkit::uint3;

toolkit::uint3 thread_index() { return machine.current->index; }
toolkit::uint3 block_index() { return machine.block_index; }
toolkit::dim3 block_size() { return machine.block; }
toolkit::dim3 grid_size() { return machine.grid; }
void* shared_memory() { return shared_area().base(); }

uint64_t next_random() {  // splitmix64
  uint64_t z = machine.random += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void make_ready(int warp, uint32_t lanes) {
  if (lanes == 0) return;
  machine.warps[warp].ready |= lanes;
  machine.ready |= 1u << warp;
}

namespace {

#ifdef __SANITIZE_ADDRESS__
struct {
  const void* bottom;
  size_t bytes;
} driver_stack;
#endif

[[noreturn]] void deadlock() {
  std::string waiting;
  int listed = 0;
  for (int i = 0; i < machine.thread_count; i++) {
    const Thread& t = machine.threads[i];
    if (t.state == Thread::State::done || listed == 64) continue;
    listed++;
    waiting += "\n  thread " + std::to_string(i) + " waits in " +
               (t.state == Thread::State::in_barrier ? "block_sync" : "a warp primitive") + " at " +
               t.site.file + ":" + std::to_string(t.site.line);
  }
  fault_after("deadlock: no thread of the block can go on%s", waiting.c_str());
}

// The first bit of `set` from `start` on, around the end.
int next_bit(uint32_t set, int start) {
  const uint32_t from = set & (~0u << start);
  return std::countr_zero(start < 32 && from != 0 ? from : set);
}
// The last bit of `set` up to `start`, around the end.
int previous_bit(uint32_t set, int start) {
  const uint32_t up_to = start < 0 ? 0 : set & (~0u >> (31 - start));
  return 31 - std::countl_zero(up_to != 0 ? up_to : set);
}
int random_bit(uint32_t set) {
  for (uint64_t skip = next_random() % static_cast<uint64_t>(std::popcount(set)); skip > 0; skip--)
    set &= set - 1;
  return std::countr_zero(set);
}

// Saves the running stack in *from and goes on with a thread; null: the driver.
void go(void** from, const Thread* to) {
#ifdef __SANITIZE_ADDRESS__
  void* fake = nullptr;
  const void* bottom = to ? stack_bottom(to->number) : driver_stack.bottom;
  __sanitizer_start_switch_fiber(&fake, bottom, to ? kStackBytes : driver_stack.bytes);
  simt_switch(from, to ? to->stack_pointer : machine.driver);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
  simt_switch(from, to ? to->stack_pointer : machine.driver);
#endif
}

// Goes on with a thread that is ready, one of the same warp if there is one (but for the random
// order), or back to the driver when all are done. *from: receives the running stack's pointer.
void next(void** from) {
  Machine& m = machine;
  if (m.ready == 0) {
    if (m.done < m.thread_count) deadlock();
    m.current = nullptr;
    go(from, nullptr);
    return;
  }
  int warp, lane;
  switch (m.settings.order) {
    case Settings::Order::random:
      warp = random_bit(m.ready);
      lane = random_bit(m.warps[warp].ready);
      break;
    case Settings::Order::reversed:
      warp = m.current ? m.current->number / kWarp : kWarp - 1;
      lane = m.current ? lane_of(*m.current) - 1 : kWarp - 1;
      if (m.warps[warp].ready == 0 || warp * kWarp >= m.thread_count) {
        warp = previous_bit(m.ready, warp);
        lane = kWarp - 1;
      }
      lane = previous_bit(m.warps[warp].ready, lane);
      break;
    default:
      warp = m.current ? m.current->number / kWarp : 0;
      lane = m.current ? lane_of(*m.current) + 1 : 0;
      if (m.warps[warp].ready == 0) {
        warp = next_bit(m.ready, warp);
        lane = 0;
      }
      lane = next_bit(m.warps[warp].ready, lane % kWarp);
  }
  Warp& w = m.warps[warp];
  w.ready &= ~(1u << lane);
  if (w.ready == 0) m.ready &= ~(1u << warp);
  Thread* t = &m.threads[warp * kWarp + lane];
  if (t == m.current) return;
  m.current = t;
  go(from, t);
}

void finish() {
  Machine& m = machine;
  Thread& t = current_thread();
  Warp& w = warp_of(t);
  const uint32_t bit = 1u << lane_of(t);
  for (int g = 0; g < w.open; g++)
    if (w.groups[g].mask & bit)
      fault(t.site, "thread has returned while lanes of its warp wait for it in %s at %s:%d",
            name_of(w.groups[g].kind), w.groups[g].site.file, w.groups[g].site.line);
  if (m.in_barrier > 0)
    fault(t.site, "thread has returned while %d threads wait for it in block_sync at %s:%d",
          m.in_barrier, m.barrier.file, m.barrier.line);
  t.state = Thread::State::done;
  m.done++;
  w.exited |= bit;
  if (w.exited == w.present) warp_converged(t.number / kWarp);
  next(&t.stack_pointer);
}

void begin() {
#ifdef __SANITIZE_ADDRESS__
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (!on_stacks(reinterpret_cast<uintptr_t>(bottom))) driver_stack = {bottom, bytes};
#endif
  machine.call->invoke(machine.call->arguments.get());
  finish();
  __builtin_unreachable();
}

void run_block(uint3 index) {
  Machine& m = machine;
  m.block_index = index;
  m.in_barrier = m.done = 0;
  m.ready = 0;
  m.current = nullptr;
  const int warps = (m.thread_count + kWarp - 1) / kWarp;
  for (int i = 0; i < warps; i++) {
    const int lanes = std::min(kWarp, m.thread_count - i * kWarp);
    m.warps[i].present = lanes == kWarp ? ~0u : (1u << lanes) - 1;
    m.warps[i].exited = 0;
    m.warps[i].open = 0;
    m.warps[i].ready = 0;
    make_ready(i, m.warps[i].present);
  }
  unsigned x = 0, y = 0, z = 0;
  for (int i = 0; i < m.thread_count; i++) {
    Thread& t = m.threads[i];
    t.number = i;
    t.index = {x, y, z};
    t.site = {"(its start)", 0};
    t.stack_pointer = fresh_stack(i, &begin);
    if (++x == m.block.x) {
      x = 0;
      if (++y == m.block.y) y = 0, z++;
    }
  }
  shared_area().begin_block(m.shared_bytes);
  block_begins();
  next(&m.driver);
  shared_area().check_red_zone();
  m.counts->blocks++;
  m.counts->threads += m.thread_count;
}

}  // namespace

void leave(Thread::State why) {
  Thread& t = current_thread();
  t.state = why;
  next(&t.stack_pointer);
}

void let_others_run() {
  Thread& t = current_thread();
  make_ready(t.number / kWarp, 1u << lane_of(t));
  next(&t.stack_pointer);
}

void run_grid(const Call& call, const toolkit::cudaLaunchConfig_t& config) {
  Machine& m = machine;
  const std::lock_guard hold(m.running);
  make_stacks();
  m.call = &call;
  m.kernel = kernel_name(call.kernel);
  m.grid = config.gridDim;
  m.block = config.blockDim;
  m.shared_bytes = config.dynamicSmemBytes;
  m.thread_count = static_cast<int>(m.block.x * m.block.y * m.block.z);
  m.settings = settings();
  m.random = m.settings.seed * 0x2545f4914f6cdd1du + ++m.launches;
  m.checked = call.instrumented;
  m.counts = counts_of(m.kernel);
  m.counts->launches++;
  m.counts->max_threads =
      std::max<uint64_t>(m.counts->max_threads, static_cast<uint64_t>(m.thread_count));
  m.counts->max_shared_bytes = std::max<uint64_t>(m.counts->max_shared_bytes, m.shared_bytes);
  launch_begins();

  const uint64_t blocks = uint64_t{m.grid.x} * m.grid.y * m.grid.z;
  std::vector<uint32_t> order;
  if (m.settings.order == Settings::Order::random && blocks < (1u << 24)) {
    order.resize(blocks);
    std::iota(order.begin(), order.end(), 0u);
    for (uint64_t i = blocks; i > 1; i--) std::swap(order[i - 1], order[next_random() % i]);
  }
  for (uint64_t i = 0; i < blocks; i++) {
    const uint64_t b = !order.empty()                                  ? order[i]
                       : m.settings.order == Settings::Order::reversed ? blocks - 1 - i
                                                                       : i;
    run_block({static_cast<unsigned>(b % m.grid.x), static_cast<unsigned>(b / m.grid.x % m.grid.y),
               static_cast<unsigned>(b / m.grid.x / m.grid.y)});
  }
  check_red_zones();
  m.call = nullptr;
}

}  // namespace simt
