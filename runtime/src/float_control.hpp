// float_control.hpp: how a thread rounds, flushes and traps floating-point numbers. Knows nothing of who works for
// whom. For each kind of CPU:
//   FloatControl            the control state of a thread, from of_this_thread()
//   BorrowedFloatControl    gives this thread another's for a while; raised() are the exceptions since then
//   FloatTrapsOff           while it lives, no exception traps on this thread
//   raise_float_exceptions  marks exceptions as raised on this thread, as raised() gave them
#pragma once

#if defined(__x86_64__)
#include "float_control_x86_64.hpp"
#elif defined(__aarch64__)
#include "float_control_aarch64.hpp"
#endif
