// bound_call.cpp: the type BoundCall: a call whose arrays were checked once. Knows nothing of how they were read.
#include <new>

#include "documentation.hpp"
#include "entry.hpp"

// structmember.h gives T_PYSSIZET to Python 3.10 and 3.11; later ones have it under another name too.
#include <structmember.h>

namespace tiaot::binding {
namespace {

PyTypeObject *bound_call_type = nullptr;

struct BoundCallObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  bool releases_gil;
  std::shared_ptr<OpenModule> module;
  StateMemory *memory;  // of a kernel over state, or nullptr
  Ref memory_object;
  void *stream;  // of one on a CUDA device
  Ref record;    // what a tape keeps of each call; None for nothing
  Bound bound;
  Ref arrays;  // tuple of the arguments
  Ref result;  // what each call returns
  std::vector<Lease> leases;
  std::string label;
};

[[gnu::hot]] PyObject *bound_call_run(PyObject *object, PyObject *const *, size_t nargsf, PyObject *keywords) {
  auto *self = reinterpret_cast<BoundCallObject *>(object);
  if (self->module->closed.load(std::memory_order_relaxed)) {
    return raise_closed(self->label, *self->module);
  }
  if (PyVectorcall_NARGS(nargsf) != 0 || (keywords != nullptr && PyTuple_GET_SIZE(keywords) != 0)) {
    PyErr_Format(PyExc_TypeError, "%s: expected no arguments, its arrays are bound", self->label.c_str());
    return nullptr;
  }
  tiaot_status status;
  if (self->releases_gil) {
    Py_BEGIN_ALLOW_THREADS;
    status = tiaot_bound_run(self->bound.get());
    Py_END_ALLOW_THREADS;
  } else {
    status = tiaot_bound_run(self->bound.get());
  }
  if (status != TIAOT_OK) return raise_status(status);
  Py_INCREF(self->result.get());
  return self->result.get();
}

PyObject *bound_call_run_on_state(PyObject *object, PyObject *const *arguments, size_t nargsf, PyObject *keywords) {
  auto *self = reinterpret_cast<BoundCallObject *>(object);
  if (self->memory->device >= 0 && !use_stream(self->memory, self->stream, nullptr)) return nullptr;
  return recorded(*self->memory, self->record.get(), bound_call_run(object, arguments, nargsf, keywords));
}

// No tp_clear, here and in kernel.cpp: these objects never change, so a cycle leads through one that can be cleared.
int bound_call_traverse(PyObject *object, visitproc visit, void *arg) {
  auto *self = reinterpret_cast<BoundCallObject *>(object);
  Py_VISIT(Py_TYPE(object));
  Py_VISIT(self->arrays.get());
  Py_VISIT(self->result.get());
  Py_VISIT(self->memory_object.get());
  Py_VISIT(self->record.get());
  return 0;
}

void bound_call_dealloc(PyObject *object) {
  auto *self = reinterpret_cast<BoundCallObject *>(object);
  PyTypeObject *type = Py_TYPE(object);
  PyObject_GC_UnTrack(object);
  self->label.~basic_string();
  self->bound.~Bound();  // before the arrays that it points into, and the module's share, which may unmap its code
  self->leases.~vector();
  self->result.~Ref();
  self->arrays.~Ref();
  self->record.~Ref();
  self->memory_object.~Ref();
  self->module.~shared_ptr();
  type->tp_free(object);
  Py_DECREF(type);
}

PyObject *bound_call_repr(PyObject *object) {
  return PyUnicode_FromFormat("<tiaot.BoundCall %s>", reinterpret_cast<BoundCallObject *>(object)->label.c_str());
}

PyObject *bound_call_reduce(PyObject *object, PyObject *) {
  PyErr_Format(PyExc_TypeError, "%s: a bound call cannot be pickled, it stands for arrays of this process",
               reinterpret_cast<BoundCallObject *>(object)->label.c_str());
  return nullptr;
}

PyMemberDef bound_call_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(BoundCallObject, vectorcall), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyMethodDef bound_call_methods[] = {
    {"__reduce__", guarded<bound_call_reduce>, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot bound_call_slots[] = {
    {Py_tp_doc, const_cast<char *>(kBoundCallDoc)},
    {Py_tp_call, reinterpret_cast<void *>(PyVectorcall_Call)},
    {Py_tp_repr, reinterpret_cast<void *>(guarded<bound_call_repr>)},
    {Py_tp_traverse, reinterpret_cast<void *>(bound_call_traverse)},
    {Py_tp_dealloc, reinterpret_cast<void *>(bound_call_dealloc)},
    {Py_tp_members, bound_call_members},
    {Py_tp_methods, bound_call_methods},
    {0, nullptr},
};

PyType_Spec bound_call_spec = {
    "tiaot.BoundCall", sizeof(BoundCallObject), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    bound_call_slots};

}  // namespace

bool add_bound_call_type(PyObject *module) {
  bound_call_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&bound_call_spec));
  return bound_call_type != nullptr &&
         PyObject_SetAttrString(module, "BoundCall", reinterpret_cast<PyObject *>(bound_call_type)) == 0;
}

PyObject *new_bound_call(const EntryState &entry, Bound bound, Ref arrays, Ref result, Reading reading, Ref record) {
  PyObject *object = bound_call_type->tp_alloc(bound_call_type, 0);
  if (object == nullptr) return nullptr;
  auto *self = reinterpret_cast<BoundCallObject *>(object);
  self->vectorcall = entry.memory != nullptr ? guarded<bound_call_run_on_state> : guarded<bound_call_run>;
  self->releases_gil = reading.cuda.found || tiaot_bound_work(bound.get()) > kReleaseWork;
  new (&self->module) std::shared_ptr<OpenModule>(entry.module);
  self->memory = entry.memory;
  self->stream = reading.cuda.stream;
  new (&self->memory_object) Ref(Py_XNewRef(entry.memory_object.get()));
  new (&self->record) Ref(std::move(record));
  new (&self->bound) Bound(std::move(bound));
  new (&self->arrays) Ref(std::move(arrays));
  new (&self->result) Ref(std::move(result));
  new (&self->leases) std::vector<Lease>(std::move(reading.leases));
  new (&self->label) std::string(entry.label);
  return object;
}

}  // namespace tiaot::binding
