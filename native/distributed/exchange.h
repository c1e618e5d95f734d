#pragma once
// Tensors between ranks, in the order of the device's stream: every collective is made of this.
// Each rank names the pieces that it sends to others and those that it receives; nothing is padded,
// and what stays on the rank is copied by whoever composes the collective.
//
// What is received is void if what was sent is: a rank whose data is void takes part all the same,
// with empty messages.

#include <memory>
#include <vector>

#include "device/device.h"
#include "distributed/flight.h"
#include "distributed/world.h"

namespace ml {

struct Piece {
  int peer;   // a rank of the group, another one
  View view;  // of a tensor's rows: dense
};

struct Exchange {
  const char* name;  // of the collective
  std::vector<Piece> sends, receives;
  bool continues = false;  // a call that was counted
};

// An exchange on its way, which keeps its tensors. Ends with wait(), or when it is destroyed: both
// have the stream wait until it has ended, not the caller.
class Pending {
 public:
  Pending() = default;
  Pending(Pending&&) noexcept = default;
  Pending& operator=(Pending&& other) noexcept;
  ~Pending() { abandon(); }

  explicit operator bool() const { return state_ != nullptr; }
  // From here on, work on the device finds what was received. Once.
  void wait();

 private:
  friend Pending start_exchange(const GroupPtr& group, Device& device, const Exchange& exchange,
                                std::vector<Tensor> kept);
  struct State;
  void abandon() noexcept;

  std::shared_ptr<State> state_;
};

// Enqueues the exchange, now or with the open batch; work that follows runs after it.
void exchange(const GroupPtr& group, Device& device, const Exchange& exchange);

// Begins it when the work so far has run, and lets the work that follows go on beside it. That must
// not use what is received, nor write to what is sent, before wait(). `kept`: the tensors of both.
Pending start_exchange(const GroupPtr& group, Device& device, const Exchange& exchange,
                       std::vector<Tensor> kept);

}  // namespace ml
