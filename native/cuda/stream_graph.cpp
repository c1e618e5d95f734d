// Programs: recorded work, as a graph that is one launch.

#include <bit>
#include <optional>
#include <utility>

#include "cuda/checks.h"
#include "cuda/on_device.h"
#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {

CudaStream::Graph::~Graph() {
  const OnDevice current(device);
  if (executable) (void)cudaGraphExecDestroy(executable);
  if (graph) (void)cudaGraphDestroy(graph);
  if (checks) (void)cudaFree(checks);
}

void CudaStream::replay(const std::shared_ptr<Program>& program,
                        const std::vector<OutcomePtr>& outcomes) {
  if (outcomes.empty()) return;
  WorkPtr work(new (*work_memory_) Unconditional(
      [this, program, outcomes](Ticket) { run_program(*program, outcomes); }));
  for (size_t i = 1; i < outcomes.size(); ++i) next_ticket();  // one for each step
  launch(std::move(work));
}

// ---- Launch thread

// The state of the graph's own checks, which its kernels are guarded by.
void CudaStream::make_checks(Graph& graph) {
  void* state = nullptr;
  check_cuda(cudaMalloc(&state, sizeof(StreamState)), "cudaMalloc");
  graph.checks = static_cast<StreamState*>(state);
  check_cuda(cudaMemsetAsync(state, 0, sizeof(StreamState), stream_), "cudaMemsetAsync");
}

// Records one step. A kernel depends on the checks of its own work and of all that it needs.
void CudaStream::record_step(const Program& program, size_t i) {
  Graph::Step& step = recording_->steps[i];
  recorded_step_ = i;
  work_checks_ = 0;
  for (const uint32_t need : program.steps[i].needs) work_checks_ |= recording_->steps[need].checks;
  program.steps[i].work->run(this);
  step.checks = work_checks_;
}

void CudaStream::record_steps(const Program& program) {
  check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed),
             "cudaStreamBeginCapture");
  std::optional<Error> error;
  try {
    enqueue_clear(*this, kAllChecks);
    for (size_t i = 0; i < program.steps.size(); ++i) record_step(program, i);
  } catch (const Error& e) {
    error = e;
  }
  const cudaError_t status = cudaStreamEndCapture(stream_, &recording_->graph);
  if (status != cudaSuccess) {  // see to it that the stream works again
    cudaGraph_t none = nullptr;
    if (cudaStreamEndCapture(stream_, &none) == cudaSuccess) (void)cudaGraphDestroy(none);
  }
  if (error) throw *error;
  check_cuda(status, "cudaStreamEndCapture");
  check_cuda(cudaGraphInstantiate(&recording_->executable, recording_->graph, 0),
             "cudaGraphInstantiate");
}

// Where it can't be made (no memory, too many checks), the graph has no executable.
std::shared_ptr<CudaStream::Graph> CudaStream::make_graph(const Program& program) {
  auto graph = std::make_shared<Graph>(device_, scratch_use_);
  graph->scratch->keep();
  graph->steps.resize(program.steps.size());
  recording_ = graph;
  std::swap(scratch_, graph->scratch);
  StreamState* const checks = checks_;
  try {
    make_checks(*graph);
    checks_ = graph->checks;
    record_steps(program);
  } catch (const Error&) {  // the steps are launched one by one, and tell what is wrong
    (void)cudaGetLastError();
  }
  checks_ = checks;
  work_checks_ = 0;
  std::swap(scratch_, graph->scratch);
  return std::exchange(recording_, nullptr);
}

bool CudaStream::keep_with_graph(std::shared_ptr<void> object) {
  if (!recording_) return false;
  recording_->kept.push_back(std::move(object));
  return true;
}

// The number that a check of the step that is recorded has in its graph.
uint32_t CudaStream::recorded_check() {
  Graph::Step& step = recording_->steps[recorded_step_];
  if (step.check == kChecks) {
    if (recording_->check_count == kGraphChecks)
      throw Error(Code::unsupported, "a graph has too many checks.");
    step.check = recording_->check_count++;
    work_checks_ |= bit_of(step.check);
  }
  return step.check;
}

