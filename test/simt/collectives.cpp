// What a warp's lanes do together, and the block's barrier. A lane posts its request and waits; the
// last lane of the mask to arrive does the work for all of them and makes the others ready.

#include <algorithm>
#include <bit>

#include "access.h"
#include "machine.h"
#include "matrix.h"

namespace simt {

const char* name_of(Kind kind) {
  static constexpr const char* kNames[] = {"warp_sync",
                                           "ballot/any/all",
                                           "shuffle",
                                           "shuffle_xor",
                                           "reduce_min",
                                           "reduce_max",
                                           "mma_16x8x16 (bfloat16)",
                                           "mma_16x8x16 (half)",
                                           "mma_16x8x8 (tf32)",
                                           "ldmatrix_x4",
                                           "ldmatrix_x4_trans"};
  return kNames[static_cast<int>(kind)];
}

namespace {

void shuffle(Kind kind, Warp& w, uint32_t mask, CallSite site) {
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    Request& r = *w.requests[lane];
    const int source = kind == Kind::shuffle ? r.operand & (kWarp - 1) : lane ^ r.operand;
    if (source < 0 || source >= kWarp || !(mask >> source & 1))
      fault(site, "%s: lane %d reads lane %d, which is not in the mask %08x", name_of(kind), lane,
            source, mask);
    r.result = w.requests[source]->value;
  }
}

void reduce(Kind kind, Warp& w, uint32_t mask) {
  uint32_t v = static_cast<uint32_t>(w.requests[std::countr_zero(mask)]->value);
  for (uint32_t left = mask & (mask - 1); left != 0; left &= left - 1) {
    const uint32_t other = static_cast<uint32_t>(w.requests[std::countr_zero(left)]->value);
    v = kind == Kind::redux_min ? std::min(v, other) : std::max(v, other);
  }
  for (uint32_t left = mask; left != 0; left &= left - 1)
    w.requests[std::countr_zero(left)]->result = v;
}

void vote(Warp& w, uint32_t mask) {
  uint32_t votes = 0;
  for (uint32_t left = mask; left != 0; left &= left - 1)
    if (w.requests[std::countr_zero(left)]->value) votes |= left & -left;
  for (uint32_t left = mask; left != 0; left &= left - 1)
    w.requests[std::countr_zero(left)]->result = votes;
}

void perform(Kind kind, int warp, Warp& w, uint32_t mask, CallSite site) {
  Counts& c = *machine.counts;
  switch (kind) {
    case Kind::sync:
      c.warp_syncs++;
      warp_synced(warp, mask);
      break;
    case Kind::ballot:
      c.votes++;
      vote(w, mask);
      break;
    case Kind::shuffle:
    case Kind::shuffle_xor:
      c.shuffles++;
      shuffle(kind, w, mask, site);
      break;
    case Kind::redux_min:
    case Kind::redux_max:
      c.votes++;
      reduce(kind, w, mask);
      break;
    case Kind::mma_bfloat16:
    case Kind::mma_half:
    case Kind::mma_tf32:
      c.products++;
      multiply(kind, w.requests);
      break;
    case Kind::ldmatrix:
    case Kind::ldmatrix_transposed:
      c.matrix_loads++;
      load_matrices(kind == Kind::ldmatrix_transposed, w.requests);
      break;
  }
  if (mask == w.present) warp_converged(warp);
}

uint64_t meet(Kind kind, uint32_t mask, Request& r, CallSite site) {
  Thread& t = current_thread();
  Warp& w = warp_of(t);
  const int lane = lane_of(t);
  const uint32_t bit = 1u << lane;
  t.site = site;
  if (!(mask & bit))
    fault(site, "%s: lane %d is not in its own mask %08x", name_of(kind), lane, mask);
  if (mask & ~w.present)
    fault(site, "%s: the mask %08x names lanes that the block does not have (%08x)", name_of(kind),
          mask, w.present);
  if (mask & w.exited)
    fault(site, "%s: the mask %08x names lanes that have returned (%08x)", name_of(kind), mask,
          w.exited);

  // A group whose mask lacks this lane is left alone: it may still fill up.
  Group* group = nullptr;
  for (int i = 0; i < w.open; i++) {
    Group& g = w.groups[i];
    if (!(g.mask & bit)) continue;
    if (g.mask != mask || g.kind != kind || g.site.line != site.line || g.site.file != site.file)
      fault(
          site,
          "lanes of a warp diverge: lane %d is in %s with mask %08x, while lanes %08x wait for it "
          "in %s with mask %08x at %s:%d",
          lane, name_of(kind), mask, g.arrived, name_of(g.kind), g.mask, g.site.file, g.site.line);
    group = &g;
    break;
  }
  if (!group) {
    group = &w.groups[w.open++];
    *group = {mask, 0, kind, site};
  }
  group->arrived |= bit;
  w.requests[lane] = &r;
  if (group->arrived != mask) {
    leave(Thread::State::in_warp);
    return r.result;
  }
  *group = w.groups[--w.open];
  perform(kind, t.number / kWarp, w, mask, site);
  make_ready(t.number / kWarp, mask & ~bit);
  return r.result;
}

uint64_t meet_shuffle(Kind kind, uint64_t v, int operand, uint32_t mask, CallSite site) {
  Request r;
  r.value = v;
  r.operand = operand;
  return meet(kind, mask, r, site);
}

}  // namespace

