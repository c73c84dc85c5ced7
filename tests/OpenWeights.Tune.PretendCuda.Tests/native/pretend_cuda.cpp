// A pretend CUDA device for tests on machines without a GPU: tensors on "cuda:0" whose memory is the host's and whose
// operators the CPU runs, over a libtorch 1.13 that has no CUDA of its own. It is as strict as a card is:
//
// - The device's memory is one range of addresses that nobody may touch, except while an operator or a copy runs. Whoever
//   reads or writes a GPU tensor by its pointer ends with a segmentation fault. New memory holds no zeros.
// - All tensors of an operator lie on the device, except a CPU tensor of one number where CUDA's operators take one too.
// - What a CUDA operator refuses (products of integers, a generator of the CPU) is refused.
// - Waiting for the device is counted, and told to whoever listens. What is copied to the host without waiting is not there
//   before somebody waits.
// - Random numbers come from a generator of the device's own.
//
// Loading the library is all it takes, before torch is first asked about CUDA.

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

#define PRETEND_API extern "C" __attribute__((visibility("default")))

namespace {

using c10::IValue;
using torch::jit::Stack;

const c10::Device kGpu(c10::kCUDA, 0);
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

class DeviceMemory {
 public:
  DeviceMemory() : limit_(from_environment("OWT_PRETEND_CUDA_MEMORY", size_t(8) << 30)) {
    void* range = mmap(nullptr, kReserved + kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(range != MAP_FAILED, "no addresses for the pretend device's memory");
    // Large pages, on their boundaries: opening and closing then takes no longer with much memory than with little.
    base_ = top_ = reinterpret_cast<char*>((reinterpret_cast<size_t>(range) + kPage - 1) / kPage * kPage);
    madvise(base_, kReserved, MADV_HUGEPAGE);
    free_.emplace(base_, kReserved);
  }

  void* take(size_t wanted) {
    size_t size = (std::max<size_t>(wanted, 1) + kUnit - 1) / kUnit * kUnit;
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK_WITH(OutOfMemoryError, live_ + size <= limit_, "CUDA out of memory. Tried to allocate ", megabytes(size), " MiB (GPU 0; ", megabytes(limit_),
                     " MiB total capacity; ", megabytes(live_), " MiB already allocated; ", megabytes(limit_ - live_), " MiB free; ", megabytes(live_),
                     " MiB reserved in total by PyTorch)");
    auto found = std::find_if(free_.begin(), free_.end(), [size](const auto& block) { return block.second >= size; });
    TORCH_CHECK(found != free_.end(), "the pretend device's range is full");
    auto [at, whole] = *found;
    free_.erase(found);
    if (whole > size) {
      free_.emplace(at + size, whole - size);
    }
    used_.emplace(at, size);
    live_ += size;
    peak_ = std::max(peak_, live_);
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
    auto [at, size] = *block;
    used_.erase(block);
    unwritten_.erase(at);
    live_ -= size;
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

  void statistics(int64_t* live, int64_t* peak) {
    std::lock_guard<std::mutex> lock(mutex_);
    *live = static_cast<int64_t>(live_);
    *peak = static_cast<int64_t>(peak_);
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
  std::unordered_map<char*, size_t> used_;
  std::unordered_map<char*, size_t> unwritten_;  // new blocks that still have to be filled with what is no number
  size_t limit_, live_ = 0, peak_ = 0;
  int open_ = 0;
};

// Never destroyed: tensors may outlive static destructors.
DeviceMemory& memory() {
  static auto* instance = new DeviceMemory();
  return *instance;
}

struct DeviceAllocator final : public c10::Allocator {
  c10::DataPtr allocate(size_t size) const override {
    void* block = size == 0 ? nullptr : memory().take(size);
    return {block, block, &release, kGpu};
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

DeviceAllocator device_allocator;
PinnedAllocator pinned_allocator;

// ---------------------------------------------------------------------------------------------------
// Waiting, and what is counted

enum Count { kOperators, kWaits, kCopiesIn, kCopiesInUnpinned, kCopiesOut, kCopiesOutLate, kCounts };

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
  DeviceGenerator() : GeneratorImpl(kGpu, c10::DispatchKeySet(c10::DispatchKey::CUDA)), inner(at::detail::createCPUGenerator()) {}
  void set_current_seed(uint64_t seed) override { inner.set_current_seed(seed); }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_state(const c10::TensorImpl& state) override { inner.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return inner.unsafeGetGeneratorImpl()->get_state(); }
  GeneratorImpl* clone_impl() const override {
    auto* copy = new DeviceGenerator();
    copy->inner = inner.clone();
    return copy;
  }

  at::Generator inner;
};

const at::Generator& device_generator() {
  static auto* instance = new at::Generator(at::make_generator<DeviceGenerator>());
  return *instance;
}

// Lets the operators of the CPU draw from the device's generator: some of them take no other than the default one.
class DrawsFromDevice {
 public:
  DrawsFromDevice() : host_(at::detail::getDefaultCPUGenerator()), device_(inner()) { swap(); }
  ~DrawsFromDevice() { swap(); }

 private:
  static at::Generator inner() { return static_cast<DeviceGenerator*>(device_generator().unsafeGetGeneratorImpl())->inner; }

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

// ---------------------------------------------------------------------------------------------------
// Operators

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

void check(const c10::OperatorHandle& op, const Known& about, Stack* stack, size_t first) {
  const auto& parameters = op.schema().arguments();
  for (size_t i = 0; i < parameters.size(); i++) {
    auto& value = (*stack)[first + i];
    each_tensor(value, [&](const at::Tensor& tensor) {
      bool is_number = tensor.dim() == 0 && tensor.is_cpu() && about.takes_cpu_numbers;
      TORCH_CHECK(is_number || tensor.device() == kGpu, "Expected all tensors to be on the same device, but found at least two devices, ", kGpu, " and ", tensor.device(),
                  "! (when checking argument for argument ", parameters[i].name(), " in method ", op.schema().operator_name(), ")");
      TORCH_CHECK(!about.multiplies || c10::isFloatingType(tensor.scalar_type()), "\"", about.name, "_cuda\" not implemented for '", tensor.scalar_type(), "'");
      return tensor;
    });
    TORCH_CHECK(!value.isDevice(), "pretend_cuda: ", op.schema().operator_name(), " takes a device, and nobody has taught it to");
    if (value.isGenerator()) {
      TORCH_CHECK(value.toGenerator().device() == kGpu, "Expected a 'cuda' device type for generator but found '", value.toGenerator().device().type(), "'");
      value = static_cast<DeviceGenerator*>(value.toGenerator().unsafeGetGeneratorImpl())->inner;
    }
  }
}

void run(const c10::OperatorHandle& op, Stack* stack) {
  const auto& about = known_of(op);
  size_t first = stack->size() - op.schema().arguments().size();
  counts[kOperators]++;
  check(op, about, stack, first);
  if (about.waits) {
    wait_for_device(about.name.c_str());
  }

  at::AutoDispatchBelowADInplaceOrView below;
  DeviceMemory::Open open(memory());
  Aliases aliases;
  for (size_t i = first; i < stack->size(); i++) {
    each_tensor((*stack)[i], [&](const at::Tensor& tensor) { return tensor.device() == kGpu ? aliases.of(tensor) : tensor; });
  }
  if (about.draws) {
    DrawsFromDevice draws;
    op.callBoxed(stack);
  } else {
    op.callBoxed(stack);
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
  give(op, stack, at::Tensor(at::detail::empty_strided_generic(integers(given[0]), integers(given[1]), &device_allocator, kGpuKeys, dtype_of(given[2]))));
}

// copy_(self, src, non_blocking): the only way between the devices.
void copy(const c10::OperatorHandle& op, Stack* stack) {
  const auto* given = &*(stack->end() - op.schema().arguments().size());
  auto target = given[0].toTensor(), source = given[1].toTensor();
  bool waiting = !given[2].toBool();
  counts[kOperators]++;
  at::AutoDispatchBelowADInplaceOrView below;
  if (target.device() == kGpu && source.device() != kGpu) {
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
  } else if (target.device() != kGpu) {
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
    auto there = target.device() == kGpu ? aliases.of(target) : target;
    there.copy_(source.device() == kGpu ? aliases.of(source) : source);
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

// ---------------------------------------------------------------------------------------------------
// What libtorch asks of CUDA. One device with one stream.

struct Guard final : public c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device device) const override {
    setDevice(device);
    return kGpu;
  }
  c10::Device getDevice() const override { return kGpu; }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.type() == c10::kCUDA && device.index() <= 0, "CUDA error: invalid device ordinal");
  }
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, kGpu); }
  c10::Stream getDefaultStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, kGpu); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, kGpu); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { wait_for_device("synchronize"); }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)
REGISTER_ALLOCATOR(c10::DeviceType::CUDA, &device_allocator)

}  // namespace

