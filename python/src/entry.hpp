// entry.hpp: the callables of a kernel: the Kernel itself, its Entries `vjp` and `jacobian`, and the BoundCalls that
// their `bind` makes. Knows nothing of module files.
#pragma once

#include <string>
#include <vector>

#include "arrays.hpp"
#include "common.hpp"
#include "repeats.hpp"
#include "state.hpp"

namespace tiaot::binding {

// Which gradients a call asks for.
struct Wrt {
  uint32_t mask;      // bit i: input i
  int32_t count;      // number of names
  bool is_tuple;      // asked for by several names: the result is a tuple
  uint8_t place[32];  // for each name, in the caller's order, its place in the order of the signature
};

// What an Entry knows; EntryObject puts it behind a Python object's header.
struct EntryState {
  std::shared_ptr<OpenModule> module;
  const tiaot_kernel *kernel;
  const tiaot_kernel_desc *desc;
  const char *variant;      // the only one to run, from the descriptor; nullptr: the first that fits
  const ArrayKind *arrays;  // whose arrays come and go; nullptr: NumPy's, and DLPack's as inputs
  StateMemory *memory;      // what a kernel over state is bound to; nullptr for others, and for one that is not bound
  Ref memory_object;        // which keeps it
  Ref grad;                 // of the forward entry of a kernel over state: the entry that a tape calls; or empty
  int kind;                 // TIAOT_FORWARD, TIAOT_VJP...
  int positional_count;     // operands: inputs, for vjp and hvp cotangents, for jvp and hvp tangents
  std::string label;        // "dense_tanh.vjp", "dense_tanh.forward": opens every message
  std::vector<Ref> names;  // of the operands, interned: inputs, 'y_cotangent' for an output y, 'x_tangent' for an input
  std::vector<int> argument_of;  // of each operand: the argument of the descriptor whose type and shape it has
  int most_arrays;               // that a call can have
  size_t call_room;              // what a Call of it needs, in bytes
  Wrt default_wrt;
  Ref last_wrt_object;  // an immutable `wrt` seen before, and
  Wrt last_wrt;         // what it says
  // Of a jvp or hvp, whose operands depend on `wrt`: entries for another one than the default, made when first called.
  std::vector<Ref> for_other_wrt;
  Repeats repeats;
};

// Whether it is an entry of a kernel that is bound to a state on a CUDA device.
inline bool is_on_device(const EntryState &entry) { return entry.memory != nullptr && entry.memory->device >= 0; }

// "forward" of TIAOT_FORWARD, "vjp" of TIAOT_VJP...
const char *kind_name(int kind);

// Kinds with tangents, whose operands depend on `wrt`.
inline bool has_tangents(int kind) { return kind == TIAOT_JVP || kind == TIAOT_HVP; }

// The flags of the inputs that `wrt` can name, any of which will do.
inline uint32_t wrt_flags(int kind) {
  if (kind == TIAOT_JACOBIAN) return TIAOT_ARGUMENT_DIFFERENTIABLE | TIAOT_ARGUMENT_TANGENT;
  return has_tangents(kind) ? TIAOT_ARGUMENT_TANGENT : TIAOT_ARGUMENT_DIFFERENTIABLE;
}

struct EntryObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  EntryState state;
};

struct KernelObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  EntryObject *forward;  // never nullptr; what a call of the kernel itself runs
  PyObject *vjp;
  PyObject *jacobian;
  PyObject *grad;  // nullptr: there is none
  PyObject *jvp;
  PyObject *hvp;
};

// Creates the types Kernel, Entry and BoundCall and adds them to `module`. False with an exception set.
bool add_kernel_types(PyObject *module);
bool add_bound_call_type(PyObject *module);

// Interns the names of the keywords. False with an exception set.
bool prepare_entries();

// `variant` is from the kernel's tables, or nullptr; `arrays` as in EntryState; `memory` is a StateMemory to bind a
// kernel over state to, or nullptr.
PyObject *new_kernel(const std::shared_ptr<OpenModule> &module, const tiaot_kernel *kernel, const char *variant,
                     const ArrayKind *arrays, PyObject *memory);

// The entry, of a jvp or hvp, with the operands that a call with these keywords has: itself, or one for its `wrt`.
// nullptr with an exception set. `values` are the keywords'. Borrowed.
EntryObject *entry_for_wrt(EntryObject *entry, PyObject *const *values, PyObject *keywords);

// The state that a Kernel's entries share, of its forward entry. nullptr with TypeError set for any other object.
const EntryState *kernel_state(PyObject *object);

struct DestroyBound {
  void operator()(tiaot_bound *bound) const { tiaot_bound_destroy(bound); }
};
using Bound = std::unique_ptr<tiaot_bound, DestroyBound>;

// `arrays` is a tuple of the arguments, `result` what each call returns, `reading` what the arguments lent and where
// they are, `record` what a tape keeps of each call, or empty.
PyObject *new_bound_call(const EntryState &entry, Bound bound, Ref arrays, Ref result, Reading reading, Ref record);

[[gnu::hot]] PyObject *call_entry(EntryObject *entry, PyObject *const *arguments, size_t nargsf, PyObject *keywords);
PyObject *bind_entry(EntryObject *entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords);

// Both of a kernel's results: (outputs, gradients), from the arguments of a vjp.
PyObject *call_value_and_vjp(KernelObject *kernel, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords);

// As call_entry, of a kernel over state. Apart, so that tapes and what may not be called cost other kernels nothing.
PyObject *call_entry_on_state(EntryObject *entry, PyObject *const *arguments, size_t nargsf, PyObject *keywords);

// Takes the result of a call and hands it on, once the tape has the record. nullptr with an exception set.
PyObject *recorded(const StateMemory &memory, PyObject *record, PyObject *result);

// From this much work on, a few microseconds, releasing the GIL costs little beside the run.
inline constexpr int64_t kReleaseWork = 16 * 1024;

// What Python's tools ask of an entry: an inspect.Signature, and the docstring of `object`, a Kernel or an Entry that
// runs it. Made when asked for, since `inspect` is slow to import. nullptr with an exception set.
PyObject *signature_of(const EntryState &entry);
PyObject *documentation_of(PyObject *object, const EntryState &entry);

// "float32[B, n] or float64[B, n]": the element types that any variant has for an argument, each followed by `dims`.
std::string forms_of(const tiaot_kernel_desc &desc, uint32_t argument, const std::string &dims);

// "x, W, b": names of inputs; those with some of these flags only, where there are any.
std::string input_names(const tiaot_kernel_desc &desc, uint32_t flags);

// Reads an argument `wrt`. False with an exception set.
bool read_wrt(const EntryState &entry, PyObject *object, Wrt *wrt);

}  // namespace tiaot::binding
