// test_state.cpp: kernels over state: calls, gradients in place, what is refused, and tables that break a rule.
#include <atomic>
#include <thread>

#include "check.hpp"
#include "state.hpp"
#include "toy.hpp"

namespace {

// Two fields with gradients, laid out in turns: x[3] and x.grad[3]; loss and loss.grad without dimensions; k[2], int32.
// In floats: x x.grad x x.grad x x.grad loss loss.grad k k.
constexpr int64_t kThree[] = {3}, kTwo[] = {2}, kApart[] = {2}, kDense[] = {1};
const tiaot_field_desc kFields[] = {
    {"x", TIAOT_FLOAT32, 1, kThree, kApart, 0, 1, 0},
    {"x.grad", TIAOT_FLOAT32, 1, kThree, kApart, 4, -1, 0},
    {"loss", TIAOT_FLOAT32, 0, nullptr, nullptr, 24, 3, 0},
    {"loss.grad", TIAOT_FLOAT32, 0, nullptr, nullptr, 28, -1, 0},
    {"k", TIAOT_INT32, 1, kTwo, kDense, 32, -1, 0},
};
constexpr int64_t kBytes = 40;

std::atomic<int> entered{0}, leave{0};
bool had_host = false;

// scale: x *= factor, without arguments but that; its grad: x.grad *= factor
int32_t scale(int64_t, const int64_t *, void *const *arrays, void *, const tiaot_host *host) {
  had_host = host != nullptr;
  for (int i = 0; i < 3; ++i) static_cast<float *>(arrays[1])[2 * i] *= *static_cast<float *>(arrays[0]);
  return 0;
}
int32_t scale_grad(int64_t, const int64_t *, void *const *arrays, void *, const tiaot_host *) {
  for (int i = 0; i < 3; ++i) static_cast<float *>(arrays[1])[2 * i + 1] *= *static_cast<float *>(arrays[0]);
  return 0;
}

// next: k[0] += 1, without arguments
int32_t next(int64_t, const int64_t *, void *const *arrays, void *, const tiaot_host *) {
  ++static_cast<int32_t *>(arrays[0])[8];
  return 0;
}

// read: y[n] = x, for n = 3
int32_t read(int64_t, const int64_t *dims, void *const *arrays, void *, const tiaot_host *) {
  for (int64_t i = 0; i < dims[0]; ++i) static_cast<float *>(arrays[0])[i] = static_cast<float *>(arrays[1])[2 * i];
  return 0;
}

// hold: runs until `leave` is not 0
int32_t hold(int64_t, const int64_t *, void *const *, void *, const tiaot_host *) {
  ++entered;
  while (leave == 0) std::this_thread::yield();
  return 0;
}

// plain: y = x, over no state
int32_t plain(int64_t, const int64_t *, void *const *arrays, void *, const tiaot_host *) {
  *static_cast<float *>(arrays[1]) = *static_cast<float *>(arrays[0]);
  return 0;
}

#define EVERY_LEVEL(code) {code, code, code}, {0, 0, 0}, nullptr, nullptr, "", 0, 0

const tiaot_entry_desc kScaleEntries[] = {{TIAOT_FORWARD, 0, "scale", 1, nullptr, EVERY_LEVEL(scale)},
                                          {TIAOT_GRAD, 0, "scale_grad", 1, nullptr, EVERY_LEVEL(scale_grad)}};
const tiaot_entry_desc kNextEntries[] = {{TIAOT_FORWARD, 0, "next", 1, nullptr, EVERY_LEVEL(next)}};
const tiaot_entry_desc kReadEntries[] = {{TIAOT_FORWARD, 0, "read", 1, nullptr, EVERY_LEVEL(read)}};
const tiaot_entry_desc kHoldEntries[] = {{TIAOT_FORWARD, 0, "hold", 1, nullptr, EVERY_LEVEL(hold)}};
const tiaot_entry_desc kPlainEntries[] = {{TIAOT_FORWARD, 0, "plain", 1, nullptr, EVERY_LEVEL(plain)}};
constexpr uint32_t kFloats[] = {TIAOT_FLOAT32, TIAOT_FLOAT32};
constexpr int64_t kFixedThree[] = {3};
const tiaot_variant_desc kScaleVariant = {"float32", kFloats, nullptr, 1, 2, kScaleEntries};
const tiaot_variant_desc kNextVariant = {"default", nullptr, nullptr, 1, 1, kNextEntries};
const tiaot_variant_desc kReadVariant = {"float32", kFloats, kFixedThree, 1, 1, kReadEntries};
const tiaot_variant_desc kHoldVariant = {"default", nullptr, nullptr, 1, 1, kHoldEntries};
const tiaot_variant_desc kPlainVariant = {"float32", kFloats, nullptr, 1, 1, kPlainEntries};
constexpr uint32_t kFirst[] = {0};
const char *const kDims[] = {"n"};
const tiaot_argument_desc kFactor[] = {{"factor", 0, 0, nullptr}};
const tiaot_argument_desc kY[] = {{"y", 0, 1, kFirst}};
const tiaot_argument_desc kXY[] = {{"x", 0, 0, nullptr}, {"y", 0, 0, nullptr}};
const tiaot_kernel_desc kKernels[] = {
    {"scale", "factor[] ->", "", "", -1, 0, nullptr, 1, 0, kFactor, 1, 1, &kScaleVariant},
    {"next", "->", "", "", -1, 0, nullptr, 0, 0, nullptr, 1, 1, &kNextVariant},
    {"read", "-> y[n]", "", "", -1, 1, kDims, 0, 1, kY, 1, 1, &kReadVariant},
    {"hold", "->", "", "", -1, 0, nullptr, 0, 0, nullptr, 1, 1, &kHoldVariant},
    {"plain", "x[] -> y[]", "", "", -1, 0, nullptr, 1, 1, kXY, 1, 0, &kPlainVariant},
};

#define HASH "0000000000000000000000000000000000000000000000000000000000000001"
const tiaot_module_desc kModule = {
    TIAOT_ABI_VERSION,
    sizeof(tiaot_module_desc),
    "fields",
    HASH,
    "x86_64-linux",
    "0",
    "0",
    "0",
    5,
    5,
    kKernels,
    kFields,
    kBytes,
    nullptr,
    nullptr,
    0,
    0,
};

struct DestroyState {
  void operator()(tiaot_state *state) const { tiaot_state_destroy(state); }
};
using State = std::unique_ptr<tiaot_state, DestroyState>;

Module open_fields(const tiaot_module_desc &desc = kModule) {
  tiaot_module *module = nullptr;
  CHECK_OK(tiaot::check_tables(desc, "fields"));
  CHECK_OK(tiaot::make_module(desc, TIAOT_LEVEL_V2, nullptr, &module));
  return Module(module);
}

State new_state(const Module &module) {
  tiaot_state *state = nullptr;
  CHECK_OK(tiaot_state_create(module.get(), &state));
  return State(state);
}

// The state as floats, in the order at kFields.
float *floats(const State &state) { return reinterpret_cast<float *>(state->memory); }

tiaot_options on(const State &state) {
  tiaot_options options = TIAOT_OPTIONS_INIT;
  options.state = state.get();
  return options;
}

struct Fixture {
  Module module = open_fields();
  State state = new_state(module);
  tiaot_options options = on(state);
  const tiaot_kernel *scale = find_kernel(module, "scale"), *next = find_kernel(module, "next"),
                     *read = find_kernel(module, "read"), *hold = find_kernel(module, "hold"),
                     *plain = find_kernel(module, "plain");
  Array<float> factor{{}}, y{{3}}, one{{}};

