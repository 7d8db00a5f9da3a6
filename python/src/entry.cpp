// entry.cpp: calls. Has the arguments read, lets the runtime check and run, hands back the results. Plain CPython types
// with vectorcall, because a call of a small kernel costs less than nanobind's typed arrays do.
#include <algorithm>
#include <memory>
#include <vector>

#include "call.hpp"

namespace tiaot::binding {
namespace {

// Runs a call. What takes longer than to release the GIL does without it; on a CUDA device every call does, since to
// hand its work over takes longer, and may wait for what does need the GIL.
[[gnu::hot]] tiaot_status run_call(EntryState *state, Call *prepared) {
  const EntryState &entry = *state;
  const Call &call = *prepared;
  const uint32_t mask = call.wrt != nullptr ? call.wrt->mask : 0;
  const bool cuda = call.reading.cuda.found;
  if (!cuda && tiaot_work(entry.kernel, call.kind, mask, call.tensors, call.count) <= kReleaseWork) {
    const tiaot_status status = tiaot_call(entry.kernel, call.kind, mask, call.tensors, call.count, &call.options);
    if (status == TIAOT_OK) state->repeats.remember(entry, call);
    return status;
  }
  keep_shapes(prepared);
  tiaot_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = tiaot_call(entry.kernel, call.kind, mask, call.tensors, call.count, &call.options);
  Py_END_ALLOW_THREADS;
  return status;
}

// A tuple of the operands.
Ref operands_of(const EntryState &entry, const Call &call) {
  Ref operands(PyTuple_New(entry.positional_count));
  for (int i = 0; i < entry.positional_count && operands; ++i) {
    PyTuple_SET_ITEM(operands.get(), i, Py_NewRef(call.operands[i]));
  }
  return operands;
}

// Whether the entry of a kernel over state can be called at all.
bool check_on_state(const EntryState &entry) {
  const char *name = entry.desc->name;
  if (takes_wrt(entry)) {
    PyErr_Format(PyExc_NotImplementedError, "%s: the kernel works on state: use state.%s.grad", entry.label.c_str(),
                 name);
    return false;
  }
  if (entry.memory != nullptr) return true;
  const std::string attribute = entry.kind == TIAOT_FORWARD ? "" : std::string(".") + kind_name(entry.kind);
  PyErr_Format(PyExc_ValueError, "%s: works on the state of its module: call module.state().%s%s(...)", name, name,
               attribute.c_str());
  return false;
}

// Whether no tape can go back through calls of the entry.
bool is_obstacle(const EntryState &entry) {
  return entry.kind == TIAOT_FORWARD && entry.desc->state == TIAOT_STATE_WITHOUT_GRADIENT;
}

// (grad, arguments, keywords): what a tape calls to go back through this call; None where the kernel has no grad, and
// its name where it was to have one.
Ref make_record(const EntryState &entry, const Call &call) {
  if (is_obstacle(entry)) return Ref(PyUnicode_FromString(entry.desc->name));
  if (!entry.grad) return Ref(Py_NewRef(Py_None));
  Ref operands = operands_of(entry, call), keywords(PyDict_New());
  if (!operands || !keywords) return Ref();
  if (call.num_threads != nullptr && PyDict_SetItemString(keywords.get(), "num_threads", call.num_threads) != 0) {
    return Ref();
  }
  PyObject *stream = call.reading.cuda.stream_object;
  if (stream != nullptr && PyDict_SetItemString(keywords.get(), "stream", stream) != 0) return Ref();
  return Ref(PyTuple_Pack(3, entry.grad.get(), operands.get(), keywords.get()));
}

// Hands out the results of a call that has been run: they are of the library of the first operand that is not NumPy's.
[[gnu::hot]] Ref take_result(const EntryState &entry, Call *call) {
  const bool ours = entry.arrays == nullptr && call->out == nullptr && call->outer > 0 && !call->reading.cuda.found;
  for (int i = 0; i < entry.positional_count && ours; ++i) {
    PyObject *operand = call->operands[i];
    if (!PyArray_Check(operand) && !is_number(operand)) return as_arrays_like(operand, std::move(call->result));
  }
  return std::move(call->result);
}

// As call_entry; `call` was made for the entry.
[[gnu::hot]] PyObject *run(EntryState *entry, PyObject *const *arguments, size_t nargsf, PyObject *keywords,
                           Call *call) {
  if (!prepare_operands(entry, arguments, PyVectorcall_NARGS(nargsf), keywords, call)) return nullptr;
  PyObject *result = nullptr;
  if (entry->arrays != nullptr && entry->repeats.run_on_others(*entry, call, &result)) return result;
  if (!prepare_results(*entry, call)) return nullptr;
  const tiaot_status status = run_call(entry, call);
  return status == TIAOT_OK ? take_result(*entry, call).release() : raise_status(status);
}

// A checked call. Empty with an exception set.
Bound bind_call(const EntryState &entry, const Call &call) {
  const uint32_t mask = call.wrt != nullptr ? call.wrt->mask : 0;
  tiaot_bound *bound = nullptr;
  tiaot_status status;
  if (call.reading.cuda.found) {  // which may load the module's code
    Py_BEGIN_ALLOW_THREADS;
    status = tiaot_bind(entry.kernel, call.kind, mask, call.tensors, call.count, &call.options, &bound);
    Py_END_ALLOW_THREADS;
  } else {
    status = tiaot_bind(entry.kernel, call.kind, mask, call.tensors, call.count, &call.options, &bound);
  }
  if (status != TIAOT_OK) raise_status(status);
  return Bound(bound);
}

// Takes the part of `out` that belongs to the vjp into `arguments`, a copy of them, and the other into *value.
bool split_out(const EntryState &vjp, PyObject **arguments, Py_ssize_t count, PyObject *keywords, PyObject **value) {
  for (Py_ssize_t i = 0; keywords != nullptr && i < PyTuple_GET_SIZE(keywords); ++i) {
    PyObject **out = &arguments[count + i];
    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, i), "out") != 0 || *out == Py_None) continue;
    if (!PyTuple_Check(*out) || PyTuple_GET_SIZE(*out) != 2) {
      raise_mismatch(PyExc_TypeError, vjp.label, "argument 'out'", "a pair (outputs, gradients)", type_name(*out));
      return false;
    }
    *value = PyTuple_GET_ITEM(*out, 0);
    *out = PyTuple_GET_ITEM(*out, 1);
  }
  return true;
}

