// tiaot/tiaot.hpp: C++17 over tiaot.h: handles that close themselves, errors as exceptions. Header only.
//
//   tiaot::Module module("springs.tiaot.so");
//   tiaot::Kernel dense = module.kernel("dense_tanh");
//   dense.forward({tiaot::array(x, {2, 8}), tiaot::array(W, {4, 8}), tiaot::array(b, {4}), tiaot::array(y, {2, 4})});
//   dense.vjp({"x"}, {tiaot::array(x, {2, 8}), ..., tiaot::array(gx, {2, 8})});
//
// Handles keep what they need alive: a kernel its module, a bound call its kernel and its state. Copies of Module and
// Kernel are the same module. What a handle may be used for from several threads is what tiaot.h says of it. A call of
// up to 16 arrays of up to 8 dimensions allocates nothing for them, where they stand in braces.
#ifndef TIAOT_TIAOT_HPP
#define TIAOT_TIAOT_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tiaot/tiaot.h"

namespace tiaot {
inline namespace v1 {  // so that no name here is one inside of the library

// What a function of tiaot.h refused to do, with its status and its message.
class Error : public std::runtime_error {
 public:
  Error(tiaot_status status, const std::string &message) : std::runtime_error(message), status_(status) {}
  tiaot_status status() const noexcept { return status_; }

 private:
  tiaot_status status_;
};

inline void check(tiaot_status status) {
  if (status != TIAOT_OK) throw Error(status, tiaot_last_error());
}

// The DLPack type of an element; a float16 is given as a DLDataType.
template <typename T>
constexpr DLDataType dtype_of() {
  constexpr bool real = static_cast<T>(0.5) != static_cast<T>(0);
  constexpr bool negative = static_cast<T>(-1) < static_cast<T>(0);
  return {static_cast<uint8_t>(real ? kDLFloat : negative ? kDLInt : kDLUInt), static_cast<uint8_t>(8 * sizeof(T)), 1};
}

// The sizes of an array. Up to eight of them lie in this object.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(sizes.begin(), sizes.size()) {}
  Shape(const std::vector<int64_t> &sizes) : Shape(sizes.data(), sizes.size()) {}
  Shape(const int64_t *sizes, size_t rank) : rank_(rank) {
    if (rank > few_.size()) {
      many_.assign(sizes, sizes + rank);
    } else {
      std::copy_n(sizes, rank, few_.begin());
    }
  }

  const int64_t *data() const { return rank_ > few_.size() ? many_.data() : few_.data(); }
  size_t size() const { return rank_; }
  const int64_t *begin() const { return data(); }
  const int64_t *end() const { return data() + rank_; }

 private:
  std::array<int64_t, 8> few_{};
  std::vector<int64_t> many_;
  size_t rank_ = 0;
};

// An array of the caller's: where it is, its type and its shape. The memory must outlive the call, or the bound call.
class Array {
 public:
  Array(const void *data, DLDataType type, Shape shape, DLDevice device = {kDLCPU, 0})
      : shape_(std::move(shape)), data_(const_cast<void *>(data)), device_(device), type_(type) {}

  const Shape &shape() const { return shape_; }
  void *data() const { return data_; }

  // Points into this object.
  DLTensor tensor() const {
    return {data_,   device_, static_cast<int32_t>(shape_.size()), type_, const_cast<int64_t *>(shape_.data()),
            nullptr, 0};
  }

 private:
  Shape shape_;
  void *data_;
  DLDevice device_;
  DLDataType type_;
};

// Dense and row-major; {} is a number.
template <typename T>
Array array(const T *data, Shape shape) {
  return Array(data, dtype_of<T>(), std::move(shape));
}

// std::vector, std::array, std::span: anything with data() and size(). TIAOT_ERROR_VALUE when it is of another size.
template <typename Container, typename = decltype(std::declval<const Container &>().data())>
Array array(const Container &values, Shape shape) {
  int64_t elements = 1;
  for (int64_t size : shape) elements *= size;
  if (static_cast<int64_t>(values.size()) != elements) {
    throw Error(TIAOT_ERROR_VALUE, "array: the shape has " + std::to_string(elements) + " elements, the memory " +
                                       std::to_string(values.size()));
  }
  return array(values.data(), std::move(shape));
}

using Arrays = std::vector<Array>;

// The arrays of a call, in braces or as Arrays. Points to them: for parameters only.
class ArrayList {
 public:
  ArrayList(std::initializer_list<Array> arrays) : size_(arrays.size()) { first_ = arrays.begin(); }
  ArrayList(const Arrays &arrays) : first_(arrays.data()), size_(arrays.size()) {}

