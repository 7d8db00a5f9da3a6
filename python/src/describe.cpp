// describe.cpp: what Python's tools are told of one entry: its signature and its docstring. tiaot/_signature.py words
// it.
#include <algorithm>

#include "entry.hpp"

namespace tiaot::binding {
namespace {

// "[B, n]"; "" for an argument without dimensions.
std::string dims_of(const tiaot_kernel_desc &desc, const tiaot_argument_desc &argument) {
  std::string dims;
  for (uint32_t axis = 0; axis < argument.rank; ++axis) {
    dims += (axis > 0 ? ", " : "[") + std::string(desc.dim_names[argument.dims[axis]]);
  }
  return dims.empty() ? dims : dims + "]";
}

// What an entry computes, in a sentence; "" for a forward one, of which its author tells.
std::string purpose_of(const EntryState &entry) {
  if (entry.kind == TIAOT_FORWARD) return "";
  if (entry.kind == TIAOT_GRAD) return "The adjoint of the kernel, in place, on the gradients of the state's fields.";
  const bool along = has_tangents(entry.kind);
  if (along && entry.desc->state != 0) {
    return std::string(entry.kind == TIAOT_JVP ? "The kernel" : "The adjoint of the kernel") +
           " and its derivative along the tangents of the state's fields, in place.";
  }
  const std::string names = input_names(*entry.desc, wrt_flags(entry.kind));
  const char *what = entry.kind == TIAOT_VJP        ? "The vector-Jacobian product"
                     : entry.kind == TIAOT_JACOBIAN ? "The Jacobian"
                     : entry.kind == TIAOT_JVP      ? "The outputs and the Jacobian-vector product"
                                                    : "The vector-Jacobian product and its derivative";
  return std::string(what) +
         (names.empty() ? ", which the module does not have."
                        : (along ? " along tangents of " : " with respect to ") + ("one or several of " + names) + ".");
}

// What `wrt` is where a call does not say it: a name, or a tuple of names.
Ref default_wrt_of(const EntryState &entry) {
  const Wrt &wrt = entry.default_wrt;
  Ref names(PyTuple_New(wrt.count));
  Py_ssize_t place = 0;
  for (uint32_t mask = wrt.mask; mask != 0 && names && place < wrt.count; mask &= mask - 1) {
    PyObject *name = PyUnicode_FromString(entry.desc->arguments[__builtin_ctz(mask)].name);
    if (name == nullptr) return Ref();
    PyTuple_SET_ITEM(names.get(), place++, name);
  }
  if (wrt.is_tuple || !names || wrt.count == 0) return names;
  return Ref(Py_NewRef(PyTuple_GET_ITEM(names.get(), 0)));
}

}  // namespace

std::string forms_of(const tiaot_kernel_desc &desc, uint32_t argument, const std::string &dims) {
  std::string forms;
  std::vector<uint32_t> seen;
  for (uint32_t v = 0; v < desc.variant_count; ++v) {
    const uint32_t dtype = desc.variants[v].dtypes[argument];
    if (std::find(seen.begin(), seen.end(), dtype) != seen.end()) continue;
    seen.push_back(dtype);
    forms += (forms.empty() ? "" : " or ") + dtype_name(dtype) + dims;
  }
  return forms;
}

PyObject *documentation_of(PyObject *object, const EntryState &entry) {
  const tiaot_kernel_desc &desc = *entry.desc;
  const uint32_t count = desc.input_count + desc.output_count;
  Ref python(PyImport_ImportModule("tiaot._signature"));
  Ref arguments(python ? PyTuple_New(count) : nullptr);
  for (uint32_t i = 0; i < count && arguments; ++i) {
    const tiaot_argument_desc &argument = desc.arguments[i];
    PyObject *pair = Py_BuildValue("(ss)", argument.name, forms_of(desc, i, dims_of(desc, argument)).c_str());
    if (pair == nullptr) return nullptr;
    PyTuple_SET_ITEM(arguments.get(), i, pair);
  }
  if (!arguments) return nullptr;
  const std::string name = entry.kind == TIAOT_FORWARD ? desc.name : entry.label;
  return PyObject_CallMethod(python.get(), "documentation", "OssssO", object, name.c_str(), purpose_of(entry).c_str(),
                             desc.doc, desc.signature, arguments.get());
}

PyObject *signature_of(const EntryState &entry) {
  const tiaot_kernel_desc &desc = *entry.desc;
  Ref python(PyImport_ImportModule("tiaot._signature"));
  Ref names(python ? PyTuple_New(entry.positional_count) : nullptr);
  if (!names) return nullptr;
  for (int i = 0; i < entry.positional_count; ++i) {
    PyTuple_SET_ITEM(names.get(), i, Py_NewRef(entry.names[static_cast<size_t>(i)].get()));
  }
  const bool has_wrt = entry.kind != TIAOT_FORWARD && desc.state == 0;
  Ref wrt = has_wrt ? default_wrt_of(entry) : Ref(Py_NewRef(Py_None));
  if (!wrt) return nullptr;
  const bool has_outputs = (entry.kind == TIAOT_FORWARD || entry.kind == TIAOT_JVP) && desc.output_count > 0;
  PyObject *has_out = has_wrt || has_outputs ? Py_True : Py_False;
  PyObject *has_stream = desc.state == 0 || is_on_device(entry) ? Py_True : Py_False;
  PyObject *has_mode = entry.kind == TIAOT_JACOBIAN ? Py_True : Py_False;
  return PyObject_CallMethod(python.get(), "signature", "OOOOO", names.get(), wrt.get(), has_mode, has_out, has_stream);
}

}  // namespace tiaot::binding