  Fixture() {
    factor.data()[0] = 3;
    for (int i = 0; i < 3; ++i) floats(state)[2 * i] = static_cast<float>(i + 1);
    for (int i = 0; i < 3; ++i) floats(state)[2 * i + 1] = static_cast<float>(10 * i);
  }
};

}  // namespace

TEST(states_start_as_aligned_zeros_of_their_own) {
  const Module module = open_fields();
  const State one = new_state(module), other = new_state(module);
  for (const State *state : {&one, &other}) {
    CHECK_EQ(reinterpret_cast<uintptr_t>((*state)->memory) % 64, 0u);
    for (int64_t i = 0; i < kBytes; ++i) CHECK_EQ((*state)->memory[i], 0);
  }
  floats(one)[0] = 1;
  CHECK_EQ(floats(other)[0], 0.0f);
}

TEST(states_start_with_content) {
  static const float pieces[] = {1, 2, 3};
  static const tiaot_content_desc contents[] = {{4, 8, pieces}, {24, 4, pieces + 2}};
  tiaot_module_desc desc = kModule;
  desc.contents = contents;
  desc.content_count = 2;
  const Module module = open_fields(desc);
  const State one = new_state(module), other = new_state(module);
  floats(one)[1] = 7;
  const float expected[] = {0, 1, 2, 0, 0, 0, 3, 0};
  for (int i = 0; i < 8; ++i) CHECK_EQ(floats(other)[i], expected[i]);
}