  const Array *begin() const { return first_; }
  const Array *end() const { return first_ + size_; }
  size_t size() const { return size_; }

 private:
  const Array *first_;
  size_t size_;
};

// The same as tiaot.h takes them. Points into the arrays.
class Tensors {
 public:
  explicit Tensors(const ArrayList &arrays) : count_(static_cast<int32_t>(arrays.size())) {
    DLTensor *to = few_.data();
    if (arrays.size() > few_.size()) {
      many_.resize(arrays.size());
      to = many_.data();
    }
    std::transform(arrays.begin(), arrays.end(), to, [](const Array &each) { return each.tensor(); });
  }
  Tensors(const Tensors &) = delete;
  Tensors &operator=(const Tensors &) = delete;

  const DLTensor *data() const { return many_.empty() ? few_.data() : many_.data(); }
  int32_t size() const { return count_; }

 private:
  std::array<DLTensor, 16> few_;
  std::vector<DLTensor> many_;
  int32_t count_;
};

class Module;

// The fields of a module, in memory of their own, on the CPU or on a CUDA device.
class State {
 public:
  tiaot_state *get() const { return state_.get(); }

  // Sets every element of a field; on a CUDA device on the stream.
  void fill(const std::string &name, double value, void *stream = nullptr) const {
    check(tiaot_state_fill(state_.get(), name.c_str(), value, stream));
  }

  // Takes over the content of another state of the module, wherever it is; see tiaot_state_copy.
  void copy_from(const State &other, void *stream = nullptr) const {
    check(tiaot_state_copy(state_.get(), other.get(), stream));
  }

  // A field as it lies in the state: `strides` may be wider than the shape. Points into the state and the module.
  DLTensor field(const std::string &name) const {
    DLTensor tensor;
    check(tiaot_state_field(state_.get(), name.c_str(), &tensor));
    return tensor;
  }

  // A field's first element. TIAOT_ERROR_TYPE when its elements are of another type.
  template <typename T>
  T *data(const std::string &name) const {
    const DLTensor tensor = field(name);
    const DLDataType type = dtype_of<T>();
    if (tensor.dtype.code != type.code || tensor.dtype.bits != type.bits) {
      throw Error(TIAOT_ERROR_TYPE, "field '" + name + "': its elements are of another type");
    }
    return static_cast<T *>(tensor.data);
  }

 private:
  friend class Module;
  friend class Kernel;
  State(const std::shared_ptr<tiaot_module> &module, DLDevice device, bool zeros) {
    tiaot_state *state = nullptr;
    check(tiaot_state_create_on(module.get(), device, zeros ? TIAOT_STATE_ZEROS : 0, &state));
    state_.reset(state, [module](tiaot_state *each) { tiaot_state_destroy(each); });
  }

  std::shared_ptr<tiaot_state> state_;
};

// How to run a call; see tiaot_options.
struct Options {
  int num_threads = 0;                       // 0: the process's default
  std::string variant = {};                  // "": the first that fits
  const tiaot_executor *executor = nullptr;  // threads of the caller's own; for a bound call it is copied
  const State *state = nullptr;
  void *stream = nullptr;  // on CUDA
};

// A call whose arrays were checked once; running it does nothing but compute.
class BoundCall {
 public:
  void operator()() const { check(tiaot_bound_run(bound_.get())); }
  int64_t work() const { return tiaot_bound_work(bound_.get()); }

 private:
  friend class Kernel;
  explicit BoundCall(std::shared_ptr<tiaot_bound> bound) : bound_(std::move(bound)) {}

