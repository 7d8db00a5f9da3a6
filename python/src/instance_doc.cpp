// instance_doc.cpp: the descriptor behind it. A getter of the type would hide the type's own docstring.
#include "instance_doc.hpp"

namespace tiaot::binding {
namespace {

PyTypeObject *doc_type = nullptr;

struct DocObject {
  PyObject_HEAD const char *of_type;
  PyObject *(*of_object)(PyObject *);
};

PyObject *doc_get(PyObject *self, PyObject *object, PyObject *) {
  const auto *doc = reinterpret_cast<DocObject *>(self);
  return object == nullptr || object == Py_None ? PyUnicode_FromString(doc->of_type) : doc->of_object(object);
}

void doc_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyType_Slot doc_slots[] = {
    {Py_tp_descr_get, reinterpret_cast<void *>(doc_get)},
    {Py_tp_dealloc, reinterpret_cast<void *>(doc_dealloc)},
    {0, nullptr},
};

PyType_Spec doc_spec = {"tiaot._core.InstanceDoc", sizeof(DocObject), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, doc_slots};

}  // namespace

bool document_instances(PyTypeObject *type, const char *of_type, PyObject *(*of_object)(PyObject *object)) {
  if (doc_type == nullptr) doc_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&doc_spec));
  Ref doc(doc_type != nullptr ? doc_type->tp_alloc(doc_type, 0) : nullptr);
  if (!doc) return false;
  reinterpret_cast<DocObject *>(doc.get())->of_type = of_type;
  reinterpret_cast<DocObject *>(doc.get())->of_object = of_object;
  return PyObject_SetAttrString(reinterpret_cast<PyObject *>(type), "__doc__", doc.get()) == 0;
}

}  // namespace tiaot::binding