TEST(fields_point_into_the_state) {
  const Fixture it;
  DLTensor x, loss, k;
  CHECK_OK(tiaot_state_field(it.state.get(), "x", &x));
  CHECK_OK(tiaot_state_field(it.state.get(), "loss.grad", &loss));
  CHECK_OK(tiaot_state_field(it.state.get(), "k", &k));
  CHECK(x.data == it.state->memory && x.ndim == 1 && x.shape == kThree && x.strides == kApart && x.byte_offset == 0);
  CHECK(x.dtype.code == 2 && x.dtype.bits == 32 && x.dtype.lanes == 1 && x.device.device_type == kDLCPU);
  CHECK(loss.data == it.state->memory + 28 && loss.ndim == 0);
  CHECK(k.data == it.state->memory + 32 && k.dtype.code == 0 && k.shape[0] == 2);
  CHECK_ERROR(tiaot_state_field(it.state.get(), "z", &x), TIAOT_ERROR_VALUE,
              "module 'fields' has no field 'z'; it has 'x', 'x.grad', 'loss', 'loss.grad', 'k'");
  CHECK_ERROR(tiaot_state_field(it.state.get(), nullptr, &x), TIAOT_ERROR_VALUE, "tiaot_state_field: name is NULL");
}

TEST(calls_work_on_their_state) {
  Fixture it;
  const State other = new_state(it.module);
  const DLTensor factor[] = {it.factor}, y[] = {it.y};
  CHECK_OK(tiaot_call(it.scale, TIAOT_FORWARD, 0, factor, 1, &it.options));
  CHECK_OK(tiaot_call(it.scale, TIAOT_GRAD, 0, factor, 1, &it.options));
  CHECK_OK(tiaot_call(it.next, TIAOT_FORWARD, 0, nullptr, 0, &it.options));
  CHECK_OK(tiaot_call(it.read, TIAOT_FORWARD, 0, y, 1, &it.options));
  CHECK((it.y.values() == std::vector<float>{3, 6, 9}) && it.y.guarded());
  CHECK_EQ(floats(it.state)[3], 30.0f);
  CHECK_EQ(floats(it.state)[5], 60.0f);
  CHECK_EQ(reinterpret_cast<int32_t *>(it.state->memory)[8], 1);
  CHECK_EQ(floats(other)[0], 0.0f);
  CHECK(!had_host);
}

TEST(bound_calls_keep_their_state) {
  Fixture it;
  tiaot_bound *bound = nullptr;
  const DLTensor factor[] = {it.factor};
  CHECK_OK(tiaot_bind(it.scale, TIAOT_GRAD, 0, factor, 1, &it.options, &bound));
  it.options.state = nullptr;
  CHECK_OK(tiaot_bound_run(bound));
  CHECK_OK(tiaot_bound_run(bound));
  CHECK_EQ(floats(it.state)[3], 90.0f);
  CHECK_EQ(tiaot_bound_work(bound), kBytes / 4 + 1);
  tiaot_bound_destroy(bound);
}

TEST(results_and_work) {
  const Fixture it;
  DLTensor results[1];
  int64_t shapes[4];
  int32_t count = -1;
  CHECK_OK(tiaot_results(it.next, TIAOT_FORWARD, 0, nullptr, 0, &it.options, nullptr, 0, nullptr, 0, &count));
  CHECK_EQ(count, 0);
  CHECK_OK(tiaot_results(it.read, TIAOT_FORWARD, 0, nullptr, 0, &it.options, results, 1, shapes, 4, &count));
  CHECK_EQ(count, 1);
  CHECK(results[0].ndim == 1 && results[0].shape[0] == 3);
  Array<float> number{{}};
  const DLTensor factor[] = {number};
  CHECK_OK(tiaot_results(it.scale, TIAOT_GRAD, 0, factor, 1, &it.options, nullptr, 0, nullptr, 0, &count));
  CHECK_EQ(count, 0);
  CHECK_EQ(tiaot_work(it.next, TIAOT_FORWARD, 0, nullptr, 0), kBytes / 4);
  CHECK_EQ(tiaot_work(it.plain, TIAOT_FORWARD, 0, factor, 1), 1);
}

