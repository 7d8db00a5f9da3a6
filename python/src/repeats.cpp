// repeats.cpp: how calls look, and the quick way for one that has looked so before. Numbers and plain arrays of
// NumPy's, which run no code of others when they are read, are compared as they are; others once they have been read.
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
};

uint32_t dtype_of(const DLTensor &tensor) { return static_cast<uint32_t>(tensor.dtype.code) << 8 | tensor.dtype.bits; }

}  // namespace

// How a call looked. Never changes.
struct Look {
  std::unique_ptr<const Repeat> repeat;
  Ref wrt;                                  // as it was given: the entry's own name, or a tuple of them; or empty
  int operands, outer, inner;               // as in Call
  bool inner_tuple;                         //
  std::array<uint8_t, kMostArrays> places;  // of each result, as they stand in `out`, its place among the arrays
  std::vector<Form> forms;                  // of each array
  std::vector<npy_intp> sizes;              // that the forms point into
  mutable int holders = 1;                  // the entry, and calls that are running other code meanwhile
  mutable bool used = true;                 // since it was last to make room
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

// Takes the operands that have been read, by an ArrayKind.
inline bool take_read(const Look &look, const DLTensor *tensors, void **data) {
  for (int i = 0; i < look.operands; ++i) {
    const Form &form = look.forms[static_cast<size_t>(i)];
    const DLTensor &tensor = tensors[i];
    if (dtype_of(tensor) != form.dtype || tensor.ndim != form.rank) return false;
    if (!std::equal(form.shape, form.shape + form.rank, tensor.shape)) return false;
    data[i] = static_cast<char *>(tensor.data) + tensor.byte_offset;
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

// Runs the call on new arrays: make(form, &data) makes one, or returns nullptr with an exception set. False where these
// do not fit after all.
template <typename Make>
inline bool run_on_new(const Look &look, void **data, PyObject **result, Make &&make) {
  ++look.holders;  // to make tuples and arrays may run anything
  const std::unique_ptr<const Look, LetGo> keep(&look);
  NewResults results;
  for (int i = 0; i < look.outer * look.inner; ++i) {
    const size_t place = look.places[static_cast<size_t>(i)];
    PyObject *array = make(look.forms[place], &data[place]);
    if (array == nullptr) return true;
    results.arrays[results.count++] = array;
  }
  if (!look.repeat->fits(data)) return false;
  const tiaot_status status = look.repeat->run(data);
  *result = status == TIAOT_OK ? hand_out(look, &results) : raise_status(status);
  return true;
}

PyObject *new_numpy_array(const Form &form, void **data) {
  Py_INCREF(form.descr);  // which NumPy takes
  PyObject *array =
      PyArray_NewFromDescr(&PyArray_Type, form.descr, form.rank, form.shape, nullptr, nullptr, 0, nullptr);
  if (array != nullptr) *data = data_of(array);
  return array;
}

// Whether `wrt` asks for the same by the same names, each of which is the entry's own.
inline bool is_same_wrt(PyObject *known, PyObject *wrt) {
  if (known == wrt) return true;
  if (known == nullptr || wrt == nullptr || !PyTuple_CheckExact(known) || !PyTuple_CheckExact(wrt)) return false;
  const Py_ssize_t count = PyTuple_GET_SIZE(known);
  if (PyTuple_GET_SIZE(wrt) != count) return false;
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (PyTuple_GET_ITEM(known, i) != PyTuple_GET_ITEM(wrt, i)) return false;
  }
  return true;
}

// Whether `wrt` is what is_same_wrt knows again.
bool is_usual_wrt(const EntryState &entry, PyObject *wrt) {
  const auto is_name = [&](PyObject *object) {
    return std::any_of(entry.names.begin(), entry.names.end(), [=](const Ref &name) { return name.get() == object; });
  };
  if (!PyTuple_CheckExact(wrt)) return is_name(wrt);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(wrt); ++i) {
    if (!is_name(PyTuple_GET_ITEM(wrt, i))) return false;
  }
  return true;
}

// A hash of `wrt` and the element types and shapes of the operands, from which the results follow.
uint64_t hash_of(const EntryState &entry, const Call &call) {
  uint64_t hash = call.wrt_object != nullptr;
  const auto add = [&](uint64_t number) { hash = (hash ^ number) * 0x9e3779b97f4a7c15; };
  if (call.wrt != nullptr) {
    add(uint64_t{call.wrt->mask} << 1 | call.wrt->is_tuple);
    for (int i = 0; i < call.wrt->count; ++i) add(call.wrt->place[i]);
  }
  for (int i = 0; i < entry.positional_count; ++i) {
    const DLTensor &tensor = call.tensors[i];
    add(tensor.dtype.bits + uint64_t{tensor.dtype.code} * 256 + static_cast<uint64_t>(tensor.ndim) * 65536);
    for (int axis = 0; axis < tensor.ndim; ++axis) add(static_cast<uint64_t>(tensor.shape[axis]));
  }
  return hash;
}

// Whether a call is of the kind that is remembered.
bool is_usual(const EntryState &entry, const Call &call) {
  const Reading &reading = call.reading;
  if (entry.memory != nullptr || call.kind != entry.kind || call.outer == 0 || call.count > kMostArrays) return false;
  if (call.num_threads != nullptr || reading.cuda.found || reading.cuda.stream_is_given) return false;
  return call.wrt_object == nullptr || is_usual_wrt(entry, call.wrt_object);
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
    look->forms.push_back({descr, tensors[i].ndim, shape, dtype_of(tensors[i])});
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
  if (looks_[0] == nullptr || entry.arrays != nullptr) return false;
  if (entry.module->closed.load(std::memory_order_relaxed)) return false;
  UsualArguments usual;
  if (!take_usual_arguments(entry, arguments, count, keywords, &usual)) return false;
  PyObject *const out = usual.out;
  void *data[kMostArrays];
  int64_t numbers[kMostArrays];
  for (const Look *look : looks_) {
    if (look == nullptr) return false;
    if (!is_same_wrt(look->wrt.get(), usual.wrt) || !take_operands(*look, usual.operands, data, numbers)) continue;
    look->used = true;
    if (out == nullptr) return run_on_new(*look, data, result, new_numpy_array);
    if (!take_out(*look, out, data) || !look->repeat->fits(data)) return false;
    const tiaot_status status = look->repeat->run(data);
    *result = status == TIAOT_OK ? Py_NewRef(out) : raise_status(status);
    return true;
  }
  return false;
}

bool Repeats::run_on_others(const EntryState &entry, Call *call, PyObject **result) const {
  if (looks_[0] == nullptr || call->out != nullptr || !is_usual(entry, *call)) return false;
  void *data[kMostArrays];
  const auto make = [&](const Form &form, void **at) {
    DLTensor tensor = {nullptr,
                       {kDLCPU, 0},
                       form.rank,
                       {static_cast<uint8_t>(form.dtype >> 8), static_cast<uint8_t>(form.dtype), 1},
                       const_cast<npy_intp *>(form.shape),
                       nullptr,
                       0};
    PyObject *array = entry.arrays->make(&tensor, &call->reading);
    *at = tensor.data;
    return array;
  };
  for (const Look *look : looks_) {
    if (look == nullptr) return false;
    if (!is_same_wrt(look->wrt.get(), call->wrt_object) || !take_read(*look, call->tensors, data)) continue;
    look->used = true;
    return run_on_new(*look, data, result, make);
  }
  return false;
}

void Repeats::remember(const EntryState &entry, const Call &call) {
  if (!is_usual(entry, call)) return;
  const uint64_t hash = hash_of(entry, call);
  Seen *seen = std::find_if(seen_.begin(), seen_.end(), [=](const Seen &each) { return each.hash == hash; });
  if (seen == seen_.end()) {
    seen_[next_seen_++ % kMost] = {hash, false};
    return;
  }
  if (seen->decided) return;
  const Look *&room = looks_[next_ % kMost];
  if (room != nullptr && std::exchange(room->used, false)) {  // one that is called in turn with this one stays
    ++next_;
    return;
  }
  seen->decided = true;
  std::unique_ptr<Look> look = look_of(entry, call);
  const uint32_t mask = call.wrt != nullptr ? call.wrt->mask : 0;
  look->repeat = Repeat::of(entry.kernel, call.kind, mask, call.tensors, call.count, &call.options);
  if (look->repeat == nullptr) return;
  let_go(std::exchange(room, look.release()));
  ++next_;
}

}  // namespace tiaot::binding