uintptr_t bytes_of(const DLTensor &tensor) {
  uintptr_t bytes = tensor.dtype.bits / 8;
  for (int axis = 0; axis < tensor.ndim; ++axis) bytes *= static_cast<uintptr_t>(tensor.shape[axis]);
  return bytes;
}

// The runtime looks at each of the two calls alone, whose arrays are right by now.
bool check_apart(const EntryState &vjp, const Call &values, int inputs, const Call &gradients) {
  for (int v = inputs; v < values.count; ++v) {
    for (int g = vjp.positional_count; g < gradients.count; ++g) {
      const DLTensor &a = values.tensors[v], &b = gradients.tensors[g];
      const auto begin_a = reinterpret_cast<uintptr_t>(a.data), begin_b = reinterpret_cast<uintptr_t>(b.data);
      if (begin_a >= begin_b + bytes_of(b) || begin_b >= begin_a + bytes_of(a)) continue;
      PyErr_Format(PyExc_ValueError, "%s: argument 'out': an output overlaps a gradient", vjp.label.c_str());
      return false;
    }
  }
  return true;
}

}  // namespace

PyObject *recorded(const StateMemory &memory, PyObject *record, PyObject *result) {
  if (result == nullptr || !memory.tape || record == Py_None) return result;
  if (record != nullptr && PyList_Append(memory.tape.get(), record) == 0) return result;
  Py_DECREF(result);
  return nullptr;
}

PyObject *call_entry_on_state(EntryObject *object, PyObject *const *arguments, size_t nargsf, PyObject *keywords) try {
  EntryState *entry = &object->state;
  if (!check_on_state(*entry)) return nullptr;
  Call call(*entry, TIAOT_CALL_ROOM(*entry));
  PyObject *result = run(entry, arguments, nargsf, keywords, &call);
  if (result == nullptr || !entry->memory->tape || !(entry->grad || is_obstacle(*entry))) return result;
  return recorded(*entry->memory, make_record(*entry, call).get(), result);
} catch (const std::exception &) {
  return raise_caught();
}