// A state from 2048 elements on makes a call large enough for helpers.
TEST(a_large_state_has_helpers) {
  for (const int64_t elements : {int64_t{2046}, int64_t{2047}}) {
    tiaot_module_desc desc = kModule;
    desc.state_bytes = 4 * elements;
    const Module module = open_fields(desc);
    const State state = new_state(module);
    tiaot_options options = on(state);
    options.num_threads = 2;
    Array<float> number{{}};
    const DLTensor factor[] = {number};
    CHECK_OK(tiaot_call(find_kernel(module, "scale"), TIAOT_FORWARD, 0, factor, 1, &options));
    CHECK_EQ(had_host, elements == 2047);  // and the factor is one
  }
}

TEST(what_is_refused) {
  Fixture it;
  const Module again = open_fields(), toy = open_toy();
  const State foreign = new_state(again);
  const DLTensor factor[] = {it.factor};
  const DLTensor both[] = {it.factor, it.one};
  const auto call = [&](const tiaot_kernel *kernel, int entry, uint32_t wrt, const State *state) {
    tiaot_options options = TIAOT_OPTIONS_INIT;
    if (state != nullptr) options.state = state->get();
    return tiaot_call(kernel, entry, wrt, both, kernel == it.plain ? 2 : 1, &options);
  };
  const char *none =
      "scale.forward: the kernel works on state: expected options.state to be a state of module 'fields', got NULL";
  CHECK_ERROR(call(it.scale, TIAOT_FORWARD, 0, nullptr), TIAOT_ERROR_VALUE, none);
  CHECK_ERROR(tiaot_call(it.scale, TIAOT_FORWARD, 0, factor, 1, nullptr), TIAOT_ERROR_VALUE, none);
  CHECK_ERROR(call(it.scale, TIAOT_GRAD, 0, &foreign), TIAOT_ERROR_VALUE,
              "scale.grad: options.state: expected a state of this module 'fields', got one of another, 'fields'");
  CHECK_ERROR(call(it.plain, TIAOT_FORWARD, 0, &it.state), TIAOT_ERROR_VALUE,
              "plain.forward: options.state: expected NULL for a kernel that works on no state");
  CHECK_ERROR(call(it.scale, TIAOT_VJP, 0, &it.state), TIAOT_ERROR_UNSUPPORTED,
              "scale.vjp: the kernel works on state: its gradient is entry 3, grad, on the state");
  CHECK_ERROR(call(it.scale, TIAOT_JACOBIAN, 1, &it.state), TIAOT_ERROR_UNSUPPORTED,
              "scale.jacobian: the kernel works on state: its gradient is entry 3, grad, on the state");
  CHECK_ERROR(call(it.plain, TIAOT_GRAD, 0, nullptr), TIAOT_ERROR_UNSUPPORTED,
              "plain.grad: the kernel works on no state: its gradient is entry 1, vjp");
  CHECK_ERROR(tiaot_call(it.next, TIAOT_GRAD, 0, nullptr, 0, &it.options), TIAOT_ERROR_UNSUPPORTED,
              "next.grad: variant 'default' has no grad entry; it has forward");
  CHECK_ERROR(call(it.scale, TIAOT_GRAD, 1, &it.state), TIAOT_ERROR_VALUE, "scale.grad: wrt must be 0, got 0x1");
  CHECK_ERROR(call(it.scale, 8, 0, &it.state), TIAOT_ERROR_VALUE,
              "scale: entry: expected 0 (forward), 1 (vjp), 2 (jacobian), 3 (grad), 4 (jvp), 5 (hvp), 6 (jacobian by "
              "columns) or 7 (jacobian by rows), got 8");
  CHECK_ERROR(tiaot_call(it.next, TIAOT_FORWARD, 0, factor, 1, &it.options), TIAOT_ERROR_VALUE,
              "next.forward: expected 0 arrays (), got 1");
  tiaot_state *state = nullptr;
  CHECK_ERROR(tiaot_state_create(toy.get(), &state), TIAOT_ERROR_VALUE, "module 'toy' has no state");
  CHECK_ERROR(tiaot_state_create(nullptr, &state), TIAOT_ERROR_VALUE, "tiaot_state_create: module is NULL");
  tiaot_state_destroy(nullptr);
  CHECK((it.state->memory[0] == 0 && floats(it.state)[0] == 1.0f));  // nothing was computed
}

