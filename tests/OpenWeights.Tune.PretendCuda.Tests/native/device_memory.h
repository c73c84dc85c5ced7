// The pretend device's memory and pinned memory; waiting for the device, and its random numbers.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using c10::IValue;
using torch::jit::Stack;

constexpr int kMostDevices = 8;
std::atomic<int> device_count{1};

// The device that this thread works on, as cudaGetDevice tells.
thread_local int current_index = 0;

c10::Device gpu(int index) { return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)); }

c10::Device current_gpu() { return gpu(current_index); }

int index_of(c10::Device device) { return device.has_index() ? device.index() : current_index; }

constexpr size_t kUnit = 512;
constexpr size_t kPage = size_t(1) << 21;

// What memory holds that nobody has written to: not a number, and an index outside of everything.
constexpr int kUnwritten = 0xFF;

// ---------------------------------------------------------------------------------------------------
// Memory

size_t from_environment(const char* name, size_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == 0 ? otherwise : std::strtoull(text, nullptr, 10);
}

std::atomic<int> chosen_capability{-1};

// Ten times the compute capability.
size_t capability_of_device() {
  return chosen_capability >= 0 ? static_cast<size_t>(chosen_capability) : from_environment("OWT_PRETEND_CUDA_CAPABILITY", 80);
}

class DeviceMemory {
 public:
  size_t limit() const { return limit_; }

  DeviceMemory() : limit_(from_environment("OWT_PRETEND_CUDA_MEMORY", size_t(8) << 30)) {
    void* range = mmap(nullptr, kReserved + kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(range != MAP_FAILED, "no addresses for the pretend device's memory");
    // Large pages, on their boundaries: opening and closing then takes no longer with much memory than with little.
    base_ = top_ = reinterpret_cast<char*>((reinterpret_cast<size_t>(range) + kPage - 1) / kPage * kPage);
    madvise(base_, kReserved, MADV_HUGEPAGE);
    free_.emplace(base_, kReserved);
  }

  void* take(size_t wanted, int device) {
    size_t size = (std::max<size_t>(wanted, 1) + kUnit - 1) / kUnit * kUnit;
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK_WITH(OutOfMemoryError, live_[device] + size <= limit_, "CUDA out of memory. Tried to allocate ", megabytes(size), " MiB (GPU ", device, "; ", megabytes(limit_),
                     " MiB total capacity; ", megabytes(live_[device]), " MiB already allocated; ", megabytes(limit_ - live_[device]), " MiB free; ", megabytes(live_[device]),
                     " MiB reserved in total by PyTorch)");
    auto found = std::find_if(free_.begin(), free_.end(), [size](const auto& block) { return block.second >= size; });
    TORCH_CHECK(found != free_.end(), "the pretend device's range is full");
    auto [at, whole] = *found;
    free_.erase(found);
    if (whole > size) {
      free_.emplace(at + size, whole - size);
    }
    used_.emplace(at, std::make_pair(size, device));
    live_[device] += size;
    peak_[device] = std::max(peak_[device], live_[device]);
    if (at + size > top_) {
      char* top = base_ + (static_cast<size_t>(at + size - base_) + kPage - 1) / kPage * kPage;
      if (open_ > 0) {
        protect(top_, top, PROT_READ | PROT_WRITE);
      }
      top_ = top;
    }
    if (open_ > 0) {
      std::memset(at, kUnwritten, size);
    } else {
      unwritten_.emplace(at, size);
    }
    return at;
  }

  void put(void* given) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto block = used_.find(static_cast<char*>(given));
    auto at = block->first;
    auto [size, device] = block->second;
    used_.erase(block);
    unwritten_.erase(at);
    live_[device] -= size;
    auto next = free_.lower_bound(at);
    if (next != free_.end() && at + size == next->first) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin() && std::prev(next)->first + std::prev(next)->second == at) {
      std::prev(next)->second += size;
    } else {
      free_.emplace(at, size);
    }
  }

  // While it lives, the device works and its memory can be reached.
  class Open {
   public:
    explicit Open(DeviceMemory& memory) : memory_(memory) {
      std::lock_guard<std::mutex> lock(memory_.mutex_);
      memory_.enter();
    }
    ~Open() {
      std::lock_guard<std::mutex> lock(memory_.mutex_);
      memory_.leave();
    }
    Open(const Open&) = delete;

   private:
    DeviceMemory& memory_;
  };

  void statistics(int device, int64_t* live, int64_t* peak) {
    std::lock_guard<std::mutex> lock(mutex_);
    *live = static_cast<int64_t>(live_[device]);
    *peak = static_cast<int64_t>(peak_[device]);
  }

  const void* base() const { return base_; }

 private:
  static constexpr size_t kReserved = size_t(64) << 30;

  static double megabytes(size_t size) { return static_cast<double>(size >> 10) / 1024; }

  static void protect(char* from, char* to, int rights) {
    if (to > from && mprotect(from, static_cast<size_t>(to - from), rights) != 0) {
      std::perror("pretend_cuda: mprotect");
      std::abort();
    }
  }

  void enter() {
    if (open_++ == 0) {
      protect(base_, top_, PROT_READ | PROT_WRITE);
      for (auto [at, size] : unwritten_) {
        std::memset(at, kUnwritten, size);
      }
      unwritten_.clear();
    }
  }

  void leave() {
    if (--open_ == 0) {
      protect(base_, top_, PROT_NONE);
    }
  }

  std::mutex mutex_;
  char* base_;
  char* top_;  // behind the last byte that was ever in use
  std::map<char*, size_t> free_;
  std::unordered_map<char*, std::pair<size_t, int>> used_;  // size and device
  std::unordered_map<char*, size_t> unwritten_;  // new blocks that still have to be filled with what is no number
  size_t limit_;  // of each device
  std::array<size_t, kMostDevices> live_{}, peak_{};
  int open_ = 0;
};

