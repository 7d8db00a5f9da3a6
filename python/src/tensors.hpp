// tensors.hpp: torch's tensors as DLTensors, and the type TensorCall, the short way from tensors to a kernel. Linked
// with nothing of torch's: it is reached through DLPack's table of functions and Python attributes.
#pragma once

#include "entry.hpp"

namespace tiaot::binding {

// How entries read tensors and allocate results as tensors; prepare_torch must have succeeded.
extern const ArrayKind kTensorArrays;

// Remembers what is needed of the package `torch`. False with an exception set, ImportError where this torch lacks it.
bool prepare_torch(PyObject *torch);

// Creates the type TensorCall and adds it to `module`. False with an exception set.
bool add_tensor_call_type(PyObject *module);

}  // namespace tiaot::binding
