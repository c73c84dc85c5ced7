// A pretend CUDA device for tests on machines without a GPU: tensors on "cuda:0" (and on
// "cuda:1" where there are to be several) whose memory is the host's and whose
// operators the CPU runs, over a libtorch 1.13 that has no CUDA of its own. It is as strict as a card is:
//
// - The device's memory is one range of addresses that nobody may touch, except while an operator or a copy runs. Whoever
//   reads or writes a GPU tensor by its pointer ends with a segmentation fault. New memory holds no zeros.
// - All tensors of an operator lie on one device, except a CPU tensor of one number where CUDA's operators take one too.
// - What a CUDA operator refuses (products of integers, a generator of the CPU) is refused.
// - Waiting for the device is counted, and told to whoever listens. What is copied to the host without waiting is not there
//   before somebody waits.
// - Random numbers come from a generator of the device's own.
//
// - The driver's functions that the program asks beside torch tell a name, a compute capability (OWT_PRETEND_CUDA_CAPABILITY, 8.0
//   unless it is set) and the memory. A capability of 0.0 is one that torch has no kernels for.
//
// Loading the library is all it takes, before torch is first asked about CUDA.

#include "device_operators.h"

#define PRETEND_API extern "C" __attribute__((visibility("default")))

namespace {

// ---------------------------------------------------------------------------------------------------
// What libtorch asks of CUDA. Devices with one stream each.

struct Guard final : public c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device device) const override {
    auto before = current_gpu();
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override { return current_gpu(); }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.type() == c10::kCUDA && device.index() < device_count, "CUDA error: invalid device ordinal");
    uncheckedSetDevice(device);
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current_index = index_of(device); }
  c10::Stream getStream(c10::Device device) const noexcept override { return stream_of(device); }
  c10::Stream getDefaultStream(c10::Device device) const override { return stream_of(device); }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override { return stream_of(stream.device()); }
  c10::DeviceIndex deviceCount() const noexcept override { return static_cast<c10::DeviceIndex>(device_count.load()); }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { wait_for_device("synchronize"); }

 private:
  static c10::Stream stream_of(c10::Device device) { return c10::Stream(c10::Stream::DEFAULT, gpu(index_of(device))); }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)
REGISTER_ALLOCATOR(c10::DeviceType::CUDA, &device_allocator)

}  // namespace

namespace at {

struct PretendCudaHooks final : public CUDAHooksInterface {
  explicit PretendCudaHooks(CUDAHooksArgs) {}
  void initCUDA() const override {}
  const Generator& getDefaultCUDAGenerator(DeviceIndex index) const override { return device_generator(index); }
  Device getDeviceFromPtr(void*) const override { return current_gpu(); }
  bool isPinnedPtr(void* data) const override { return PinnedAllocator::holds(data); }
  bool hasCUDA() const override { return true; }
  bool hasCUDART() const override { return true; }
  bool hasPrimaryContext(int64_t) const override { return true; }
  int64_t current_device() const override { return current_index; }
  Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  Allocator* getCUDADeviceAllocator() const override { return &device_allocator; }
  std::string showConfig() const override { return "a pretend CUDA device"; }
  int getNumGPUs() const override { return device_count; }
  void deviceSynchronize(int64_t) const override { wait_for_device("synchronize"); }
};

using CUDAHooks = PretendCudaHooks;
REGISTER_CUDA_HOOKS(CUDAHooks);

}  // namespace at

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", torch::CppFunction::makeFromBoxedFunction<&make_empty>());
  m.impl("empty_strided", torch::CppFunction::makeFromBoxedFunction<&make_empty_strided>());
  m.impl("copy_", torch::CppFunction::makeFromBoxedFunction<&copy>());
  m.impl("is_pinned", torch::CppFunction::makeFromBoxedFunction<&is_pinned>());
  m.impl("_pin_memory", torch::CppFunction::makeFromBoxedFunction<&pin>());
  m.impl("record_stream", torch::CppFunction::makeFromBoxedFunction<&record_stream>());
}

// ---------------------------------------------------------------------------------------------------
// The driver

PRETEND_API int cuInit(unsigned) { return 0; }

PRETEND_API int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal < device_count ? 0 : 101;
}

PRETEND_API int cuDeviceGetName(char* name, int length, int) {
  std::snprintf(name, length, "Pretend GPU");
  return 0;
}

// 75 and 76 are the compute capability before and behind the point.
PRETEND_API int cuDeviceGetAttribute(int* value, int attribute, int) {
  size_t capability = capability_of_device();
  *value = static_cast<int>(attribute == 75 ? capability / 10 : capability % 10);
  return 0;
}

// The context of a device is a place of its own.
static int contexts[kMostDevices];
static thread_local int asked = 0;

PRETEND_API int cuDevicePrimaryCtxRetain(void** context, int device) {
  *context = &contexts[device];
  return 0;
}

PRETEND_API int cuCtxSetCurrent(void* context) {
  asked = static_cast<int>(static_cast<int*>(context) - contexts);
  return 0;
}

PRETEND_API int cuMemGetInfo_v2(size_t* free, size_t* total) {
  int64_t live, peak;
  memory().statistics(asked, &live, &peak);
  *total = memory().limit();
  *free = *total - static_cast<size_t>(live);
  return 0;
}

// ---------------------------------------------------------------------------------------------------
// For tests

// Ten times the compute capability.
PRETEND_API void pretend_cuda_set_capability(int32_t capability) { chosen_capability = capability; }

PRETEND_API int64_t pretend_cuda_count(int32_t kind) { return kind >= 0 && kind < kCounts ? counts[kind].load() : -1; }

// Called with the reason whenever the host waits for the device, on the thread that waits.
PRETEND_API void pretend_cuda_listen(void (*tell)(const char*)) { listener = tell; }

PRETEND_API void pretend_cuda_memory(int32_t device, int64_t* live, int64_t* peak) { memory().statistics(device, live, peak); }

// Before torch is first asked about CUDA.
PRETEND_API void pretend_cuda_set_devices(int32_t count) { device_count = count; }

// Whether the host can read the device's memory right now.
PRETEND_API int32_t pretend_cuda_is_readable() {
  int ends[2];
  if (pipe(ends) != 0) {
    return -1;
  }
  bool readable = write(ends[1], memory().base(), 1) == 1;
  close(ends[0]);
  close(ends[1]);
  return readable;
}

// The names of all operators that the device ran, a line each.
PRETEND_API const char* pretend_cuda_operators() {
  static thread_local std::string text;
  std::lock_guard<std::mutex> lock(known_mutex);
  text.clear();
  for (const auto& entry : known) {
    text += toString(entry.first->operator_name()) + '\n';
  }
  return text.c_str();
}
