// call.cpp: reads the arguments of a call and allocates its results. The binding reports only what the runtime cannot
// see: objects that are no arrays, their number, keywords, the structure of `out`.
#include "call.hpp"

#include <cstring>
#include <type_traits>

#include "cuda_arrays.hpp"
#include "half.hpp"

namespace tiaot::binding {
namespace {

PyObject *name_out = nullptr;
PyObject *name_wrt = nullptr;
PyObject *name_num_threads = nullptr;
PyObject *name_stream = nullptr;

// The descriptor's name of an argument, quoted.
std::string quoted(const EntryState &entry, int argument) {
  return std::string("'") + entry.desc->arguments[argument].name + "'";
}

// What messages call the operand at that position, as the runtime's do.
std::string operand_text(const EntryState &entry, int position) {
  const bool cotangent = position >= static_cast<int>(entry.desc->input_count);
  return (cotangent ? "cotangent of " : "argument ") + quoted(entry, position);
}

bool has_results(const EntryState &entry) { return takes_wrt(entry) || entry.desc->output_count > 0; }

std::string operand_names(const EntryState &entry) {
  std::string names = input_names(*entry.desc, false);
  for (int i = static_cast<int>(entry.desc->input_count); i < entry.positional_count; ++i) {
    names += (names.empty() ? "" : ", ") + operand_text(entry, i);
  }
  return names;
}

// "float32 or float64": the element types that any variant has for this argument.
std::string dtypes_of(const EntryState &entry, int argument) {
  std::string text;
  std::vector<uint32_t> seen;
  for (uint32_t v = 0; v < entry.desc->variant_count; ++v) {
    const uint32_t dtype = entry.desc->variants[v].dtypes[argument];
    bool known = false;
    for (uint32_t other : seen) known = known || other == dtype;
    if (known) continue;
    seen.push_back(dtype);
    const char *kinds[] = {"int", "uint", "float"};
    text += (text.empty() ? "" : " or ") + std::string(kinds[(dtype >> 8) % 3]) + std::to_string(dtype & 0xff);
  }
  return text;
}

// `argument` is the descriptor's that tells the element types.
[[gnu::cold]] bool raise_unreadable(const EntryState &entry, const std::string &subject, int argument,
                                    const Mismatch &mismatch) {
  if (mismatch.exception == nullptr) return false;
  const std::string expected =
      mismatch.expected.empty() ? "an array of " + dtypes_of(entry, argument) : mismatch.expected;
  raise_mismatch(mismatch.exception, entry.label, subject, expected, mismatch.got);
  return false;
}

[[gnu::cold]] bool raise_count(const EntryState &entry, Py_ssize_t got) {
  PyErr_Format(PyExc_TypeError, "%s: expected %d arrays (%s), got %zd", entry.label.c_str(), entry.positional_count,
               operand_names(entry).c_str(), got);
  return false;
}

[[gnu::cold]] bool raise_keyword(const EntryState &entry, PyObject *keyword) {
  const bool on_state = entry.desc->state != 0;
  const char *known = takes_wrt(entry)                  ? "keywords wrt, out, num_threads or stream"
                      : has_results(entry) && !on_state ? "keywords out, num_threads or stream"
                      : has_results(entry)              ? "keywords out or num_threads"
                      : on_state                        ? "no keyword but num_threads"
                                                        : "keywords num_threads or stream";
  PyErr_Format(PyExc_TypeError, "%s: expected %s (arrays go by position), got %R", entry.label.c_str(), known, keyword);
  return false;
}

bool same_name(PyObject *keyword, PyObject *name) { return keyword == name || PyUnicode_Compare(keyword, name) == 0; }

bool take_wrt(EntryState *entry, PyObject *object, Call *call) {
  if (object == entry->last_wrt_object.get()) {
    call->parsed_wrt = entry->last_wrt;
  } else {
    if (!read_wrt(*entry, object, &call->parsed_wrt)) return false;
    bool immutable = PyUnicode_CheckExact(object) || PyTuple_CheckExact(object);
    if (PyTuple_CheckExact(object)) {
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i) {
        immutable = immutable && PyUnicode_CheckExact(PyTuple_GET_ITEM(object, i));
      }
    }
    if (immutable) {
      Py_INCREF(object);
      entry->last_wrt_object = Ref(object);
      entry->last_wrt = call->parsed_wrt;
    }
  }
  call->wrt = &call->parsed_wrt;
  return true;
}

bool take_keyword(EntryState *entry, PyObject *keyword, PyObject *value, Call *call) {
  if (same_name(keyword, name_out) && has_results(*entry)) {
    call->out = value == Py_None ? nullptr : value;
    return true;
  }
  if (takes_wrt(*entry) && same_name(keyword, name_wrt)) return take_wrt(entry, value, call);
  if (same_name(keyword, name_num_threads)) {
    if (value == Py_None) return true;
    return read_num_threads(value, entry->label.c_str(), ": argument 'num_threads'", &call->options.num_threads);
  }
  if (same_name(keyword, name_stream) && entry->desc->state == 0) {
    CudaPlace *cuda = &call->reading.cuda;
    cuda->stream_is_given = value != Py_None;
    return value == Py_None || read_stream(value, entry->label.c_str(), ": argument 'stream'", &cuda->stream);
  }
  return raise_keyword(*entry, keyword);
}

bool take_tuple(const EntryState &entry, PyObject *out, int count, const char *of) {
  if (PyTuple_Check(out) && PyTuple_GET_SIZE(out) == count) return true;
  const bool is_tuple = PyTuple_Check(out);
  const std::string got = is_tuple ? "a tuple of " + std::to_string(PyTuple_GET_SIZE(out)) : type_name(out);
  raise_mismatch(is_tuple ? PyExc_ValueError : PyExc_TypeError, entry.label, "argument 'out'",
                 "a tuple of " + std::to_string(count) + " " + of, got);
  return false;
}

bool read(const EntryState &entry, PyObject *object, bool writable, DLTensor *tensor, Call *call, Mismatch *mismatch) {
  if (entry.arrays == nullptr) return read_array(object, writable, tensor, &call->reading, mismatch);
  return entry.arrays->read(object, writable, tensor, &call->reading, mismatch);
}

// The element type that a number is to have: that of the first variant that takes the arrays which were read.
uint32_t number_dtype(const EntryState &entry, PyObject *const *arguments, const Call &call, int position) {
  for (uint32_t v = 0; v < entry.desc->variant_count; ++v) {
    const uint32_t *dtypes = entry.desc->variants[v].dtypes;
    bool fits = true;
    for (int i = 0; i < entry.positional_count && fits; ++i) {
      const DLDataType &type = call.tensors[i].dtype;
      fits = is_number(arguments[i]) || dtypes[i] == (static_cast<uint32_t>(type.code) << 8 | type.bits);
    }
    if (fits) return dtypes[position];
  }
  return entry.desc->variants[0].dtypes[position];
}

template <typename T>
bool write_integer(PyObject *object, const std::string &label, const std::string &subject, int64_t *place) {
  if (!PyLong_Check(object)) {
    raise_mismatch(PyExc_TypeError, label, subject, "an integer", type_name(object));
    return false;
  }
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
  const T narrow = static_cast<T>(value);
  if (overflow != 0 || static_cast<long long>(narrow) != value) {
    const std::string kind = std::string(std::is_signed_v<T> ? "int" : "uint") + std::to_string(8 * sizeof(T));
    raise_mismatch(PyExc_ValueError, label, subject, "an integer that fits " + kind, text_of(object));
    return false;
  }
  std::memcpy(place, &narrow, sizeof narrow);
  return true;
}

// Makes an array without dimensions of a Python number. The memory is a lease of the call.
bool take_number(const EntryState &entry, PyObject *const *arguments, int position, Call *call) {
  auto memory = std::make_unique<int64_t[]>(1);
  int64_t *place = memory.get();
  const uint32_t dtype = number_dtype(entry, arguments, *call, position);
  const std::string subject = operand_text(entry, position);
  PyObject *object = arguments[position];
  bool done = false;
  if (dtype == TIAOT_FLOAT16 || dtype == TIAOT_FLOAT32 || dtype == TIAOT_FLOAT64) {
    const double value = PyFloat_AsDouble(object);
    if (value == -1 && PyErr_Occurred()) return false;
    const auto narrow = static_cast<float>(value);
    if (dtype == TIAOT_FLOAT16) {
      const Half half(value);
      std::memcpy(place, &half, sizeof half);
    }
    if (dtype == TIAOT_FLOAT32) std::memcpy(place, &narrow, sizeof narrow);
    if (dtype == TIAOT_FLOAT64) std::memcpy(place, &value, sizeof value);
    done = true;
  } else if (dtype == TIAOT_INT32) {
    done = write_integer<int32_t>(object, entry.label, subject, place);
  } else if (dtype == TIAOT_INT64) {
    done = write_integer<int64_t>(object, entry.label, subject, place);
  } else if (dtype == TIAOT_UINT8) {
    done = write_integer<uint8_t>(object, entry.label, subject, place);
  } else {
    raise_mismatch(PyExc_TypeError, entry.label, subject, "an array of " + dtypes_of(entry, position),
                   type_name(object));
  }
  if (!done) return false;
  const DLDataType type = {static_cast<uint8_t>(dtype >> 8), static_cast<uint8_t>(dtype), 1};
  call->tensors[position] = {place, {kDLCPU, 0}, 0, type, nullptr, nullptr, 0};
  call->reading.leases.emplace_back(std::move(memory));
  return true;
}

// Where the i-th result that the caller asked for stands in the runtime's order.
int place_of(const Call &call, int inner) { return call.inner > 1 ? call.wrt->place[inner] : 0; }

// Complains about a result. `place` is that of the gradient among those of the call.
[[gnu::cold]] bool raise_unwritable(const EntryState &entry, const Call &call, int output, int place,
                                    const Mismatch &mismatch) {
  const int of = static_cast<int>(entry.desc->input_count) + output;
  if (entry.kind == TIAOT_FORWARD) return raise_unreadable(entry, "output " + quoted(entry, of), of, mismatch);
  uint32_t mask = call.wrt->mask;
  for (int i = 0; i < place; ++i) mask &= mask - 1;
  const int input = __builtin_ctz(mask);
  const std::string subject = entry.kind == TIAOT_VJP
                                  ? "gradient of " + quoted(entry, input)
                                  : "Jacobian of " + quoted(entry, of) + " with respect to " + quoted(entry, input);
  return raise_unreadable(entry, subject, input, mismatch);
}

// Reads the arrays of `out`: a tuple over outputs where there are several, of tuples over `wrt` where that is a tuple.
bool take_out(const EntryState &entry, Call *call, int first) {
  Mismatch mismatch;
  PyObject *out = call->out;
  const bool inner_tuple = call->wrt != nullptr && call->wrt->is_tuple;
  if (call->outer > 1 && !take_tuple(entry, out, call->outer, inner_tuple ? "tuples" : "arrays")) return false;
  for (int o = 0; o < call->outer; ++o) {
    PyObject *part = call->outer > 1 ? PyTuple_GET_ITEM(out, o) : out;
    if (inner_tuple && !take_tuple(entry, part, call->inner, "arrays")) return false;
    for (int i = 0; i < call->inner; ++i) {
      PyObject *object = inner_tuple ? PyTuple_GET_ITEM(part, i) : part;
      DLTensor *tensor = &call->tensors[first + o * call->inner + place_of(*call, i)];
      if (!read(entry, object, true, tensor, call, &mismatch)) {
        return raise_unwritable(entry, *call, o, place_of(*call, i), mismatch);
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
bool make_results(const EntryState &entry, Call *call, int first) {
  if (call->outer == 0) {
    call->result = Ref(Py_NewRef(Py_None));
    return true;
  }
  int32_t count = 0;
  const uint32_t mask = call->wrt != nullptr ? call->wrt->mask : 0;
  const tiaot_status status =
      tiaot_results(entry.kernel, entry.kind, mask, call->tensors, first, &call->options, call->tensors + first,
                    TIAOT_MAX_ARRAYS - first, call->shapes, kShapeRoom, &count);
  if (status != TIAOT_OK) return raise_status(status) != nullptr;
  const bool inner_tuple = call->wrt != nullptr && call->wrt->is_tuple;
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
      DLTensor *tensor = &call->tensors[first + o * call->inner + place_of(*call, i)];
      PyObject *array = make_result(entry, call, o, place_of(*call, i), tensor);
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
[[gnu::cold, gnu::noinline]] bool read_cuda_inputs(const EntryState &entry, PyObject *const *arguments, Call *call) {
  CudaPlace *cuda = &call->reading.cuda;
  bool together = true;
  for (int i = 0; i < entry.positional_count; ++i) {
    const tiaot_argument_desc &argument = entry.desc->arguments[i];
    if (argument.rank == 0 && is_number(arguments[i])) continue;
    const DLDevice &device = call->tensors[i].device;
    together = together && (is_cuda(device.device_type) ? device.device_id == cuda->device
                                                        : (argument.flags & TIAOT_ARGUMENT_VALUE) != 0);
  }
  if (!settle(cuda)) return false;
  Mismatch mismatch;
  for (int i = 0; i < entry.positional_count; ++i) {
    if (entry.desc->arguments[i].rank == 0 && is_number(arguments[i])) continue;
    DLTensor *tensor = &call->tensors[i];
    if (!is_cuda(tensor->device.device_type)) continue;
    if (!read_cuda_array(arguments[i], false, together, tensor, &call->reading, &mismatch)) {
      return raise_unreadable(entry, operand_text(entry, i), i, mismatch);
    }
  }
  return true;
}

[[gnu::cold]] bool raise_needless_stream(const EntryState &entry) {
  PyErr_Format(PyExc_ValueError, "%s: argument 'stream': expected None for arrays on the CPU, got a CUDA stream",
               entry.label.c_str());
  return false;
}

}  // namespace

bool prepare_entries() {
  name_out = PyUnicode_InternFromString("out");
  name_wrt = PyUnicode_InternFromString("wrt");
  name_num_threads = PyUnicode_InternFromString("num_threads");
  name_stream = PyUnicode_InternFromString("stream");
  return name_out != nullptr && name_wrt != nullptr && name_num_threads != nullptr && name_stream != nullptr;
}

bool prepare_call(EntryState *entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords, Call *call) {
  if (entry->module->closed.load(std::memory_order_relaxed)) {
    return raise_closed(entry->label, *entry->module) != nullptr;
  }
  if (count != entry->positional_count) return raise_count(*entry, count);
  call->options.variant = entry->variant;
  if (entry->memory != nullptr) call->options.state = entry->memory->handle;
  if (takes_wrt(*entry)) call->wrt = &entry->default_wrt;
  if (keywords != nullptr) {
    const Py_ssize_t keyword_count = PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < keyword_count; ++i) {
      if (!take_keyword(entry, PyTuple_GET_ITEM(keywords, i), arguments[count + i], call)) return false;
    }
  }
  const int first = entry->positional_count;
  call->outer = entry->kind == TIAOT_VJP ? 1 : static_cast<int>(entry->desc->output_count);
  call->inner = call->wrt == nullptr ? 1 : call->wrt->count;
  call->count = first + call->outer * call->inner;
  if (call->count > TIAOT_MAX_ARRAYS) {
    PyErr_Format(PyExc_NotImplementedError, "%s: a call can have at most %d arrays, this one has %d",
                 entry->label.c_str(), TIAOT_MAX_ARRAYS, call->count);
    return false;
  }
  Mismatch mismatch;
  bool numbers = false;
  for (int i = 0; i < first; ++i) {
    if (entry->desc->arguments[i].rank == 0 && is_number(arguments[i])) {
      numbers = true;
      continue;
    }
    if (!read(*entry, arguments[i], false, &call->tensors[i], call, &mismatch)) {
      return raise_unreadable(*entry, operand_text(*entry, i), i, mismatch);
    }
  }
  CudaPlace &cuda = call->reading.cuda;
  if (cuda.found && !cuda.settled && !read_cuda_inputs(*entry, arguments, call)) return false;
  for (int i = 0; i < first && numbers; ++i) {
    if (entry->desc->arguments[i].rank != 0 || !is_number(arguments[i])) continue;
    if (!take_number(*entry, arguments, i, call)) return false;
  }
  if (!(call->out != nullptr ? take_out(*entry, call, first) : make_results(*entry, call, first))) return false;
  if (cuda.stream_is_given && !cuda.found) return raise_needless_stream(*entry);
  call->options.stream = cuda.stream;
  return true;
}

}  // namespace tiaot::binding
