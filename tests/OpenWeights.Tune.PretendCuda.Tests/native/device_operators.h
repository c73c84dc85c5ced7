// How the pretend device runs an operator: the CPU does, over the same memory, when everything is as a GPU wants it.
#pragma once

#include "device_memory.h"

namespace {

const c10::DispatchKeySet kGpuKeys(c10::DispatchKey::CUDA);
const c10::DispatchKeySet kCpuKeys(c10::DispatchKey::CPU);

at::Tensor tensor_over(c10::Storage storage, c10::DispatchKeySet keys, const at::Tensor& like) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, like.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  return made;
}

// The tensors of one call as the CPU sees them: other tensors over the same memory.
class Aliases {
 public:
  at::Tensor of(const at::Tensor& original) {
    auto* impl = original.unsafeGetTensorImpl();
    auto found = tensors_.find(impl);
    if (found != tensors_.end()) {
      return found->second.second;
    }
    auto made = tensor_over(storage_of(original), kCpuKeys, original);
    tensors_.emplace(impl, std::make_pair(original, made));
    return made;
  }

  // Where an operator gave one of its results another size, the device's tensor gets it too.
  void take_over_sizes() {
    for (auto& entry : storages_) {
      auto& [original, alias] = entry.second;
      if (alias.nbytes() != original.nbytes() || alias.data() != original.data()) {
        auto fresh = device_allocator.allocate(alias.nbytes());
        std::memcpy(fresh.get(), alias.data(), alias.nbytes());
        original.set_data_ptr_noswap(std::move(fresh));
        original.unsafeGetStorageImpl()->set_nbytes(alias.nbytes());
      }
    }
    for (auto& entry : tensors_) {
      auto& [original, alias] = entry.second;
      if (original.sizes() != alias.sizes() || original.strides() != alias.strides() || original.storage_offset() != alias.storage_offset()) {
        original.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
      }
    }
  }

  // A result of the CPU as the device's: the argument that it is, a view of one, or a new tensor.
  at::Tensor back(const at::Tensor& result) {
    for (auto& entry : tensors_) {
      if (entry.second.second.is_same(result)) {
        return entry.second.first;
      }
    }
    for (auto& entry : storages_) {
      if (entry.second.second.unsafeGetStorageImpl() == result.storage().unsafeGetStorageImpl()) {
        return tensor_over(entry.second.first, kGpuKeys, result);
      }
    }
    c10::Storage fresh(c10::Storage::use_byte_size_t(), result.storage().nbytes(), device_allocator.allocate(result.storage().nbytes()), &device_allocator, true);
    std::memcpy(fresh.data(), result.storage().data(), result.storage().nbytes());
    return tensor_over(std::move(fresh), kGpuKeys, result);
  }

 private:
  c10::Storage storage_of(const at::Tensor& tensor) {
    auto* impl = tensor.storage().unsafeGetStorageImpl();
    auto found = storages_.find(impl);
    if (found == storages_.end()) {
      c10::Storage alias(c10::Storage::use_byte_size_t(), impl->nbytes(), c10::DataPtr(impl->data(), c10::Device(c10::kCPU)), c10::GetAllocator(c10::kCPU), true);
      found = storages_.emplace(impl, std::make_pair(tensor.storage(), std::move(alias))).first;
    }
    return found->second.second;
  }

  std::unordered_map<c10::TensorImpl*, std::pair<at::Tensor, at::Tensor>> tensors_;
  std::unordered_map<c10::StorageImpl*, std::pair<c10::Storage, c10::Storage>> storages_;
};

bool one_of(const std::string& name, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&name](const char* other) { return name == other; });
}

// "aten::add_.Tensor" and "aten::add.out" are both add.
std::string plain_name(const c10::OperatorHandle& op) {
  auto name = op.schema().name();
  auto start = name.find("::");
  name = start == std::string::npos ? name : name.substr(start + 2);
  if (name.size() > 1 && name.back() == '_' && name[0] != '_') {
    name.pop_back();
  }
  return name;
}

// Pointwise operators of two tensors take a number that lies on the CPU.
bool takes_cpu_numbers(const std::string& name) {
  return one_of(name, {"add", "sub", "mul", "div", "true_divide", "floor_divide", "remainder", "fmod", "pow", "atan2", "maximum", "minimum", "fmax", "fmin", "eq", "ne", "lt",
                       "le", "gt", "ge", "bitwise_and", "bitwise_or", "bitwise_xor", "logical_and", "logical_or", "logical_xor", "fill", "masked_fill", "copysign", "hypot"});
}

