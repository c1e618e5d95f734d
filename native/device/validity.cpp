#include "device/validity.h"

#include <algorithm>

namespace ml {

void Validity::collect(int64_t begin, int64_t end, Needs& needs) {
  if (begin >= end) return;
  if (single_.outcome) {
    if (single_.outcome->passed())
      single_.outcome = nullptr;
    else if (begin < single_.end && single_.begin < end)
      needs.add(single_.outcome);
    return;
  }
  auto part = std::lower_bound(parts_.begin(), parts_.end(), begin,
                               [](const Part& p, int64_t at) { return p.end <= at; });
  for (; part != parts_.end() && part->begin < end; ++part) {
    if (!part->outcome->passed()) needs.add(part->outcome);
  }
}

// Drops what has passed before it takes more memory.
void Validity::grow(size_t more) {
  std::erase_if(parts_, [](const Part& p) { return p.outcome->passed(); });
  parts_.reserve(2 * parts_.size() + more);
}

void Validity::overwrite(int64_t begin, int64_t end, const OutcomePtr& outcome) {
  if (begin >= end) return;
  if (parts_.empty()) {
    if (!single_.outcome || (begin <= single_.begin && single_.end <= end)) {
      single_ = {begin, end, outcome};
      return;
    }
    parts_.push_back(std::move(single_));
    single_.outcome = nullptr;
  }
  auto first = std::lower_bound(parts_.begin(), parts_.end(), begin,
                                [](const Part& p, int64_t at) { return p.end <= at; });
  if (first != parts_.end() && first->begin == begin && first->end == end) {  // most often
    first->outcome = outcome;
    return;
  }
  if (first != parts_.end() && first->begin < begin) {
    // the front of this part stays; where it reaches past the end, so does its rest
    const Part rest{end, first->end, first->outcome};
    first->end = begin;
    ++first;
    if (rest.begin < rest.end) first = parts_.insert(first, rest);
  }
  auto last = first;
  while (last != parts_.end() && last->end <= end) ++last;
  if (last != parts_.end() && last->begin < end) last->begin = end;
  if (first == last) {
    parts_.insert(first, {begin, end, outcome});
  } else {
    *first = {begin, end, outcome};
    parts_.erase(first + 1, last);
  }
}

}  // namespace ml