PyObject *call_entry(EntryObject *object, PyObject *const *arguments, size_t nargsf, PyObject *keywords) try {
  EntryState *entry = &object->state;
  PyObject *result = nullptr;
  if (entry->repeats.run(*entry, arguments, PyVectorcall_NARGS(nargsf), keywords, &result)) return result;
  Call call(*entry, TIAOT_CALL_ROOM(*entry));
  return run(entry, arguments, nargsf, keywords, &call);
} catch (const std::exception &) {
  return raise_caught();
}

PyObject *bind_entry(EntryObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) try {
  EntryState *entry = &object->state;
  if (entry->desc->state != 0 && !check_on_state(*entry)) return nullptr;
  Call call(*entry, TIAOT_CALL_ROOM(*entry));
  if (!prepare_call(entry, arguments, count, keywords, &call)) return nullptr;
  keep_shapes(&call);
  Ref operands = operands_of(*entry, call);
  Bound bound = operands ? bind_call(*entry, call) : Bound();
  if (!bound) return nullptr;
  Ref record;
  if (entry->memory != nullptr) {
    record = make_record(*entry, call);
    if (!record) return nullptr;
  }
  return new_bound_call(*entry, std::move(bound), std::move(operands), std::move(call.result), std::move(call.reading),
                        std::move(record));
} catch (const std::exception &) {
  return raise_caught();
}

PyObject *call_value_and_vjp(KernelObject *kernel, PyObject *const *arguments, Py_ssize_t count,
                             PyObject *keywords) try {
  EntryState *forward = &kernel->forward->state, *vjp = &reinterpret_cast<EntryObject *>(kernel->vjp)->state;
  if (forward->desc->state != 0 && !check_on_state(*vjp)) return nullptr;
  const Py_ssize_t total = count + (keywords != nullptr ? PyTuple_GET_SIZE(keywords) : 0);
  std::vector<PyObject *> given(arguments, arguments + total);
  Call values(*forward, TIAOT_CALL_ROOM(*forward)), gradients(*vjp, TIAOT_CALL_ROOM(*vjp));
  if (!split_out(*vjp, given.data(), count, keywords, &values.out)) return nullptr;
  if (!prepare_call(vjp, given.data(), count, keywords, &gradients)) return nullptr;
  keep_shapes(&gradients);

  const int inputs = forward->positional_count;
  std::copy_n(gradients.tensors, inputs, values.tensors);
  values.options = gradients.options;
  values.operands = gradients.operands;
  values.reading.cuda = gradients.reading.cuda;
  values.outer = static_cast<int>(forward->desc->output_count);
  values.count = inputs + values.outer;
  if (!prepare_results(*forward, &values)) return nullptr;
  keep_shapes(&values);

  Bound of_gradients = bind_call(*vjp, gradients);
  Bound of_values = of_gradients ? bind_call(*forward, values) : Bound();
  if (!of_values || !check_apart(*vjp, values, inputs, gradients)) return nullptr;
  const auto run_both = [&] {  // the vjp first: an output may take the place of a cotangent
    const tiaot_status status = tiaot_bound_run(of_gradients.get());
    return status == TIAOT_OK ? tiaot_bound_run(of_values.get()) : status;
  };
  tiaot_status status;
  if (gradients.reading.cuda.found || tiaot_bound_work(of_gradients.get()) > kReleaseWork) {
    Py_BEGIN_ALLOW_THREADS;
    status = run_both();
    Py_END_ALLOW_THREADS;
  } else {
    status = run_both();
  }
  if (status != TIAOT_OK) return raise_status(status);
  Ref value = take_result(*forward, &values);
  Ref gradient = value ? take_result(*vjp, &gradients) : Ref();
  return gradient ? PyTuple_Pack(2, value.get(), gradient.get()) : nullptr;
} catch (const std::exception &) {
  return raise_caught();
}

}  // namespace tiaot::binding
