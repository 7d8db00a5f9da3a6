// state.cpp: the type StateMemory: arrays that view the memory of a state, and the kernels bound to it. tiaot/_state.py
// makes of it what users see.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstring>
#include <type_traits>

#include "cuda_arrays.hpp"
#include "entry.hpp"
#include "state.hpp"

namespace nb = nanobind;

namespace tiaot::binding {
namespace {

// An array on memory of `self`, which it keeps alive.
nb::object view(nb::handle self, const DLTensor &tensor) {
  const int type = numpy_type(tensor.dtype);
  if (type < 0) throw nb::python_error();
  npy_intp strides[TIAOT_MAX_DIMS];
  for (int32_t axis = 0; axis < tensor.ndim; ++axis) strides[axis] = tensor.strides[axis] * (tensor.dtype.bits / 8);
  Ref array(PyArray_New(&PyArray_Type, tensor.ndim, reinterpret_cast<npy_intp *>(tensor.shape), type, strides,
                        tensor.data, 0, NPY_ARRAY_WRITEABLE | NPY_ARRAY_ALIGNED, nullptr));
  Py_INCREF(self.ptr());  // which SetBaseObject takes over, on failure too
  if (!array || PyArray_SetBaseObject(reinterpret_cast<PyArrayObject *>(array.get()), self.ptr()) != 0) {
    if (!array) Py_DECREF(self.ptr());
    throw nb::python_error();
  }
  return nb::steal(array.release());
}

nb::object field(nb::handle self, const std::string &name) {
  DLTensor tensor;
  const tiaot_status status = tiaot_state_field(nb::cast<StateMemory &>(self).handle, name.c_str(), &tensor);
  if (status != TIAOT_OK) {
    raise_status(status);
    throw nb::python_error();
  }
  return view(self, tensor);
}

[[noreturn]] void give_up(tiaot_status status) {
  raise_status(status);
  throw nb::python_error();
}

// Where the memory of a state begins. The first field, which there is, tells.
char *start_of(const StateMemory &memory) {
  const tiaot_field_desc &first = tiaot_module_descriptor(memory.module->handle)->fields[0];
  DLTensor tensor;
  const tiaot_status status = tiaot_state_field(memory.handle, first.name, &tensor);
  if (status != TIAOT_OK) give_up(status);
  return static_cast<char *>(tensor.data) - first.offset;
}

int64_t size_of(const StateMemory &memory) { return tiaot_module_descriptor(memory.module->handle)->state_bytes; }

// The same of a field on a CUDA device, for tiaot/_cuda_state.py: (address, its offset in the state's memory, shape,
// strides in elements, element type). The memory of tangents is counted behind the state's, as tiaot_state_read has it.
nb::object described(nb::handle self, const std::string &name) {
  DLTensor tensor;
  const tiaot_status status = tiaot_state_field(nb::cast<StateMemory &>(self).handle, name.c_str(), &tensor);
  if (status != TIAOT_OK) give_up(status);
  nb::list shape, strides;
  for (int32_t axis = 0; axis < tensor.ndim; ++axis) {
    shape.append(tensor.shape[axis]);
    strides.append(tensor.strides[axis]);
  }
  const std::string dtype = dtype_name(uint32_t{tensor.dtype.code} << 8 | tensor.dtype.bits);
  const StateMemory &memory = nb::cast<StateMemory &>(self);
  DLTensor field = tensor;
  int64_t offset = 0;
  constexpr const char kTangent[] = ".tangent";
  if (name.size() >= sizeof kTangent && name.compare(name.size() - (sizeof kTangent - 1), name.npos, kTangent) == 0) {
    const std::string of = name.substr(0, name.size() - (sizeof kTangent - 1));
    offset = size_of(memory);
    if (tiaot_state_field(memory.handle, of.c_str(), &field) != TIAOT_OK) give_up(TIAOT_ERROR_INTERNAL);
  }
  offset += static_cast<int64_t>(static_cast<char *>(field.data) - start_of(memory));
  return nb::make_tuple(reinterpret_cast<uintptr_t>(tensor.data), offset, nb::tuple(shape), nb::tuple(strides), dtype);
}

// `bytes` bytes from `offset` on, as NumPy's array of bytes.
nb::object read(const StateMemory &memory, int64_t offset, int64_t bytes) {
  int64_t one = 1;
  DLTensor tensor{nullptr, {kDLCPU, 0}, 1, {1, 8, 1}, &bytes, &one, 0};
  nb::object array = nb::steal(new_array(&tensor));
  if (!array.is_valid()) throw nb::python_error();
  tiaot_status status;
  {
    nb::gil_scoped_release released;
    status = tiaot_state_read(memory.handle, offset, bytes, tensor.data, memory.stream);
  }
  if (status != TIAOT_OK) give_up(status);
  return array;
}

void write(const StateMemory &memory, int64_t offset, nb::handle content) {
  Py_buffer view;
  if (PyObject_GetBuffer(content.ptr(), &view, PyBUF_C_CONTIGUOUS) != 0) throw nb::python_error();
  tiaot_status status;
  {
    nb::gil_scoped_release released;
    status = tiaot_state_write(memory.handle, offset, view.len, view.buf, memory.stream);
  }
  PyBuffer_Release(&view);
  if (status != TIAOT_OK) give_up(status);
}

void fill(const StateMemory &memory, const std::string &name, double value) {
  tiaot_status status;
  {
    nb::gil_scoped_release released;
    status = tiaot_state_fill(memory.handle, name.c_str(), value, memory.stream);
  }
  if (status != TIAOT_OK) give_up(status);
}

// Every byte of the memory on the CPU, that between the fields too.
nb::object bytes(nb::handle self) {
  const StateMemory &memory = nb::cast<StateMemory &>(self);
  int64_t size = size_of(memory), one = 1;
  return view(self, {start_of(memory), {kDLCPU, 0}, 1, {1, 8, 1}, &size, &one, 0});
}

nb::object content(const StateMemory &memory) { return read(memory, 0, size_of(memory)); }

// Puts the content of another state into this one, between what their streams have and will have.
void copy_from(StateMemory &memory, StateMemory &other) {
  void *stream = memory.device >= 0 ? memory.stream : other.stream;
  const bool both = memory.device >= 0 && other.device == memory.device && other.stream != memory.stream;
  tiaot_status status = TIAOT_OK;
  {
    nb::gil_scoped_release released;
    if (both) status = tiaot_cuda_order(memory.device, other.stream, memory.stream);
    if (status == TIAOT_OK) status = tiaot_state_copy(memory.handle, other.handle, stream);
    if (both && status == TIAOT_OK) status = tiaot_cuda_order(memory.device, memory.stream, other.stream);
  }
  if (status != TIAOT_OK) give_up(status);
}

nb::object kernel(nb::handle self, const std::string &name) {
  const StateMemory &memory = nb::cast<StateMemory &>(self);
  const tiaot_kernel *found = nullptr;
  const tiaot_status status = tiaot_module_kernel(memory.module->handle, name.c_str(), &found);
  if (status != TIAOT_OK) {
    raise_status(status);
    throw nb::python_error();
  }
  PyObject *object = new_kernel(memory.module, found, nullptr, nullptr, self.ptr());
  if (object == nullptr) throw nb::python_error();
  return nb::steal(object);
}

nb::object module_of(const StateMemory &memory) {
  PyObject *object = module_object(memory.module);
  if (object == nullptr) throw nb::python_error();
  return nb::steal(object);
}

nb::object get_tape(const StateMemory &memory) { return memory.tape ? nb::borrow(memory.tape.get()) : nb::none(); }

void set_tape(StateMemory &memory, nb::object tape) {
  if (!tape.is_none() && !PyList_CheckExact(tape.ptr())) throw nb::type_error("tape: expected a list or None");
  memory.tape = tape.is_none() ? Ref() : Ref(tape.release().ptr());
}

nb::object copy(StateMemory &memory) {
  nb::object other = nb::steal(new_state_memory(memory.module, true, memory.device));
  if (!other.is_valid()) throw nb::python_error();
  StateMemory &made = nb::cast<StateMemory &>(other);
  made.stream = memory.stream;
  made.stream_object = Ref(Py_XNewRef(memory.stream_object.get()));
  copy_from(made, memory);
  return other;
}

nb::object reduce(nb::handle self) {
  nb::object restore = nb::module_::import_("tiaot._state").attr("restore_memory");
  const StateMemory &memory = nb::cast<StateMemory &>(self);
  return nb::make_tuple(restore, nb::make_tuple(module_of(memory), content(memory).attr("tobytes")(), memory.device));
}

// Makes a stream wait for the work on the state.
void order_behind(const StateMemory &memory, uintptr_t stream) {
  tiaot_status status;
  {
    nb::gil_scoped_release released;
    status = tiaot_cuda_order(memory.device, memory.stream, reinterpret_cast<void *>(stream));
  }
  if (status != TIAOT_OK) give_up(status);
}

void set_stream(StateMemory &memory, nb::handle stream) {
  void *handle = nullptr;
  if (!stream.is_none() && !read_stream(stream.ptr(), "state", ": attribute 'stream'", &handle)) {
    throw nb::python_error();
  }
  if (!use_stream(&memory, handle, stream.is_none() ? nullptr : stream.ptr())) throw nb::python_error();
}

// What a field on a CUDA device is handed out by: DLPack's struct, old or versioned, whose owner keeps the memory.
template <typename Managed>
struct Export {
  Managed managed;
  PyObject *memory;

