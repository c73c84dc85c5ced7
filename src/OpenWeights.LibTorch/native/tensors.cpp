// What a tensor is: its shape, memory, gradient and references.

#include "openweights_torch.h"

using namespace owt;

struct owt_info {
  const int64_t* sizes;
  const int64_t* strides;
  int64_t dimensions;
  int64_t elements;
  int64_t storage_offset;
  int32_t dtype;
  int32_t device_type;
  int32_t device_index;
  int32_t element_size;
};

OWT_API void owt_release(void* impl) {
  c10::raw::intrusive_ptr::decref(static_cast<c10::TensorImpl*>(impl));
}

OWT_API void owt_retain(void* impl) {
  c10::raw::intrusive_ptr::incref(static_cast<c10::TensorImpl*>(impl));
}

OWT_API int owt_info_of(void* impl, owt_info* info) {
  return guarded([&] {
    auto tensor = borrow(impl);
    info->sizes = tensor.sizes().data();
    info->strides = tensor.strides().data();
    info->dimensions = tensor.dim();
    info->elements = tensor.numel();
    info->storage_offset = tensor.storage_offset();
    info->dtype = static_cast<int32_t>(tensor.scalar_type());
    info->device_type = static_cast<int32_t>(tensor.device().type());
    info->device_index = tensor.device().index();
    info->element_size = static_cast<int32_t>(tensor.element_size());
  });
}

OWT_API int owt_data(void* impl, void** data) {
  return guarded([&] { *data = borrow(impl).data_ptr(); });
}

OWT_API int32_t owt_is_contiguous(void* impl) { return borrow(impl).is_contiguous(); }
OWT_API int32_t owt_is_leaf(void* impl) { return borrow(impl).is_leaf(); }
OWT_API int32_t owt_requires_grad(void* impl) { return borrow(impl).requires_grad(); }

OWT_API int owt_set_requires_grad(void* impl, int32_t value) {
  return guarded([&] { borrow(impl).set_requires_grad(value != 0); });
}

OWT_API int owt_grad(void* impl, void** grad) {
  return guarded([&] { *grad = give(borrow(impl).grad()); });
}

OWT_API int owt_set_grad(void* impl, void* grad) {
  return guarded([&] { borrow(impl).mutable_grad() = borrow(grad); });
}