namespace at {

struct PretendCudaHooks final : public CUDAHooksInterface {
  explicit PretendCudaHooks(CUDAHooksArgs) {}
  void initCUDA() const override {}
  const Generator& getDefaultCUDAGenerator(DeviceIndex) const override { return device_generator(); }
  Device getDeviceFromPtr(void*) const override { return kGpu; }
  bool isPinnedPtr(void* data) const override { return PinnedAllocator::holds(data); }
  bool hasCUDA() const override { return true; }
  bool hasCUDART() const override { return true; }
  bool hasPrimaryContext(int64_t) const override { return true; }
  int64_t current_device() const override { return 0; }
  Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  Allocator* getCUDADeviceAllocator() const override { return &device_allocator; }
  std::string showConfig() const override { return "a pretend CUDA device"; }
  int getNumGPUs() const override { return 1; }
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
// For tests

PRETEND_API int64_t pretend_cuda_count(int32_t kind) { return kind >= 0 && kind < kCounts ? counts[kind].load() : -1; }

// Called with the reason whenever the host waits for the device, on the thread that waits.
PRETEND_API void pretend_cuda_listen(void (*tell)(const char*)) { listener = tell; }

PRETEND_API void pretend_cuda_memory(int64_t* live, int64_t* peak) { memory().statistics(live, peak); }

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