  static void give_back(Managed *managed) {
    auto *self = static_cast<Export *>(managed->manager_ctx);
    const PyGILState_STATE held = PyGILState_Ensure();
    Py_DECREF(self->memory);
    PyGILState_Release(held);
    delete self;
  }
  static void destroy(PyObject *capsule) {
    const char *name = PyCapsule_GetName(capsule);
    if (std::strncmp(name, "used", 4) == 0) return;  // its consumer gives it back
    give_back(static_cast<Managed *>(PyCapsule_GetPointer(capsule, name)));
  }
  static nb::object make(nb::handle memory, const DLTensor &tensor, const char *name) {
    auto *self = new Export{};
    self->memory = Py_NewRef(memory.ptr());
    self->managed.manager_ctx = self;
    self->managed.deleter = give_back;
    self->managed.dl_tensor = tensor;
    if constexpr (std::is_same_v<Managed, DLManagedTensorVersioned>) self->managed.version = {1, 0};
    PyObject *capsule = PyCapsule_New(&self->managed, name, destroy);
    if (capsule != nullptr) return nb::steal(capsule);
    give_back(&self->managed);
    throw nb::python_error();
  }
};

// A capsule as __dlpack__ returns it. Shape and strides are the module's, which the memory keeps.
nb::object exported(nb::handle self, const std::string &name, bool versioned) {
  DLTensor tensor;
  const tiaot_status status = tiaot_state_field(nb::cast<StateMemory &>(self).handle, name.c_str(), &tensor);
  if (status != TIAOT_OK) give_up(status);
  return versioned ? Export<DLManagedTensorVersioned>::make(self, tensor, "dltensor_versioned")
                   : Export<DLManagedTensor>::make(self, tensor, "dltensor");
}

int traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  if (!nb::inst_ready(self)) return 0;
  const StateMemory &memory = *nb::inst_ptr<StateMemory>(self);
  Py_VISIT(memory.tape.get());
  Py_VISIT(memory.stream_object.get());
  return 0;
}

PyType_Slot slots[] = {{Py_tp_traverse, reinterpret_cast<void *>(traverse)}, {0, nullptr}};

}  // namespace

