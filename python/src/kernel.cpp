// kernel.cpp: the types Kernel and Entry as Python sees them: attributes, pickling, documentation. Knows nothing of
// arrays; entry.cpp runs the calls.
#include <algorithm>
#include <cstring>
#include <new>

#include "documentation.hpp"
#include "entry.hpp"
#include "instance_doc.hpp"

// structmember.h gives T_PYSSIZET to Python 3.10 and 3.11; later ones have it under another name too.
#include <structmember.h>

namespace tiaot::binding {
namespace {

PyTypeObject *kernel_type = nullptr;
PyTypeObject *entry_type = nullptr;

const EntryState &entry_of(PyObject *object) { return reinterpret_cast<EntryObject *>(object)->state; }
const EntryState &kernel_of(PyObject *object) { return reinterpret_cast<KernelObject *>(object)->forward->state; }

// The first entry of that kind of a variant that may run; nullptr where there is none.
const tiaot_entry_desc *find_entry(const tiaot_kernel_desc &desc, const char *variant, int kind) {
  for (uint32_t v = 0; v < desc.variant_count; ++v) {
    const tiaot_variant_desc &it = desc.variants[v];
    if (variant != nullptr && std::strcmp(it.name, variant) != 0) continue;
    for (uint32_t e = 0; e < it.entry_count; ++e) {
      if (static_cast<int>(it.entries[e].kind) == kind) return &it.entries[e];
    }
  }
  return nullptr;
}

// What `wrt` is where a call does not say it.
Wrt default_wrt(const tiaot_kernel_desc &desc, const char *variant, int kind) {
  if (has_tangents(kind)) {
    const tiaot_entry_desc *entry = find_entry(desc, variant, kind);
    Wrt wrt = {entry == nullptr ? 0 : entry->wrt, 0, false, {}};
    for (uint32_t i = 0; i < 32; ++i) {
      if (wrt.mask >> i & 1) wrt.place[wrt.count] = static_cast<uint8_t>(wrt.count), ++wrt.count;
    }
    wrt.is_tuple = wrt.count > 1;
    return wrt;
  }
  const auto first_of = [&](uint32_t flag) {
    uint32_t i = 0;
    while (i < desc.input_count && (desc.arguments[i].flags & flag) == 0) ++i;
    return i;
  };
  uint32_t first_differentiable = first_of(TIAOT_ARGUMENT_DIFFERENTIABLE);
  if (first_differentiable == desc.input_count && kind == TIAOT_JACOBIAN) {
    first_differentiable = first_of(TIAOT_ARGUMENT_TANGENT);
  }
  if (first_differentiable == desc.input_count) first_differentiable = 0;
  // An entry without any gradient keeps input 0 as its default: the runtime says what is missing.
  return {uint32_t{1} << first_differentiable, 1, false, {0}};
}

// Adds an operand of the argument, by a name that is the argument's with a suffix. False with an exception set.
bool add_operand(EntryState *entry, uint32_t argument, const char *suffix) {
  PyObject *name = PyUnicode_FromFormat("%s%s", entry->desc->arguments[argument].name, suffix);
  if (name == nullptr) return false;
  PyUnicode_InternInPlace(&name);
  entry->names.emplace_back(name);
  entry->argument_of.push_back(static_cast<int>(argument));
  return true;
}

// Sets the operands: inputs, cotangents, tangents. False with an exception set.
bool set_operands(EntryState *entry) {
  const tiaot_kernel_desc &desc = *entry->desc;
  const bool needs_cotangents = entry->kind == TIAOT_VJP || (entry->kind == TIAOT_HVP && desc.state == 0);
  for (uint32_t i = 0; i < desc.input_count; ++i) {
    if (!add_operand(entry, i, "")) return false;
  }
  for (uint32_t o = 0; o < desc.output_count && needs_cotangents; ++o) {
    if (!add_operand(entry, desc.input_count + o, "_cotangent")) return false;
  }
  for (uint32_t i = 0; i < desc.input_count && i < 32 && has_tangents(entry->kind); ++i) {
    if ((entry->default_wrt.mask >> i & 1) != 0 && !add_operand(entry, i, "_tangent")) return false;
  }
  entry->positional_count = static_cast<int>(entry->names.size());
  return true;
}

// How many arrays a call of the entry can have, and how much room their descriptions take.
void measure_calls(EntryState *entry) {
  const tiaot_kernel_desc &desc = *entry->desc;
  const bool forward = entry->kind == TIAOT_FORWARD, jacobian = entry->kind == TIAOT_JACOBIAN;
  size_t arrays = 0, dims = 0;
  const auto add = [&](uint32_t argument) {
    ++arrays;
    dims += desc.arguments[argument].rank;
  };
  for (int argument : entry->argument_of) add(static_cast<uint32_t>(argument));
  for (int twice = 0; twice < 2 && entry->kind == TIAOT_JVP; ++twice) {
    for (uint32_t o = 0; o < desc.output_count; ++o) add(desc.input_count + o);
  }
  for (int twice = 0; twice < 2 && entry->kind == TIAOT_HVP; ++twice) {
    for (uint32_t i = 0; i < desc.input_count; ++i) add(i);
  }
  for (uint32_t o = 0; o < desc.output_count && (forward || jacobian); ++o) {
    const size_t rank = desc.arguments[desc.input_count + o].rank;
    arrays += forward ? 1 : 0;
    dims += forward ? rank : 0;
    for (uint32_t i = 0; i < desc.input_count && jacobian; ++i) {
      ++arrays;
      dims += rank + desc.arguments[i].rank;
    }
  }
  for (uint32_t i = 0; i < desc.input_count && entry->kind == TIAOT_VJP; ++i) add(i);
  entry->most_arrays = static_cast<int>(std::min<size_t>(arrays, TIAOT_MAX_ARRAYS));
  entry->call_room = static_cast<size_t>(entry->most_arrays) * sizeof(DLTensor) +
                     entry->names.size() * sizeof(PyObject *) + 2 * dims * sizeof(int64_t);  // shapes and strides
}

EntryObject *new_entry(const std::shared_ptr<OpenModule> &module, const tiaot_kernel *kernel, const char *variant,
                       const ArrayKind *arrays, PyObject *memory, int kind, const Wrt &wrt) {
  const tiaot_kernel_desc *desc = tiaot_kernel_descriptor(kernel);
  std::string label = std::string(desc->name) + "." + kind_name(kind);
  PyObject *object = entry_type->tp_alloc(entry_type, 0);
  if (object == nullptr) return nullptr;
  auto *self = reinterpret_cast<EntryObject *>(object);
  self->vectorcall = [](PyObject *entry, PyObject *const *arguments, size_t nargsf, PyObject *keywords) {
    return call_entry(reinterpret_cast<EntryObject *>(entry), arguments, nargsf, keywords);
  };
  if (has_tangents(kind)) {
    self->vectorcall = [](PyObject *entry, PyObject *const *arguments, size_t nargsf, PyObject *keywords) {
      auto *object = reinterpret_cast<EntryObject *>(entry);
      EntryObject *one = entry_for_wrt(object, arguments + PyVectorcall_NARGS(nargsf), keywords);
      return one == nullptr ? nullptr : call_entry(one, arguments, nargsf, keywords);
    };
  }
  if (desc->state != 0) {
    self->vectorcall = [](PyObject *entry, PyObject *const *arguments, size_t nargsf, PyObject *keywords) {
      return call_entry_on_state(reinterpret_cast<EntryObject *>(entry), arguments, nargsf, keywords);
    };
  }
  auto *state = new (&self->state) EntryState();
  state->module = module;
  state->kernel = kernel;
  state->desc = desc;
  state->variant = variant;
  state->arrays = arrays;
  if (memory != nullptr) {
    state->memory = state_memory(memory);
    state->memory_object = Ref(Py_NewRef(memory));
  }
  state->kind = kind;
  state->default_wrt = wrt;
  state->label = std::move(label);
  Ref keep(object);
  if (!set_operands(state)) return nullptr;
  measure_calls(state);
  keep.release();
  return self;
}

[[gnu::cold]] EntryObject *raise_no_derivative(const EntryState &entry) {
  const char *name = kind_name(entry.kind);
  PyErr_Format(PyExc_NotImplementedError, "%s: the module has no %s of this kernel: export it with derivatives=['%s']",
               entry.label.c_str(), name, name);
  return nullptr;
}

// Tangents are told apart by their order alone, so it is one.
[[gnu::cold]] EntryObject *raise_order(const EntryState &entry, PyObject *object) {
  PyErr_Format(PyExc_ValueError,
               "%s: argument 'wrt': expected names in the order of the inputs, as the tangents are, got %R",
               entry.label.c_str(), object);
  return nullptr;
}

// (tiaot._load.restore, (Module or StateMemory, kernel's name, variant or None, attribute or None))
PyObject *reduce(const EntryState &entry, const char *attribute) {
  if (entry.arrays != nullptr) {
    PyErr_Format(PyExc_TypeError, "%s: expected a kernel on NumPy's arrays to pickle, got one on another library's",
                 entry.label.c_str());
    return nullptr;
  }
  Ref load(PyImport_ImportModule("tiaot._load"));
  Ref restore = load ? get_attribute(load.get(), "restore") : Ref();
  if (!restore) return nullptr;
  Ref origin(entry.memory_object ? Py_NewRef(entry.memory_object.get()) : module_object(entry.module));
  if (!origin) return nullptr;
  return Py_BuildValue("O(Oszz)", restore.get(), origin.get(), entry.desc->name, entry.variant, attribute);
}

PyObject *entry_doc(PyObject *object) { return documentation_of(object, entry_of(object)); }
PyObject *kernel_doc(PyObject *object) { return documentation_of(object, kernel_of(object)); }

}  // namespace

const char *kind_name(int kind) {
  constexpr const char *kNames[] = {"forward", "vjp", "jacobian", "grad", "jvp", "hvp"};
  return kNames[kind];
}

EntryObject *entry_for_wrt(EntryObject *object, PyObject *const *values, PyObject *keywords) try {
  EntryState &entry = object->state;
  if (entry.default_wrt.mask == 0) return raise_no_derivative(entry);
  PyObject *given = nullptr;
  for (Py_ssize_t i = 0; keywords != nullptr && i < PyTuple_GET_SIZE(keywords); ++i) {
    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, i), "wrt") == 0) given = values[i];
  }
  if (given == nullptr) return object;
  const auto has_seen = [&](const EntryState &one) { return one.last_wrt_object.get() == given; };
  if (has_seen(entry)) return object;
  for (const Ref &other : entry.for_other_wrt) {
    if (has_seen(entry_of(other.get()))) return reinterpret_cast<EntryObject *>(other.get());
  }
  Wrt wrt;
  if (!read_wrt(entry, given, &wrt)) return nullptr;
  for (int i = 0; i < wrt.count; ++i) {
    if (wrt.place[i] != i) return raise_order(entry, given);
  }
  const auto is_right = [&](const EntryState &one) {
    return one.default_wrt.mask == wrt.mask && one.default_wrt.is_tuple == wrt.is_tuple;
  };
  if (is_right(entry)) return object;
  for (const Ref &other : entry.for_other_wrt) {
    if (is_right(entry_of(other.get()))) return reinterpret_cast<EntryObject *>(other.get());
  }
  Ref other(reinterpret_cast<PyObject *>(
      new_entry(entry.module, entry.kernel, entry.variant, entry.arrays, nullptr, entry.kind, wrt)));
  if (!other) return nullptr;
  entry.for_other_wrt.push_back(std::move(other));
  return reinterpret_cast<EntryObject *>(entry.for_other_wrt.back().get());
} catch (const std::exception &) {
  raise_caught();
  return nullptr;
}