// Never destroyed: tensors may outlive static destructors.
DeviceMemory& memory() {
  static auto* instance = new DeviceMemory();
  return *instance;
}

struct DeviceAllocator final : public c10::Allocator {
  c10::DataPtr allocate(size_t size) const override {
    void* block = size == 0 ? nullptr : memory().take(size, current_index);
    return {block, block, &release, current_gpu()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  static void release(void* block) {
    if (block != nullptr) {
      memory().put(block);
    }
  }
};

// Pinned memory: the host's own, remembered.
struct PinnedAllocator final : public c10::Allocator {
  c10::DataPtr allocate(size_t size) const override {
    void* block = std::aligned_alloc(64, (std::max<size_t>(size, 1) + 63) / 64 * 64);
    std::lock_guard<std::mutex> lock(mutex());
    blocks()[static_cast<char*>(block)] = size;
    return {block, block, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  static void release(void* block) {
    std::lock_guard<std::mutex> lock(mutex());
    blocks().erase(static_cast<char*>(block));
    std::free(block);
  }
  static bool holds(const void* data) {
    std::lock_guard<std::mutex> lock(mutex());
    auto place = const_cast<char*>(static_cast<const char*>(data));
    auto next = blocks().upper_bound(place);
    return next != blocks().begin() && place < std::prev(next)->first + std::max<size_t>(std::prev(next)->second, 1);
  }

 private:
  static std::mutex& mutex() {
    static auto* instance = new std::mutex();
    return *instance;
  }
  static std::map<char*, size_t>& blocks() {
    static auto* instance = new std::map<char*, size_t>();
    return *instance;
  }
};

// While it lives, this thread works on a device.
class On {
 public:
  explicit On(c10::Device device) : before_(current_index) { current_index = index_of(device); }
  ~On() { current_index = before_; }
  On(const On&) = delete;

 private:
  int before_;
};

DeviceAllocator device_allocator;
PinnedAllocator pinned_allocator;

// ---------------------------------------------------------------------------------------------------
// Waiting, and what is counted

enum Count { kOperators, kWaits, kCopiesIn, kCopiesInUnpinned, kCopiesOut, kCopiesOutLate, kCopiesAcross, kCounts };

std::array<std::atomic<int64_t>, kCounts> counts{};
std::atomic<void (*)(const char*)> listener{nullptr};

// A copy to the host that nobody has waited for yet.
struct Late {
  at::Tensor target, source;
};

std::mutex late_mutex;
std::vector<Late> late;

void arrive() {
  std::vector<Late> arrived;
  {
    std::lock_guard<std::mutex> lock(late_mutex);
    arrived.swap(late);
  }
  for (auto& copy : arrived) {
    copy.target.copy_(copy.source);
  }
}

bool is_late(const at::Tensor& tensor) {
  std::lock_guard<std::mutex> lock(late_mutex);
  return std::any_of(late.begin(), late.end(), [&tensor](const Late& copy) { return copy.target.is_alias_of(tensor); });
}

void wait_for_device(const char* reason) {
  counts[kWaits]++;
  if (auto tell = listener.load()) {
    tell(reason);
  }
  arrive();
}

// ---------------------------------------------------------------------------------------------------
// Random numbers

struct DeviceGenerator final : public c10::GeneratorImpl {
  explicit DeviceGenerator(c10::Device device) : GeneratorImpl(device, c10::DispatchKeySet(c10::DispatchKey::CUDA)), inner(at::detail::createCPUGenerator()) {}
  void set_current_seed(uint64_t seed) override { inner.set_current_seed(seed); }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_state(const c10::TensorImpl& state) override { inner.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return inner.unsafeGetGeneratorImpl()->get_state(); }
  GeneratorImpl* clone_impl() const override {
    auto* copy = new DeviceGenerator(device());
    copy->inner = inner.clone();
    return copy;
  }

  at::Generator inner;
};

const at::Generator& device_generator(int index) {
  static auto* all = [] {
    auto* made = new std::vector<at::Generator>();
    for (int i = 0; i < kMostDevices; i++) {
      made->push_back(at::make_generator<DeviceGenerator>(gpu(i)));
    }
    return made;
  }();
  return (*all)[static_cast<size_t>(index < 0 ? current_index : index)];
}

// Lets the operators of the CPU draw from the device's generator: some of them take no other than the default one.
class DrawsFromDevice {
 public:
  DrawsFromDevice() : host_(at::detail::getDefaultCPUGenerator()), device_(inner()) { swap(); }
  ~DrawsFromDevice() { swap(); }

 private:
  static at::Generator inner() { return static_cast<DeviceGenerator*>(device_generator(current_index).unsafeGetGeneratorImpl())->inner; }

  void swap() {
    std::lock_guard<std::mutex> lock(host_.mutex());
    auto* a = static_cast<at::CPUGeneratorImpl*>(host_.unsafeGetGeneratorImpl());
    auto* b = static_cast<at::CPUGeneratorImpl*>(device_.unsafeGetGeneratorImpl());
    auto engine = a->engine();
    auto single = a->next_float_normal_sample();
    auto real = a->next_double_normal_sample();
    a->set_engine(b->engine());
    a->set_next_float_normal_sample(b->next_float_normal_sample());
    a->set_next_double_normal_sample(b->next_double_normal_sample());
    b->set_engine(engine);
    b->set_next_float_normal_sample(single);
    b->set_next_double_normal_sample(real);
  }

  at::Generator host_, device_;
};

}  // namespace
