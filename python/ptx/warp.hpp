// warp.hpp: the 32 lanes of a warp, which go through a function in lockstep. Where they part, those that are furthest
// behind go first, so that they meet again where their ways do; see warp.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "arithmetic.hpp"
#include "launch.hpp"

namespace ptx {

// What the threads of a block have in common.
struct Block {
  uint32_t number = 0;
  uint16_t barriers = 0;  // that it has passed
  std::vector<uint8_t> bytes;
  std::unique_ptr<Region> shared;
};

// What all of a launch have in common.
struct Grid {
  const Function &kernel;
  uint32_t blocks, threads;  // of a block
  void **parameters;
  Memory &memory;
  const Settings &settings;
  uint64_t steps = 0;
};

class Warp {
 public:
  explicit Warp(Grid &grid) : grid_(grid) {}

  // The warp's first thread in its block.
  void start(Block &block, uint32_t first_thread);
  // Until all lanes have ended, or wait at a barrier; whether they have ended.
  bool run() { return run(0); }

 private:
  struct Group {  // of lanes at the same place
    int place;
    uint32_t lanes;
  };
  struct Frame {  // of a function that is being run
    const Function *function = nullptr;
    std::vector<Lanes> registers;
    std::vector<uint32_t> defined;                          // by register: in which lanes
    std::vector<uint8_t> parameters, local, local_written;  // of the lanes one behind the other
    std::vector<Group> groups;                              // the furthest behind last
    Lanes carry{};

    uint8_t *parameter(int lane, int64_t offset) {
      return parameters.data() + lane * function->parameters.bytes + offset;
    }
    uint64_t local_start(int lane) const {
      return (reinterpret_cast<uint64_t>(local.data()) + 15) / 16 * 16 + static_cast<uint64_t>(lane * local_stride());
    }
    int64_t local_stride() const { return (function->locals.bytes + 15) / 16 * 16; }
  };

  Frame &enter(size_t depth, const Function &function, uint32_t lanes);
  bool run(size_t depth);
  uint32_t guarded(Frame &frame, const Instruction &it, uint32_t lanes);
  void check_defined(Frame &frame, const Instruction &it, int number, uint32_t lanes, const char *what);
  void execute(Frame &frame, const Instruction &it, uint32_t lanes);
  void call(size_t depth, const Instruction &it, uint32_t lanes);
  void shuffle(Frame &frame, const Instruction &it, uint32_t lanes);
  void set_predicate(Frame &frame, const Instruction &it, uint32_t lanes);
  void move_pieces(Frame &frame, const Instruction &it, uint32_t lanes);
  void access(Frame &frame, const Instruction &it, uint32_t lanes);
  void access_lane(Frame &frame, const Instruction &it, int lane, uint8_t *at);
  uint8_t *find_memory(Frame &frame, const Instruction &it, int lane);
  uint8_t *check_local(const Instruction &it, int lane, uint64_t address, uint64_t size);
  void check_region(Frame &frame, const Instruction &it, Region *region, int lane, uint64_t address, uint64_t size);

  Lanes &row(Frame &frame, int number) { return frame.registers[static_cast<size_t>(number)]; }
  uint64_t &value(Frame &frame, int number, int lane) { return row(frame, number)[static_cast<size_t>(lane)]; }
  void define(Frame &frame, int number, uint32_t lanes) { frame.defined[static_cast<size_t>(number)] |= lanes; }
  static void add_group(std::vector<Group> &groups, Group group);
  std::string where(const Instruction &it) const { return grid_.kernel.name + ": " + it.text; }
  std::string who(int lane) const;
  uint32_t thread(int lane) const {
    return block_->number * grid_.threads + first_thread_ + static_cast<uint32_t>(lane);
  }

  Grid &grid_;
  Block *block_ = nullptr;
  uint32_t first_thread_ = 0;
  std::vector<std::unique_ptr<Frame>> frames_;  // by depth
  Region *last_ = nullptr;                      // that was accessed
};

}  // namespace ptx
