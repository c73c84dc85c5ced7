// The native part of OpenWeights.LibTorch: libtorch's dispatcher, autograd, random state, devices and
// CPU memory behind a C interface. An operator is found by its name and run on a boxed stack, so this
// file knows no operator and compiles against libtorch 1.13 to 2.x.
//
// Tensors cross the border as owned or borrowed c10::TensorImpl pointers; null is the undefined tensor.
// Functions return 0, or 1 after an exception, whose first line owt_last_error then gives.

#include <ATen/Config.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/cuda.h>
#include <torch/version.h>

#ifdef __linux__
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#endif
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#define OWT_API extern "C" __attribute__((visibility("default")))

namespace {

using c10::IValue;
using torch::autograd::Variable;
using torch::autograd::variable_list;

thread_local std::string last_error;

void set_error(const char* text) {
  const char* end = std::strchr(text, '\n');
  last_error.assign(text, end ? static_cast<size_t>(end - text) : std::strlen(text));
}

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

at::Tensor borrow(void* impl) {
  return impl == nullptr ? at::Tensor()
                         : at::Tensor(TensorPtr::reclaim_copy(static_cast<c10::TensorImpl*>(impl)));
}

void* give(at::Tensor tensor) {
  return tensor.defined() ? tensor.unsafeReleaseTensorImpl() : nullptr;
}

variable_list borrow_all(void* const* impls, int64_t count) {
  variable_list list;
  list.reserve(count);
  for (int64_t i = 0; i < count; i++) {
    list.push_back(borrow(impls[i]));
  }
  return list;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------
// Operators

enum owt_kind : int32_t {
  OWT_NONE = 0,
  OWT_TENSOR = 1,
  OWT_INT = 2,
  OWT_DOUBLE = 3,
  OWT_BOOL = 4,
  OWT_INTS = 5,     // p: int64_t*, n of them
  OWT_TENSORS = 6,  // p: TensorImpl**, n of them
  OWT_STRING = 7,   // p: UTF-8, n bytes
  OWT_DEVICE = 8,   // aux: type, i: index
  OWT_GENERATOR = 9,
  OWT_DOUBLES = 10,
};

struct owt_value {
  int32_t kind;
  int32_t aux;
  union {
    int64_t i;
    double d;
    void* p;
  };
  int64_t n;
};

namespace {

struct Operator {
  c10::OperatorHandle handle;
  std::vector<bool> takes_optional_tensors;
};

IValue to_ivalue(const owt_value& value, bool optional_tensors) {
  switch (value.kind) {
    case OWT_TENSOR:
      return borrow(value.p);
    case OWT_INT:
      return value.i;
    case OWT_DOUBLE:
      return value.d;
    case OWT_BOOL:
      return value.i != 0;
    case OWT_INTS:
      return std::vector<int64_t>(static_cast<int64_t*>(value.p), static_cast<int64_t*>(value.p) + value.n);
    case OWT_DOUBLES:
      return std::vector<double>(static_cast<double*>(value.p), static_cast<double*>(value.p) + value.n);
    case OWT_TENSORS: {
      auto impls = static_cast<void**>(value.p);
      if (!optional_tensors) {
        return borrow_all(impls, value.n);
      }
      c10::impl::GenericList list(c10::OptionalType::create(c10::TensorType::get()));
      for (int64_t i = 0; i < value.n; i++) {
        list.push_back(impls[i] ? IValue(borrow(impls[i])) : IValue());
      }
      return list;
    }
    case OWT_STRING:
      return std::string(static_cast<char*>(value.p), value.n);
    case OWT_DEVICE:
      return c10::Device(static_cast<c10::DeviceType>(value.aux), static_cast<c10::DeviceIndex>(value.i));
    case OWT_GENERATOR:
      return *static_cast<at::Generator*>(value.p);
    default:
      return IValue();
  }
}

owt_value from_ivalue(IValue&& value) {
  owt_value result{};
  if (value.isTensor()) {
    result.kind = OWT_TENSOR;
    result.p = give(std::move(value).toTensor());
  } else if (value.isInt()) {
    result.kind = OWT_INT;
    result.i = value.toInt();
  } else if (value.isDouble()) {
    result.kind = OWT_DOUBLE;
    result.d = value.toDouble();
  } else if (value.isBool()) {
    result.kind = OWT_BOOL;
    result.i = value.toBool();
  } else if (value.isTensorList()) {
    auto tensors = value.toTensorVector();
    auto impls = static_cast<void**>(std::malloc(sizeof(void*) * (tensors.size() + 1)));
    for (size_t i = 0; i < tensors.size(); i++) {
      impls[i] = give(std::move(tensors[i]));
    }
    result.kind = OWT_TENSORS;
    result.p = impls;
    result.n = static_cast<int64_t>(tensors.size());
  } else if (!value.isNone()) {
    TORCH_CHECK(false, "an operator gave a value of kind ", value.tagKind(), ", which has no counterpart here");
  }
  return result;
}

}  // namespace

OWT_API const char* owt_last_error() { return last_error.c_str(); }

// Null where this libtorch has no such operator.
OWT_API void* owt_find(const char* name, const char* overload) {
  try {
    auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!handle.has_value()) {
      return nullptr;
    }
    auto op = std::make_unique<Operator>(Operator{*handle, {}});
    for (const auto& argument : handle->schema().arguments()) {
      auto list = argument.type()->cast<c10::ListType>();
      op->takes_optional_tensors.push_back(list && list->getElementType()->kind() == c10::TypeKind::OptionalType);
    }
    return op.release();
  } catch (...) {
    return nullptr;
  }
}

// Arguments that are left out at the end take the schema's defaults. Results are owned by the caller.
OWT_API int owt_call(void* found, const owt_value* arguments, int32_t count, owt_value* results, int32_t* result_count) {
  return guarded([&] {
    const auto& op = *static_cast<Operator*>(found);
    const auto& parameters = op.handle.schema().arguments();
    TORCH_CHECK(count <= static_cast<int32_t>(parameters.size()), op.handle.schema().name(), " takes ", parameters.size(), " arguments, not ", count);
    torch::jit::Stack stack;
    stack.reserve(parameters.size());
    for (int32_t i = 0; i < count; i++) {
      stack.push_back(to_ivalue(arguments[i], op.takes_optional_tensors[i]));
    }
    for (size_t i = count; i < parameters.size(); i++) {
      TORCH_CHECK(parameters[i].default_value().has_value(), op.handle.schema().name(), " lacks its argument ", parameters[i].name());
      stack.push_back(*parameters[i].default_value());
    }
    op.handle.callBoxed(stack);
    TORCH_CHECK(static_cast<int32_t>(stack.size()) <= *result_count, op.handle.schema().name(), " gave more results than were expected");
    *result_count = static_cast<int32_t>(stack.size());
    for (size_t i = 0; i < stack.size(); i++) {
      results[i] = from_ivalue(std::move(stack[i]));
    }
  });
}

OWT_API void owt_free(void* memory) { std::free(memory); }

// ---------------------------------------------------------------------------------------------------
// Tensors

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

// ---------------------------------------------------------------------------------------------------
// Autograd

OWT_API int32_t owt_grad_mode() { return c10::GradMode::is_enabled(); }
OWT_API void owt_set_grad_mode(int32_t enabled) { c10::GradMode::set_enabled(enabled != 0); }
OWT_API int32_t owt_inference_mode() { return c10::InferenceMode::is_enabled(); }
OWT_API void* owt_enter_inference_mode(int32_t enabled) { return new c10::InferenceMode(enabled != 0); }
OWT_API void owt_leave_inference_mode(void* guard) { delete static_cast<c10::InferenceMode*>(guard); }

OWT_API int owt_backward(void* const* tensors, int64_t count, void* const* grads, int64_t grad_count, int32_t retain_graph,
                         int32_t create_graph, void* const* inputs, int64_t input_count) {
  return guarded([&] {
    torch::autograd::backward(borrow_all(tensors, count), borrow_all(grads, grad_count), retain_graph != 0, create_graph != 0,
                              borrow_all(inputs, input_count));
  });
}

// results: room for input_count tensors, owned by the caller.
OWT_API int owt_autograd_grad(void* const* outputs, int64_t count, void* const* inputs, int64_t input_count, void* const* grads,
                              int64_t grad_count, int32_t retain_graph, int32_t create_graph, int32_t allow_unused, void** results) {
  return guarded([&] {
    auto found = torch::autograd::grad(borrow_all(outputs, count), borrow_all(inputs, input_count), borrow_all(grads, grad_count),
                                       retain_graph != 0, create_graph != 0, allow_unused != 0);
    for (size_t i = 0; i < found.size(); i++) {
      results[i] = give(std::move(found[i]));
    }
  });
}

// A node of the graph whose backward is written in C#.
//   backward(context, gradients, count, results, result_count): gradients and results are owned by the callee
//   and by the caller respectively; returns 0, or 1 with a message put by owt_set_error.
//   release(context): the graph lets go of the node.
typedef int32_t (*owt_backward_fn)(void* context, void** gradients, int64_t count, void** results, int64_t result_count);
typedef void (*owt_release_fn)(void* context);

namespace {

// How the graph owns its nodes. This is the way of libtorch up to some 2.x: by shared_ptr.
template <class Base, class = void>
struct Owned : public Base {
  template <class T>
  using Pointer = std::shared_ptr<T>;