namespace {

std::string description(const EntryState &entry, const std::string &name) {
  std::string text = name + ": " + entry.desc->signature;
  if (entry.variant != nullptr) text += std::string("; ") + entry.variant;
  if (entry.memory != nullptr) text += "; bound to a state";
  return text;
}

// Entry

int entry_traverse(PyObject *object, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(object));
  Py_VISIT(entry_of(object).last_wrt_object.get());
  Py_VISIT(entry_of(object).memory_object.get());
  Py_VISIT(entry_of(object).grad.get());
  for (const Ref &other : entry_of(object).for_other_wrt) Py_VISIT(other.get());
  return 0;
}

void entry_dealloc(PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  PyObject_GC_UnTrack(object);
  reinterpret_cast<EntryObject *>(object)->state.~EntryState();
  type->tp_free(object);
  Py_DECREF(type);
}

PyObject *entry_repr(PyObject *object) {
  return PyUnicode_FromFormat("<tiaot.Entry %s>", description(entry_of(object), entry_of(object).label).c_str());
}

PyObject *entry_bind(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  auto *entry = reinterpret_cast<EntryObject *>(object);
  if (has_tangents(entry->state.kind) && entry->state.desc->state == 0)
    entry = entry_for_wrt(entry, arguments + count, keywords);
  return entry == nullptr ? nullptr : bind_entry(entry, arguments, count, keywords);
}

