// dtypes.hpp: the C++ type of each element type of module.h. The one list of them in C++.
#pragma once

#include <cstdint>

#include "half.hpp"
#include "tiaot/module.h"

namespace tiaot {

// Calls `visit` with a number of the type's C++ type, and returns true; false for what is no element type.
template <typename Visit>
bool visit_dtype(uint32_t dtype, Visit &&visit) {
  switch (dtype) {
    case TIAOT_INT32:
      visit(int32_t{});
      return true;
    case TIAOT_INT64:
      visit(int64_t{});
      return true;
    case TIAOT_UINT8:
      visit(uint8_t{});
      return true;
    case TIAOT_FLOAT16:
      visit(Half{});
      return true;
    case TIAOT_FLOAT32:
      visit(float{});
      return true;
    case TIAOT_FLOAT64:
      visit(double{});
      return true;
  }
  return false;
}

inline bool known_dtype(uint32_t dtype) {
  return visit_dtype(dtype, [](auto) {});
}

}  // namespace tiaot
