// cuda_jacobian.cpp: Jacobians on a CUDA device, from the vjp entry. Knows nothing of how the entry computes.
#include "cuda_call.hpp"
#include "error.hpp"

namespace tiaot {

tiaot_status run_cuda_jacobian(const Request &request, const Checked &) {
  return raise(TIAOT_ERROR_UNSUPPORTED, "%s.jacobian: there are no Jacobians of arrays on a CUDA device yet",
               request.desc().name);
}

}  // namespace tiaot
