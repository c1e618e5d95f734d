#include "cpu/backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "cpu/container.h"
#include "cpu/context.h"
#include "cpu/isa.h"
#include "cpu/placement.h"
#include "cpu/stream.h"
#include "operations.h"

namespace ml::cpu {

#define ML_DECLARE(Args, name) void name(KernelContext&, const Args&);
ML_OPERATIONS(ML_DECLARE)
#undef ML_DECLARE

namespace {

#define ML_RUN(Args, name)                                  \
  .name = +[](void* context, const Args& args) {            \
    cpu::name(*static_cast<KernelContext*>(context), args); \
  },
constexpr Operations kOperations = {ML_OPERATIONS(ML_RUN)};
#undef ML_RUN

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kMaxCached = (int64_t{64} << 20) - 1;  // bytes of a block: not a table

// Large blocks are mapped, aligned to huge pages and advised to use them: random rows of a table
// then cost a quarter of the page walks. Small ones come from malloc.
void* allocate(int64_t bytes) {
  if (bytes < kHugePage) return std::aligned_alloc(64, static_cast<size_t>((bytes + 63) / 64 * 64));
  const size_t span = static_cast<size_t>(bytes + kHugePage);
  void* raw = mmap(nullptr, span, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  char* base = static_cast<char*>(raw);
  char* aligned = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(base) + kHugePage - 1) /
                                          kHugePage * kHugePage);
  if (aligned != base) munmap(base, static_cast<size_t>(aligned - base));
  char* end = base + span;
  if (aligned + bytes != end) munmap(aligned + bytes, static_cast<size_t>(end - (aligned + bytes)));
  madvise(aligned, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return aligned;
}

void release(void* data, int64_t bytes) {
  if (bytes < kHugePage) {
    std::free(data);
  } else {
    munmap(data, static_cast<size_t>(bytes));
  }
}

// What this process holds in memory, without the pages of files. 0 where that is not known.
int64_t held_memory() {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> info(std::fopen("/proc/self/statm", "r"),
                                                             std::fclose);
  long all = 0, resident = 0, shared = 0;
  if (!info || std::fscanf(info.get(), "%ld %ld %ld", &all, &resident, &shared) != 3) return 0;
  static const int64_t page = sysconf(_SC_PAGE_SIZE);
  return (resident - shared) * page;
}

std::string processor() {
  // Not a C++ stream: its locales would be a tenth of the binary.
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> info(std::fopen("/proc/cpuinfo", "r"),
                                                             std::fclose);
  char line[256];
  constexpr const char* kStart = "model name\t: ";
  while (info && std::fgets(line, sizeof line, info.get()))
    if (std::strncmp(line, kStart, std::strlen(kStart)) == 0)
      return {line + std::strlen(kStart), line + std::strcspn(line, "\n")};
  return "CPU";
}

}  // namespace

// Of the machine, or of the container.
int64_t total_memory() {
  const int64_t machine = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  static const int64_t container = container_limits("").memory;
  return std::min(machine, container);
}

int thread_count(int threads) { return threads > 0 ? threads : usable_cores(); }

std::string describe(int threads) {
  const int used = thread_count(threads);
  static const std::string name = processor();
  return name + ", " + isa_name() + ", " + std::to_string(used) +
         (used == 1 ? " thread" : " threads");
}

std::shared_ptr<Device> open(int threads) {
  isa();
  const int used = thread_count(threads);
  auto device = std::make_shared<Device>(kOperations, std::make_unique<CpuStream>(used),
                                         MemorySource{.allocate = allocate,
                                                      .release = release,
                                                      .total = total_memory(),
                                                      .held = held_memory,
                                                      .max_cached = kMaxCached});
  device->name = "cpu";
  device->kind = "cpu";
  device->threads = used;
  device->description = describe(threads);
  return device;
}

}  // namespace ml::cpu
