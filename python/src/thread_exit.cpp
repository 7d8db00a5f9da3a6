// thread_exit.cpp: what becomes of a thread that Python ends. Knows nothing of what the thread was doing.
//
// While the interpreter finalises, CPython up to 3.13 ends every other thread that asks for the GIL, by pthread_exit.
// That unwinds the thread's stack, and destructors of this extension would run without the GIL: they give references
// back and call into Python. The way out that 3.14 takes for all is to let such a thread hang until the process ends.
//
// So the extension is linked with its own personality routine (--wrap in CMakeLists.txt), which the unwinder asks about
// each frame of C++ that has something to clean up: ours, nanobind's, and those of the runtime. Every other unwinding
// goes to the real one. Unlike a handler at the places that take the GIL back, it needs no place to be thought of: any
// call into Python may take the GIL.
#include <unistd.h>
#include <unwind.h>

#include "common.hpp"

namespace {

// CPython's flag, which is for all of its threads; the thread may have no state to ask by now.
bool python_is_ending() {
#if PY_VERSION_HEX >= 0x030d0000
  return Py_IsFinalizing() != 0 || Py_IsInitialized() == 0;
#else
  return _Py_IsFinalizing() != 0 || Py_IsInitialized() == 0;
#endif
}

}  // namespace

extern "C" {

_Unwind_Reason_Code __real___gxx_personality_v0(int version, _Unwind_Action actions, _Unwind_Exception_Class kind,
                                                _Unwind_Exception *exception, _Unwind_Context *context);

_Unwind_Reason_Code __wrap___gxx_personality_v0(int version, _Unwind_Action actions, _Unwind_Exception_Class kind,
                                                _Unwind_Exception *exception, _Unwind_Context *context) {
  if ((actions & _UA_FORCE_UNWIND) != 0 && python_is_ending()) {
    while (true) pause();
  }
  return __real___gxx_personality_v0(version, actions, kind, exception, context);
}
}