TEST(arrays_that_overlap_the_state) {
  Fixture it;
  DLTensor factor = it.factor;
  for (const int64_t at : {int64_t{0}, kBytes - 4}) {
    factor.data = it.state->memory + at;
    CHECK_ERROR(tiaot_call(it.scale, TIAOT_FORWARD, 0, &factor, 1, &it.options), TIAOT_ERROR_VALUE,
                "scale.forward: argument 'factor': overlaps the state that the kernel works on; pass a copy");
  }
  factor.data = it.state->memory + kBytes;  // behind it, in what the alignment may have left
  if (reinterpret_cast<uintptr_t>(it.state->memory) != reinterpret_cast<uintptr_t>(it.state->allocation.get())) {
    factor.data = it.state->memory - 4;  // before it
  }
  CHECK_OK(tiaot_call(it.scale, TIAOT_FORWARD, 0, &factor, 1, &it.options));
  DLTensor y = it.y;
  y.data = it.state->memory - 8;  // begins before it and ends in it
  CHECK_ERROR(tiaot_call(it.read, TIAOT_FORWARD, 0, &y, 1, &it.options), TIAOT_ERROR_VALUE,
              "read.forward: output 'y': overlaps the state that the kernel works on; pass a copy");
}

TEST(one_call_at_a_time) {
  Fixture it;
  const State other = new_state(it.module);
  const tiaot_options other_options = on(other);
  entered = 0, leave = 0;
  std::thread first([&] { CHECK_OK(tiaot_call(it.hold, TIAOT_FORWARD, 0, nullptr, 0, &it.options)); });
  while (entered != 1) std::this_thread::yield();
  CHECK_ERROR(tiaot_call(it.next, TIAOT_FORWARD, 0, nullptr, 0, &it.options), TIAOT_ERROR_VALUE,
              "next.forward: the state of module 'fields' is in use by another call");
  CHECK_OK(tiaot_call(it.next, TIAOT_FORWARD, 0, nullptr, 0, &other_options));  // others are free
  leave = 1;
  first.join();
  CHECK_OK(tiaot_call(it.next, TIAOT_FORWARD, 0, nullptr, 0, &it.options));
  CHECK_EQ(reinterpret_cast<int32_t *>(it.state->memory)[8], 1);
}

TEST(no_memory) {
  tiaot_module_desc desc = kModule;
  for (const int64_t bytes : {INT64_MAX, INT64_MAX / 2}) {
    desc.state_bytes = bytes;
    const Module module = open_fields(desc);
    tiaot_state *state = nullptr;
    CHECK_ERROR(tiaot_state_create(module.get(), &state), TIAOT_ERROR_MEMORY,
                "no memory for the state of module 'fields': " + std::to_string(bytes) + " bytes are needed");
    CHECK(state == nullptr);
  }
}

namespace {

struct Tables {
  tiaot_module_desc module = kModule;
  std::vector<tiaot_field_desc> fields{kFields, kFields + 5};
  tiaot_kernel_desc kernel = kKernels[0];
  tiaot_variant_desc variant = kScaleVariant;
  std::vector<tiaot_entry_desc> entries{kScaleEntries, kScaleEntries + 2};

  tiaot_status check() {
    variant.entries = entries.data();
    variant.entry_count = static_cast<uint32_t>(entries.size());
    kernel.variants = &variant;
    module.kernels = &kernel;
    module.kernel_count = 1;
    if (module.fields != nullptr) module.fields = fields.data();
    return tiaot::check_tables(module, "f.so");
  }
};

}  // namespace

