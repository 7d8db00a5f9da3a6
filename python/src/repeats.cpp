// repeats.cpp: how calls look, and the quick way for one that has looked so before. Only numbers and plain arrays of
// NumPy's come here, which run no code of others when they are read.
#include "repeats.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "call.hpp"
#include "repeat.hpp"

namespace tiaot::binding {
namespace {

constexpr int kMostArrays = UsualArguments::kMost;  // of a call that is remembered: their addresses lie on the stack

struct Form {
  PyArray_Descr *descr;  // NumPy's own of a built-in type, of which there is one, for good; nullptr: a number
  int rank;
  const npy_intp *shape;
  uint32_t dtype;  // the descriptor's name of the element type

  bool operator==(const Form &other) const {
    return descr == other.descr && dtype == other.dtype &&
           std::equal(shape, shape + rank, other.shape, other.shape + other.rank);
  }
};

}  // namespace

// How a call looked. Never changes.
struct Look {
  std::unique_ptr<const Repeat> repeat;
  Ref wrt;                                  // as it was given, something that cannot change; empty: it was not
  int operands, outer, inner;               // as in Call
  bool inner_tuple;                         //
  std::array<uint8_t, kMostArrays> places;  // of each result, as they stand in `out`, its place among the arrays
  std::vector<Form> forms;                  // of each array
  std::vector<npy_intp> sizes;              // that the forms point into
  mutable int holders = 1;                  // the entry, and calls that are running other code meanwhile
};

namespace {

void let_go(const Look *look) {
  if (look != nullptr && --look->holders == 0) delete look;
}

struct LetGo {
  void operator()(const Look *look) const { let_go(look); }
};

// Whether it is a plain array of that form; `flags` are NumPy's that it must have.
inline bool fits(const Form &form, PyObject *object, int flags) {
  if (Py_TYPE(object) != &PyArray_Type) return false;
  auto *array = reinterpret_cast<PyArrayObject *>(object);
  if (!PyArray_CHKFLAGS(array, flags) || PyArray_DESCR(array) != form.descr || PyArray_NDIM(array) != form.rank) {
    return false;
  }
  const npy_intp *shape = PyArray_DIMS(array);
  for (int axis = 0; axis < form.rank; ++axis) {
    if (shape[axis] != form.shape[axis]) return false;
  }
  return true;
}

inline void *data_of(PyObject *array) { return PyArray_DATA(reinterpret_cast<PyArrayObject *>(array)); }

// Takes the operands; `numbers` is room for those that are.
inline bool take_operands(const Look &look, PyObject *const *operands, void **data, int64_t *numbers) {
  for (int i = 0; i < look.operands; ++i) {
    const Form &form = look.forms[static_cast<size_t>(i)];
    if (form.descr == nullptr) {
      if (!write_plain_number(operands[i], form.dtype, &numbers[i])) return false;
      data[i] = &numbers[i];
    } else {
      if (!fits(form, operands[i], NPY_ARRAY_C_CONTIGUOUS)) return false;
      data[i] = data_of(operands[i]);
    }
  }
  return true;
}

inline bool is_tuple_of(PyObject *object, int count) {
  return PyTuple_Check(object) && PyTuple_GET_SIZE(object) == count;
}

// Takes the results out of `out`, whose structure take_out in call.cpp explains.
inline bool take_out(const Look &look, PyObject *out, void **data) {
  if (look.outer > 1 && !is_tuple_of(out, look.outer)) return false;
  const uint8_t *place = look.places.data();
  for (int o = 0; o < look.outer; ++o) {
    PyObject *part = look.outer > 1 ? PyTuple_GET_ITEM(out, o) : out;
    if (look.inner_tuple && !is_tuple_of(part, look.inner)) return false;
    for (int i = 0; i < look.inner; ++i, ++place) {
      PyObject *object = look.inner_tuple ? PyTuple_GET_ITEM(part, i) : part;
      if (!fits(look.forms[*place], object, NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_WRITEABLE)) return false;
      data[*place] = data_of(object);
    }
  }
  return true;
}

// Results of a call: new references.
struct NewResults {
  PyObject *arrays[kMostArrays];
  int count = 0;

