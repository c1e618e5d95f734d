#include "device/work.h"

namespace ml {

OutcomeMemory::~OutcomeMemory() {
  for (Block* block : {free_, freed_.load(std::memory_order_acquire)})
    while (block)
      ::operator delete(std::exchange(block, block->next), std::align_val_t{kCacheLine});
}

WorkMemory::~WorkMemory() {
  if (!current_) return;
  Chunk* chunk = std::exchange(current_->next, nullptr);
  while (chunk) ::operator delete(std::exchange(chunk, chunk->next), std::align_val_t{kChunk});
}

void WorkMemory::advance() {
  Chunk* next = current_ ? current_->next : nullptr;
  if (!next || !next->idle()) {
    void* memory = ::operator new(kChunk, std::align_val_t{kChunk});
    next = new (memory) Chunk{.next = next};
    if (!next->next) next->next = next;
    if (current_) current_->next = next;
  } else if (Chunk* more = next->next; next != current_ && more != current_ && more->idle()) {
    next->next = more->next;  // more than is needed by now
    ::operator delete(more, std::align_val_t{kChunk});
  }
  next->used = sizeof(Chunk);
  next->allocated = 0;
  next->freed.store(0, std::memory_order_relaxed);
  current_ = next;
}

}  // namespace ml
