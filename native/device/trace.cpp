#include "device/trace.h"

#include <algorithm>

#include "device/dependence.h"

namespace ml {
namespace {

bool same(const std::weak_ptr<Storage>& a, const std::weak_ptr<Storage>& b) {
  return !a.owner_before(b) && !b.owner_before(a);
}

}  // namespace

void Trace::read(Storage& storage, int64_t begin, int64_t end) {
  const std::weak_ptr<Storage> key = storage.weak_from_this();
  const auto covers = [&](const Range& r) {
    return r.begin <= begin && r.end >= end && same(r.storage, key);
  };
  if (std::any_of(overwritten_.begin(), overwritten_.end(), covers)) return;
  if (std::any_of(read_.begin(), read_.end(), covers)) return;
  read_.push_back({key, begin, end});
}

void Trace::overwrite(Storage& storage, int64_t begin, int64_t end) {
  overwritten_.push_back({storage.weak_from_this(), begin, end});
}

Needs Trace::needs() const {
  Needs needs;
  for (const Range& r : read_)
    if (const auto storage = r.storage.lock()) storage->validity.collect(r.begin, r.end, needs);
  return needs;
}

void Trace::reserve() const {
  for (const Range& r : overwritten_)
    if (const auto storage = r.storage.lock()) ml::reserve(*storage, r.begin, r.end);
}

void Trace::overwrite(const OutcomePtr& outcome) const {
  for (const Range& r : overwritten_)
    if (const auto storage = r.storage.lock()) {
      storage->validity.overwrite(r.begin, r.end, outcome);
      storage->writes.add(r.begin, r.end);
    }
}

}  // namespace ml