  std::shared_ptr<tiaot_bound> bound_;
};

// A call some of whose inputs stay, as the weights of a layer; any number of threads may run it at the same time.
class PartialCall {
 public:
  // The arrays of the call without the inputs that stay.
  void operator()(const ArrayList &arrays) const {
    const Tensors tensors(arrays);
    check(tiaot_partial_run(partial_.get(), tensors.data(), tensors.size()));
  }

  // Replaces all inputs that stay, at once, while other threads run it. `owner` is kept until the last run that uses
  // the arrays has ended: let it own their memory.
  void replace(const ArrayList &arrays, std::shared_ptr<const void> owner = nullptr) {
    const Tensors tensors(arrays);
    auto kept = std::make_unique<std::shared_ptr<const void>>(std::move(owner));
    check(tiaot_partial_replace(partial_.get(), tensors.data(), tensors.size(), release, kept.get()));
    kept.release();
  }

 private:
  friend class Kernel;
  explicit PartialCall(std::shared_ptr<tiaot_partial> partial) : partial_(std::move(partial)) {}
  static void release(void *owner) { delete static_cast<std::shared_ptr<const void> *>(owner); }

  std::shared_ptr<tiaot_partial> partial_;
};

class Kernel {
 public:
  const tiaot_kernel *get() const { return kernel_; }
  std::string name() const { return descriptor().name; }
  std::string signature() const { return descriptor().signature; }
  const tiaot_kernel_desc &descriptor() const { return *tiaot_kernel_descriptor(kernel_); }

  // Inputs, then outputs; of a kernel over state, options.state too.
  void forward(const ArrayList &arrays, const Options &options = {}) const { call(TIAOT_FORWARD, 0, arrays, options); }

  // Inputs, the cotangents of all outputs, then the gradients of the inputs that are named, in the signature's order.
  void vjp(std::initializer_list<const char *> wrt, const ArrayList &arrays, const Options &options = {}) const {
    call(TIAOT_VJP, bits(wrt), arrays, options);
  }

  // Inputs, then for each output its Jacobian with respect to each input that is named.
  void jacobian(std::initializer_list<const char *> wrt, const ArrayList &arrays, const Options &options = {}) const {
    call(TIAOT_JACOBIAN, bits(wrt), arrays, options);
  }

  // The adjoint of a kernel over state, in place.
  void grad(const ArrayList &arrays, const Options &options) const { call(TIAOT_GRAD, 0, arrays, options); }

  void call(int entry, uint32_t wrt, const ArrayList &arrays, const Options &options = {}) const {
    const Tensors tensors(arrays);
    const tiaot_options plain = plain_options(options);
    check(tiaot_call(kernel_, entry, wrt, tensors.data(), tensors.size(), &plain));
  }

  // As call, for arrays that stay where they are.
  BoundCall bind(int entry, uint32_t wrt, const ArrayList &arrays, const Options &options = {}) const {
    const Tensors tensors(arrays);
    const tiaot_options plain = plain_options(options);
    tiaot_bound *bound = nullptr;
    check(tiaot_bind(kernel_, entry, wrt, tensors.data(), tensors.size(), &plain, &bound));
    const auto destroy = [module = module_, state = options.state == nullptr ? nullptr : options.state->state_](
                             tiaot_bound *each) { tiaot_bound_destroy(each); };
    return BoundCall(std::shared_ptr<tiaot_bound>(bound, destroy));
  }

  // As call, with the inputs that are named staying: `arrays` are these, `owner` is kept as by PartialCall::replace.
  PartialCall partial(int entry, uint32_t wrt, std::initializer_list<const char *> staying, const ArrayList &arrays,
                      const Options &options = {}, std::shared_ptr<const void> owner = nullptr) const {
    const Tensors tensors(arrays);
    const tiaot_options plain = plain_options(options);
    auto kept = std::make_unique<std::shared_ptr<const void>>(std::move(owner));
    tiaot_partial *partial = nullptr;
    check(tiaot_partial_create(kernel_, entry, wrt, bits(staying), tensors.data(), tensors.size(), &plain,
                               PartialCall::release, kept.get(), &partial));
    kept.release();
    const auto destroy = [module = module_, state = options.state == nullptr ? nullptr : options.state->state_](
                             tiaot_partial *each) { tiaot_partial_destroy(each); };
    return PartialCall(std::shared_ptr<tiaot_partial>(partial, destroy));
  }