TEST(right_tables) {
  Tables none, empty;
  CHECK_OK(none.check());
  static const int64_t zero[] = {0};
  for (tiaot_field_desc &field : empty.fields) {
    if (field.rank == 1) field.shape = zero, field.offset = kBytes;  // of no elements, at the very end
  }
  CHECK_OK(empty.check());
}

TEST(wrong_fields) {
  static const int64_t negative[] = {-1}, large[] = {INT64_MAX}, four[] = {4};
  static const int64_t repeated[] = {INT64_MAX / 2}, nothing[] = {0};
  check::refused<Tables>("an impossible size of state", [](Tables &t) { t.module.state_bytes = -1; });
  check::refused<Tables>("an impossible size of state", [](Tables &t) { t.module.field_count = 0; });
  check::refused<Tables>("no table of fields", [](Tables &t) { t.module.fields = nullptr; });
  check::refused<Tables>("too many fields", [](Tables &t) { t.module.field_count = 0xffffffff; });
  check::refused<Tables>("a field has no name", [](Tables &t) { t.fields[4].name = nullptr; });
  check::refused<Tables>("field 'x' is there twice", [](Tables &t) { t.fields[4].name = "x"; });
  check::refused<Tables>("field 'x' has an unknown element type", [](Tables &t) { t.fields[0].dtype = 7; });
  check::refused<Tables>("field 'x' has too many dimensions", [](Tables &t) { t.fields[0].rank = 33; });
  check::refused<Tables>("field 'x' has no shape or strides", [](Tables &t) { t.fields[0].shape = nullptr; });
  check::refused<Tables>("field 'x' has no shape or strides", [](Tables &t) { t.fields[0].strides = nullptr; });
  check::refused<Tables>("field 'x' has a negative size or stride", [](Tables &t) { t.fields[0].shape = negative; });
  check::refused<Tables>("field 'x' has a negative size or stride", [](Tables &t) { t.fields[0].strides = negative; });
  check::refused<Tables>("field 'x' is too large", [](Tables &t) { t.fields[0].shape = large; });
  check::refused<Tables>("field 'x' is too large", [](Tables &t) { t.fields[0].strides = large; });
  check::refused<Tables>("field 'x' is too large",
                         [](Tables &t) { t.fields[0].shape = repeated, t.fields[0].strides = nothing; });
  check::refused<Tables>("field 'k' reaches beyond the state", [](Tables &t) { t.module.state_bytes = kBytes - 1; });
  check::refused<Tables>("field 'x' reaches beyond the state", [](Tables &t) { t.fields[0].offset = -4; });
  check::refused<Tables>("field 'x' reaches beyond the state", [](Tables &t) { t.fields[0].offset = kBytes + 4; });
  check::refused<Tables>("field 'x' reaches beyond the state",
                         [](Tables &t) { t.fields[0].shape = nothing, t.fields[0].offset = kBytes + 4; });
  check::refused<Tables>("field 'k' reaches beyond the state", [](Tables &t) { t.fields[4].shape = four; });
  check::refused<Tables>("field 'x' is not aligned to its element", [](Tables &t) { t.fields[0].offset = 2; });
  check::refused<Tables>("field 'x' has an unknown gradient", [](Tables &t) { t.fields[0].gradient = 5; });
  check::refused<Tables>("field 'x' has an unknown gradient", [](Tables &t) { t.fields[0].gradient = -2; });
  check::refused<Tables>("field 'x' has a gradient of a wrong name", [](Tables &t) { t.fields[0].gradient = 3; });
  check::refused<Tables>("field 'x' has a gradient of another type or shape",
                         [](Tables &t) { t.fields[1].shape = kTwo; });
  check::refused<Tables>("field 'x' has a gradient of another type or shape",
                         [](Tables &t) { t.fields[1].dtype = TIAOT_INT32; });
  check::refused<Tables>("field 'x' has a gradient of another type or shape", [](Tables &t) { t.fields[1].rank = 0; });
}

