#include "distributed/exchange.h"

#include <cstring>
#include <utility>

#include "core/insist.h"
#include "device/batch.h"
#include "device/dependence.h"
#include "distributed/runs.h"

namespace ml {
// What the caller, the stream and the communication thread share. The world is not left before it
// has ended.
struct Crossing {
  explicit Crossing(World& world) : world(world) { world.engine().expect(); }
  ~Crossing() { end(std::nullopt); }
  Crossing(const Crossing&) = delete;
  Crossing& operator=(const Crossing&) = delete;

  World& world;
  Transfer transfer{};
  Flight flight{};
  OutcomePtr started{};               // of what is sent; caller's thread
  std::unique_ptr<char[]> staging{};  // host memory, for devices whose memory is elsewhere
  FaultPtr fault{};                   // made once from the flight's error; the stream's thread
  bool begun = false;                 // the stream's thread

  void end(std::optional<Error> error) {
    if (flight.end(std::move(error))) world.engine().settle();
  }
  // On the stream's thread, or where it completes a read.
  static void begin(const std::shared_ptr<Crossing>& self, bool is_void) {
    self->begun = true;
    self->transfer.is_void = is_void;
    insist([&] {
      Transfer transfer = self->transfer;
      transfer.done = [self](std::optional<Error> error) { self->end(std::move(error)); };
      self->world.engine().submit(std::move(transfer));
    });
  }
  FaultPtr wait() {
    const std::optional<Error> error = flight.wait();
    if (error && !fault) insist([&] { fault = std::make_shared<const Fault>(*error, 0); });
    return fault;
  }
};

using CrossingPtr = std::shared_ptr<Crossing>;

struct Pending::State {
  std::shared_ptr<Device> device;
  std::vector<Tensor> kept;
  std::vector<Run> runs;
  CrossingPtr crossing;
};

namespace {

void add_needs(const std::vector<Piece>& sends, const Device& device, Needs& needs) {
  const auto add = [&](const View& v) {
    const auto [begin, end] = byte_range(v);
    if (begin < end) collect_needs(*v.storage, begin, end, needs);
  };
  for (const Piece& piece : sends) add(piece.view);
  if (device.condition) add(device.condition);
}

// Begins the transfer when what is sent is there.
class Start : public Work {
 public:
  Start(GroupPtr group, Device& device, const Exchange& exchange, CrossingPtr crossing)
      : group_(std::move(group)),
        device_(device),
        exchange_(exchange),
        crossing_(std::move(crossing)) {
    name = exchange.name;
  }
  ~Start() override {
    if (!enqueued_) crossing_->end(Error(Code::value, "the call was not carried out."));
  }

  void submit(WorkPtr& self) override {
    Needs needs;
    add_needs(exchange_.sends, device_, needs);
    outcome = device_.work_memory().new_outcome(std::move(needs));
    enqueue(self);
  }
  void run(void*) override { Crossing::begin(crossing_, false); }
  void finish(const FaultPtr&) override {
    if (!crossing_->begun) Crossing::begin(crossing_, true);
  }

 protected:
  virtual void enqueue(WorkPtr& self) {
    enqueued(outcome);
    device_.stream().launch(std::move(self));
  }
  void enqueued(const OutcomePtr& started) noexcept {
    crossing_->started = started;
    crossing_->transfer.tag = group_->next_tag();
    enqueued_ = true;
  }

  const GroupPtr group_;
  Device& device_;
  const Exchange exchange_;
  const CrossingPtr crossing_;

 private:
  bool enqueued_ = false;
};

// From device memory to host memory first.
class StagedStart final : public Start {
 public:
  using Start::Start;

 private:
  void enqueue(WorkPtr&) override {
    Stream& stream = device_.stream();
    const OutcomePtr started = outcome;
    size_t next = 0;
    for (const Piece& piece : exchange_.sends) {
      const int64_t bytes = piece.view.bytes();
      if (bytes == 0) continue;
      Needs needs;
      add_needs(exchange_.sends, device_, needs);
      stream.read(crossing_->transfer.sends[next++].data, piece.view.data,
                  static_cast<size_t>(bytes), device_.work_memory().new_outcome(std::move(needs)),
                  nullptr);
    }
    enqueued(started);
    stream.read(nullptr, nullptr, 0, started, [crossing = crossing_](const FaultPtr& fault) {
      Crossing::begin(crossing, fault != nullptr);
    });
  }
};

// Has the stream wait for the end of the transfer.
class Wait final : public Work {
 public:
  Wait(Device& device, std::vector<Run> runs, CrossingPtr crossing)
      : device_(device), runs_(std::move(runs)), crossing_(std::move(crossing)) {
    name = crossing_->transfer.name;
  }