  template <class T, class... Arguments>
  static Pointer<T> make(Arguments... arguments) {
    // Found by the argument's namespace, and only here: later libtorches lack this deleter.
    return Pointer<T>(new T(arguments...), [](Base* node) { deleteNode(node); });
  }

  Pointer<Base> itself() { return this->shared_from_this(); }
  virtual void forget() = 0;
};

// Libtorch 2.13 counts references in the node itself. A saved output points back to its node, weakly, which keeps
// the node's memory until it lets go of what it saved.
template <class Base>
struct Owned<Base, std::enable_if_t<std::is_base_of<c10::intrusive_ptr_target, Base>::value>> : public Base {
  template <class T>
  using Pointer = c10::intrusive_ptr<T>;

  template <class T, class... Arguments>
  static Pointer<T> make(Arguments... arguments) {
    return c10::make_intrusive<T>(arguments...);
  }

  Pointer<Base> itself() { return this->getptr(); }
  virtual void forget() = 0;

  void release_resources() override {
    forget();
    Base::release_resources();
  }
};

struct ManagedNode : public Owned<torch::autograd::Node> {
  ManagedNode(void* context, owt_backward_fn run, owt_release_fn release) : context_(context), run_(run), release_(release) {}

  ~ManagedNode() override { release_(context_); }

