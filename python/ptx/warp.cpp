// warp.cpp: see warp.hpp. Which lanes run what, and what is none of arithmetic.cpp's and none of memory.
#include "warp.hpp"

#include <algorithm>
#include <climits>
#include <cstring>

#include "values.hpp"

namespace ptx {
namespace {

constexpr const char *kNeverWritten = "a register that was never written";

}  // namespace

std::string Warp::who(int lane) const {
  return "by thread " + std::to_string(thread(lane)) + " of " + std::to_string(uint64_t{grid_.blocks} * grid_.threads);
}

Warp::Frame &Warp::enter(size_t depth, const Function &function, uint32_t lanes) {
  if (depth > 30) throw Error(function.name + ": calls that are too deep");
  while (frames_.size() <= depth) frames_.push_back(std::make_unique<Frame>());
  Frame &frame = *frames_[depth];
  const auto set = [&](int number, auto value_of) {
    for (int lane = 0; lane < kLanes; ++lane) value(frame, number, lane) = value_of(lane);
  };
  if (frame.function != &function) {
    frame.function = &function;
    frame.registers.assign(static_cast<size_t>(function.registers), Lanes{});
    frame.parameters.assign(static_cast<size_t>(function.parameters.bytes * kLanes), 0);
    frame.local.assign(static_cast<size_t>(frame.local_stride() * kLanes + 16), 0);
    for (const auto &each : function.constants) set(each.first, [&](int) { return each.second; });
    for (const auto &each : function.constant_pointers) set(each.first, [&](int) { return each.second; });
    for (const auto &each : function.local_pointers) {
      set(each.first, [&](int lane) { return frame.local_start(lane) + static_cast<uint64_t>(each.second); });
    }
  }
  for (const auto &each : function.shared_pointers) {
    set(each.first, [&](int) { return block_->shared->start + static_cast<uint64_t>(each.second); });
  }
  for (const auto &each : function.specials) {
    set(each.first, [&](int lane) -> uint64_t {
      switch (each.second) {
        case Special::kThread:
          return first_thread_ + static_cast<uint32_t>(lane);
        case Special::kBlock:
          return block_->number;
        case Special::kThreads:
          return grid_.threads;
        case Special::kBlocks:
          return grid_.blocks;
        case Special::kLane:
          return static_cast<uint64_t>(lane);
        default:
          return each.second == Special::kOne ? 1 : 0;
      }
    });
  }
  frame.defined.assign(static_cast<size_t>(function.registers), 0);
  const auto define_all = [&](const auto &pairs) {
    for (const auto &each : pairs) define(frame, each.first, 0xFFFFFFFF);
  };
  define_all(function.constants);
  define_all(function.constant_pointers);
  define_all(function.local_pointers);
  define_all(function.shared_pointers);
  define_all(function.specials);
  frame.local_written.assign(frame.local.size(), 0);
  frame.groups.assign(1, Group{0, lanes});
  return frame;
}

void Warp::start(Block &block, uint32_t first_thread) {
  block_ = &block;
  first_thread_ = first_thread;
  const uint32_t count = std::min<uint32_t>(kLanes, grid_.threads - first_thread);
  Frame &frame = enter(0, grid_.kernel, count == kLanes ? 0xFFFFFFFF : (1U << count) - 1);
  const Layout &layout = grid_.kernel.parameters;
  for (size_t i = 0; i < grid_.kernel.formals.size(); ++i) {
    const Slot &slot = layout.slots.at(grid_.kernel.formals[i]);
    for (int lane = 0; lane < kLanes; ++lane) {
      std::memcpy(frame.parameter(lane, slot.offset), grid_.parameters[i], static_cast<size_t>(slot.bytes));
    }
  }
}

void Warp::add_group(std::vector<Group> &groups, Group group) {
  const auto at =
      std::find_if(groups.begin(), groups.end(), [&](const Group &each) { return each.place <= group.place; });
  if (at != groups.end() && at->place == group.place) {
    at->lanes |= group.lanes;
  } else {
    groups.insert(at, group);
  }
}

bool Warp::run(size_t depth) {
  Frame &frame = *frames_[depth];
  const std::vector<Instruction> &code = frame.function->code;
  while (!frame.groups.empty()) {
    Group now = frame.groups.back();
    frame.groups.pop_back();
    const int meeting = frame.groups.empty() ? INT_MAX : frame.groups.back().place;
    while (now.lanes != 0 && now.place < meeting) {
      if (static_cast<size_t>(now.place) >= code.size()) throw Error(frame.function->name + ": runs off its end");
      const Instruction &it = code[static_cast<size_t>(now.place++)];
      if (++grid_.steps > grid_.settings.most_steps) throw Error(where(it) + ": too many instructions");
      const uint32_t lanes = guarded(frame, it, now.lanes);
      if (it.op == Op::kBranch) {
        if (lanes != now.lanes && lanes != 0) {
          add_group(frame.groups, {now.place, now.lanes & ~lanes});
          add_group(frame.groups, {it.target, lanes});
          now.lanes = 0;
        } else if (lanes != 0) {
          now.place = it.target;
        }
      } else if (lanes == 0) {
        continue;
      } else if (it.op == Op::kReturn) {
        now.lanes &= ~lanes;
      } else if (it.op == Op::kBarrier) {
        if (depth != 0) throw Error(where(it) + ": a barrier in a function");
        if (!frame.groups.empty() || lanes != now.lanes) {
          grid_.memory.report("a barrier that not all threads reach", where(it), who(__builtin_ctz(lanes)));
        }
        add_group(frame.groups, now);
        return false;
      } else if (it.op == Op::kCall) {
        call(depth, it, lanes);
      } else {
        execute(frame, it, lanes);
      }
    }
    if (now.lanes != 0) add_group(frame.groups, now);
  }
  return true;
}

uint32_t Warp::guarded(Frame &frame, const Instruction &it, uint32_t lanes) {
  if (it.guard == kAbsent) return lanes;
  check_defined(frame, it, it.guard, lanes, kNeverWritten);
  uint32_t chosen = 0;
  each_lane(lanes, [&](int lane) {
    if ((value(frame, it.guard, lane) != 0) != it.guard_negated) chosen |= 1U << lane;
  });
  return chosen;
}

void Warp::check_defined(Frame &frame, const Instruction &it, int number, uint32_t lanes, const char *what) {
  if (number == kAbsent) return;
  if (const uint32_t without = lanes & ~frame.defined[static_cast<size_t>(number)]) {
    grid_.memory.report(what, where(it), who(__builtin_ctz(without)));
  }
}

void Warp::execute(Frame &frame, const Instruction &it, uint32_t lanes) {
  if (it.op == Op::kMove) {  // what is moved may hold nothing yet, where nobody will look at it
    each_lane(lanes, [&](int lane) { value(frame, it.to[0], lane) = cut(it.type, value(frame, it.of[0], lane)); });
    uint32_t &defined = frame.defined[static_cast<size_t>(it.to[0])];
    defined = (defined & ~lanes) | (frame.defined[static_cast<size_t>(it.of[0])] & lanes);
    return;
  }
  for (const int number : it.of) check_defined(frame, it, number, lanes, kNeverWritten);
  switch (it.op) {
    case Op::kLoad:
    case Op::kStore:
    case Op::kAtomic:
      return access(frame, it, lanes);
    case Op::kSetPredicate:
      return set_predicate(frame, it, lanes);
    case Op::kPack:
    case Op::kUnpack:
      return move_pieces(frame, it, lanes);
    case Op::kShuffle:
      return shuffle(frame, it, lanes);
    case Op::kActiveMask:
      each_lane(lanes, [&](int lane) { value(frame, it.to[0], lane) = lanes; });
      return define(frame, it.to[0], lanes);
    case Op::kFence:
      return;
    case Op::kTrap:
      throw Error(where(it) + ": a trap " + who(__builtin_ctz(lanes)));
    default:
      break;
  }
  std::array<const Lanes *, 4> of{};
  for (size_t i = 0; i < of.size(); ++i) of[i] = it.of[i] == kAbsent ? nullptr : &row(frame, it.of[i]);
  if (!compute(it, lanes, row(frame, it.to[0]), of, frame.carry, grid_.settings.off)) refuse(it);
  define(frame, it.to[0], lanes);
}

void Warp::call(size_t depth, const Instruction &it, uint32_t lanes) {
  const Function &callee = *it.callee;
  Frame &inner = enter(depth + 1, callee, lanes);
  Frame &outer = *frames_[depth];
  each_lane(lanes, [&](int lane) {
    for (size_t i = 0; i < callee.formals.size(); ++i) {
      const Slot &slot = callee.parameters.slots.at(callee.formals[i]);
      std::memcpy(inner.parameter(lane, slot.offset), outer.parameter(lane, it.arguments[i]),
                  static_cast<size_t>(slot.bytes));
    }
  });
  run(depth + 1);
  if (it.result < 0) return;
  const Slot &slot = callee.parameters.slots.at(callee.result);
  each_lane(lanes, [&](int lane) {
    std::memcpy(outer.parameter(lane, it.result), inner.parameter(lane, slot.offset), static_cast<size_t>(slot.bytes));
  });
}

void Warp::set_predicate(Frame &frame, const Instruction &it, uint32_t lanes) {
  each_lane(lanes, [&](int lane) {
    const bool result = compared(it, value(frame, it.of[0], lane), value(frame, it.of[1], lane));
    const bool other = it.of[2] != kAbsent && (value(frame, it.of[2], lane) != 0) != it.negate;
    const auto joined = [&](bool one) {
      switch (it.boolean) {
        case Bool::kAnd:
          return one && other;
        case Bool::kOr:
          return one || other;
        case Bool::kXor:
          return one != other;
        default:
          return one;
      }
    };
    value(frame, it.to[0], lane) = joined(result);
    if (it.to[1] != kAbsent) value(frame, it.to[1], lane) = joined(!result);
  });
  define(frame, it.to[0], lanes);
  if (it.to[1] != kAbsent) define(frame, it.to[1], lanes);
}

void Warp::move_pieces(Frame &frame, const Instruction &it, uint32_t lanes) {
  const int bits = bits_in(it.type) / it.width;
  const uint64_t all = (uint64_t{1} << bits) - 1;
  each_lane(lanes, [&](int lane) {
    uint64_t whole = it.op == Op::kUnpack ? value(frame, it.of[0], lane) : 0;
    for (int i = 0; i < it.width; ++i) {
      const size_t piece = static_cast<size_t>(i);
      if (it.op == Op::kPack) {
        whole |= (value(frame, it.of[piece], lane) & all) << (bits * i);
      } else if (it.to[piece] != kAbsent) {
        value(frame, it.to[piece], lane) = whole >> (bits * i) & all;
      }
    }
    if (it.op == Op::kPack) value(frame, it.to[0], lane) = whole;
  });
  for (const int number : it.to) {
    if (number != kAbsent) define(frame, number, lanes);
  }
}

void Warp::shuffle(Frame &frame, const Instruction &it, uint32_t lanes) {
  const Lanes given = row(frame, it.of[0]);
  uint32_t out = 0;
  each_lane(lanes, [&](int lane) {
    const uint32_t by = static_cast<uint32_t>(value(frame, it.of[1], lane)),
                   clamp = static_cast<uint32_t>(value(frame, it.of[2], lane));
    const uint32_t members = static_cast<uint32_t>(value(frame, it.of[3], lane));
    if ((members & ~lanes) != 0) {
      grid_.memory.report("a shuffle that not all of its lanes reach", where(it), who(lane));
    }
    const uint32_t own = static_cast<uint32_t>(lane), segment = clamp >> 8 & 31, last = clamp & 31;
    const uint32_t most = (own & segment) | (last & ~segment), least = own & segment;
    uint32_t from = own;
    bool inside = true;
    switch (it.shuffle) {
      case Shuffle::kUp:
        from = own - by;
        inside = static_cast<int32_t>(from) >= static_cast<int32_t>(most);
        break;
      case Shuffle::kDown:
        from = own + by;
        inside = from <= most;
        break;
      case Shuffle::kButterfly:
        from = own ^ by;
        inside = from <= most;
        break;
      default:
        from = least | (by & ~segment);
        inside = from <= most;
    }
    if (!inside) from = own;
    if ((lanes >> from & 1) == 0) grid_.memory.report("a shuffle from a lane that is not there", where(it), who(lane));
    value(frame, it.to[0], lane) = cut(it.type, given[from]);
    out |= uint32_t{inside} << lane;
  });
  define(frame, it.to[0], lanes);
  if (it.to[1] == kAbsent) return;
  each_lane(lanes, [&](int lane) { value(frame, it.to[1], lane) = out >> lane & 1; });
  define(frame, it.to[1], lanes);
}

}  // namespace ptx