  void submit(WorkPtr& self) override {
    for (const Run& run : runs_) announce_write(run.view);
    for (const Run& run : runs_) {
      const auto [begin, end] = byte_range(run.view);
      reserve(*run.view.storage, begin, end);
    }
    if (crossing_->staging) return produce_runs();
    outcome = new_outcome();
    for (const Run& run : runs_) written(run, outcome);
    device_.stream().launch(std::move(self));
  }
  void run(void*) override {
    if (const auto error = crossing_->flight.wait()) throw *error;
  }
  void finish(const FaultPtr&) override { (void)crossing_->flight.wait(); }

 private:
  OutcomePtr new_outcome() {
    Needs needs;
    if (crossing_->started) needs.add(crossing_->started);
    return device_.work_memory().new_outcome(std::move(needs));
  }
  static void written(const Run& run, const OutcomePtr& outcome) {
    const auto [begin, end] = byte_range(run.view);
    overwrite(*run.view.storage, begin, end, outcome);
    count_write(run.view);
  }
  void produce_runs() {
    for (const Run& run : runs_) {
      const OutcomePtr outcome = new_outcome();
      const auto bytes = static_cast<size_t>(run.view.bytes());
      const auto fill = [crossing = crossing_, from = run.staged, bytes](void* target) {
        FaultPtr fault = crossing->wait();
        if (!fault) std::memcpy(target, crossing->staging.get() + from, bytes);
        return fault;
      };
      device_.stream().produce(run.view.data, bytes, outcome, fill);
      written(run, outcome);
    }
  }

  Device& device_;
  const std::vector<Run> runs_;
  const CrossingPtr crossing_;
};

void submit(Device& device, WorkPtr work) {
  if (device.batch)
    device.batch->add(std::move(work));
  else
    submit_surely(device, [&work] { work->submit(work); });
}

// Messages to and from the memory of the pieces, or staged memory: what is received comes first.
CrossingPtr new_crossing(Group& group, const Exchange& exchange, bool staged) {
  auto crossing = std::make_shared<Crossing>(group.world());
  Transfer& transfer = crossing->transfer;
  transfer.name = exchange.name;
  int64_t received = 0, sent = 0;
  for (const Piece& piece : exchange.receives) received += piece.view.bytes();
  for (const Piece& piece : exchange.sends) {
    sent += piece.view.bytes();
    group.count_sent_to(piece.peer, piece.view.bytes());
  }
  if (staged)
    crossing->staging =
        std::make_unique_for_overwrite<char[]>(static_cast<size_t>(received + sent));
  char* at = crossing->staging.get();
  const auto add = [&](std::vector<Message>& messages, const std::vector<Piece>& pieces) {
    messages.reserve(pieces.size());
    for (const Piece& piece : pieces) {
      const int64_t bytes = piece.view.bytes();
      if (bytes == 0) continue;
      messages.push_back(
          {group.world_rank(piece.peer), staged ? at : piece.view.as<char>(), bytes});
      if (staged) at += bytes;
    }
  };
  add(transfer.receives, exchange.receives);
  add(transfer.sends, exchange.sends);
  group.count(exchange.name, sent, received, exchange.continues ? 0 : 1);
  return crossing;
}

}  // namespace

Pending start_exchange(const GroupPtr& group, Device& device, const Exchange& exchange,
                       std::vector<Tensor> kept) {
  expect_no_recording(device, exchange.name,
                      "it exchanges messages with other ranks, which the host sends.\n  Call it "
                      "outside of device.capture(), between two captures.");
  const bool staged = device.kind != "cpu";  // its memory is elsewhere
  auto state = std::make_shared<Pending::State>();
  state->device = device.shared_from_this();
  state->kept = std::move(kept);
  state->runs = runs_of(exchange.receives);
  state->crossing = new_crossing(*group, exchange, staged);
  WorkMemory& memory = device.work_memory();
  submit(device, staged
                     ? WorkPtr(new (memory) StagedStart(group, device, exchange, state->crossing))
                     : WorkPtr(new (memory) Start(group, device, exchange, state->crossing)));
  Pending pending;
  pending.state_ = std::move(state);
  return pending;
}

void Pending::wait() {
  State& state = *state_;
  Device& device = *state.device;
  submit(device,
         WorkPtr(new (device.work_memory()) Wait(device, std::move(state.runs), state.crossing)));
  state_ = nullptr;
}

// The memory of what is under way must not be used again before it has arrived.
void Pending::abandon() noexcept {
  if (!state_ || state_->device->ended()) return;
  try {
    wait();
  } catch (const std::exception&) {  // no memory
  }
}

Pending& Pending::operator=(Pending&& other) noexcept {
  if (this != &other) {
    abandon();
    state_ = std::move(other.state_);
  }
  return *this;
}

void exchange(const GroupPtr& group, Device& device, const Exchange& exchange) {
  start_exchange(group, device, exchange, {}).wait();
}

}  // namespace ml
