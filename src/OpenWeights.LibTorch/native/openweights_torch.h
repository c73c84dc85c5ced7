// What the parts of the native part share: how errors and tensors cross the border.
//
// The native part is libtorch's dispatcher, autograd, random state, devices and CPU memory behind a C interface.
// An operator is found by its name and run on a boxed stack, so this code knows no operator and compiles against
// libtorch 1.13 to 2.x. Tensors cross the border as owned or borrowed c10::TensorImpl pointers; null is the undefined
// tensor. Functions return 0, or 1 after an exception, whose first line owt_last_error then gives.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstring>
#include <string>
#include <vector>

#define OWT_API extern "C" __attribute__((visibility("default")))

namespace owt {

// The first line of this thread's last error.
extern thread_local std::string last_error;

void set_error(const char* text);

template <class F>
int guarded(F&& body) noexcept {
  try {
    body();
    return 0;
  } catch (const c10::Error& e) {
    set_error(e.what_without_backtrace());
  } catch (const std::exception& e) {
    set_error(e.what());
  } catch (...) {
    set_error("an unknown native error");
  }
  return 1;
}

using TensorPtr = c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;

inline at::Tensor borrow(void* impl) {
  return impl == nullptr ? at::Tensor()
                         : at::Tensor(TensorPtr::reclaim_copy(static_cast<c10::TensorImpl*>(impl)));
}

inline void* give(at::Tensor tensor) {
  return tensor.defined() ? tensor.unsafeReleaseTensorImpl() : nullptr;
}

inline std::vector<at::Tensor> borrow_all(void* const* impls, int64_t count) {
  std::vector<at::Tensor> list;
  list.reserve(count);
  for (int64_t i = 0; i < count; i++) {
    list.push_back(borrow(impls[i]));
  }
  return list;
}

}  // namespace owt
