// The caching allocator, over a stream whose progress the test decides.

#include "device/allocator.h"

#include <deque>
#include <map>

#include "device/pool.h"
#include "require.h"

using namespace ml;

namespace {

constexpr int64_t kTotal = int64_t{256} << 20;

// Runs its work when step() or wait() says so.
class ManualStream final : public Stream {
 public:
  void launch(WorkPtr) noexcept override {}
  void write(void*, const void*, size_t, OutcomePtr, bool) override {}
  void read(void*, const void*, size_t, OutcomePtr, Completion) override {}
  void produce(void*, size_t, OutcomePtr, Producer) override {}
  void always(std::function<void()> action) override {
    next_ticket();
    queue_.push_back(std::move(action));
  }
  void wait() override {
    while (!queue_.empty()) step();
  }
  void work() {
    always([] {});
  }
  void step() {
    queue_.front()();
    queue_.pop_front();
    complete(completed() + 1);
  }

 private:
  std::deque<std::function<void()>> queue_;
};

// Memory that is only numbers: addresses and their sizes.
struct FakeMemory {
  std::map<void*, int64_t> blocks;
  uintptr_t next = 4096;

  MemorySource source(bool exact = false) {
    return {.allocate =
                [this](int64_t bytes) {
                  void* data = reinterpret_cast<void*>(next);
                  next += static_cast<uintptr_t>(bytes);
                  blocks[data] = bytes;
                  return data;
                },
            .release =
                [this](void* data, int64_t bytes) {
                  require(blocks.at(data) == bytes, "a block is released once, with its size");
                  blocks.erase(data);
                },
            .total = kTotal,
            .exact = exact};
  }
};

void freed_blocks_are_reused() {
  FakeMemory memory;
  ManualStream stream;
  {
    Allocator allocator(memory.source(), stream);
    const Block a = allocator.allocate(1000);
    require(a.bytes >= 1000 && a.bytes <= 1125, "at most an eighth is added");
    stream.work();
    allocator.free(a);
    const Block b = allocator.allocate(a.bytes);
    require(b.data == a.data, "a freed block is reused, though work before it has not run");
    const Block c = allocator.allocate(1000);
    require(c.data != b.data && memory.blocks.size() == 2, "a block in use is not");
    require(allocator.stats().allocated == 2 * a.bytes && allocator.stats().reserved == 2 * a.bytes,
            "allocated and reserved bytes");
    allocator.free(b);
    allocator.free(c);
    require(allocator.stats().allocated == 0 && allocator.stats().reserved == 2 * a.bytes &&
                allocator.stats().peak == 2 * a.bytes,
            "freed blocks stay reserved");
    stream.wait();
  }
  require(memory.blocks.empty(), "the allocator releases its cached blocks");
}

void large_blocks_are_released_in_order() {
  FakeMemory memory;
  ManualStream stream;
  MemorySource source = memory.source();
  source.max_cached = int64_t{32} << 20;
  Allocator allocator(source, stream);
  const Block table = allocator.allocate(int64_t{64} << 20);
  stream.work();
  allocator.free(table);
  require(allocator.stats().reserved == 0 && memory.blocks.size() == 1,
          "a large block is released behind the work that uses it");
  stream.step();
  require(memory.blocks.size() == 1, "not before");
  stream.step();
  require(memory.blocks.empty(), "but then");
}

void cached_blocks_make_way_for_other_memory() {
  FakeMemory memory;
  ManualStream stream;
  MemorySource source = memory.source();
  source.threads = true;
  Allocator allocator(source, stream);
  const Block first = allocator.allocate(int64_t{64} << 20);
  const Block second = allocator.allocate(int64_t{64} << 20);
  stream.work();
  allocator.free(first);
  stream.work();
  allocator.free(second);
  require(memory.blocks.size() == 2, "a large block is cached, too");
  allocator.release_idle(0);
  require(memory.blocks.size() == 2, "while work uses it");
  stream.step();
  allocator.release_idle(1);
  require(memory.blocks.size() == 1 && allocator.stats().reserved == int64_t{64} << 20,
          "what has been used is released");
  stream.step();
  allocator.release_idle(2);
  require(memory.blocks.empty() && allocator.stats().reserved == 0, "then the rest");
}

void cached_blocks_make_way() {
  FakeMemory memory;
  ManualStream stream;
  {
    Allocator allocator(memory.source(), stream);
    const auto mib = [](int64_t n) { return n << 20; };
    Block blocks[5];
    for (Block& b : blocks) b = allocator.allocate(mib(48));  // 240 of 256 MiB
    allocator.free(blocks[0]);
    stream.work();
    allocator.free(blocks[1]);
    const Block small = allocator.allocate(mib(60));
    require(memory.blocks.size() == 5 && stream.completed() == 0,
            "idle cached blocks are released when memory is short, without waiting");
    const Block other = allocator.allocate(mib(32));
    require(stream.completed() == 0 && memory.blocks.size() == 6,
            "then the others, behind the work that uses them: without waiting either");
    stream.wait();
    require(memory.blocks.size() == 5, "when that has run");
    stream.work();
    try {
      allocator.allocate(mib(100));
      require(false, "more than the device has is refused");
    } catch (const Error& error) {
      require(error.code() == Code::out_of_memory, "with ERR_OUT_OF_MEMORY");
      require(std::string(error.what()).find("synchronize") != std::string::npos,
              "and a hint, since enqueued work has not run");
    }
    for (const Block& b : {blocks[2], blocks[3], blocks[4], small, other}) allocator.free(b);
    stream.wait();
  }
  require(memory.blocks.empty(), "all is released");
}

void a_pool_keeps_its_blocks() {
  FakeMemory memory;
  ManualStream stream;
  Allocator allocator(memory.source(), stream);
  Pool pool(allocator);
  const Block a = pool.allocate(300), b = pool.allocate(300);
  pool.free(a);
  require(pool.allocate(310).data == a.data, "what was freed is used again");
  pool.free(a);
  const Block other = allocator.allocate(300);
  require(other.data != a.data && other.data != b.data, "by nothing else");
  pool.close();
  require(allocator.stats().allocated == 2 * other.bytes, "until it is closed");
  pool.free(b);
  allocator.free(other);
  require(allocator.stats().allocated == 0, "which those in use outlive");
}

void exact_blocks_are_used_once() {
  FakeMemory memory;
  ManualStream stream;
  Allocator allocator(memory.source(true), stream);
  const Block a = allocator.allocate(1001), none = allocator.allocate(0);
  require(a.bytes == 1001 && none.bytes == 1, "the requested size");
  allocator.free(a);
  allocator.free(none);
  stream.wait();
  require(memory.blocks.empty() && allocator.stats().reserved == 0, "and no cache");
}

}  // namespace

int main() {
  freed_blocks_are_reused();
  large_blocks_are_released_in_order();
  cached_blocks_make_way_for_other_memory();
  cached_blocks_make_way();
  a_pool_keeps_its_blocks();
  exact_blocks_are_used_once();
  report();
}
