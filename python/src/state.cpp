// state.cpp: the type StateMemory: arrays that view the memory of a state, and the kernels bound to it. tiaot/_state.py
// makes of it what users see.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstring>

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

// The first byte of the memory; the first field, which there is, tells where it lies.
char *start_of(const StateMemory &memory) {
  const tiaot_field_desc &first = tiaot_module_descriptor(memory.module->handle)->fields[0];
  DLTensor tensor;
  const tiaot_status status = tiaot_state_field(memory.handle, first.name, &tensor);
  if (status != TIAOT_OK) {
    raise_status(status);
    throw nb::python_error();
  }
  return static_cast<char *>(tensor.data) - first.offset;
}

// Every byte of the memory, that between the fields too.
nb::object bytes(nb::handle self) {
  const StateMemory &memory = nb::cast<StateMemory &>(self);
  int64_t size = tiaot_module_descriptor(memory.module->handle)->state_bytes, one = 1;
  return view(self, {start_of(memory), {kDLCPU, 0}, 1, {1, 8, 1}, &size, &one, 0});
}

nb::object kernel(nb::handle self, const std::string &name) {
  const StateMemory &memory = nb::cast<StateMemory &>(self);
  const tiaot_kernel *found = nullptr;
  const tiaot_status status = tiaot_module_kernel(memory.module->handle, name.c_str(), &found);
  if (status != TIAOT_OK) {
    raise_status(status);
    throw nb::python_error();
  }
  PyObject *object = new_kernel(memory.module, memory.owner.get(), found, nullptr, nullptr, self.ptr());
  if (object == nullptr) throw nb::python_error();
  return nb::steal(object);
}

nb::object get_tape(const StateMemory &memory) { return memory.tape ? nb::borrow(memory.tape.get()) : nb::none(); }

void set_tape(StateMemory &memory, nb::object tape) {
  if (!tape.is_none() && !PyList_CheckExact(tape.ptr())) throw nb::type_error("tape: expected a list or None");
  memory.tape = tape.is_none() ? Ref() : Ref(tape.release().ptr());
}

nb::object copy(const StateMemory &memory) {
  nb::object other = nb::steal(new_state_memory(memory.module, memory.owner.get(), false));
  if (!other.is_valid()) throw nb::python_error();
  const int64_t size = tiaot_module_descriptor(memory.module->handle)->state_bytes;
  std::memcpy(start_of(nb::cast<StateMemory &>(other)), start_of(memory), static_cast<size_t>(size));
  return other;
}

nb::object reduce(nb::handle self) {
  nb::object restore = nb::module_::import_("tiaot._state").attr("restore_memory");
  nb::handle owner = nb::cast<StateMemory &>(self).owner.get();
  return nb::make_tuple(restore, nb::make_tuple(owner, bytes(self).attr("tobytes")()));
}

int traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  if (!nb::inst_ready(self)) return 0;
  const StateMemory &memory = *nb::inst_ptr<StateMemory>(self);
  Py_VISIT(memory.owner.get());
  Py_VISIT(memory.tape.get());
  return 0;
}

PyType_Slot slots[] = {{Py_tp_traverse, reinterpret_cast<void *>(traverse)}, {0, nullptr}};

}  // namespace

PyObject *new_state_memory(const std::shared_ptr<OpenModule> &module, PyObject *owner, bool zeros) {
  tiaot_state *handle = nullptr;
  const tiaot_status status = tiaot_state_create(module->handle, &handle);
  if (status != TIAOT_OK) return raise_status(status);
  nb::object memory = nb::cast(new StateMemory(module, owner, handle), nb::rv_policy::take_ownership);
  const tiaot_module_desc &desc = *tiaot_module_descriptor(module->handle);
  if (zeros && desc.content_count > 0) {
    std::memset(start_of(nb::cast<StateMemory &>(memory)), 0, static_cast<size_t>(desc.state_bytes));
  }
  return memory.release().ptr();
}

StateMemory *state_memory(PyObject *object) { return nb::inst_ptr<StateMemory>(object); }

void add_state_memory_type(PyObject *module) {
  nb::module_ m = nb::borrow<nb::module_>(module);
  nb::class_<StateMemory>(m, "StateMemory", nb::type_slots(slots), "The memory of a tiaot.State.")
      .def_prop_ro("module", [](const StateMemory &self) { return nb::borrow(self.owner.get()); })
      .def_prop_ro("bytes", &bytes)
      .def_prop_rw("tape", &get_tape, &set_tape, nb::arg("tape").none(),
                   "A list that the calls of kernels which have a grad are appended to, or None.")
      .def("field", &field, nb::arg("name"))
      .def("kernel", &kernel, nb::arg("name"))
      .def("copy", &copy, "Another one with the same content, of the same Module.")
      .def("__deepcopy__", [](const StateMemory &self, nb::handle) { return copy(self); })
      .def("__reduce__", &reduce);
}

}  // namespace tiaot::binding