void warp_sync(uint32_t mask, CallSite site) { meet_shuffle(Kind::sync, 0, 0, mask, site); }
uint32_t ballot(bool v, uint32_t mask, CallSite site) {
  return static_cast<uint32_t>(meet_shuffle(Kind::ballot, v, 0, mask, site));
}
uint64_t shfl(uint64_t v, int source, uint32_t mask, CallSite site) {
  return meet_shuffle(Kind::shuffle, v, source, mask, site);
}
uint64_t shfl_xor(uint64_t v, int bits, uint32_t mask, CallSite site) {
  return meet_shuffle(Kind::shuffle_xor, v, bits, mask, site);
}

uint32_t redux(Redux operation, uint32_t v, CallSite site) {
  const Kind kind = operation == Redux::min ? Kind::redux_min : Kind::redux_max;
  return static_cast<uint32_t>(meet_shuffle(kind, v, 0, ~0u, site));
}

void mma(Operand operand, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
         CallSite site) {
  Request r;
  r.out = d;
  r.in[0] = a;
  r.in[1] = b;
  constexpr Kind kinds[] = {Kind::mma_bfloat16, Kind::mma_half, Kind::mma_tf32};
  meet(kinds[static_cast<int>(operand)], ~0u, r, site);
}

void ldmatrix(uint32_t (&registers)[4], const void* row, bool transposed, CallSite site) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
    fault(site, "ldmatrix: the address %p of a row is not aligned to 16 bytes", row);
  Request r;
  r.out = registers;
  r.in[0] = row;
  access(row, 16, Use::read, {__builtin_return_address(0), site});
  meet(transposed ? Kind::ldmatrix_transposed : Kind::ldmatrix, ~0u, r, site);
}

void block_sync(CallSite site) {
  Machine& m = machine;
  Thread& t = current_thread();
  t.site = site;
  if (m.done > 0) fault(site, "block_sync: %d threads of the block have returned", m.done);
  if (m.in_barrier == 0) {
    m.barrier = site;
  } else if (m.barrier.line != site.line || m.barrier.file != site.file) {
    fault(site, "threads of the block diverge: this one is in block_sync here, others at %s:%d",
          m.barrier.file, m.barrier.line);
  }
  if (++m.in_barrier < m.thread_count) {
    leave(Thread::State::in_barrier);
    return;
  }
  m.in_barrier = 0;
  m.counts->barriers++;
  block_synced();
  for (int i = 0; i * kWarp < m.thread_count; i++)
    make_ready(i, m.warps[i].present & (i == t.number / kWarp ? ~(1u << lane_of(t)) : ~0u));
}

}  // namespace simt