  std::string name() const override { return "ManagedFunction"; }

  void release_variables() override { forget(); }

  void forget() override {
    std::lock_guard<std::mutex> lock(mutex_);
    saved_.clear();
    released_ = true;
  }

  variable_list apply(variable_list&& gradients) override {
    std::vector<void*> in(gradients.size());
    for (size_t i = 0; i < in.size(); i++) {
      in[i] = give(std::move(gradients[i]));
    }
    std::vector<void*> out(num_outputs(), nullptr);
    if (run_(context_, in.data(), static_cast<int64_t>(in.size()), out.data(), static_cast<int64_t>(out.size())) != 0) {
      throw std::runtime_error(last_error);
    }
    variable_list result;
    result.reserve(out.size());
    for (void* impl : out) {
      result.emplace_back(impl == nullptr ? at::Tensor() : at::Tensor(TensorPtr::reclaim(static_cast<c10::TensorImpl*>(impl))));
    }
    return result;
  }

  void save(const variable_list& tensors) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& tensor : tensors) {
      bool is_output = tensor.defined() && tensor.grad_fn().get() == this;
      saved_.emplace_back(tensor, is_output);
    }
  }

  variable_list saved() {
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(!released_, "Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). "
                            "Specify retain_graph=true where it is needed again.");
    variable_list tensors;
    for (auto& variable : saved_) {
      tensors.push_back(variable.unpack(itself()));
    }
    return tensors;
  }

 private:
  void* context_;
  owt_backward_fn run_;
  owt_release_fn release_;
  std::vector<torch::autograd::SavedVariable> saved_;
  std::mutex mutex_;
  bool released_ = false;
};

using NodePtr = ManagedNode::Pointer<ManagedNode>;

}  // namespace

