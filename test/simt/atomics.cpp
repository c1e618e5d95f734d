// Atomics: one fiber runs at a time, so each is plain arithmetic, which the checks treat as an
// atomic access.

#include <algorithm>
#include <cstring>

#include "access.h"
#include "machine.h"
#include "race.h"

namespace simt {
namespace {

template <class Word>
Word apply(Atomic operation, Word old, Word v) {
  switch (operation) {
    case Atomic::add: return old + v;
    case Atomic::min: return std::min(old, v);
  }
  return old;
}

template <class Word>
uint64_t perform(Atomic operation, void* at, uint64_t v) {
  Word old;
  std::memcpy(&old, at, sizeof(Word));
  const Word next = apply<Word>(operation, old, static_cast<Word>(v));
  std::memcpy(at, &next, sizeof(Word));
  return old;
}

}  // namespace

uint64_t atomic(Atomic operation, void* at, size_t bytes, uint64_t v, bool acquire_release,
                CallSite site) {
  if (reinterpret_cast<uintptr_t>(at) % bytes != 0)
    fault(site, "atomic on %zu bytes at %p, which is not a multiple of them", bytes, at);
  access(at, bytes, Use::atomic, {__builtin_return_address(0), site});
  machine.counts->atomics++;
  if (acquire_release) release_and_acquire(at);
  return bytes == 4 ? perform<uint32_t>(operation, at, v) : perform<uint64_t>(operation, at, v);
}

}  // namespace simt
