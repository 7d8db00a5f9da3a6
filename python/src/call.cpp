// call.cpp: reads the arguments of a call and allocates its results. The binding reports only what the runtime cannot
// see: objects that are no arrays, the structure of `out`.
#include "call.hpp"

#include <algorithm>
#include <memory>

#include "cuda_arrays.hpp"

namespace tiaot::binding {
namespace {

// `argument` is the descriptor's that tells the element types.
[[gnu::cold]] bool raise_unreadable(const EntryState &entry, const std::string &subject, int argument,
                                    const Mismatch &mismatch) {
  if (mismatch.exception == nullptr) return false;
  const bool number = entry.desc->arguments[argument].rank == 0;
  const std::string expected =
      !mismatch.expected.empty() ? mismatch.expected
                                 : (number ? "a number or an array of " : "an array of ") + dtypes_of(entry, argument);
  raise_mismatch(mismatch.exception, entry.label, subject, expected, mismatch.got);
  return false;
}

bool take_tuple(const EntryState &entry, PyObject *out, int count, const char *of) {
  if (PyTuple_Check(out) && PyTuple_GET_SIZE(out) == count) return true;
  const bool is_tuple = PyTuple_Check(out);
  const std::string got = is_tuple ? "a tuple of " + std::to_string(PyTuple_GET_SIZE(out)) : type_name(out);
  raise_mismatch(is_tuple ? PyExc_ValueError : PyExc_TypeError, entry.label, "argument 'out'",
                 "a tuple of " + std::to_string(count) + " " + of, got);
  return false;
}

// Reads an array that is no plain one of NumPy's, as number `place` of the call.
[[gnu::noinline]] bool read_other(const EntryState &entry, PyObject *object, bool writable, int place, Call *call,
                                  Mismatch *mismatch) {
  keep_shapes(call);  // of those before this one, whose library may run any code
  DLTensor *tensor = &call->tensors[place];
  const bool fine = entry.arrays == nullptr ? read_uncommon_array(object, writable, tensor, &call->reading, mismatch)
                                            : entry.arrays->read(object, writable, tensor, &call->reading, mismatch);
  if (fine) call->unkept |= uint64_t{1} << place;
  return fine;
}

// Reads an array as number `place` of the call. False with an exception set, or `mismatch` filled in.
[[gnu::always_inline]] inline bool read(const EntryState &entry, PyObject *object, bool writable, int place, Call *call,
                                        Mismatch *mismatch) {
  if (entry.arrays != nullptr || !read_plain_array(object, writable, &call->tensors[place])) {
    return read_other(entry, object, writable, place, call, mismatch);
  }
  call->unkept |= uint64_t{1} << place;
  return true;
}

// What messages call a result: of a jvp or hvp the `inner`-th of the results (part 0) or of their tangents (part 1).
std::string result_text(const EntryState &entry, int part, int argument) {
  if (entry.kind == TIAOT_JVP) return (part == 0 ? "output " : "tangent of ") + quoted(entry, argument);
  return (part == 0 ? "gradient of " : "tangent of the gradient of ") + quoted(entry, argument);
}

// Complains about a result. `place` is that of the gradient among those of the call.
[[gnu::cold]] bool raise_unwritable(const EntryState &entry, const Call &call, int output, int place,
                                    const Mismatch &mismatch) {
  const int of = static_cast<int>(entry.desc->input_count) + output;
  if (entry.kind == TIAOT_FORWARD) return raise_unreadable(entry, "output " + quoted(entry, of), of, mismatch);
  if (entry.kind == TIAOT_JVP) {
    const int argument = static_cast<int>(entry.desc->input_count) + place;
    return raise_unreadable(entry, result_text(entry, output, argument), argument, mismatch);
  }
  uint32_t mask = call.wrt->mask;
  for (int i = 0; i < place; ++i) mask &= mask - 1;
  if (entry.kind == TIAOT_HVP) {
    const int argument = __builtin_ctz(mask);
    return raise_unreadable(entry, result_text(entry, output, argument), argument, mismatch);
  }
  const int input = __builtin_ctz(mask);
  const std::string subject = entry.kind == TIAOT_VJP
                                  ? "gradient of " + quoted(entry, input)
                                  : "Jacobian of " + quoted(entry, of) + " with respect to " + quoted(entry, input);
  return raise_unreadable(entry, subject, input, mismatch);
}

// Reads the arrays of `out`: a tuple over outputs where there are several, of tuples over `wrt` where that is a tuple.
[[gnu::hot]] bool take_out(const EntryState &entry, Call *call, int first) {
  Mismatch mismatch;
  PyObject *out = call->out;
  const bool inner_tuple = call->inner_tuple;
  if (call->outer > 1 && !take_tuple(entry, out, call->outer, inner_tuple ? "tuples" : "arrays")) return false;
  for (int o = 0; o < call->outer; ++o) {
    PyObject *part = call->outer > 1 ? PyTuple_GET_ITEM(out, o) : out;
    if (inner_tuple && !take_tuple(entry, part, call->inner, "arrays")) return false;
    for (int i = 0; i < call->inner; ++i) {
      PyObject *object = inner_tuple ? PyTuple_GET_ITEM(part, i) : part;
      const int inner = place_of(entry, *call, i), place = first + o * call->inner + inner;
      if (!read(entry, object, true, place, call, &mismatch)) {
        return raise_unwritable(entry, *call, o, inner, mismatch);
      }
    }
  }
  Py_INCREF(out);
  call->result = Ref(out);
  return true;
}

[[gnu::cold, gnu::noinline]] PyObject *make_cuda_result(const EntryState &entry, Call *call, int output, int place,
                                                        DLTensor *tensor) {
  Mismatch mismatch;
  PyObject *array = new_cuda_array(tensor, &call->reading, &mismatch);
  if (array == nullptr) raise_unwritable(entry, *call, output, place, mismatch);
  return array;
}

// A new array for a result, NumPy's or of the library that the arguments are of. nullptr with an exception set.
PyObject *make_result(const EntryState &entry, Call *call, int output, int place, DLTensor *tensor) {
  if (entry.arrays != nullptr) return entry.arrays->make(tensor, &call->reading);
  if (is_cuda(tensor->device.device_type)) return make_cuda_result(entry, call, output, place, tensor);
  return new_array(tensor);
}

// Allocates the results, in the structure that take_out reads.
[[gnu::hot]] bool make_results(const EntryState &entry, Call *call, int first) {
  if (call->outer == 0) {
    call->result = Ref(Py_NewRef(Py_None));
    return true;
  }
  // To make a tuple, or an array of another library's, may run Python code.
  const bool inner_tuple = call->inner_tuple;
  if (call->outer > 1 || inner_tuple || entry.arrays != nullptr || call->reading.cuda.found) keep_shapes(call);
  int32_t count = 0;
  const uint32_t mask = call->wrt != nullptr ? call->wrt->mask : 0;
  const tiaot_status status =
      tiaot_results(entry.kernel, call->kind, mask, call->tensors, first, &call->options, call->tensors + first,
                    entry.most_arrays - first, call->sizes, call->size_room(), &count);
  if (status != TIAOT_OK) return raise_status(status) != nullptr;
  for (int32_t i = 0; i < count; ++i) call->sizes += call->tensors[first + i].ndim;
  Ref whole;
  if (call->outer > 1) {
    whole = Ref(PyTuple_New(call->outer));
    if (!whole) return false;
  }
  for (int o = 0; o < call->outer; ++o) {
    Ref part;
    if (inner_tuple) {
      part = Ref(PyTuple_New(call->inner));
      if (!part) return false;
    }
    for (int i = 0; i < call->inner; ++i) {
      const int inner = place_of(entry, *call, i);
      PyObject *array = make_result(entry, call, o, inner, &call->tensors[first + o * call->inner + inner]);
      if (array == nullptr) return false;
      if (inner_tuple) {
        PyTuple_SET_ITEM(part.get(), i, array);
      } else {
        part = Ref(array);
      }
    }
    if (call->outer > 1) {
      PyTuple_SET_ITEM(whole.get(), o, part.release());
    } else {
      whole = std::move(part);
    }
  }
  call->result = std::move(whole);
  return true;
}

// Reads the inputs that were met on CUDA devices. Where they are not all on one, nothing is made to wait: the runtime
// then says whose place is wrong.
[[gnu::cold, gnu::noinline]] bool read_cuda_inputs(const EntryState &entry, Call *call) {
  CudaPlace *cuda = &call->reading.cuda;
  bool together = true;
  for (int i = 0; i < entry.positional_count; ++i) {
    if (is_given_as_number(entry, *call, i)) continue;
    const DLDevice &device = call->tensors[i].device;
    together = together && (is_cuda(device.device_type) ? device.device_id == cuda->device
                                                        : (argument_desc(entry, i).flags & TIAOT_ARGUMENT_VALUE) != 0);
  }
  if (!settle(cuda)) return false;
  Mismatch mismatch;
  for (int i = 0; i < entry.positional_count; ++i) {
    if (is_given_as_number(entry, *call, i)) continue;
    DLTensor *tensor = &call->tensors[i];
    if (!is_cuda(tensor->device.device_type)) continue;
    if (!read_cuda_array(call->operands[i], false, together, tensor, &call->reading, &mismatch)) {
      return raise_unreadable(entry, operand_text(entry, i), argument_of(entry, i), mismatch);
    }
    call->unkept |= uint64_t{1} << i;
    keep_shapes(call);
  }
  return true;
}

// The place of a call of a kernel over state on a CUDA device: the state's, on its stream, which one that is given
// becomes.
[[gnu::cold, gnu::noinline]] bool place_on_state(const EntryState &entry, CudaPlace *cuda) {
  cuda->found = cuda->settled = true;
  cuda->device = entry.memory->device;
  if (cuda->stream_is_given && !use_stream(entry.memory, cuda->stream, cuda->stream_object)) return false;
  cuda->stream = entry.memory->stream;
  return true;
}

[[gnu::cold]] bool raise_needless_stream(const EntryState &entry) {
  PyErr_Format(PyExc_ValueError, "%s: argument 'stream': expected None for arrays on the CPU, got a CUDA stream",
               entry.label.c_str());
  return false;
}

}  // namespace

int place_of(const EntryState &entry, const Call &call, int inner) {
  if (has_tangents(entry.kind)) return inner;
  return call.inner > 1 ? call.wrt->place[inner] : 0;
}

std::string quoted(const EntryState &entry, int argument) {
  return std::string("'") + entry.desc->arguments[argument].name + "'";
}

std::string operand_text(const EntryState &entry, int position) {
  const int argument = argument_of(entry, position), inputs = static_cast<int>(entry.desc->input_count);
  const char *what = position < inputs ? "argument " : argument < inputs ? "tangent of " : "cotangent of ";
  return what + quoted(entry, argument);
}

std::string dtypes_of(const EntryState &entry, int argument) {
  return forms_of(*entry.desc, static_cast<uint32_t>(argument), "");
}

Call::Call(const EntryState &entry, void *room)
    : kind(entry.kind),
      tensors(static_cast<DLTensor *>(room)),
      named(reinterpret_cast<PyObject **>(tensors + entry.most_arrays)),
      sizes(reinterpret_cast<int64_t *>(named + entry.positional_count)),
      sizes_end(reinterpret_cast<int64_t *>(static_cast<char *>(room) + entry.call_room)) {
  static_assert(sizeof(DLTensor) % sizeof(void *) == 0 && sizeof(PyObject *) == sizeof(int64_t), "all are aligned");
}

void keep_shapes(Call *call) {
  for (; call->unkept != 0; call->unkept &= call->unkept - 1) {
    DLTensor &tensor = call->tensors[__builtin_ctzll(call->unkept)];
    const auto rank = tensor.shape != nullptr ? tensor.ndim : 0;
    const auto need = 2 * rank;
    int64_t *place = call->sizes;
    if (need > call->sizes_end - place) {  // more dimensions than there should be, of which the runtime is to tell
      auto more = std::make_unique<int64_t[]>(static_cast<size_t>(need));
      place = more.get();
      call->reading.leases.emplace_back(std::move(more));
    } else {
      call->sizes += need;
    }
    if (rank > 0) tensor.shape = std::copy_n(tensor.shape, rank, place) - rank;
    if (rank > 0 && tensor.strides != nullptr) {
      tensor.strides = std::copy_n(tensor.strides, rank, place + rank) - rank;
    }
  }
}

bool prepare_results(const EntryState &entry, Call *call) {
  const int first = entry.positional_count;
  if (!(call->out != nullptr ? take_out(entry, call, first) : make_results(entry, call, first))) return false;
  const CudaPlace &cuda = call->reading.cuda;
  if (cuda.stream_is_given && !cuda.found) return raise_needless_stream(entry);
  call->options.stream = cuda.stream;
  return true;
}

bool prepare_operands(EntryState *entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords, Call *call) {
  if (entry->module->closed.load(std::memory_order_relaxed)) {
    return raise_closed(entry->label, *entry->module) != nullptr;
  }
  call->options.variant = entry->variant;
  if (entry->memory != nullptr) call->options.state = entry->memory->handle;
  if (takes_wrt(*entry)) call->wrt = &entry->default_wrt;
  if (!take_arguments(entry, arguments, count, keywords, call)) return false;
  if (is_on_device(*entry) && !place_on_state(*entry, &call->reading.cuda)) return false;
  const int first = entry->positional_count;
  const int outputs = static_cast<int>(entry->desc->output_count);
  const bool has_any = has_results(*entry);
  call->outer = !has_any ? 0 : entry->kind == TIAOT_VJP ? 1 : has_tangents(entry->kind) ? 2 : outputs;
  call->inner = entry->kind == TIAOT_JVP ? outputs : call->wrt == nullptr ? 1 : call->wrt->count;
  call->inner_tuple = entry->kind == TIAOT_JVP ? outputs > 1 : call->wrt != nullptr && call->wrt->is_tuple;
  call->count = first + call->outer * call->inner;
  if (call->count > TIAOT_MAX_ARRAYS) {
    PyErr_Format(PyExc_NotImplementedError, "%s: a call can have at most %d arrays, this one has %d",
                 entry->label.c_str(), TIAOT_MAX_ARRAYS, call->count);
    return false;
  }
  Mismatch mismatch;
  bool numbers = false;
  for (int i = 0; i < first; ++i) {
    if (is_given_as_number(*entry, *call, i)) {
      numbers = true;
      continue;
    }
    if (!read(*entry, call->operands[i], false, i, call, &mismatch)) {
      return raise_unreadable(*entry, operand_text(*entry, i), argument_of(*entry, i), mismatch);
    }
  }
  CudaPlace &cuda = call->reading.cuda;
  if (cuda.found && !cuda.settled && !read_cuda_inputs(*entry, call)) return false;
  for (int i = 0; i < first && numbers; ++i) {
    if (!is_given_as_number(*entry, *call, i)) continue;
    keep_shapes(call);  // a number's class may have a method that makes a float of it
    if (!take_number(*entry, i, call)) return false;
  }
  return true;
}

}  // namespace tiaot::binding
