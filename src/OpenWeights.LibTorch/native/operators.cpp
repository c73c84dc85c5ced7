// Operators, found by name and run boxed, and errors.

#include "openweights_torch.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdlib>
#include <memory>
#include <utility>

namespace owt {

thread_local std::string last_error;

void set_error(const char* text) {
  const char* end = std::strchr(text, '\n');
  last_error.assign(text, end ? static_cast<size_t>(end - text) : std::strlen(text));
}

}  // namespace owt

using namespace owt;

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

using c10::IValue;

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
OWT_API void owt_set_error(const char* text) { set_error(text); }

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