OWT_API void owt_set_error(const char* text) { set_error(text); }

// Makes a node whose inputs are the given tensors; owned by the caller until owt_node_release.
OWT_API int owt_node_new(void* context, owt_backward_fn run, owt_release_fn release, void* const* inputs, int64_t count, void** node) {
  return guarded([&] {
    auto made = ManagedNode::make<ManagedNode>(context, run, release);
    made->set_next_edges(torch::autograd::collect_next_edges(borrow_all(inputs, count)));
    *node = new NodePtr(std::move(made));
  });
}

OWT_API void owt_node_release(void* node) { delete static_cast<NodePtr*>(node); }

// Makes the tensor an output of the node. Outputs come in the order of the calls; one that is not
// differentiable (an index) takes its place without an edge.
OWT_API int owt_node_output(void* node, void* impl, int32_t differentiable) {
  return guarded([&] {
    auto& owner = *static_cast<NodePtr*>(node);
    auto tensor = borrow(impl);
    auto number = owner->add_input_metadata(tensor);
    if (differentiable) {
      torch::autograd::impl::set_gradient_edge(tensor, {owner, number});
    }
  });
}

OWT_API int owt_node_save(void* node, void* const* tensors, int64_t count) {
  return guarded([&] { (*static_cast<NodePtr*>(node))->save(borrow_all(tensors, count)); });
}

// Borrows the node from inside its own backward: the graph keeps it alive there.
OWT_API void* owt_node_weak(void* node) { return static_cast<NodePtr*>(node)->get(); }

OWT_API int owt_node_saved(void* weak, void** tensors, int64_t* count) {
  return guarded([&] {
    auto saved = static_cast<ManagedNode*>(weak)->saved();
    TORCH_CHECK(static_cast<int64_t>(saved.size()) <= *count, "more saved tensors than were asked for");
    *count = static_cast<int64_t>(saved.size());
    for (size_t i = 0; i < saved.size(); i++) {
      tensors[i] = give(std::move(saved[i]));
    }
  });
}

// ---------------------------------------------------------------------------------------------------
// Random state

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
OWT_API uint64_t owt_generator_seed(void* generator) { return static_cast<at::Generator*>(generator)->current_seed(); }

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

// ---------------------------------------------------------------------------------------------------
// Devices, threads, settings

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

// ---------------------------------------------------------------------------------------------------
// CPU memory
//
// A training step asks for the same large blocks again and again, or for blocks that are a little larger or
// smaller where batches differ in length. glibc gives much of that back to the system, and the next step faults
// every page in again. So large blocks are cut from one range of addresses that stays here, each as low as it
// fits: what lives long gathers at the bottom, and free blocks join their neighbours. Where gaps make the pages
// in memory more than the most that was ever in use, those of free blocks go back to the system. Small blocks
// stay with malloc, told not to trim.

namespace {

constexpr size_t kLarge = size_t(1) << 18;
constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t(1) << 21;
constexpr size_t kStep = size_t(64) << 20;

// What may lie in memory beyond the most that was in use at once.
constexpr size_t kSlack = size_t(8) << 20;

size_t round_down(size_t size, size_t unit) { return size & ~(unit - 1); }
size_t round_up(size_t size, size_t unit) { return round_down(size + unit - 1, unit); }
char* round_down(char* at, size_t unit) { return reinterpret_cast<char*>(round_down(reinterpret_cast<size_t>(at), unit)); }
char* round_up(char* at, size_t unit) { return reinterpret_cast<char*>(round_up(reinterpret_cast<size_t>(at), unit)); }

// The parts of the address space whose pages may lie in memory.
class ResidentPages {
 public:
  size_t total() const { return total_; }

  // How much of a range may lie in memory.
  size_t within(char* from, char* to) const {
    size_t sum = 0;
    for (auto i = first_after(from); i != ranges_.end() && i->first < to; ++i) {
      sum += static_cast<size_t>(std::min(to, i->second) - std::max(from, i->first));
    }
    return sum;
  }

