// Random state, devices, threads and settings.

#include "openweights_torch.h"

#include <ATen/Config.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <memory>
#include <mutex>
#include <utility>

using namespace owt;

OWT_API int owt_default_generator(int32_t device_type, int32_t device_index, void** generator) {
  return guarded([&] {
    c10::Device device(static_cast<c10::DeviceType>(device_type), static_cast<c10::DeviceIndex>(device_index));
    *generator = new at::Generator(at::globalContext().defaultGenerator(device));
  });
}

// A generator of its own on the CPU.
OWT_API int owt_new_generator(uint64_t seed, void** generator) {
  return guarded([&] {
    auto made = std::make_unique<at::Generator>(at::globalContext().defaultGenerator(c10::Device(c10::kCPU)).clone());
    made->set_current_seed(seed);
    *generator = made.release();
  });
}

OWT_API void owt_generator_release(void* generator) { delete static_cast<at::Generator*>(generator); }

OWT_API int owt_generator_set_seed(void* generator, uint64_t seed) {
  return guarded([&] {
    auto& owner = *static_cast<at::Generator*>(generator);
    std::lock_guard<std::mutex> lock(owner.mutex());
    owner.set_current_seed(seed);
  });
}

OWT_API int owt_generator_state(void* generator, void** state) {
  return guarded([&] {
    auto& owner = *static_cast<at::Generator*>(generator);
    std::lock_guard<std::mutex> lock(owner.mutex());
    *state = give(owner.get_state());
  });
}

OWT_API int owt_generator_set_state(void* generator, void* state) {
  return guarded([&] {
    auto& owner = *static_cast<at::Generator*>(generator);
    std::lock_guard<std::mutex> lock(owner.mutex());
    owner.set_state(borrow(state));
  });
}

OWT_API const char* owt_version() { return TORCH_VERSION; }

OWT_API const char* owt_describe() {
  static std::string text;
  guarded([&] { text = at::show_config() + "\n" + at::get_parallel_info(); });
  return text.c_str();
}

OWT_API int32_t owt_cuda_devices() {
  int32_t count = 0;
  return guarded([&] { count = torch::cuda::is_available() ? static_cast<int32_t>(torch::cuda::device_count()) : 0; }) == 0 ? count : 0;
}

OWT_API int owt_cuda_synchronize(int64_t index) {
  return guarded([&] { torch::cuda::synchronize(index); });
}

OWT_API int owt_cuda_manual_seed_all(uint64_t seed) {
  return guarded([&] { torch::cuda::manual_seed_all(seed); });
}

OWT_API int32_t owt_threads() { return at::get_num_threads(); }
OWT_API int owt_set_threads(int32_t count) {
  return guarded([&] { at::set_num_threads(count); });
}

OWT_API int32_t owt_tf32() { return at::globalContext().allowTF32CuBLAS(); }
OWT_API void owt_set_tf32(int32_t allow) {
  at::globalContext().setAllowTF32CuBLAS(allow != 0);
  at::globalContext().setAllowTF32CuDNN(allow != 0);
}
