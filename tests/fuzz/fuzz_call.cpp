// fuzz_call.cpp: calls kernels written in C++ (toy.hpp) with arguments that an input makes up. What must hold for any
// arguments whose memory is there:
//   - a call that fails has a message, and has written to no array;
//   - tiaot_bind and tiaot_partial_create refuse what tiaot_call refuses, and compute the same bytes;
//   - tiaot_results tells the shapes and types that a call which succeeds has.
// Memory is allocated array by array, to the byte, so that the address sanitizer sees an access outside of it.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "input.hpp"
#include "toy.hpp"

namespace {

constexpr int64_t kSizes[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65};
constexpr int64_t kWildSizes[] = {-1, INT64_MIN, INT64_MAX, int64_t{1} << 31, int64_t{1} << 32, (int64_t{1} << 62) + 1};
constexpr uint32_t kTypes[] = {TIAOT_FLOAT32, TIAOT_FLOAT64, TIAOT_INT32, TIAOT_INT64, TIAOT_UINT8, TIAOT_FLOAT16};
constexpr const char *kKernels[] = {"dense", "pick", "square", "outer", "first", "weigh", "count"};
constexpr const char *kVariants[] = {nullptr, nullptr, nullptr, "float32_dynamic", "float32_n8_m4", "none such", ""};
constexpr size_t kMostBytes = 1 << 18;

template <typename T, size_t count>
T pick(const T (&table)[count], uint8_t which) {
  return table[which % count];
}

// One argument of a call and what lies behind it.
struct Argument {
  std::vector<int64_t> shape, strides;
  std::unique_ptr<unsigned char[]> memory;
  size_t bytes = 0;
  bool there = true;  // whether all of its elements have memory
  DLTensor tensor{};
};

struct Call {
  const tiaot_kernel *kernel = nullptr;
  int entry = 0;
  uint32_t wrt = 0;
  std::vector<Argument> arguments;
  size_t results_from = 0;  // the first of the arguments that is a result
  tiaot_options options = TIAOT_OPTIONS_INIT;
  bool with_options = true, there = true;