StateMemory::~StateMemory() {
  if (device < 0) {
    tiaot_state_destroy(handle);
    return;
  }
  Py_BEGIN_ALLOW_THREADS;  // it waits for the device, perhaps for a function that needs the GIL
  tiaot_state_destroy(handle);
  Py_END_ALLOW_THREADS;
}

PyObject *new_state_memory(const std::shared_ptr<OpenModule> &module, bool zeros, int32_t device) {
  tiaot_state *handle = nullptr;
  const DLDevice on = device < 0 ? DLDevice{kDLCPU, 0} : DLDevice{kDLCUDA, device};
  tiaot_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = tiaot_state_create_on(module->handle, on, zeros ? TIAOT_STATE_ZEROS : 0, &handle);
  Py_END_ALLOW_THREADS;
  if (status != TIAOT_OK) return raise_status(status);
  return nb::cast(new StateMemory(module, handle, device), nb::rv_policy::take_ownership).release().ptr();
}

bool use_stream(StateMemory *memory, void *stream, PyObject *object) {
  if (stream != memory->stream) {
    tiaot_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = tiaot_cuda_order(memory->device, memory->stream, stream);
    Py_END_ALLOW_THREADS;
    if (status != TIAOT_OK) return raise_status(status) != nullptr;
    memory->stream = stream;
    memory->stream_object = Ref(Py_XNewRef(object));
  }
  return true;
}

StateMemory *state_memory(PyObject *object) { return nb::inst_ptr<StateMemory>(object); }

void add_state_memory_type(PyObject *module) {
  nb::module_ m = nb::borrow<nb::module_>(module);
  nb::class_<StateMemory>(m, "StateMemory", nb::type_slots(slots), "The memory of a tiaot.State.")
      .def_prop_ro("module", &module_of)
      .def_ro("device", &StateMemory::device)
      .def_prop_rw(
          "stream", [](const StateMemory &self) { return reinterpret_cast<uintptr_t>(self.stream); }, &set_stream,
          nb::arg("stream").none(), "The stream of the work on a state on a CUDA device.")
      .def_prop_rw("tape", &get_tape, &set_tape, nb::arg("tape").none(),
                   "A list that the calls of kernels which have a grad are appended to, or None.")
      .def_prop_ro("bytes", &bytes)
      .def("order_behind", &order_behind, nb::arg("stream"))
      .def("field", &field, nb::arg("name"))
      .def("described", &described, nb::arg("name"))
      .def("exported", &exported, nb::arg("name"), nb::arg("versioned"))
      .def("read", &read, nb::arg("offset"), nb::arg("bytes"))
      .def("write", &write, nb::arg("offset"), nb::arg("content"))
      .def("fill", &fill, nb::arg("name"), nb::arg("value"))
      .def("content", &content, "Every byte of the memory, that between the fields too.")
      .def("copy_from", &copy_from, nb::arg("other"))
      .def("kernel", &kernel, nb::arg("name"))
      .def("copy", &copy, "Another one with the same content, of the same Module.")
      .def("__deepcopy__", [](StateMemory &self, nb::handle) { return copy(self); })
      .def("__reduce__", &reduce);
}

}  // namespace tiaot::binding