// The host waits: the result is a number here, or its size depends on what the tensors hold.
bool waits(const std::string& name) {
  return one_of(name, {"_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive",
                       "repeat_interleave", "bincount", "allclose", "linalg_svd", "_linalg_svd", "linalg_qr", "_linalg_eigh", "nonzero_numpy"});
}

bool multiplies(const std::string& name) { return one_of(name, {"mm", "bmm", "addmm", "baddbmm", "addbmm", "addmv", "mv", "dot", "_addmm_activation", "linear"}); }

template <class F>
void each_tensor(IValue& value, F&& body) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) {
      value = body(value.toTensor());
    }
  } else if (value.isTensorList()) {
    auto tensors = value.toTensorVector();
    for (auto& tensor : tensors) {
      tensor = tensor.defined() ? body(tensor) : tensor;
    }
    value = tensors;
  } else if (value.isList()) {
    auto list = value.toList();
    if (list.elementType()->kind() == c10::TypeKind::OptionalType) {
      auto made = c10::impl::GenericList(list.elementType());
      for (size_t i = 0; i < list.size(); i++) {
        IValue element = list.get(i);
        each_tensor(element, body);
        made.push_back(element);
      }
      value = made;
    }
  }
}

// What is known of an operator, found out once.
struct Known {
  explicit Known(const c10::OperatorHandle& op)
      : name(plain_name(op)), takes_cpu_numbers(::takes_cpu_numbers(name)), waits(::waits(name)), multiplies(::multiplies(name)), draws(op.hasTag(at::Tag::nondeterministic_seeded)) {}
  std::string name;
  bool takes_cpu_numbers, waits, multiplies, draws;
};

std::mutex known_mutex;
std::map<const c10::FunctionSchema*, Known> known;

const Known& known_of(const c10::OperatorHandle& op) {
  std::lock_guard<std::mutex> lock(known_mutex);
  auto found = known.find(&op.schema());
  return found != known.end() ? found->second : known.emplace(&op.schema(), Known(op)).first->second;
}

// The device of an operator: that of its first tensor on one.
c10::Device device_of(const c10::OperatorHandle& op, Stack* stack, size_t first) {
  c10::optional<c10::Device> found;
  for (size_t i = 0; i < op.schema().arguments().size(); i++) {
    each_tensor((*stack)[first + i], [&](const at::Tensor& tensor) {
      if (!found && tensor.is_cuda()) {
        found = tensor.device();
      }
      return tensor;
    });
  }
  return found ? *found : current_gpu();
}

void check(const c10::OperatorHandle& op, const Known& about, Stack* stack, size_t first, c10::Device device) {
  const auto& parameters = op.schema().arguments();
  for (size_t i = 0; i < parameters.size(); i++) {
    auto& value = (*stack)[first + i];
    each_tensor(value, [&](const at::Tensor& tensor) {
      bool is_number = tensor.dim() == 0 && tensor.is_cpu() && about.takes_cpu_numbers;
      TORCH_CHECK(is_number || tensor.device() == device, "Expected all tensors to be on the same device, but found at least two devices, ", device, " and ", tensor.device(),
                  "! (when checking argument for argument ", parameters[i].name(), " in method ", op.schema().operator_name(), ")");
      TORCH_CHECK(!about.multiplies || c10::isFloatingType(tensor.scalar_type()), "\"", about.name, "_cuda\" not implemented for '", tensor.scalar_type(), "'");
      return tensor;
    });
    TORCH_CHECK(!value.isDevice(), "pretend_cuda: ", op.schema().operator_name(), " takes a device, and nobody has taught it to");
    if (value.isGenerator()) {
      TORCH_CHECK(value.toGenerator().device() == device, "Expected a 'cuda' device type for generator but found '", value.toGenerator().device().type(), "'");
      value = static_cast<DeviceGenerator*>(value.toGenerator().unsafeGetGeneratorImpl())->inner;
    }
  }
}

