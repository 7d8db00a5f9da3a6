// result_memory.hpp: memory for large new arrays of NumPy's. Knows nothing of kernels.
#pragma once

#include "common.hpp"

namespace tiaot::binding {

// From how many bytes on an array's memory comes from here: below, NumPy's own is as fast.
inline constexpr int64_t kLargeResult = int64_t{1} << 20;

// A new, uninitialised array as PyArray_SimpleNew makes it, in memory that may be that of an array that is gone;
// nullptr with an exception set. For arrays of kLargeResult bytes or more.
PyObject *new_large_array(int ndim, const int64_t *shape, int type);

}  // namespace tiaot::binding