PyObject *entry_reduce(PyObject *object, PyObject *) {
  return reduce(entry_of(object), kind_name(entry_of(object).kind));
}

PyObject *entry_signature(PyObject *object, void *) { return signature_of(entry_of(object)); }

PyMemberDef entry_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(EntryObject, vectorcall), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyMethodDef entry_methods[] = {
    {"bind", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(entry_bind)), METH_FASTCALL | METH_KEYWORDS,
     kEntryBindDoc},
    {"__reduce__", guarded<entry_reduce>, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef entry_getset[] = {
    {"__signature__", guarded<entry_signature>, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot entry_slots[] = {
    {Py_tp_doc, const_cast<char *>(kEntryDoc)},
    {Py_tp_call, reinterpret_cast<void *>(PyVectorcall_Call)},
    {Py_tp_repr, reinterpret_cast<void *>(guarded<entry_repr>)},
    {Py_tp_traverse, reinterpret_cast<void *>(entry_traverse)},
    {Py_tp_dealloc, reinterpret_cast<void *>(entry_dealloc)},
    {Py_tp_members, entry_members},
    {Py_tp_methods, entry_methods},
    {Py_tp_getset, entry_getset},
    {0, nullptr},
};

constexpr unsigned kFlags =
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION;

PyType_Spec entry_spec = {"tiaot.Entry", sizeof(EntryObject), 0, kFlags, entry_slots};

// Kernel

PyObject *kernel_call(PyObject *object, PyObject *const *arguments, size_t nargsf, PyObject *keywords) {
  return call_entry(reinterpret_cast<KernelObject *>(object)->forward, arguments, nargsf, keywords);
}

PyObject *kernel_call_on_state(PyObject *object, PyObject *const *arguments, size_t nargsf, PyObject *keywords) {
  return call_entry_on_state(reinterpret_cast<KernelObject *>(object)->forward, arguments, nargsf, keywords);
}

PyObject *kernel_bind(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  return bind_entry(reinterpret_cast<KernelObject *>(object)->forward, arguments, count, keywords);
}

PyObject *kernel_value_and_vjp(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) {
  return call_value_and_vjp(reinterpret_cast<KernelObject *>(object), arguments, count, keywords);
}

int kernel_traverse(PyObject *object, visitproc visit, void *arg) {
  auto *self = reinterpret_cast<KernelObject *>(object);
  Py_VISIT(Py_TYPE(object));
  Py_VISIT(reinterpret_cast<PyObject *>(self->forward));
  Py_VISIT(self->vjp);
  Py_VISIT(self->jacobian);
  Py_VISIT(self->grad);
  Py_VISIT(self->jvp);
  Py_VISIT(self->hvp);
  return 0;
}

void kernel_dealloc(PyObject *object) {
  auto *self = reinterpret_cast<KernelObject *>(object);
  PyTypeObject *type = Py_TYPE(object);
  PyObject_GC_UnTrack(object);
  Py_XDECREF(reinterpret_cast<PyObject *>(self->forward));
  Py_XDECREF(self->vjp);
  Py_XDECREF(self->jacobian);
  Py_XDECREF(self->grad);
  Py_XDECREF(self->jvp);
  Py_XDECREF(self->hvp);
  type->tp_free(object);
  Py_DECREF(type);
}

PyObject *kernel_repr(PyObject *object) {
  return PyUnicode_FromFormat("<tiaot.Kernel %s>",
                              description(kernel_of(object), kernel_of(object).desc->name).c_str());
}

PyObject *kernel_name(PyObject *object, void *) { return PyUnicode_FromString(kernel_of(object).desc->name); }
PyObject *kernel_signature_text(PyObject *object, void *) {
  return PyUnicode_FromString(kernel_of(object).desc->signature);
}
PyObject *kernel_python_signature(PyObject *object, void *) { return signature_of(kernel_of(object)); }

PyObject *kernel_module(PyObject *object, void *) { return module_object(kernel_of(object).module); }

PyObject *kernel_variants(PyObject *object, void *) {
  const EntryState &entry = kernel_of(object);
  if (entry.variant != nullptr) return Py_BuildValue("(s)", entry.variant);
  Ref names(PyTuple_New(entry.desc->variant_count));
  if (!names) return nullptr;
  for (uint32_t v = 0; v < entry.desc->variant_count; ++v) {
    PyObject *name = PyUnicode_FromString(entry.desc->variants[v].name);
    if (name == nullptr) return nullptr;
    PyTuple_SET_ITEM(names.get(), v, name);
  }
  return names.release();
}

PyObject *kernel_restrict(PyObject *object, PyObject *arguments, PyObject *keywords) {
  const EntryState &entry = kernel_of(object);
  static const char *const names[] = {"variant", nullptr};
  PyObject *wanted = nullptr;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "U:restrict", const_cast<char **>(names), &wanted)) {
    return nullptr;
  }
  Ref known(kernel_variants(object, nullptr));
  if (!known) return nullptr;
  for (uint32_t v = 0; v < entry.desc->variant_count; ++v) {
    const char *name = entry.desc->variants[v].name;
    const bool allowed = entry.variant == nullptr || std::strcmp(entry.variant, name) == 0;
    if (allowed && PyUnicode_CompareWithASCIIString(wanted, name) == 0) {
      return new_kernel(entry.module, entry.kernel, name, entry.arrays, entry.memory_object.get());
    }
  }
  Ref comma(PyUnicode_FromString(", "));
  Ref list(comma ? PyUnicode_Join(comma.get(), known.get()) : nullptr);
  if (!list) return nullptr;
  PyErr_Format(PyExc_ValueError, "%s.restrict: argument 'variant': expected one of %U, got %R", entry.desc->name,
               list.get(), wanted);
  return nullptr;
}

PyObject *kernel_grad(PyObject *object, void *) {
  PyObject *grad = reinterpret_cast<KernelObject *>(object)->grad;
  if (grad != nullptr) return Py_NewRef(grad);
  const tiaot_kernel_desc &desc = *kernel_of(object).desc;
  PyErr_Format(
      PyExc_AttributeError,
      desc.state != 0 ? "%s: the module has no grad of this kernel" : "%s: works on no state: its gradient is %s.vjp",
      desc.name, desc.name);
  return nullptr;
}

PyObject *kernel_reduce(PyObject *object, PyObject *) { return reduce(kernel_of(object), nullptr); }

PyMemberDef kernel_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(KernelObject, vectorcall), READONLY, nullptr},
    {"vjp", T_OBJECT_EX, offsetof(KernelObject, vjp), READONLY, kVjpDoc},
    {"jacobian", T_OBJECT_EX, offsetof(KernelObject, jacobian), READONLY, kJacobianDoc},
    {"jvp", T_OBJECT_EX, offsetof(KernelObject, jvp), READONLY, kJvpDoc},
    {"hvp", T_OBJECT_EX, offsetof(KernelObject, hvp), READONLY, kHvpDoc},
    {nullptr, 0, 0, 0, nullptr},
};