  // Inputs by name, as the `wrt` of tiaot.h.
  uint32_t bits(std::initializer_list<const char *> names) const {
    uint32_t wrt = 0;
    for (const char *name : names) wrt |= 1u << index_of(name);
    return wrt;
  }

 private:
  friend class Module;
  Kernel(std::shared_ptr<tiaot_module> module, const tiaot_kernel *kernel)
      : module_(std::move(module)), kernel_(kernel) {}

  uint32_t index_of(const char *name) const {
    const tiaot_kernel_desc &desc = descriptor();
    for (uint32_t i = 0; i < desc.input_count && i < 32; ++i) {
      if (std::strcmp(desc.arguments[i].name, name) == 0) return i;
    }
    throw Error(TIAOT_ERROR_VALUE, std::string(desc.name) + ": no input '" + name + "' in " + desc.signature);
  }

  // Points into `options`.
  static tiaot_options plain_options(const Options &options) {
    tiaot_options plain = TIAOT_OPTIONS_INIT;
    plain.num_threads = options.num_threads;
    plain.variant = options.variant.empty() ? nullptr : options.variant.c_str();
    plain.executor = options.executor;
    plain.state = options.state == nullptr ? nullptr : options.state->get();
    plain.stream = options.stream;
    return plain;
  }

  std::shared_ptr<tiaot_module> module_;
  const tiaot_kernel *kernel_;
};

class Module {
 public:
  // `sha256`: 64 hexadecimal digits that the file's SHA-256 must be, "" for any.
  explicit Module(const std::string &path, const std::string &sha256 = "") {
    tiaot_source source = source_of(TIAOT_FROM_PATH, path, sha256);
    open(source);
  }
  static Module from_memory(const void *data, size_t size, const std::string &name = "",
                            const std::string &sha256 = "") {
    tiaot_source source = source_of(TIAOT_FROM_MEMORY, name, sha256);
    source.data = data;
    source.size = size;
    return Module(source);
  }
  static Module from_descriptor(int descriptor, const std::string &name = "", const std::string &sha256 = "") {
    tiaot_source source = source_of(TIAOT_FROM_DESCRIPTOR, name, sha256);
    source.descriptor = descriptor;
    return Module(source);
  }

  Kernel kernel(const std::string &name) const {
    const tiaot_kernel *kernel = nullptr;
    check(tiaot_module_kernel(module_.get(), name.c_str(), &kernel));
    return Kernel(module_, kernel);
  }
  // As the module starts its fields, or zeros; on the CPU or on the CUDA device {kDLCUDA, its ordinal}.
  State state(DLDevice device = {kDLCPU, 0}, bool zeros = false) const { return State(module_, device, zeros); }

  std::string name() const { return descriptor().name; }
  std::string hash() const { return descriptor().hash; }
  std::string cpu_level() const { return tiaot_cpu_level_name(tiaot_module_cpu_level(module_.get())); }
  const tiaot_module_desc &descriptor() const { return *tiaot_module_descriptor(module_.get()); }
  const tiaot_module *get() const { return module_.get(); }

 private:
  explicit Module(const tiaot_source &source) { open(source); }

  // Points into its arguments.
  static tiaot_source source_of(int kind, const std::string &path, const std::string &sha256) {
    tiaot_source source{};
    source.struct_size = sizeof source;
    source.kind = kind;
    source.path = path.empty() && kind != TIAOT_FROM_PATH ? nullptr : path.c_str();
    source.sha256 = sha256.empty() ? nullptr : sha256.c_str();
    return source;
  }
  void open(const tiaot_source &source) {
    tiaot_module *module = nullptr;
    check(tiaot_module_open_from(&source, &module));
    module_.reset(module, tiaot_module_close);
  }

  std::shared_ptr<tiaot_module> module_;
};

}  // namespace v1
}  // namespace tiaot

#endif  // TIAOT_TIAOT_HPP