// Whether a graph can take the place of its steps: what is outside of it is not void and depends on
// no check whose result is open, since the kernels of the graph do not know of those.
bool CudaStream::depends_on_no_check(const std::vector<OutcomePtr>& outcomes) {
  std::lock_guard<std::mutex> lock(outcomes_mutex_);
  bool none = true;
  for (const OutcomePtr& outcome : outcomes) {
    if (outcome->inherited()) return false;
    outcome->needs().each([&](const OutcomePtr& need) {
      if (!need->known() && need->checks != 0) none = false;
    });
  }
  return none;
}

// Bits of the stream for the checks of a graph.
CheckMap CudaStream::take_checks(uint32_t count) {
  std::unique_lock<std::mutex> lock(outcomes_mutex_);
  if (static_cast<uint32_t>(std::popcount(free_checks_)) < count) {
    lock.unlock();
    SyncPoint point;
    point.ticket = current_ - 1;
    enqueue(std::move(point));
    lock.lock();
    checks_freed_.wait(lock,
                       [&] { return static_cast<uint32_t>(std::popcount(free_checks_)) >= count; });
  }
  CheckMap map{};
  uint32_t stale = 0;
  for (; map.count < count; ++map.count) {
    const uint32_t clear = free_checks_ & ~failed_checks_;
    const auto check = static_cast<uint32_t>(std::countr_zero(clear ? clear : free_checks_));
    map.check[map.count] = static_cast<uint8_t>(check);
    free_checks_ &= ~bit_of(check);
    stale |= failed_checks_ & bit_of(check);
  }
  failed_checks_ &= ~stale;
  unsynced_checks_ += static_cast<int>(count);
  lock.unlock();
  work_checks_ = 0;
  if (stale) enqueue_clear(*this, stale);
  return map;
}

// The steps are work whose outcomes the next sync point settles, by the checks as the stream knows
// them.
void CudaStream::add_launched(const Graph& graph, const CheckMap& map,
                              const std::vector<OutcomePtr>& outcomes) {
  std::lock_guard<std::mutex> lock(outcomes_mutex_);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const Graph::Step& step = graph.steps[i];
    launched_.push_back({.ticket = current_ + i, .outcome = outcomes[i]});
    if (step.check < kChecks) {
      launched_.back().check = map.check[step.check];
      launched_.back().sites = step.sites;
    }
    for (uint32_t c = 0; c < map.count; ++c)
      if (step.checks & bit_of(c)) outcomes[i]->checks |= bit_of(map.check[c]);
  }
}

void CudaStream::launch_graph(const Graph& graph, const std::vector<OutcomePtr>& outcomes) {
  FaultPtr fault = attempt(current_, [&] {
    const CheckMap map = take_checks(graph.check_count);
    add_launched(graph, map, outcomes);
    timer_.start(stream_);
    check_cuda(cudaGraphLaunch(graph.executable, stream_), "cudaGraphLaunch");
    if (map.count > 0) enqueue_failures(*this, graph.checks, map);
    timer_.stop(stream_, "replay");
  });
  if (fault)
    for (const OutcomePtr& outcome : outcomes) settle(*outcome, fault);
}

void CudaStream::run_program(Program& program, const std::vector<OutcomePtr>& outcomes) {
  if (!program.graph) (void)attempt(current_, [&] { program.graph = make_graph(program); });
  const auto* graph = static_cast<const Graph*>(program.graph.get());
  if (graph && graph->executable && depends_on_no_check(outcomes)) {
    launch_graph(*graph, outcomes);
    current_ += outcomes.size() - 1;
    return enqueue_if_due();
  }
  for (size_t i = 0; i < outcomes.size(); ++i) {
    if (i > 0) ++current_;
    run_work(*program.steps[i].work, outcomes[i]);
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