PyMethodDef kernel_methods[] = {
    {"bind", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(kernel_bind)), METH_FASTCALL | METH_KEYWORDS,
     kKernelBindDoc},
    {"value_and_vjp", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(kernel_value_and_vjp)),
     METH_FASTCALL | METH_KEYWORDS, kValueAndVjpDoc},
    {"restrict", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(guarded<kernel_restrict>)),
     METH_VARARGS | METH_KEYWORDS, kRestrictDoc},
    {"__reduce__", guarded<kernel_reduce>, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef kernel_getset[] = {
    {"name", guarded<kernel_name>, nullptr, kKernelNameDoc, nullptr},
    {"signature", guarded<kernel_signature_text>, nullptr, kSignatureDoc, nullptr},
    {"module", guarded<kernel_module>, nullptr, kKernelModuleDoc, nullptr},
    {"variants", guarded<kernel_variants>, nullptr, kVariantsDoc, nullptr},
    {"grad", guarded<kernel_grad>, nullptr, kGradDoc, nullptr},
    {"__signature__", guarded<kernel_python_signature>, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot kernel_slots[] = {
    {Py_tp_doc, const_cast<char *>(kKernelDoc)},
    {Py_tp_call, reinterpret_cast<void *>(PyVectorcall_Call)},
    {Py_tp_repr, reinterpret_cast<void *>(guarded<kernel_repr>)},
    {Py_tp_traverse, reinterpret_cast<void *>(kernel_traverse)},
    {Py_tp_dealloc, reinterpret_cast<void *>(kernel_dealloc)},
    {Py_tp_members, kernel_members},
    {Py_tp_methods, kernel_methods},
    {Py_tp_getset, kernel_getset},
    {0, nullptr},
};

PyType_Spec kernel_spec = {"tiaot.Kernel", sizeof(KernelObject), 0, kFlags, kernel_slots};

bool add_type(PyObject *module, PyType_Spec *spec, const char *name, PyTypeObject **type) {
  *type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(spec));
  return *type != nullptr && PyObject_SetAttrString(module, name, reinterpret_cast<PyObject *>(*type)) == 0;
}

}  // namespace

bool add_kernel_types(PyObject *module) {
  return add_type(module, &kernel_spec, "Kernel", &kernel_type) &&
         add_type(module, &entry_spec, "Entry", &entry_type) &&
         document_instances(kernel_type, kKernelDoc, guarded<kernel_doc>) &&
         document_instances(entry_type, kEntryDoc, guarded<entry_doc>);
}

PyObject *new_kernel(const std::shared_ptr<OpenModule> &module, const tiaot_kernel *kernel, const char *variant,
                     const ArrayKind *arrays, PyObject *memory) {
  const tiaot_kernel_desc &desc = *tiaot_kernel_descriptor(kernel);
  EntryObject *entries[TIAOT_HVP + 1] = {};
  Ref keep[TIAOT_HVP + 1];
  for (int kind = TIAOT_FORWARD; kind <= TIAOT_HVP; ++kind) {
    const bool in_place = kind == TIAOT_GRAD || (has_tangents(kind) && desc.state != 0);
    if (in_place && find_entry(desc, variant, kind) == nullptr) continue;
    entries[kind] = new_entry(module, kernel, variant, arrays, memory, kind, default_wrt(desc, variant, kind));
    keep[kind] = Ref(reinterpret_cast<PyObject *>(entries[kind]));
    if (!keep[kind]) return nullptr;
  }
  PyObject *object = kernel_type->tp_alloc(kernel_type, 0);
  if (object == nullptr) return nullptr;
  auto *self = reinterpret_cast<KernelObject *>(object);
  self->vectorcall = entries[TIAOT_FORWARD]->state.desc->state != 0 ? kernel_call_on_state : kernel_call;
  self->forward = entries[TIAOT_FORWARD];
  self->vjp = keep[TIAOT_VJP].release();
  self->jacobian = keep[TIAOT_JACOBIAN].release();
  if (memory != nullptr) self->forward->state.grad = Ref(Py_XNewRef(keep[TIAOT_GRAD].get()));
  self->grad = keep[TIAOT_GRAD].release();
  self->jvp = keep[TIAOT_JVP].release();
  self->hvp = keep[TIAOT_HVP].release();
  keep[TIAOT_FORWARD].release();
  return object;
}

const EntryState *kernel_state(PyObject *object) {
  if (Py_TYPE(object) == kernel_type) return &kernel_of(object);
  PyErr_Format(PyExc_TypeError, "expected a tiaot.Kernel, got %s", type_name(object).c_str());
  return nullptr;
}

}  // namespace tiaot::binding
