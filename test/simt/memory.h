#pragma once
// Device memory and a block's shared memory: of each byte, whether it may be accessed and whether
// it has been written.

#include <cstddef>
#include <cstdint>

namespace simt {

// One per byte. Fresh memory is also filled with NaNs of every float format, so that an unwritten
// value shows where its state is not checked.
enum State : uint8_t { kOutside = 0, kUnwritten = 1, kWritten = 2 };
// NaN as float32, float16, bfloat16; as int32 far out of any range
inline constexpr uint16_t kFreshPattern = 0x7fff;
inline constexpr uint16_t kRedZonePattern = 0x7fe5;  // likewise, but another
inline constexpr size_t kRedZone = 256;              // bytes before and behind each allocation

class DeviceMemory {
 public:
  DeviceMemory();
  uintptr_t base() const { return base_; }
  size_t reach() const { return reach_; }  // bytes of address space
  bool holds(const void* p) const { return reinterpret_cast<uintptr_t>(p) - base_ < reach_; }
  uint8_t* state(uintptr_t address) { return states_ + (address - base_); }

  void* allocate(size_t bytes);                    // null: more than the device has
  bool release(void* p);                           // false: not an allocation
  bool covers(const void* p, size_t bytes) const;  // all inside one live allocation
  void wrote(void* p, size_t bytes);               // by the host: its bytes are written

 private:
  uintptr_t base_;
  size_t reach_;
  uint8_t* states_;
};
DeviceMemory& device_memory();

// Ends the process if a red zone has been overwritten.
void check_red_zones();
// "40 bytes into an allocation of 32 bytes"
const char* describe_address(const void* p);

class SharedArea {
 public:
  SharedArea();
  static constexpr size_t kBytes = 256 * 1024;  // more than any block may have
  void* base() { return base_; }
  bool holds(const void* p) const {
    return reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(base_) < kBytes;
  }
  uint8_t* state(uintptr_t address) {
    return states_ + (address - reinterpret_cast<uintptr_t>(base_));
  }
  void begin_block(size_t bytes);  // unwritten from here on
  void check_red_zone();           // behind it

 private:
  char* base_;
  uint8_t* states_;
  size_t bytes_ = 0;
};
SharedArea& shared_area();

// Address space that costs memory only where it is written; zero at first.
void* reserve(size_t bytes);

void fill(void* p, size_t bytes, uint16_t pattern);

}  // namespace simt
