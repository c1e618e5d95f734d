#include "layer/collectives.h"

#include <numeric>
#include <string>
#include <utility>

#include "layer/run.h"

namespace ml {
namespace {

Tensor elements(const Tensor& t, int64_t begin, int64_t end) {
  Tensor part = t;
  part.offset += begin * bytes_of(t.dtype);
  part.shape = {end - begin};
  return part;
}

int64_t row_elements(const Tensor& t) {
  int64_t n = 1;
  for (int axis = 1; axis < t.shape.rank; ++axis) n *= t.shape[axis];
  return n;
}

// Rows [begin, begin + count), as elements.
Tensor row_range(const Tensor& t, int64_t begin, int64_t count) {
  const int64_t width = row_elements(t);
  return elements(t, begin * width, (begin + count) * width);
}

Tensor with_rows(const Tensor& t, int64_t rows) {
  Shape shape = t.shape;
  shape.dims[0] = rows;
  return empty(t.device(), shape, t.dtype);
}

void copy(const Tensor& to, const Tensor& from) {
  if (to.size() > 0) run(to.device(), Copy{.out = to.view(), .in = from.view()});
}

int64_t sum(std::span<const int64_t> rows) {
  return std::accumulate(rows.begin(), rows.end(), int64_t{0});
}

std::string text_of(std::span<const int64_t> rows) {
  std::string out = "[";
  for (size_t i = 0; i < rows.size(); ++i) out += (i ? ", " : "") + std::to_string(rows[i]);
  return out + "]";
}

void expect_rows(const char* op, const char* name, const Tensor& x, std::span<const int64_t> rows,
                 const Group& group, int64_t total) {
  expect(rows.size() == static_cast<size_t>(group.size()), Code::value, op, name,
         "have a number for each of " + std::to_string(group.size()) + " ranks",
         std::to_string(rows.size()));
  for (const int64_t n : rows)
    expect(n >= 0, Code::value, op, name, "hold no negative number", std::to_string(n));
  expect(x.shape.rank >= 1 && x.shape[0] == total, Code::shape, op, "x",
         "have the " + std::to_string(total) + " rows that \"" + name + "\" " + text_of(rows) +
             " says",
         to_string(x.shape));
}

void expect_float32(const char* op, const Tensor& t) {
  expect_dtype(op, "x", t.view(), DType::f32);
}

// to = first + second + …, in this order; to may be the first. The mean divides at the end.
void add_in_order(const Tensor& to, const std::vector<Tensor>& addends, Combine combine) {
  if (to.size() == 0) return;
  Device& device = to.device();
  if (addends.size() == 1) {
    if (to.view().data != addends[0].view().data) copy(to, addends[0]);
    return;
  }
  View sum = addends[0].view();
  for (size_t i = 1; i < addends.size(); ++i) {
    run(device, Arithmetic{.out = to.view(), .x = sum, .y = addends[i].view()});
    sum = to.view();
  }
  if (combine == Combine::mean)
    run(device, Arithmetic{.out = to.view(),
                           .x = to.view(),
                           .constant_y = {static_cast<float>(addends.size()), {}},
                           .kind = ArithmeticKind::div});
}

// Parts of t to their ranks; received [P, own part], where the own part stays in t.
Pending start_scatter(const GroupPtr& group, const char* name, const Tensor& t,
                      std::span<const int64_t> begins, const Tensor& received) {
  const int own = group->rank();
  const int64_t width = begins[own + 1] - begins[own];
  Exchange e{name, {}, {}};
  for (int r = 0; r < group->size(); ++r) {
    if (r == own) continue;
    e.sends.push_back({r, elements(t, begins[r], begins[r + 1]).view()});
    e.receives.push_back({r, elements(received, r * width, (r + 1) * width).view()});
  }
  return start_exchange(group, t.device(), e, {t, received});
}

std::vector<Tensor> addends_of(const Group& group, const Tensor& own, const Tensor& received) {
  std::vector<Tensor> addends;
  for (int r = 0; r < group.size(); ++r)
    addends.push_back(r == group.rank() ? own
                                        : elements(received, r * own.size(), (r + 1) * own.size()));
  return addends;
}

std::vector<int64_t> parts_of(int64_t n, int ranks) {
  std::vector<int64_t> begins;
  for (int r = 0; r <= ranks; ++r) begins.push_back(part_begin(n, r, ranks));
  return begins;
}

// The own part of t to all others, and theirs into t.
Pending start_spread(const GroupPtr& group, const char* name, const Tensor& t,
                     std::span<const int64_t> begins) {
  Exchange e{name, {}, {}, true};
  const int own = group->rank();
  for (int r = 0; r < group->size(); ++r) {
    if (r == own) continue;
    e.sends.push_back({r, elements(t, begins[own], begins[own + 1]).view()});
    e.receives.push_back({r, elements(t, begins[r], begins[r + 1]).view()});
  }
  return start_exchange(group, t.device(), e, {t});
}

}  // namespace

PendingReduce start_all_reduce(const GroupPtr& group, const Tensor& t, Combine combine) {
  expect_float32("allReduce", t);
  PendingReduce p;
  p.group_ = group;
  p.tensor_ = t;
  p.combine_ = combine;
  if (group->size() == 1 || t.size() == 0) return p;
  const std::vector<int64_t> begins = parts_of(t.size(), group->size());
  const int64_t own = begins[group->rank() + 1] - begins[group->rank()];
  p.received_ = empty(t.device(), {group->size(), own});
  p.pending_ = start_scatter(group, "allReduce", t, begins, p.received_);
  return p;
}

void PendingReduce::advance() {
  if (!pending_ || summed_) return;
  const std::vector<int64_t> begins = parts_of(tensor_.size(), group_->size());
  const Tensor own = elements(tensor_, begins[group_->rank()], begins[group_->rank() + 1]);
  pending_.wait();
  const Tensor first = elements(received_, 0, own.size());
  // The own part is an addend in its turn: the sums before it are kept in the received memory.
  const Tensor target = group_->rank() == 0 ? own : first;
  add_in_order(target, addends_of(*group_, own, received_), combine_);
  if (group_->rank() != 0) copy(own, target);
  pending_ = start_spread(group_, "allReduce", tensor_, begins);
  summed_ = true;
}

void PendingReduce::wait() {
  advance();
  if (pending_) pending_.wait();
  tensor_ = received_ = {};
}

void all_reduce(const GroupPtr& group, const Tensor& t, Combine combine) {
  start_all_reduce(group, t, combine).wait();
}

void broadcast(const GroupPtr& group, const Tensor& t, int root) {
  expect(root >= 0 && root < group->size(), Code::value, "broadcast", "root",
         "be a rank of the " + std::to_string(group->size()), std::to_string(root));
  Exchange e{"broadcast", {}, {}};
  if (group->rank() == root) {
    for (int r = 0; r < group->size(); ++r)
      if (r != root) e.sends.push_back({r, t.view()});
  } else {
    e.receives.push_back({root, t.view()});
  }
  exchange(group, t.device(), e);
  if (group->rank() != root) wrote(t.device(), t.view());
}

Arriving start_all_gather(const GroupPtr& group, const Tensor& x, std::span<const int64_t> rows) {
  const int own = group->rank();
  expect_rows("allGather", "rows", x, rows, *group,
              rows.size() > static_cast<size_t>(own) ? rows[own] : 0);
  const Tensor out = with_rows(x, sum(rows));
  Exchange e{"allGather", {}, {}};
  int64_t at = 0;
  for (int r = 0; r < group->size(); at += rows[r++]) {
    const Tensor part = row_range(out, at, rows[r]);
    if (r == own) {
      copy(part, x.reshaped(part.shape));
      continue;
    }
    e.sends.push_back({r, x.view()});
    e.receives.push_back({r, part.view()});
  }
  return {out, start_exchange(group, x.device(), e, {x, out})};
}

Arriving start_all_to_all(const GroupPtr& group, const Tensor& x, std::span<const int64_t> send,
                          std::span<const int64_t> receive) {
  expect_rows("allToAll", "send", x, send, *group, sum(send));
  expect(receive.size() == send.size(), Code::value, "allToAll", "receive",
         "have a number for each of " + std::to_string(group->size()) + " ranks",
         std::to_string(receive.size()));
  const int own = group->rank();
  expect(receive[own] == send[own], Code::value, "allToAll", "receive",
         "be the rows that this rank has for itself, " + std::to_string(send[own]),
         std::to_string(receive[own]));
  const Tensor out = with_rows(x, sum(receive));
  Exchange e{"allToAll", {}, {}};
  int64_t from = 0, to = 0;
  for (int r = 0; r < group->size(); from += send[r], to += receive[r], ++r) {
    const Tensor sent = row_range(x, from, send[r]), part = row_range(out, to, receive[r]);
    if (r == own) {
      copy(part, sent);
      continue;
    }
    e.sends.push_back({r, sent.view()});
    e.receives.push_back({r, part.view()});
  }
  return {out, start_exchange(group, x.device(), e, {x, out})};
}

Tensor reduce_scatter(const GroupPtr& group, const Tensor& x, std::span<const int64_t> rows) {
  expect_float32("reduceScatter", x);
  expect_rows("reduceScatter", "rows", x, rows, *group, sum(rows));
  const int own = group->rank();
  std::vector<int64_t> begins{0};
  for (const int64_t n : rows) begins.push_back(begins.back() + n * row_elements(x));
  const Tensor out = with_rows(x, rows[own]);
  const Tensor received = empty(x.device(), {group->size(), out.size()});
  start_scatter(group, "reduceScatter", x, begins, received).wait();
  const Tensor part = elements(x, begins[own], begins[own + 1]);
  add_in_order(out.reshaped({out.size()}), addends_of(*group, part, received), Combine::sum);
  return out;
}

}  // namespace ml
