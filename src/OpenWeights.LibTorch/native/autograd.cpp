// Autograd: its modes, its passes, and nodes of the graph whose backward is written in C#.

#include "openweights_torch.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

using namespace owt;

OWT_API int32_t owt_grad_mode() { return c10::GradMode::is_enabled(); }
OWT_API void owt_set_grad_mode(int32_t enabled) { c10::GradMode::set_enabled(enabled != 0); }

OWT_API int owt_backward(void* const* tensors, int64_t count, void* const* grads, int64_t grad_count, int32_t retain_graph,
                         int32_t create_graph, void* const* inputs, int64_t input_count) {
  return guarded([&] {
    torch::autograd::backward(borrow_all(tensors, count), borrow_all(grads, grad_count), retain_graph != 0, create_graph != 0,
                              borrow_all(inputs, input_count));
  });
}

// A node of the graph whose backward is written in C#.
//   backward(context, gradients, count, results, result_count): gradients and results are owned by the callee
//   and by the caller respectively; returns 0, or 1 with a message put by owt_set_error.
//   release(context): the graph lets go of the node.
typedef int32_t (*owt_backward_fn)(void* context, void** gradients, int64_t count, void** results, int64_t result_count);
typedef void (*owt_release_fn)(void* context);

namespace {

using torch::autograd::variable_list;

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