TEST(wrong_content) {
  static const char data[8] = {};
  static const tiaot_content_desc none[] = {{0, 8, nullptr}}, before[] = {{-8, 8, data}}, negative[] = {{0, -1, data}},
                                  behind[] = {{kBytes - 4, 8, data}}, far[] = {{INT64_MAX, 8, data}};
  const auto with = [](Tables &t, const tiaot_content_desc *contents) {
    t.module.contents = contents, t.module.content_count = 1;
  };
  check::refused<Tables>("no table of content", [&](Tables &t) { with(t, nullptr); });
  check::refused<Tables>("content of the state is missing", [&](Tables &t) { with(t, none); });
  for (const tiaot_content_desc *wrong : {before, negative, behind, far}) {
    check::refused<Tables>("content reaches beyond the state", [&](Tables &t) { with(t, wrong); });
  }
}

TEST(wrong_kernels_over_state) {
  check::refused<Tables>("kernel 'scale': it neither works on state nor not", [](Tables &t) { t.kernel.state = 3; });
  check::refused<Tables>("kernel 'scale': it works on state, but the module has none",
                         [](Tables &t) { t.module.field_count = 0, t.module.state_bytes = 0; });
  check::refused<Tables>("kernel 'scale': it works on state and has a batch dimension",
                         [](Tables &t) { t.kernel.dim_count = 1, t.kernel.dim_names = kDims, t.kernel.batch_dim = 0; });
  check::refused<Tables>("kernel 'scale': no output", [](Tables &t) { t.kernel.state = 0; });
  check::refused<Tables>("kernel 'scale': no table of arguments", [](Tables &t) { t.kernel.arguments = nullptr; });
  static const std::vector<tiaot_argument_desc> many(TIAOT_MAX_ARRAYS, kFactor[0]);
  static const std::vector<uint32_t> types(TIAOT_MAX_ARRAYS, TIAOT_FLOAT32);
  const auto with_inputs = [](Tables &t, uint32_t count) {
    t.kernel.arguments = many.data(), t.kernel.input_count = count, t.variant.dtypes = types.data();
  };
  check::refused<Tables>("kernel 'scale': too many arguments", [&](Tables &t) { with_inputs(t, TIAOT_MAX_ARRAYS); });
  Tables most;
  with_inputs(most, TIAOT_MAX_ARRAYS - 1);
  CHECK_OK(most.check());
  check::refused<Tables>("kernel 'scale': variant 'float32' lacks a table",
                         [](Tables &t) { t.variant.dtypes = nullptr; });
  check::refused<Tables>("kernel 'scale': variant 'float32' has not one forward entry",
                         [](Tables &t) { t.entries.erase(t.entries.begin()); });
  check::refused<Tables>("kernel 'scale': variant 'float32' has not one forward entry",
                         [](Tables &t) { t.entries[1] = t.entries[0]; });
  check::refused<Tables>("kernel 'scale': variant 'float32' has more than one grad entry",
                         [](Tables &t) { t.entries.push_back(t.entries[1]); });
  check::refused<Tables>("kernel 'scale': variant 'float32' has more than one jvp entry", [](Tables &t) {
    t.entries.push_back(t.entries[1]);
    t.entries[1].kind = t.entries[2].kind = TIAOT_JVP;
  });
  const std::string entry = "kernel 'scale': variant 'float32': entry 'scale_grad' ";
  check::refused<Tables>((entry + "is there, which the kernel is to be without").c_str(),
                         [](Tables &t) { t.kernel.state = TIAOT_STATE_WITHOUT_GRADIENT; });
  check::refused<Tables>((entry + "is of an unknown kind").c_str(), [](Tables &t) { t.entries[1].kind = 6; });
  check::refused<Tables>((entry + "has the wrong gradients for its kind").c_str(),
                         [](Tables &t) { t.entries[1].kind = TIAOT_JVP, t.entries[1].wrt = 1; });
  check::refused<Tables>((entry + "is a vjp, but the kernel works on state").c_str(),
                         [](Tables &t) { t.entries[1].kind = TIAOT_VJP, t.entries[1].wrt = 1; });
  check::refused<Tables>((entry + "has the wrong gradients for its kind").c_str(),
                         [](Tables &t) { t.entries[1].wrt = 1; });
  check::refused<Tables>((entry + "is an adjoint on state, but the kernel has outputs").c_str(),
                         [](Tables &t) { t.kernel.input_count = 0, t.kernel.output_count = 1; });
  check::refused<Tables>((entry + "is a grad, but the kernel works on no state").c_str(),
                         [](Tables &t) { t.kernel.state = 0, t.kernel.input_count = 0, t.kernel.output_count = 1; });
}
