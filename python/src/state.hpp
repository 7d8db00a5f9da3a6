// state.hpp: the memory of a module's fields as Python holds it: what its Fields view and its kernels work on.
#pragma once

#include "common.hpp"

namespace tiaot::binding {

// Inside of the Python object _core.StateMemory, which everything that needs the memory holds a reference to.
struct StateMemory {
  StateMemory(std::shared_ptr<OpenModule> opened, tiaot_state *created, int32_t on)
      : module(std::move(opened)), handle(created), device(on) {}
  StateMemory(const StateMemory &) = delete;
  StateMemory &operator=(const StateMemory &) = delete;
  ~StateMemory();

  const std::shared_ptr<OpenModule> module;
  tiaot_state *const handle;  // destroyed before `module` may close
  const int32_t device;       // the number of the CUDA device that it is on; -1: the CPU
  void *stream = nullptr;     // CUstream: what the last work on the state there was put on
  Ref stream_object;          // which keeps that stream; or empty
  Ref tape;                   // a list while calls are recorded: of (grad, arguments, keywords)
};

// Memory for the fields of a module, as its states start, or zeros, on a device: a StateMemory. nullptr with an
// exception set.
PyObject *new_state_memory(const std::shared_ptr<OpenModule> &module, bool zeros, int32_t device);

// The state's work goes on this stream from now on, behind what it was on before. `object` is what keeps the stream, or
// nullptr. False with an exception set.
bool use_stream(StateMemory *memory, void *stream, PyObject *object);

// What a StateMemory object holds.
StateMemory *state_memory(PyObject *object);

// Creates the type StateMemory and adds it to `module`. Throws where nanobind does.
void add_state_memory_type(PyObject *module);

}  // namespace tiaot::binding