  void add(char* from, char* to) {
    auto i = first_after(from);
    while (i != ranges_.end() && i->first <= to) {
      from = std::min(from, i->first);
      to = std::max(to, i->second);
      total_ -= static_cast<size_t>(i->second - i->first);
      i = ranges_.erase(i);
    }
    ranges_.emplace(from, to);
    total_ += static_cast<size_t>(to - from);
  }

  void remove(char* from, char* to) {
    for (auto i = first_after(from); i != ranges_.end() && i->first < to;) {
      auto [start, end] = *i;
      total_ -= static_cast<size_t>(std::min(to, end) - std::max(from, start));
      i = ranges_.erase(i);
      if (start < from) {
        ranges_.emplace(start, from);
      }
      if (to < end) {
        ranges_.emplace(to, end);
      }
    }
  }

 private:
  using Ranges = std::map<char*, char*>;

  // The first range that ends at or behind a place.
  Ranges::const_iterator first_after(char* at) const {
    auto i = ranges_.upper_bound(at);
    return i != ranges_.begin() && std::prev(i)->second >= at ? std::prev(i) : i;
  }

  Ranges ranges_;
  size_t total_ = 0;
};

class BlockPool {
 public:
  // The lowest free block that holds the size, what is left over of it staying free.
  void* take(size_t size) {
    size = round_up(size, kPage);
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = lowest(size);
    if (found == free_.end()) {
      grow(size);
      found = lowest(size);
    }
    auto [at, whole] = *found;
    free_.erase(found);
    if (whole - size >= kLarge) {
      free_.emplace(at + size, whole - size);
      whole = size;
    }
    used_.emplace(at, whole);
    live_ += whole;
    peak_ = std::max(peak_, live_);
    most_ = std::max(most_, live_);
    touch(at, at + size);
    return at;
  }

  void put(void* given) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto block = used_.find(static_cast<char*>(given));
    auto [at, size] = *block;
    used_.erase(block);
    live_ -= size;
    add_free(at, size);
  }

  // Cached are the pages that were in use once and have not gone back to the system.
  void statistics(int64_t* live, int64_t* peak, int64_t* cached) {
    std::lock_guard<std::mutex> lock(mutex_);
    *live = static_cast<int64_t>(live_);
    *peak = static_cast<int64_t>(peak_);
    *cached = std::max<int64_t>(0, static_cast<int64_t>(resident_.total()) - *live);
  }

  void reset_peak() {
    std::lock_guard<std::mutex> lock(mutex_);
    peak_ = live_;
  }

 private:
  using Blocks = std::map<char*, size_t>;

  Blocks::iterator lowest(size_t size) {
    return std::find_if(free_.begin(), free_.end(), [size](const auto& block) { return block.second >= size; });
  }