  ~NewResults() {
    for (int i = 0; i < count; ++i) Py_XDECREF(arrays[i]);
  }
  PyObject *take(int i) { return std::exchange(arrays[i], nullptr); }
};

inline bool make_results(const Look &look, NewResults *results, void **data) {
  for (int i = 0; i < look.outer * look.inner; ++i) {
    const size_t place = look.places[static_cast<size_t>(i)];
    const Form &form = look.forms[place];
    Py_INCREF(form.descr);  // which NumPy takes
    PyObject *array =
        PyArray_NewFromDescr(&PyArray_Type, form.descr, form.rank, form.shape, nullptr, nullptr, 0, nullptr);
    if (array == nullptr) return false;
    results->arrays[results->count++] = array;
    data[place] = data_of(array);
  }
  return true;
}

// The results in the structure of `out`. To make a tuple may run Python code.
PyObject *hand_out(const Look &look, NewResults *results) {
  Ref whole(look.outer > 1 ? PyTuple_New(look.outer) : nullptr);
  if (look.outer > 1 && !whole) return nullptr;
  int at = 0;
  for (int o = 0; o < look.outer; ++o) {
    Ref part(look.inner_tuple ? PyTuple_New(look.inner) : results->take(at++));
    if (!part) return nullptr;
    for (int i = 0; look.inner_tuple && i < look.inner; ++i) PyTuple_SET_ITEM(part.get(), i, results->take(at++));
    if (look.outer == 1) return part.release();
    PyTuple_SET_ITEM(whole.get(), o, part.release());
  }
  return whole.release();
}

// Runs the call on new arrays. nullptr with an exception set, or, where these do not fit after all, without one.
PyObject *run_on_new(const Look &look, void **data, bool *fitting) {
  ++look.holders;  // tuples, and an allocator of the program's own, may run anything
  const std::unique_ptr<const Look, LetGo> keep(&look);
  NewResults results;
  if (!make_results(look, &results, data)) return nullptr;
  *fitting = look.repeat->fits(data);
  if (!*fitting) return nullptr;
  const tiaot_status status = look.repeat->run(data);
  if (status != TIAOT_OK) return raise_status(status);
  return hand_out(look, &results);
}

// A hash of the element types and shapes of the operands, from which those of the results follow.
uint64_t hash_of(const EntryState &entry, const Call &call) {
  uint64_t hash = reinterpret_cast<uintptr_t>(call.wrt_object) | 1;
  const auto add = [&](uint64_t number) { hash = (hash ^ number) * 0x9e3779b97f4a7c15; };
  for (int i = 0; i < entry.positional_count; ++i) {
    const DLTensor &tensor = call.tensors[i];
    add(tensor.dtype.bits + uint64_t{tensor.dtype.code} * 256 + static_cast<uint64_t>(tensor.ndim) * 65536);
    for (int axis = 0; axis < tensor.ndim; ++axis) add(static_cast<uint64_t>(tensor.shape[axis]));
  }
  return hash | 1;  // not 0, which is none
}

// Whether a call is of the kind that is remembered.
bool is_usual(const EntryState &entry, const Call &call) {
  const Reading &reading = call.reading;
  if (entry.arrays != nullptr || entry.memory != nullptr || call.kind != entry.kind || call.outer == 0) return false;
  if (call.num_threads != nullptr || reading.cuda.found) return false;
  size_t numbers = 0;
  for (int i = 0; i < entry.positional_count; ++i) numbers += is_given_as_number(entry, call, i);
  if (reading.leases.size() != numbers) return false;  // each has one; so does what is no plain array
  if (call.wrt_object != nullptr && !cannot_change(call.wrt_object)) return false;
  return call.count <= kMostArrays;
}

// How the call looked, without the `repeat`.
std::unique_ptr<Look> look_of(const EntryState &entry, const Call &call) {
  auto look = std::make_unique<Look>();
  look->wrt = Ref(Py_XNewRef(call.wrt_object));
  look->operands = entry.positional_count;
  look->outer = call.outer;
  look->inner = call.inner;
  look->inner_tuple = call.inner_tuple;
  uint8_t *place = look->places.data();
  for (int o = 0; o < call.outer; ++o) {
    for (int i = 0; i < call.inner; ++i) {
      *place++ = static_cast<uint8_t>(look->operands + o * call.inner + place_of(entry, call, i));
    }
  }
  const DLTensor *tensors = call.tensors;
  for (int i = 0; i < call.count; ++i) {
    look->sizes.insert(look->sizes.end(), tensors[i].shape, tensors[i].shape + tensors[i].ndim);
  }
  const npy_intp *shape = look->sizes.data();
  for (int i = 0; i < call.count; ++i) {
    PyArray_Descr *descr = nullptr;
    if (i >= look->operands || !is_given_as_number(entry, call, i)) {
      descr = PyArray_DescrFromType(numpy_type(tensors[i].dtype));
      Py_DECREF(descr);  // which does not go
    }
    const uint32_t dtype = static_cast<uint32_t>(tensors[i].dtype.code) << 8 | tensors[i].dtype.bits;
    look->forms.push_back({descr, tensors[i].ndim, shape, dtype});
    shape += tensors[i].ndim;
  }
  return look;
}

}  // namespace

Repeats::~Repeats() {
  for (const Look *look : looks_) let_go(look);
}

bool Repeats::run(const EntryState &entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords,
                  PyObject **result) const {
  if (looks_[0] == nullptr || entry.module->closed.load(std::memory_order_relaxed)) return false;
  UsualArguments usual;
  if (!take_usual_arguments(entry, arguments, count, keywords, &usual)) return false;
  PyObject *const out = usual.out;
  void *data[kMostArrays];
  int64_t numbers[kMostArrays];
  for (const Look *look : looks_) {
    if (look == nullptr) return false;
    if (look->wrt.get() != usual.wrt || !take_operands(*look, usual.operands, data, numbers)) continue;
    if (out == nullptr) {
      bool fitting = true;
      *result = run_on_new(*look, data, &fitting);
      return fitting;
    }
    if (!take_out(*look, out, data) || !look->repeat->fits(data)) return false;
    const tiaot_status status = look->repeat->run(data);
    *result = status == TIAOT_OK ? Py_NewRef(out) : raise_status(status);
    return true;
  }
  return false;
}

void Repeats::remember(const EntryState &entry, const Call &call) {
  if (!is_usual(entry, call)) return;
  const uint64_t hash = hash_of(entry, call);
  if (std::find(seen_.begin(), seen_.end(), hash) == seen_.end()) {
    seen_[next_seen_++ % kMost] = hash;
    return;
  }
  std::unique_ptr<Look> look = look_of(entry, call);
  for (const Look *known : looks_) {  // what is not plain may look like what is
    if (known != nullptr && known->wrt.get() == look->wrt.get() && known->forms == look->forms) return;
  }
  const uint32_t mask = call.wrt != nullptr ? call.wrt->mask : 0;
  look->repeat = Repeat::of(entry.kernel, call.kind, mask, call.tensors, call.count, &call.options);
  if (look->repeat == nullptr) return;
  let_go(std::exchange(looks_[next_++ % kMost], look.release()));
}

}  // namespace tiaot::binding
