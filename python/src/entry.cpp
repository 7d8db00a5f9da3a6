// entry.cpp: calls. Has the arguments read, lets the runtime check and run, hands back the results. Plain CPython types
// with vectorcall, because a call of a small kernel costs less than nanobind's typed arrays do.
#include <new>

#include "call.hpp"

namespace tiaot::binding {
namespace {

// Copies the shapes of the arrays, which another thread may change as soon as the GIL is free.
std::vector<int64_t> keep_shapes(Call *call) {
  std::vector<int64_t> sizes;
  size_t room = 0;
  for (int i = 0; i < call->count; ++i) room += 2 * static_cast<size_t>(call->tensors[i].ndim);
  sizes.reserve(room);
  for (int i = 0; i < call->count; ++i) {
    DLTensor &tensor = call->tensors[i];
    for (int64_t **each : {&tensor.shape, &tensor.strides}) {
      if (*each == nullptr) continue;
      int64_t *copy = sizes.data() + sizes.size();
      sizes.insert(sizes.end(), *each, *each + tensor.ndim);
      *each = copy;
    }
  }
  return sizes;
}

// A call on a CUDA device: however little its work is, to hand it over takes longer than to release the GIL, and may
// wait for what does need the GIL.
[[gnu::cold, gnu::noinline]] tiaot_status run_on_cuda(const EntryState &entry, Call *call) {
  const uint32_t mask = call->wrt != nullptr ? call->wrt->mask : 0;
  const std::vector<int64_t> sizes = keep_shapes(call);
  tiaot_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = tiaot_call(entry.kernel, entry.kind, mask, call->tensors, call->count, &call->options);
  Py_END_ALLOW_THREADS;
  return status;
}

tiaot_status run_call(const EntryState &entry, Call *prepared) {
  if (prepared->reading.cuda.found) return run_on_cuda(entry, prepared);
  const Call &call = *prepared;
  const uint32_t mask = call.wrt != nullptr ? call.wrt->mask : 0;
  if (tiaot_work(entry.kernel, entry.kind, mask, call.tensors, call.count) <= kReleaseWork) {
    return tiaot_call(entry.kernel, entry.kind, mask, call.tensors, call.count, &call.options);
  }
  // Another thread may change an array's `shape` in place as soon as the GIL is free: bind reads it before.
  tiaot_bound *bound = nullptr;
  tiaot_status status = tiaot_bind(entry.kernel, entry.kind, mask, call.tensors, call.count, &call.options, &bound);
  if (status != TIAOT_OK) return status;
  Py_BEGIN_ALLOW_THREADS;
  status = tiaot_bound_run(bound);
  tiaot_bound_destroy(bound);
  Py_END_ALLOW_THREADS;
  return status;
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
  const char *attribute = entry.kind == TIAOT_GRAD ? ".grad" : "";
  PyErr_Format(PyExc_ValueError, "%s: works on the state of its module: call module.state().%s%s(...)", name, name,
               attribute);
  return false;
}

// (grad, arguments, keywords): what a tape calls to go back through this call; None where the kernel has no grad.
Ref make_record(const EntryState &entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  if (!entry.grad) return Ref(Py_NewRef(Py_None));
  Ref kept(PyTuple_New(count)), named(PyDict_New());
  if (!kept || !named) return Ref();
  for (Py_ssize_t i = 0; i < count; ++i) PyTuple_SET_ITEM(kept.get(), i, Py_NewRef(arguments[i]));
  for (Py_ssize_t i = 0; keywords != nullptr && i < PyTuple_GET_SIZE(keywords); ++i) {
    if (PyDict_SetItem(named.get(), PyTuple_GET_ITEM(keywords, i), arguments[count + i]) != 0) return Ref();
  }
  return Ref(PyTuple_Pack(3, entry.grad.get(), kept.get(), named.get()));
}

}  // namespace

PyObject *recorded(const StateMemory &memory, PyObject *record, PyObject *result) {
  if (result == nullptr || !memory.tape || record == Py_None) return result;
  if (record != nullptr && PyList_Append(memory.tape.get(), record) == 0) return result;
  Py_DECREF(result);
  return nullptr;
}

PyObject *call_entry_on_state(EntryObject *entry, PyObject *const *arguments, size_t nargsf, PyObject *keywords) {
  const EntryState &state = entry->state;
  if (!check_on_state(state)) return nullptr;
  PyObject *result = call_entry(entry, arguments, nargsf, keywords);
  if (result == nullptr || !state.memory->tape || !state.grad) return result;
  return recorded(*state.memory, make_record(state, arguments, PyVectorcall_NARGS(nargsf), keywords).get(), result);
}

PyObject *call_entry(EntryObject *entry, PyObject *const *arguments, size_t nargsf, PyObject *keywords) try {
  Call call;
  if (!prepare_call(&entry->state, arguments, PyVectorcall_NARGS(nargsf), keywords, &call)) return nullptr;
  const tiaot_status status = run_call(entry->state, &call);
  if (status != TIAOT_OK) return raise_status(status);
  if (entry->state.arrays == nullptr && call.out == nullptr && call.outer > 0 && !call.reading.cuda.found) {
    for (int i = 0; i < entry->state.positional_count; ++i) {
      if (!PyArray_Check(arguments[i]) && !is_number(arguments[i]))
        return as_arrays_like(arguments[i], std::move(call.result)).release();
    }
  }
  return call.result.release();
} catch (const std::bad_alloc &) {
  return PyErr_NoMemory();
}

PyObject *bind_entry(EntryObject *entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) try {
  Call call;
  EntryState *state = &entry->state;
  if (state->desc->state != 0 && !check_on_state(*state)) return nullptr;
  if (!prepare_call(state, arguments, count, keywords, &call)) return nullptr;
  Ref arrays(PyTuple_New(count));
  if (!arrays) return nullptr;
  for (Py_ssize_t i = 0; i < count; ++i) {
    Py_INCREF(arguments[i]);
    PyTuple_SET_ITEM(arrays.get(), i, arguments[i]);
  }
  const uint32_t mask = call.wrt != nullptr ? call.wrt->mask : 0;
  tiaot_bound *bound = nullptr;
  tiaot_status status;
  if (call.reading.cuda.found) {  // which may load the module's code
    const std::vector<int64_t> sizes = keep_shapes(&call);
    Py_BEGIN_ALLOW_THREADS;
    status = tiaot_bind(state->kernel, state->kind, mask, call.tensors, call.count, &call.options, &bound);
    Py_END_ALLOW_THREADS;
  } else {
    status = tiaot_bind(state->kernel, state->kind, mask, call.tensors, call.count, &call.options, &bound);
  }
  if (status != TIAOT_OK) return raise_status(status);
  Bound owned(bound);
  Ref record;
  if (state->memory != nullptr) {
    record = make_record(*state, arguments, count, keywords);
    if (!record) return nullptr;
  }
  return new_bound_call(*state, std::move(owned), std::move(arrays), std::move(call.result), std::move(call.reading),
                        std::move(record));
} catch (const std::bad_alloc &) {
  return PyErr_NoMemory();
}

}  // namespace tiaot::binding