  // Joins a block with the free ones beside it.
  void add_free(char* at, size_t size) {
    auto next = free_.lower_bound(at);
    if (next != free_.end() && next->first == at + size) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin() && std::prev(next)->first + std::prev(next)->second == at) {
      std::prev(next)->second += size;
    } else {
      free_.emplace(at, size);
    }
  }

  // A range is about to lie in memory. Pages of free blocks make room for it where it would be too much, the
  // highest first, since the lowest are used again soonest.
  void touch(char* from, char* to) {
    size_t fresh = static_cast<size_t>(to - from) - resident_.within(from, to);
    size_t most = most_ + kSlack;
    for (auto block = free_.rbegin(); block != free_.rend() && fresh > 0 && resident_.total() + fresh > most; ++block) {
      give_back(round_up(block->first, kHugePage), round_down(block->first + block->second, kHugePage), resident_.total() + fresh - most);
    }
    resident_.add(from, to);
  }

  // Lets pages of a range go, from its end on, until they are as many as are wanted.
  void give_back(char* from, char* to, size_t wanted) {
    while (to > from && wanted > 0) {
      char* start = std::max(from, to - round_up(wanted, kHugePage));
      size_t there = resident_.within(start, to);
      if (there > 0 && madvise(start, static_cast<size_t>(to - start), MADV_DONTNEED) == 0) {
        resident_.remove(start, to);
        wanted -= std::min(wanted, there);
      }
      to = start;
    }
  }

  // More of the range becomes usable; where it is full, or the system refused so large a range, another is reserved.
  void grow(size_t size) {
    size_t step = round_up(size, kStep);
    if (static_cast<size_t>(end_ - opened_) < step && !reserve(step)) {
      TORCH_CHECK(false, "out of memory: the system refused ", size, " bytes (", live_, " bytes are in use by tensors)");
    }
    TORCH_CHECK(mprotect(opened_, step, PROT_READ | PROT_WRITE) == 0, "out of memory: the system refused ", size, " bytes (", live_, " bytes are in use by tensors)");
    add_free(opened_, step);
    opened_ += step;
  }

  // Addresses cost nothing until they are used: twice the machine's memory of them, or as much as is allowed.
  bool reserve(size_t least) {
    size_t memory = static_cast<size_t>(std::max(0L, sysconf(_SC_PHYS_PAGES))) * kPage;
    for (size_t size = std::max(least, round_up(2 * memory, kHugePage)); size >= least; size = size == least ? 0 : std::max(least, round_down(size / 2, kHugePage))) {
      void* mapping = mmap(nullptr, size + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (mapping != MAP_FAILED) {
        opened_ = round_up(static_cast<char*>(mapping), kHugePage);
        end_ = opened_ + size;
#ifdef MADV_HUGEPAGE
        madvise(opened_, size, MADV_HUGEPAGE);
#endif
        return true;
      }
    }
    return false;
  }

  std::mutex mutex_;
  Blocks free_;
  std::unordered_map<char*, size_t> used_;
  ResidentPages resident_;
  char* opened_ = nullptr;  // where the range's part that is not usable yet begins
  char* end_ = nullptr;
  size_t live_ = 0, peak_ = 0, most_ = 0;
};

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

#ifdef __linux__
namespace {

// Whether all of a range's pages that are in memory are the file's own. A page that was written to since, as runtimes
// do with their code, is the process's alone and would be lost.
bool is_all_of_file(int pagemap, size_t start, size_t end) {
  constexpr uint64_t kPresent = uint64_t(1) << 63, kSwapped = uint64_t(1) << 62, kOfFile = uint64_t(1) << 61;
  std::vector<uint64_t> pages((end - start) / kPage);
  auto size = static_cast<ssize_t>(pages.size() * sizeof(uint64_t));
  if (pread(pagemap, pages.data(), size, static_cast<off_t>(start / kPage * sizeof(uint64_t))) != size) {
    return false;
  }
  return std::all_of(pages.begin(), pages.end(), [](uint64_t page) {
    return (page & (kPresent | kSwapped)) == 0 || (page & (kPresent | kOfFile)) == (kPresent | kOfFile);
  });
}

// A library's segments that may not be written: code, constants, tables of symbols. Not those of the program and of
// .NET's own libraries, which .NET changes while it runs.
int drop_read_only_pages(struct dl_phdr_info* library, size_t, void* pagemap) {
  if (library->dlpi_name == nullptr || library->dlpi_name[0] != '/' || std::strstr(library->dlpi_name, "/libcoreclr") || std::strstr(library->dlpi_name, "/libclr")) {
    return 0;
  }
  for (int i = 0; i < library->dlpi_phnum; i++) {
    const auto& segment = library->dlpi_phdr[i];
    size_t start = round_up(library->dlpi_addr + segment.p_vaddr, kPage);
    size_t end = round_down(library->dlpi_addr + segment.p_vaddr + segment.p_memsz, kPage);
    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_W) == 0 && start < end && is_all_of_file(*static_cast<int*>(pagemap), start, end)) {
      madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
    }
  }
  return 0;
}

}  // namespace

// Loading libtorch and the hundreds of libraries that a distribution links it to reads a hundred megabytes of
// their files once, which count as the process's memory. They are let go of; what runs later is mapped again.
OWT_API void owt_drop_start_pages() {
  int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pagemap >= 0) {
    dl_iterate_phdr(&drop_read_only_pages, &pagemap);
    close(pagemap);
  }
}
#else
OWT_API void owt_drop_start_pages() {}
#endif

OWT_API void owt_cpu_memory(int64_t* live, int64_t* peak, int64_t* cached) { pool().statistics(live, peak, cached); }
OWT_API void owt_reset_cpu_peak() { pool().reset_peak(); }