  std::vector<DLTensor> tensors() const {
    std::vector<DLTensor> all;
    for (const Argument &each : arguments) all.push_back(each.tensor);
    return all;
  }
  const tiaot_options *chosen() const { return with_options ? &options : nullptr; }
  // What is in the results; the same pattern before each call.
  std::vector<unsigned char> content() const {
    std::vector<unsigned char> bytes;
    for (const Argument &each : arguments) bytes.insert(bytes.end(), each.memory.get(), each.memory.get() + each.bytes);
    return bytes;
  }
  void reset() {
    for (size_t i = 0; i < arguments.size(); ++i) {
      const Argument &each = arguments[i];
      // Small numbers of any type: an input of indices stays inside of what it points into.
      std::fill_n(each.memory.get(), each.bytes, static_cast<unsigned char>(i < results_from ? 0 : 0x5a));
    }
  }
};

const Module module = open_toy();

void allocate(Argument *argument, fuzz::Input *input) {
  DLTensor &tensor = argument->tensor;
  size_t bytes = (size_t{tensor.dtype.bits} * std::max<size_t>(tensor.dtype.lanes, 1) + 7) / 8;
  for (const int64_t size : argument->shape) {
    if (size < 0 || static_cast<uint64_t>(size) > kMostBytes) argument->there = false;
    if (argument->there) bytes *= static_cast<size_t>(size);
    if (bytes > kMostBytes) argument->there = false;
  }
  argument->bytes = argument->there ? bytes : 0;
  const uint8_t how = input->take<uint8_t>();
  // An address that is off by a few bytes for some, in memory that ends with the array.
  const size_t off = how % 16 == 1 ? how / 16 : 0;
  argument->memory.reset(new unsigned char[argument->bytes + off + 16]);
  unsigned char *base = argument->memory.get() + off;
  tensor.byte_offset = how % 16 == 2 ? input->take<uint64_t>() : how % 16 == 3 ? 4 : 0;
  tensor.data = reinterpret_cast<void *>(reinterpret_cast<uintptr_t>(base) - tensor.byte_offset);
  if (how % 16 == 4) tensor.data = nullptr, argument->there = argument->there && argument->bytes == 0;
  argument->bytes += off;  // the pattern covers what is in front, too
}

// An argument of the kernel's own, or one that has its place, with sizes and types that may be others.
Argument make(const tiaot_kernel_desc &desc, uint32_t index, uint32_t type, const int64_t *dims, fuzz::Input *input) {
  Argument argument;
  const tiaot_argument_desc &own = desc.arguments[index];
  for (uint32_t axis = 0; axis < own.rank; ++axis) argument.shape.push_back(dims[own.dims[axis]]);
  const uint8_t change = input->take<uint8_t>();
  if (change % 16 == 1 && !argument.shape.empty()) argument.shape.back() = pick(kSizes, change / 16);
  if (change % 16 == 2 && !argument.shape.empty()) argument.shape.front() = pick(kWildSizes, change / 16);
  if (change % 16 == 3) argument.shape.push_back(pick(kSizes, change / 16));
  if (change % 16 == 4 && !argument.shape.empty()) argument.shape.pop_back();
  if (change % 16 == 5) type = pick(kTypes, change / 16);
  DLTensor &tensor = argument.tensor;
  tensor.device = {kDLCPU, 0};
  tensor.dtype = {static_cast<uint8_t>(type >> 8), static_cast<uint8_t>(type), 1};
  tensor.ndim = static_cast<int32_t>(argument.shape.size());
  if (change % 16 == 6) tensor.dtype = {input->take<uint8_t>(), input->take<uint8_t>(), input->take<uint8_t>()};
  if (change % 16 == 7) tensor.device = {static_cast<DLDeviceType>(input->take<uint8_t>()), input->take<int8_t>()};
  if (change % 16 == 8) {  // dense, or nearly
    argument.strides.assign(argument.shape.size(), 1);
    for (size_t axis = argument.shape.size(); axis-- > 1;) {
      if (__builtin_mul_overflow(argument.strides[axis], argument.shape[axis], &argument.strides[axis - 1])) break;
    }
    if (change / 16 % 2 && !argument.strides.empty()) argument.strides[change / 32 % argument.strides.size()] += 1;
  }
  allocate(&argument, input);
  if (change % 16 == 9) {
    argument.tensor.ndim = input->take<int32_t>() % 70, argument.there = false;
    argument.shape.resize(70, 1);  // as many as it says there are
  }
  argument.tensor.shape = argument.shape.data();
  if (!argument.strides.empty()) argument.tensor.strides = argument.strides.data();
  return argument;
}

// Places in the signature of what a call has behind its inputs: `all` outputs, or the inputs in wrt.
void add(std::vector<uint32_t> *places, const tiaot_kernel_desc &desc, bool outputs, uint32_t wrt) {
  for (uint32_t i = 0; i < (outputs ? desc.output_count : desc.input_count); ++i) {
    if (outputs || (i < 32 && wrt >> i & 1)) places->push_back(outputs ? desc.input_count + i : i);
  }
}

void serial(void *, int64_t count, void (*task)(void *context, int64_t index), void *context) {
  for (int64_t i = count; i-- > 0;) task(context, i);
}
constexpr tiaot_executor kSerial{serial, nullptr};

Call make_call(fuzz::Input *input) {
  Call call;
  call.kernel = find_kernel(module, pick(kKernels, input->take<uint8_t>()));
  const tiaot_kernel_desc &desc = *tiaot_kernel_descriptor(call.kernel);
  const uint8_t entry = input->take<uint8_t>(), wrt = input->take<uint8_t>();
  constexpr int kEntries[] = {TIAOT_FORWARD, TIAOT_VJP, TIAOT_JVP, TIAOT_HVP, TIAOT_GRAD, -1, 99};
  call.entry = pick(kEntries, entry);
  call.wrt = call.entry == TIAOT_FORWARD ? 0 : wrt % 8;
  if (wrt >= 248) call.wrt = input->take<uint32_t>();

  std::vector<uint32_t> places;
  add(&places, desc, false, UINT32_MAX);
  const bool along = call.entry == TIAOT_JVP || call.entry == TIAOT_HVP;
  if (call.entry == TIAOT_VJP || call.entry == TIAOT_HVP) add(&places, desc, true, 0);
  if (along) add(&places, desc, false, call.wrt);
  call.results_from = places.size();
  if (call.entry == TIAOT_FORWARD || call.entry == TIAOT_JVP) add(&places, desc, true, 0);
  if (call.entry == TIAOT_JVP) add(&places, desc, true, 0);
  if (call.entry == TIAOT_VJP || call.entry == TIAOT_HVP) add(&places, desc, false, call.wrt);
  if (call.entry == TIAOT_HVP) add(&places, desc, false, call.wrt);
  const uint8_t count = input->take<uint8_t>();
  if (count >= 240) places.resize(count % 16, 0);
  call.results_from = std::min(call.results_from, places.size());

  int64_t dims[TIAOT_MAX_DIMS] = {};
  for (uint32_t d = 0; d < desc.dim_count; ++d) dims[d] = pick(kSizes, input->take<uint8_t>());
  const tiaot_variant_desc &variant = desc.variants[input->take<uint8_t>() % desc.variant_count];
  for (const uint32_t place : places) {
    call.arguments.push_back(make(desc, place, variant.dtypes[place], dims, input));
    call.there = call.there && call.arguments.back().there;
  }
  const uint8_t shared = input->take<uint8_t>();
  if (shared >= 192 && !call.arguments.empty()) {  // two arrays that overlap, as far as the memory reaches
    Argument &one = call.arguments[shared % 8 % call.arguments.size()];
    const Argument &other = call.arguments[shared / 8 % 8 % call.arguments.size()];
    if (one.there && other.there && one.bytes <= other.bytes) one.tensor.data = other.tensor.data;
  }
  const uint8_t how = input->take<uint8_t>();
  call.with_options = how % 8 != 0;
  call.options.num_threads = how % 8 == 1 ? input->take<int32_t>() : how % 4;
  call.options.executor = how / 8 % 2 ? &kSerial : nullptr;
  call.options.variant = pick(kVariants, input->take<uint8_t>());
  if (how == 255) call.options.struct_size = input->take<uint32_t>() % 128;
  return call;
}

void failed() {
  if (*tiaot_last_error() == 0) fuzz::wrong("a call failed without a message");
}

// The inputs that stay are those in `fixed`; the others are handed in with the run.
bool run_partial(const Call &call, uint32_t fixed) {
  const std::vector<DLTensor> all = call.tensors();
  const uint32_t inputs = tiaot_kernel_descriptor(call.kernel)->input_count;
  std::vector<DLTensor> stay, rest;
  for (size_t i = 0; i < all.size(); ++i) (i < inputs && fixed >> i & 1 ? stay : rest).push_back(all[i]);
  tiaot_partial *partial = nullptr;
  bool done =
      tiaot_partial_create(call.kernel, call.entry, call.wrt, fixed, stay.data(), static_cast<int32_t>(stay.size()),
                           call.chosen(), nullptr, nullptr, &partial) == TIAOT_OK;
  if (done) {
    done = tiaot_partial_run(partial, rest.data(), static_cast<int32_t>(rest.size())) == TIAOT_OK;
    if (done &&
        tiaot_partial_replace(partial, stay.data(), static_cast<int32_t>(stay.size()), nullptr, nullptr) != TIAOT_OK) {
      fuzz::wrong("a partial call refuses its own arrays");
    }
  }
  if (!done) failed();
  tiaot_partial_destroy(partial);
  return done;
}

void check_results(const Call &call) {
  const std::vector<DLTensor> all = call.tensors();
  DLTensor results[TIAOT_MAX_ARRAYS];
  int64_t shapes[TIAOT_MAX_ARRAYS * TIAOT_MAX_DIMS];
  int32_t count = 0;
  if (tiaot_results(call.kernel, call.entry, call.wrt, all.data(), static_cast<int32_t>(call.results_from),
                    call.chosen(), results, TIAOT_MAX_ARRAYS, shapes, TIAOT_MAX_ARRAYS * TIAOT_MAX_DIMS,
                    &count) != TIAOT_OK) {
    // The batch may follow from an output alone, as count's does.
    return failed();
  }
  if (static_cast<size_t>(count) != all.size() - call.results_from) fuzz::wrong("tiaot_results tells another number");
  for (int32_t i = 0; i < count; ++i) {
    const DLTensor &told = results[i], &had = all[call.results_from + static_cast<size_t>(i)];
    if (told.ndim != had.ndim || std::memcmp(&told.dtype, &had.dtype, sizeof told.dtype) != 0 ||
        !std::equal(told.shape, told.shape + told.ndim, had.shape)) {
      fuzz::wrong("tiaot_results tells another shape or type");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz::Input input{data, size};
  Call call = make_call(&input);
  const std::vector<DLTensor> all = call.tensors();
  const auto count = static_cast<int32_t>(all.size());
  call.reset();
  const std::vector<unsigned char> before = call.content();
  tiaot_bound *bound = nullptr;
  const bool binds =
      tiaot_bind(call.kernel, call.entry, call.wrt, all.data(), count, call.chosen(), &bound) == TIAOT_OK;
  if (!binds) failed();
  tiaot_work(call.kernel, call.entry, call.wrt, all.data(), 0);
  if (!call.there) {  // an array has no memory for its sizes: nothing may run
    tiaot_bound_destroy(bound);
    if (call.content() != before) fuzz::wrong("tiaot_bind writes to an array");
    return 0;
  }
  const bool runs = tiaot_call(call.kernel, call.entry, call.wrt, all.data(), count, call.chosen()) == TIAOT_OK;
  if (!runs) failed();
  if (runs != binds) fuzz::wrong("tiaot_call and tiaot_bind disagree");
  const std::vector<unsigned char> after = call.content();
  if (!runs && after != before) fuzz::wrong("a call that failed has written to an array");
  if (runs) {
    check_results(call);
    call.reset();
    if (tiaot_bound_run(bound) != TIAOT_OK || call.content() != after)
      fuzz::wrong("tiaot_bound_run computes other bytes");
  }
  tiaot_bound_destroy(bound);
  const uint32_t fixed = input.take<uint8_t>() & ((1u << tiaot_kernel_descriptor(call.kernel)->input_count) - 1);
  if (fixed != 0 && call.entry != TIAOT_GRAD) {
    call.reset();
    if (run_partial(call, fixed) != runs) fuzz::wrong("tiaot_partial_run and tiaot_call disagree");
    if (runs && call.content() != after) fuzz::wrong("tiaot_partial_run computes other bytes");
  }
  return 0;
}
