#include "cuda/graph.h"

#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

class Recording final : public RecordedWork {
 public:
  explicit Recording(std::shared_ptr<Device> device) : device_(std::move(device)) {}
  ~Recording() override {
    stream().wait();
    for (const Block& block : blocks_) device_->allocator().free(block);
  }

  void record(const std::function<void()>& work) {
    stream().wait();
    divert(&blocks_, &trace_);
    stream().begin_capture();
    try {
      work();
    } catch (...) {  // rethrown when the stream works again
      divert(nullptr, nullptr);
      stream().abandon_capture();
      throw;
    }
    divert(nullptr, nullptr);
    graph_ = stream().end_capture();
  }

  void replay() override {
    const auto outcome = device_->work_memory().new_outcome(trace_.needs());
    trace_.reserve();
    stream().replay(graph_, outcome);
    trace_.overwrite(outcome);
  }

 private:
  void divert(std::vector<Block>* blocks, Trace* trace) {
    device_->allocator().defer_frees(blocks);
    device_->trace = trace;
  }
  CudaStream& stream() { return static_cast<CudaStream&>(device_->stream()); }

  std::shared_ptr<Device> device_;
  std::vector<Block> blocks_;
  Trace trace_;
  std::shared_ptr<CudaStream::Graph> graph_;
};

}  // namespace

std::unique_ptr<RecordedWork> record(const std::shared_ptr<Device>& device,
                                     const std::function<void()>& work) {
  auto recording = std::make_unique<Recording>(device);
  recording->record(work);
  return recording;
}

}  // namespace ml::ML_CUDA_NAMESPACE
