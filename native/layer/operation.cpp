#include "layer/operation.h"

#include <utility>

#include "device/dependence.h"
#include "device/recording.h"

namespace ml {
namespace {

using Kind = Operand::Kind;

// f(storage, begin, end): the bytes of an operand.
template <class F>
void with_bytes(const Operand& o, const F& f) {
  if (!o.storage || o.memory.begin == o.memory.end) return;
  const auto base = reinterpret_cast<uintptr_t>(o.storage->data());
  f(*o.storage, static_cast<int64_t>(o.memory.begin - base),
    static_cast<int64_t>(o.memory.end - base));
}

// Whether it is void with the work.
bool voided(const Operand& o) { return o.kind == Kind::overwritten || o.kind == Kind::result; }

}  // namespace

Operand Operation::condition_of(const Device& device) {
  return device.condition ? operand("condition", device.condition, Kind::read) : Operand{};
}

namespace {

// What is recorded runs later, and again: others may have written to memory that it has not made.
bool may_be_known(const View& indices) {
  if (!indices.storage) return false;
  const Recording* recording = indices.storage->device().recording;
  return !recording || recording->made(*indices.storage);
}

}  // namespace

bool indices_known(const View& indices, int64_t limit) {
  if (!may_be_known(indices)) return false;
  const KnownIndices& known = indices.storage->known_indices;
  const auto [begin, end] = byte_range(indices);
  return known.limit > 0 && known.limit <= limit && known.begin <= begin && end <= known.end &&
         !indices.storage->writes.touched(known.writes, begin, end);
}

bool winners_known(const View& indices, int64_t limit) {
  if (!indices_known(indices, limit)) return false;
  const KnownIndices& known = indices.storage->known_indices;
  const int64_t k = indices.shape[-1], begin = byte_range(indices).first;
  return known.limit == limit && known.winners == k &&
         (begin - known.begin) % (k * bytes_of(DType::i32)) == 0;
}

void remember_indices(const View& indices, int64_t limit) {
  if (!may_be_known(indices)) return;
  const auto [begin, end] = byte_range(indices);
  indices.storage->known_indices = {.begin = begin,
                                    .end = end,
                                    .limit = limit,
                                    .winners = indices.shape[-1],
                                    .writes = indices.storage->writes.count()};
}

OutcomePtr Operation::record(WorkPtr& self) {
  Recording& recording = *device_.recording;
  find_known_indices();
  const auto read = [&](Storage& s, int64_t begin, int64_t end) { recording.reads(s, begin, end); };
  const std::span<const Operand> all = operands();
  for (const Operand& o : all)
    if (o.kind != Kind::overwritten) with_bytes(o, read);
  with_bytes(condition_, read);
  const OutcomePtr outcome = recording.add(self);
  for (const Operand& o : all) {
    if (!o.written()) break;
    with_bytes(o, [&](Storage& s, int64_t begin, int64_t end) {
      recording.writes(s, begin, end, voided(o));
    });
  }
  remember_indices();
  return outcome;
}

void Operation::enqueue(WorkPtr& work, OutcomePtr* outcome) {
  auto& operation = static_cast<Operation&>(*work);
  if (operation.device_.recording) {
    OutcomePtr recorded = operation.record(work);
    if (outcome) *outcome = std::move(recorded);
    return;
  }
  operation.find_known_indices();
  const std::span<const Operand> all = operation.operands();
  for (const Operand& o : all) {
    if (!o.written()) break;
    with_bytes(o, [](Storage& s, int64_t begin, int64_t end) { s.writes.announce(begin, end); });
  }
  work->outcome = operation.device_.work_memory().new_outcome();
  const auto depend_on = [&needs = work->outcome->needs()](Storage& s, int64_t begin, int64_t end) {
    collect_needs(s, begin, end, needs);
  };
  for (const Operand& o : all) {
    if (o.kind != Kind::overwritten) with_bytes(o, depend_on);
    if (voided(o))
      with_bytes(o, [](Storage& s, int64_t begin, int64_t end) { reserve(s, begin, end); });
  }
  with_bytes(operation.condition_, depend_on);
  // From here on nothing fails.
  for (const Operand& o : all) {
    if (!o.written()) break;
    with_bytes(o, [&](Storage& s, int64_t begin, int64_t end) {
      if (voided(o)) overwrite(s, begin, end, work->outcome);
      s.writes.add(begin, end);
    });
  }
  operation.remember_indices();
  if (outcome) *outcome = work->outcome;
  operation.device_.stream().launch(std::move(work));
}

}  // namespace ml
