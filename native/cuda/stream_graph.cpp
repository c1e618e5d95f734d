// Recording and replay of graphs.

#include <utility>

#include "cuda/checks.h"
#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {

CudaStream::Graph::~Graph() {
  if (executable) (void)cudaGraphExecDestroy(executable);
  if (graph) (void)cudaGraphDestroy(graph);
}

void CudaStream::begin_capture() {
  launch_unconditional([this](Ticket ticket) {
    const FaultPtr fault = attempt(ticket, [&] {
      recording_ = std::make_shared<Graph>(scratch_use_);
      recording_->scratch->keep();
      std::swap(scratch_, recording_->scratch);
      check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed),
                 "cudaStreamBeginCapture");
    });
    if (recording_) recording_->fault = fault;
  });
}

// Ends the recording, also after a failure, so that the stream works again.
void CudaStream::end_recording(Graph& graph) {
  std::swap(scratch_, graph.scratch);
  const cudaError_t status = cudaStreamEndCapture(stream_, &graph.graph);
  if (graph.fault) return;
  check_cuda(status, "cudaStreamEndCapture");
  check_cuda(cudaGraphInstantiate(&graph.executable, graph.graph, 0), "cudaGraphInstantiate");
}

std::shared_ptr<CudaStream::Graph> CudaStream::end_capture() {
  std::shared_ptr<Graph> graph;
  launch_unconditional([this, &graph](Ticket ticket) {
    graph = std::exchange(recording_, nullptr);
    if (!graph) return;
    FaultPtr fault = attempt(ticket, [&] { end_recording(*graph); });
    if (fault) graph->fault = std::move(fault);
  });
  wait();
  if (!graph) throw Error(Code::out_of_memory, "no memory for a recorded graph.");
  if (graph->fault) {
    graph->fault->report();
    throw graph->fault->error;
  }
  return graph;
}

void CudaStream::abandon_capture() {
  try {
    end_capture();
  } catch (const Error&) {  // the caller has an error of its own to report
  }
}

bool CudaStream::keep_with_graph(std::shared_ptr<void> object) {
  if (!recording_) return false;
  recording_->kept.push_back(std::move(object));
  return true;
}

void CudaStream::replay(std::shared_ptr<Graph> graph, OutcomePtr outcome) {
  launch_own(
      "graph",
      [graph = std::move(graph)](CudaStream& s) {
        if (!s.take_check()) return;
        const uint32_t check = s.launching_->check;
        s.launching_->sites = graph->sites;
        enqueue_replay_begin(s);
        const cudaError_t status = cudaGraphLaunch(graph->executable, s.stream_);
        enqueue_replay_end(s, check);
        s.depend_on(check);
        check_cuda(status, "cudaGraphLaunch");
      },
      std::move(outcome));
}

}  // namespace ml::ML_CUDA_NAMESPACE