// A GPU computes in half precision what this CPU has no code for: it is computed in single precision and rounded.
void call_widened(const c10::OperatorHandle& op, Stack* stack, size_t first) {
  std::vector<std::pair<at::Tensor, at::Tensor>> widened;
  const auto& parameters = op.schema().arguments();
  bool has_dtype = false;
  for (size_t i = 0; i < parameters.size(); i++) {
    auto& value = (*stack)[first + i];
    has_dtype = has_dtype || (parameters[i].name() == "dtype" && !value.isNone());
    if (parameters[i].name() == "half_to_float" && value.toBool()) {
      value = false;
      has_dtype = true;
    }
    if (parameters[i].name() == "input_dtype" && value.toScalarType() == at::kHalf) {
      value = at::kFloat;
    }
    each_tensor((*stack)[first + i], [&](const at::Tensor& tensor) {
      if (tensor.scalar_type() != at::kHalf) {
        return tensor;
      }
      for (auto& known_pair : widened) {
        if (known_pair.first.is_same(tensor)) {
          return known_pair.second;
        }
      }
      widened.emplace_back(tensor, tensor.to(at::kFloat));
      return widened.back().second;
    });
  }
  op.callBoxed(stack);
  for (auto i = stack->size() - op.schema().returns().size(); i < stack->size(); i++) {
    each_tensor((*stack)[i], [&](const at::Tensor& tensor) {
      for (auto& known_pair : widened) {
        if (known_pair.second.is_same(tensor)) {
          known_pair.first.copy_(tensor);
          return known_pair.first;
        }
      }
      return tensor.scalar_type() == at::kFloat && !has_dtype ? tensor.to(at::kHalf) : tensor;
    });
  }
}

void call(const c10::OperatorHandle& op, Stack* stack, size_t first) {
  bool is_half = op.schema().name() == "aten::_softmax_backward_data" && (*stack)[first + 3].toScalarType() == at::kHalf;
  for (size_t i = first; i < stack->size(); i++) {
    each_tensor((*stack)[i], [&](const at::Tensor& tensor) {
      is_half = is_half || tensor.scalar_type() == at::kHalf;
      return tensor;
    });
  }
  if (!is_half) {
    op.callBoxed(stack);
    return;
  }
  std::vector<IValue> given(stack->begin() + first, stack->end());
  try {
    op.callBoxed(stack);
  } catch (const c10::Error&) {
    stack->resize(first);
    stack->insert(stack->end(), given.begin(), given.end());
    call_widened(op, stack, first);
  }
}

void run(const c10::OperatorHandle& op, Stack* stack) {
  const auto& about = known_of(op);
  TORCH_CHECK(capability_of_device() > 0, "CUDA error: no kernel image is available for execution on the device");
  size_t first = stack->size() - op.schema().arguments().size();
  counts[kOperators]++;
  auto device = device_of(op, stack, first);
  On on(device);
  check(op, about, stack, first, device);
  if (about.waits) {
    wait_for_device(about.name.c_str());
  }

  at::AutoDispatchBelowADInplaceOrView below;
  DeviceMemory::Open open(memory());
  Aliases aliases;
  for (size_t i = first; i < stack->size(); i++) {
    each_tensor((*stack)[i], [&](const at::Tensor& tensor) { return tensor.is_cuda() ? aliases.of(tensor) : tensor; });
  }
  if (about.draws) {
    DrawsFromDevice draws;
    call(op, stack, first);
  } else {
    call(op, stack, first);
  }
  aliases.take_over_sizes();
  for (auto i = stack->size() - op.schema().returns().size(); i < stack->size(); i++) {
    each_tensor((*stack)[i], [&](const at::Tensor& tensor) { return aliases.back(tensor); });
  }
}

std::vector<int64_t> integers(const IValue& value) {
  if (value.isIntList()) {
    return value.toIntVector();
  }
  std::vector<int64_t> result;
  for (const IValue& element : value.toListRef()) {
    result.push_back(element.isInt() ? element.toInt() : element.toSymInt().expect_int());
  }
  return result;
}

at::ScalarType dtype_of(const IValue& value) {
  return value.isNone() ? c10::typeMetaToScalarType(c10::get_default_dtype()) : value.toScalarType();
}

void give(const c10::OperatorHandle& op, Stack* stack, at::Tensor result) {
  torch::jit::drop(*stack, op.schema().arguments().size());
  stack->push_back(std::move(result));
}

