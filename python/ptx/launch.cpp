// launch.cpp: see launch.hpp.
#include "launch.hpp"

#include <algorithm>
#include <numeric>
#include <random>

#include "warp.hpp"

namespace ptx {
namespace {

std::vector<uint32_t> ordered(uint32_t count, Order order, uint32_t seed) {
  std::vector<uint32_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0U);
  if (order == Order::kBackward) std::reverse(numbers.begin(), numbers.end());
  if (order == Order::kShuffled) std::shuffle(numbers.begin(), numbers.end(), std::mt19937(seed));
  return numbers;
}

bool has_barriers(const Function &kernel) {
  return std::any_of(kernel.code.begin(), kernel.code.end(),
                     [](const Instruction &it) { return it.op == Op::kBarrier; });
}

// `together`: its warps wait for each other.
void run_warps(Grid &grid, Block &block, bool together, std::vector<std::unique_ptr<Warp>> &warps) {
  const uint32_t count = (grid.threads + kLanes - 1) / kLanes;
  const std::vector<uint32_t> order = ordered(count, grid.settings.order, block.number);
  if (!together) {
    for (const uint32_t each : order) {
      warps[0]->start(block, each * kLanes);
      warps[0]->run();
    }
    return;
  }
  while (warps.size() < count) warps.push_back(std::make_unique<Warp>(grid));
  for (const uint32_t each : order) warps[each]->start(block, each * kLanes);
  std::vector<uint32_t> waiting = order;
  for (block.barriers = 0; !waiting.empty(); ++block.barriers) {
    std::vector<uint32_t> left;
    for (const uint32_t each : waiting) {
      if (!warps[each]->run()) left.push_back(each);
    }
    if (!left.empty() && left.size() != waiting.size()) {
      grid.memory.report("a barrier that not all threads reach", grid.kernel.name,
                         "block " + std::to_string(block.number));
    }
    waiting = left;
  }
}

// Each block finds its shared memory unwritten, and races with none that had it before.
void run_block(Grid &grid, Block &block, bool together, std::vector<std::unique_ptr<Warp>> &warps) {
  if (block.shared != nullptr) block.shared->mark(block.shared->start, block.shared->bytes, false);
  run_warps(grid, block, together, warps);
  if (block.shared != nullptr) block.shared->forget_touches();
}

}  // namespace

uint64_t run(const Function &kernel, uint32_t blocks, uint32_t threads, void **parameters, Memory &memory,
             const Settings &settings) {
  if (kernel.most_threads != 0 && threads > static_cast<uint32_t>(kernel.most_threads)) {
    throw Error(kernel.name + ": blocks of " + std::to_string(threads) + " threads, more than .maxntid");
  }
  if (uint64_t{blocks} * threads > 0x7FFFFFFF) throw Error(kernel.name + ": more threads than are told apart here");
  Grid grid{kernel, blocks, threads, parameters, memory, settings};
  Block block;
  if (kernel.shared.bytes > 0) {
    block.bytes.resize(static_cast<size_t>(kernel.shared.bytes) + 256);
    const uint64_t start = (reinterpret_cast<uint64_t>(block.bytes.data()) + 255) / 256 * 256;
    const uint64_t bytes = static_cast<uint64_t>(kernel.shared.bytes);
    block.shared = std::make_unique<Region>(start, bytes, "shared memory", true, false, 4);
  }
  const bool together = has_barriers(kernel);
  std::vector<std::unique_ptr<Warp>> warps;
  warps.push_back(std::make_unique<Warp>(grid));
  for (const uint32_t number : ordered(blocks, settings.order, 1)) {
    block.number = number;
    run_block(grid, block, together, warps);
  }
  memory.forget_touches();
  return grid.steps;
}

}  // namespace ptx
