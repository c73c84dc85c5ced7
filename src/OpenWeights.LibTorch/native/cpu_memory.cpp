// The allocator of libtorch's CPU memory.

#include "openweights_torch.h"

#include "block_pool.h"

#include <c10/core/CPUAllocator.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cstdlib>

using namespace owt;

namespace {

BlockPool& pool() {
  static auto* instance = new BlockPool();  // never destroyed: tensors may outlive static destructors
  return *instance;
}

// Small blocks come from malloc, which keeps the last ones freed at hand (posix_memalign does not). The place
// that malloc gave stands before the block; a small block never begins on a page, as those of the pool do.
constexpr uintptr_t kAlignment = 64;

void* take_small(size_t size) {
  void* place = std::malloc(size + 2 * kAlignment);
  TORCH_CHECK(place != nullptr, "out of memory: ", size, " bytes were refused");
  auto block = (reinterpret_cast<uintptr_t>(place) + kAlignment) & ~(kAlignment - 1);
  if (block % kPage == 0) {
    block += kAlignment;
  }
  reinterpret_cast<void**>(block)[-1] = place;
  return reinterpret_cast<void*>(block);
}

void release_block(void* block) {
  if (block == nullptr) {
    return;
  }
  if (reinterpret_cast<uintptr_t>(block) % kPage == 0) {
    pool().put(block);
  } else {
    std::free(static_cast<void**>(block)[-1]);
  }
}

// Both forms of allocate: libtorch 2.3 dropped the const, and added copy_data.
struct PooledAllocator final : public c10::Allocator {
  static c10::DataPtr make(size_t size) {
    void* block = size == 0 ? nullptr : size < kLarge ? take_small(size) : pool().take(size);
    return {block, block, &release_block, c10::Device(c10::kCPU)};
  }

  c10::DataPtr allocate(size_t size) const { return make(size); }
  c10::DataPtr allocate(size_t size) { return make(size); }
  c10::DeleterFnPtr raw_deleter() const override { return &release_block; }
  void copy_data(void* target, const void* source, size_t count) const { std::memcpy(target, source, count); }
};

}  // namespace

// Takes over libtorch's CPU memory. Call it once, before the first tensor.
OWT_API void owt_use_pooled_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 16 << 20);
#endif
  static PooledAllocator allocator;
  c10::SetCPUAllocator(&allocator, 1);
}

OWT_API void owt_cpu_memory(int64_t* live, int64_t* peak, int64_t* cached) { pool().statistics(live, peak, cached); }
OWT_API void owt_reset_cpu_peak() { pool().reset_peak(); }