// empty.memory_format(size, dtype, layout, device, pin_memory, memory_format)
void make_empty(const c10::OperatorHandle& op, Stack* stack) {
  const auto* given = &*(stack->end() - op.schema().arguments().size());
  On on(given[3].isNone() ? current_gpu() : given[3].toDevice());
  TORCH_CHECK(given[4].isNone() || !given[4].toBool(), "Only dense CPU tensors can be pinned");
  c10::optional<c10::MemoryFormat> format;
  if (!given[5].isNone()) {
    format = given[5].toMemoryFormat();
  }
  give(op, stack, at::Tensor(at::detail::empty_generic(integers(given[0]), &device_allocator, kGpuKeys, dtype_of(given[1]), format)));
}

// empty_strided(size, stride, dtype, layout, device, pin_memory)
void make_empty_strided(const c10::OperatorHandle& op, Stack* stack) {
  const auto* given = &*(stack->end() - op.schema().arguments().size());
  On on(given[4].isNone() ? current_gpu() : given[4].toDevice());
  give(op, stack, at::Tensor(at::detail::empty_strided_generic(integers(given[0]), integers(given[1]), &device_allocator, kGpuKeys, dtype_of(given[2]))));
}

// copy_(self, src, non_blocking): the only way between the devices, also from one GPU to another.
void copy(const c10::OperatorHandle& op, Stack* stack) {
  const auto* given = &*(stack->end() - op.schema().arguments().size());
  auto target = given[0].toTensor(), source = given[1].toTensor();
  bool waiting = !given[2].toBool();
  counts[kOperators]++;
  at::AutoDispatchBelowADInplaceOrView below;
  if (target.is_cuda() && source.is_cuda() && target.device() != source.device()) {
    counts[kCopiesAcross]++;
  } else if (target.is_cuda() && !source.is_cuda()) {
    counts[kCopiesIn]++;
    // CUDA copies memory that is not pinned by way of a buffer that is, and does not return before it has.
    if (!PinnedAllocator::holds(source.data_ptr())) {
      counts[kCopiesInUnpinned]++;
      waiting = true;
    }
    if (waiting) {
      wait_for_device("copy to the device");
    }
    // The device does one thing after the other: what it was to copy to this memory before is there when it fetches it.
    if (is_late(source)) {
      arrive();
    }
  } else if (!target.is_cuda()) {
    counts[kCopiesOut]++;
    if (waiting || !PinnedAllocator::holds(target.data_ptr())) {
      wait_for_device("copy to the host");
    } else {
      counts[kCopiesOutLate]++;
      at::Tensor kept;
      {
        DeviceMemory::Open open(memory());
        Aliases aliases;
        kept = aliases.of(source).clone();
      }
      auto bytes = target.storage().nbytes();
      std::memset(target.storage().data(), kUnwritten, bytes);
      std::lock_guard<std::mutex> lock(late_mutex);
      late.push_back({target, kept.expand(target.sizes())});
      give(op, stack, target);
      return;
    }
  }
  {
    DeviceMemory::Open open(memory());
    Aliases aliases;
    auto there = target.is_cuda() ? aliases.of(target) : target;
    there.copy_(source.is_cuda() ? aliases.of(source) : source);
  }
  give(op, stack, target);
}

// is_pinned(self, device)
void is_pinned(const c10::OperatorHandle& op, Stack* stack) {
  auto tensor = (stack->end() - op.schema().arguments().size())->toTensor();
  torch::jit::drop(*stack, op.schema().arguments().size());
  stack->emplace_back(tensor.is_cpu() && PinnedAllocator::holds(tensor.storage().data()));
}

// _pin_memory(self, device)
void pin(const c10::OperatorHandle& op, Stack* stack) {
  auto tensor = (stack->end() - op.schema().arguments().size())->toTensor();
  TORCH_CHECK(tensor.is_cpu(), "cannot pin '", tensor.toString(), "' only dense CPU tensors can be pinned");
  auto pinned = at::Tensor(at::detail::empty_strided_cpu(tensor.sizes(), tensor.strides(), tensor.scalar_type(), true));
  pinned.copy_(tensor);
  give(op, stack, pinned);
}

// record_stream(self, stream)
void record_stream(const c10::OperatorHandle& op, Stack* stack) { torch::jit::drop(*stack, op.schema().arguments().size()); }

}  // namespace
