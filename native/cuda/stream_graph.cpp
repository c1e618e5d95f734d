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
  push({.unconditional = [this](Ticket ticket) {
    attempt(ticket, [&] {
      recording_ = std::make_shared<Graph>();
      recording_->scratch->keep();
      std::swap(scratch_, recording_->scratch);
      check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed),
                 "cudaStreamBeginCapture");
    });
  }});
}

// Ends the recording, also after a failure, so that the stream works again.
void CudaStream::end_recording(Graph& graph) {
  std::swap(scratch_, graph.scratch);
  const cudaError_t status = cudaStreamEndCapture(stream_, &graph.graph);
  if (failed_) return;
  check_cuda(status, "cudaStreamEndCapture");
  check_cuda(cudaGraphInstantiate(&graph.executable, graph.graph, 0), "cudaGraphInstantiate");
}

std::shared_ptr<CudaStream::Graph> CudaStream::end_capture() {
  std::shared_ptr<Graph> graph;
  push({.unconditional = [this, &graph](Ticket ticket) {
    graph = std::exchange(recording_, nullptr);
    if (!graph) return;  // begin_capture failed
    try {
      end_recording(*graph);
    } catch (const Error& error) {
      failed_ = Fault{error, ticket};
    }
  }});
  if (const auto fault = wait()) {
    acknowledge(fault->first);
    throw fault->error;
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

void CudaStream::replay(std::shared_ptr<Graph> graph) {
  launch("graph", [graph = std::move(graph)](CudaStream& s) {
    enqueue_replay(s, s.current_);
    check_cuda(cudaGraphLaunch(graph->executable, s.stream_), "cudaGraphLaunch");
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
