// plan.hpp: a checked call, ready to run any number of times. Knows nothing of signatures.
#pragma once

#include <cstdint>

#include "dispatch.hpp"

namespace tiaot {

struct Plan {
  tiaot_code code;
  tiaot_workspace_size workspace;  // nullptr: none
  int64_t rows;
  Cut cut;
  bool direct;           // one chunk, on the arrays as they are
  int64_t worker_bytes;  // workspace, then scratch for gradients that nobody asked for; of one worker
  int32_t num_threads;   // 0: the process default
  int32_t helpers;       // threads that the code itself may use: more than 1 for kernels without a batch only
  const tiaot_executor *executor;
  tiaot_state *state;               // nullptr: none. Otherwise its memory, and its tangents', end `arrays`, and
  const tiaot_kernel_desc *kernel;  // these two tell whose call it is
  const tiaot_fault *fault;         // of the module
  int entry;
  int64_t sizes[TIAOT_MAX_DIMS];
  void *arrays[TIAOT_MAX_ARRAYS];  // in the entry's order

  // For each array of the entry; set only when the plan is not direct.
  enum class Part : uint8_t {
    kShared,   // all rows see all of it
    kBatched,  // each row has its slice
    kSummed,   // the gradient of a shared input: chunks after the first have a copy at `offset` of their partial sums
    kScratch   // not asked for: at `offset` of the worker's memory
  };
  struct Piece {
    Part part;
    uint32_t dtype;
    int64_t elements;  // of the array, or of its slice
    int64_t offset;
  };
  uint32_t array_count;
  int64_t partial_bytes;  // of one chunk's partial sums
  Piece pieces[TIAOT_MAX_ARRAYS];
};

// What the entry does per sample.
Cost entry_cost(const tiaot_kernel_desc &desc, const tiaot_entry_desc &entry, uint32_t wrt, const int64_t *sizes);

// Plans a call of any kind.
[[gnu::hot]] tiaot_status make_plan(const Request &request, const Checked &checked, Plan *plan);

[[gnu::hot]] tiaot_status run_plan(const Plan &plan);

// Whether the plan is one piece of code on the caller's thread, on no state, whatever the number of threads is set to.
bool is_single(const Request &request, const Checked &checked, const Plan &plan);

// Runs such a plan on arrays at other addresses, which are in the order of the call.
[[gnu::hot]] tiaot_status run_single(const Plan &plan, void *const *arrays);

// Bytes that the entry needs for these rows, rounded up to the alignment; below 0 when the module answers nonsense.
int64_t workspace_bytes(tiaot_workspace_size workspace, int64_t rows, const int64_t *sizes);

// How many threads may work on so many pieces; `asked` is Request::num_threads.
tiaot_status count_workers(int32_t asked, int64_t pieces, int32_t *workers);

// Raises what code that returns this, and not 0, stands for.
tiaot_status explain_outcome(int32_t outcome, const tiaot_fault *fault);

// That no output has more elements in a sample than its Jacobian can be made for.
tiaot_status check_jacobian_sizes(const Request &request, const Checked &checked);

// Checks, plans and runs a call: what tiaot_call does with a request.
tiaot_status run_call(const Request &request, const DLTensor *arrays, int32_t count);

// Forms every Jacobian of a call by running the vjp on basis cotangents, or the jvp along basis tangents.
tiaot_status run_jacobian(const Request &request, const Checked &checked);
tiaot_status run_jacobian_by_columns(const Request &request, const Checked &checked, const Choice &choice);

}  // namespace tiaot
