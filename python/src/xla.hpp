// xla.hpp: kernels as XLA custom calls, for JAX. Knows nothing of Python's arrays.
#pragma once

#include "entry.hpp"

namespace tiaot::binding {

// A capsule of the one handler for the CPU, or for CUDA, as jax.ffi takes it. nullptr with an exception set.
PyObject *xla_handler(bool cuda);

// Lets the handler find a kernel under `key`, which the attribute `kernel` of a call names, from now on.
void register_for_xla(const std::string &key, const EntryState &kernel);

}  // namespace tiaot::binding
