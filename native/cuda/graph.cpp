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
    if (const auto fault = stream().wait()) throw fault->error;
    device_->allocator().defer_frees(&blocks_);
    stream().begin_capture();
    try {
      work();
    } catch (...) {  // rethrown when the stream works again
      device_->allocator().defer_frees(nullptr);
      stream().abandon_capture();
      throw;
    }
    device_->allocator().defer_frees(nullptr);
    graph_ = stream().end_capture();
  }

  void replay() override { stream().replay(graph_); }

 private:
  CudaStream& stream() { return static_cast<CudaStream&>(device_->stream()); }

  std::shared_ptr<Device> device_;
  std::vector<Block> blocks_;
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
