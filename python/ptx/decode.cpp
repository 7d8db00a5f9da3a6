// decode.cpp: one statement of PTX -> one instruction. A modifier or an opcode that is not known here is an error: what
// is run means what it says.
#include "decode.hpp"

#include <algorithm>

#include "text.hpp"

namespace ptx {
namespace {

template <typename Value>
using Names = std::map<std::string, Value>;

const Names<Type> kTypes = {{"pred", Type::kPred}, {"b8", Type::kB8},   {"b16", Type::kB16}, {"b32", Type::kB32},
                            {"b64", Type::kB64},   {"u8", Type::kU8},   {"u16", Type::kU16}, {"u32", Type::kU32},
                            {"u64", Type::kU64},   {"s8", Type::kS8},   {"s16", Type::kS16}, {"s32", Type::kS32},
                            {"s64", Type::kS64},   {"f16", Type::kF16}, {"f32", Type::kF32}, {"f64", Type::kF64}};
const Names<Compare> kCompares = {{"eq", Compare::kEqual},     {"ne", Compare::kNotEqual},
                                  {"lt", Compare::kLess},      {"le", Compare::kLessEqual},
                                  {"gt", Compare::kGreater},   {"ge", Compare::kGreaterEqual},
                                  {"lo", Compare::kLow},       {"ls", Compare::kLowSame},
                                  {"hi", Compare::kHigh},      {"hs", Compare::kHighSame},
                                  {"equ", Compare::kEqualU},   {"neu", Compare::kNotEqualU},
                                  {"ltu", Compare::kLessU},    {"leu", Compare::kLessEqualU},
                                  {"gtu", Compare::kGreaterU}, {"geu", Compare::kGreaterEqualU},
                                  {"num", Compare::kOrdered},  {"nan", Compare::kUnordered}};
const Names<Round> kRounds = {{"rn", Round::kNearest},
                              {"rz", Round::kZero},
                              {"rm", Round::kDown},
                              {"rp", Round::kUp},
                              {"rni", Round::kIntegerNearest},
                              {"rzi", Round::kIntegerZero},
                              {"rmi", Round::kIntegerDown},
                              {"rpi", Round::kIntegerUp}};
const Names<Space> kSpaces = {{"global", Space::kGlobal},
                              {"local", Space::kLocal},
                              {"shared", Space::kShared},
                              {"param", Space::kParameter},
                              {"const", Space::kConstant}};
const Names<Atomic> kAtomics = {
    {"add", Atomic::kAdd}, {"min", Atomic::kMin}, {"max", Atomic::kMax},       {"and", Atomic::kAnd},
    {"or", Atomic::kOr},   {"xor", Atomic::kXor}, {"exch", Atomic::kExchange}, {"cas", Atomic::kCompareExchange}};
const Names<Bool> kBools = {{"and", Bool::kAnd}, {"or", Bool::kOr}, {"xor", Bool::kXor}};
const Names<Class> kClasses = {{"finite", Class::kFinite}, {"infinite", Class::kInfinite},
                               {"number", Class::kNumber}, {"notanumber", Class::kNotANumber},
                               {"normal", Class::kNormal}, {"subnormal", Class::kSubnormal}};
const Names<Shuffle> kShuffles = {
    {"up", Shuffle::kUp}, {"down", Shuffle::kDown}, {"bfly", Shuffle::kButterfly}, {"idx", Shuffle::kIndex}};
const Names<Special> kSpecials = {
    {"%tid.x", Special::kThread},    {"%ctaid.x", Special::kBlock}, {"%ntid.x", Special::kThreads},
    {"%nctaid.x", Special::kBlocks}, {"%laneid", Special::kLane},   {"%tid.y", Special::kZero},
    {"%tid.z", Special::kZero},      {"%ctaid.y", Special::kZero},  {"%ctaid.z", Special::kZero},
    {"%ntid.y", Special::kOne},      {"%ntid.z", Special::kOne},    {"%nctaid.y", Special::kOne},
    {"%nctaid.z", Special::kOne}};
// Operations whose operands all are registers: the first is written, the others are read.
const Names<Op> kPlain = {{"add", Op::kAdd},
                          {"addc", Op::kAdd},
                          {"sub", Op::kSub},
                          {"subc", Op::kSub},
                          {"fma", Op::kFma},
                          {"div", Op::kDiv},
                          {"rem", Op::kRem},
                          {"min", Op::kMin},
                          {"max", Op::kMax},
                          {"abs", Op::kAbs},
                          {"neg", Op::kNeg},
                          {"not", Op::kNot},
                          {"and", Op::kAnd},
                          {"or", Op::kOr},
                          {"xor", Op::kXor},
                          {"shl", Op::kShiftLeft},
                          {"shr", Op::kShiftRight},
                          {"sqrt", Op::kSqrt},
                          {"rsqrt", Op::kReciprocalSqrt},
                          {"rcp", Op::kReciprocal},
                          {"ex2", Op::kExp2},
                          {"lg2", Op::kLog2},
                          {"sin", Op::kSin},
                          {"cos", Op::kCos},
                          {"tanh", Op::kTanh},
                          {"bfe", Op::kExtractBits},
                          {"popc", Op::kCountOnes},
                          {"clz", Op::kCountZeros},
                          {"brev", Op::kReverse},
                          {"prmt", Op::kPermute},
                          {"copysign", Op::kCopySign},
                          {"selp", Op::kSelect},
                          {"cvt", Op::kConvert},
                          {"activemask", Op::kActiveMask}};
const Names<size_t> kOperands = {{"fma", 4}, {"abs", 2},       {"neg", 2}, {"not", 2},  {"sqrt", 2}, {"rsqrt", 2},
                                 {"rcp", 2}, {"ex2", 2},       {"lg2", 2}, {"sin", 2},  {"cos", 2},  {"tanh", 2},
                                 {"bfe", 4}, {"popc", 2},      {"clz", 2}, {"brev", 2}, {"prmt", 4}, {"selp", 4},
                                 {"cvt", 2}, {"activemask", 1}};  // 3 for the others
// What changes nothing here: who sees it when, and how it is cached.
const char *const kIgnored[] = {"cta", "gpu", "sys",     "relaxed", "acquire", "release", "acq_rel",
                                "sc",  "uni", "aligned", "sync",    "ca",      "cg",      "cs",
                                "cv",  "wb",  "wt",      "noftz",   "full"};

template <typename Value>
const Value *find(const Names<Value> &names, const std::string &name) {
  const auto found = names.find(name);
  return found == names.end() ? nullptr : &found->second;
}

// What the first modifier names, which is taken; nullptr where it names none of these.
template <typename Value>
const Value *take_first(const Names<Value> &names, std::vector<std::string> &modifiers) {
  const Value *value = modifiers.empty() ? nullptr : find(names, modifiers[0]);
  if (value != nullptr) modifiers.erase(modifiers.begin());
  return value;
}

}  // namespace

Type type_named(const std::string &name) {
  const Type *type = find(kTypes, name);
  return type == nullptr ? Type::kNone : *type;
}

Decoder::Decoder(Program &program, Function &function) : program_(program), function_(function) {}

void Decoder::refuse(const std::string &why) const {
  throw Error("PTX: " + function_.name + ": '" + statement_ + "': " + why);
}

// ---- operands

void Decoder::declare_registers(const std::string &text) {
  const size_t bracket = text.find('<');
  const std::string stem = trimmed(text.substr(0, bracket));
  if (bracket == std::string::npos) {
    if (registers_.count(stem) == 0) registers_[stem] = new_register();
    return;
  }
  const int count = std::atoi(text.c_str() + bracket + 1);
  for (int i = 0; i < count; ++i) registers_[stem + std::to_string(i)] = new_register();
}

void Decoder::declare_memory(const std::string &name, Space space, int64_t offset) { memory_[name] = {space, offset}; }

int Decoder::constant(uint64_t value) {
  const auto found = constants_.find(value);
  if (found != constants_.end()) return found->second;
  const int made = new_register();
  constants_[value] = made;
  function_.constants.emplace_back(made, value);
  return made;
}

int Decoder::operand(const std::string &text) {
  if (text == "_") return kAbsent;
  const auto found = registers_.find(text);
  if (found != registers_.end()) return found->second;
  if (const Special *special = find(kSpecials, text)) {
    const int made = registers_[text] = new_register();
    function_.specials.emplace_back(made, *special);
    return made;
  }
  if (const auto place = memory_.find(text); place != memory_.end()) {
    const int made = registers_[text] = new_register();
    auto &pointers = place->second.first == Space::kLocal ? function_.local_pointers : function_.shared_pointers;
    pointers.emplace_back(made, place->second.second);
    return made;
  }
  if (const auto data = program_.constants.find(text); data != program_.constants.end()) {
    const int made = registers_[text] = new_register();
    function_.constant_pointers.emplace_back(made, reinterpret_cast<uint64_t>(data->second.data()));
    return made;
  }
  if (text.empty() || text[0] == '%') refuse("there is no register " + text);
  return constant(number(text));
}

void Decoder::pieces(const std::string &text, std::array<int, 4> &places, uint8_t *width) {
  if (text[0] != '{') {
    places[0] = operand(text);
    return;
  }
  const Words parts = split(without_brackets(text), ',');
  if (parts.size() > places.size() || parts.size() < 2) refuse("a vector of " + std::to_string(parts.size()));
  for (size_t i = 0; i < parts.size(); ++i) places[i] = operand(parts[i]);
  *width = static_cast<uint8_t>(parts.size());
}

void Decoder::address(Instruction &it, const std::string &text) {
  std::string place = trimmed(without_brackets(text));
  const size_t plus = place.find('+');
  if (plus != std::string::npos) {
    it.offset = static_cast<int64_t>(number(trimmed(place.substr(plus + 1))));
    place = trimmed(place.substr(0, plus));
  }
  if (it.space == Space::kParameter) {
    const auto found = function_.parameters.slots.find(place);
    if (found == function_.parameters.slots.end()) refuse("there is no parameter " + place);
    it.offset += found->second.offset;
    return;
  }
  it.base = operand(place);
}

bool Decoder::take(const char *modifier) {
  const auto found = std::find(modifiers_.begin(), modifiers_.end(), modifier);
  if (found == modifiers_.end()) return false;
  modifiers_.erase(found);
  return true;
}

void Decoder::simple(Instruction &it, Op op, const Words &operands) {
  it.op = op;
  it.to[0] = operand(operands[0]);
  for (size_t i = 1; i < operands.size(); ++i) it.of[i - 1] = operand(operands[i]);
}

void Decoder::destinations(Instruction &it, const std::string &text) {
  const size_t bar = text.find('|');
  it.to[0] = operand(trimmed(text.substr(0, bar)));
  if (bar != std::string::npos) it.to[1] = operand(trimmed(text.substr(bar + 1)));
}

// ---- statements

void Decoder::add(const std::string &statement) {
  statement_.clear();
  for (const std::string &word : split(statement, ' ')) statement_ += (statement_.empty() ? "" : " ") + word;
  Instruction it;
  it.text = statement_;
  std::string rest = statement_;
  if (rest[0] == '@') {
    const size_t end = rest.find(' ');
    it.guard_negated = rest[1] == '!';
    it.guard = operand(rest.substr(it.guard_negated ? 2 : 1, end - (it.guard_negated ? 2 : 1)));
    rest = trimmed(rest.substr(end));
  }
  const size_t end = std::min(rest.find(' '), rest.size());
  modifiers_ = split(rest.substr(0, end), '.');
  const std::string name = modifiers_[0];
  modifiers_.erase(modifiers_.begin());
  for (const char *ignored : kIgnored) take(ignored);
  add_parts(it, name, trimmed(rest.substr(end)));
  if (!modifiers_.empty()) refuse("." + modifiers_[0] + " is not known here");
  function_.code.push_back(std::move(it));
}

void Decoder::add_parts(Instruction &it, const std::string &name, const std::string &rest) {
  it.flush = take("ftz");
  it.saturate = take("sat");
  it.approximate = take("approx");
  it.carry_out = take("cc");
  it.keep_nan = take("NaN");
  const Words operands = split(rest, ',');
  // Types are the last ones; a rounding stands before them.
  std::vector<Type> types;
  for (auto each = modifiers_.begin(); each != modifiers_.end();) {
    const Type type = type_named(*each);
    if (type != Type::kNone) {
      types.push_back(type);
      each = modifiers_.erase(each);
    } else if (const Round *round = find(kRounds, *each)) {
      it.round = *round;
      each = modifiers_.erase(each);
    } else {
      ++each;
    }
  }
  if (types.size() > 2) refuse("three types");
  if (!types.empty()) it.type = types[0];
  it.from = types.size() > 1 ? types[1] : it.type;
  if (!add_control(it, name, operands, rest) && !add_memory(it, name, operands) &&
      !add_arithmetic(it, name, operands) && !add_mathematics(it, name, operands)) {
    refuse("is not known here");
  }
}

bool Decoder::add_control(Instruction &it, const std::string &name, const Words &operands, const std::string &rest) {
  if (name == "bra") {
    it.op = Op::kBranch;
    branches_.emplace_back(function_.code.size(), operands[0]);
  } else if (name == "ret" || name == "exit") {
    it.op = Op::kReturn;
  } else if (name == "trap") {
    it.op = Op::kTrap;
  } else if (name == "membar" || name == "fence") {
    it.op = Op::kFence;
    take("gl");
  } else if (name == "bar" || name == "barrier") {
    it.op = Op::kBarrier;
    if (operands != Words{"0"}) refuse("a barrier of a part of the block");
  } else if (name == "call") {
    it.op = Op::kCall;
    Words parts = split(rest, ',');
    const auto place = [&](const std::string &parameter) {
      const auto found = function_.parameters.slots.find(parameter);
      if (found == function_.parameters.slots.end()) refuse("there is no parameter " + parameter);
      return static_cast<int>(found->second.offset);
    };
    if (parts[0][0] == '(') {
      it.result = place(trimmed(without_brackets(parts[0])));
      parts.erase(parts.begin());
    }
    it.name = parts[0];
    if (parts.size() > 1) {
      for (const std::string &each : split(without_brackets(parts[1]), ',')) it.arguments.push_back(place(each));
    }
  } else if (name == "shfl") {
    it.op = Op::kShuffle;
    const Shuffle *kind = take_first(kShuffles, modifiers_);
    if (kind == nullptr || it.type != Type::kB32 || operands.size() != 5) refuse("a shuffle of no known kind");
    it.shuffle = *kind;
    destinations(it, operands[0]);
    for (size_t i = 1; i < 5; ++i) it.of[i - 1] = operand(operands[i]);
  } else {
    return false;
  }
  return true;
}

bool Decoder::add_memory(Instruction &it, const std::string &name, const Words &operands) {
  if (name == "cvta") {
    take("to");
    for (const auto &space : kSpaces) take(space.first.c_str());
    simple(it, Op::kConvertAddress, operands);
    return true;
  }
  if (name != "ld" && name != "st" && name != "atom" && name != "red") return false;
  for (const auto &space : kSpaces) {
    if (take(space.first.c_str())) it.space = space.second;
  }
  it.is_volatile = take("volatile");
  it.read_only = take("nc");
  const uint8_t width = take("v2") ? 2 : take("v4") ? 4 : 1;
  if (name == "ld" || name == "st") {
    it.op = name == "ld" ? Op::kLoad : Op::kStore;
    pieces(operands[name == "ld" ? 0 : 1], name == "ld" ? it.to : it.of, &it.width);
    if (it.width != width) refuse("its vector and its type do not agree");
    address(it, operands[name == "ld" ? 1 : 0]);
    return true;
  }
  it.op = Op::kAtomic;
  const Atomic *kind = take_first(kAtomics, modifiers_);
  if (kind == nullptr) refuse("an atomic operation of no known kind");
  it.atomic = *kind;
  size_t next = 0;
  if (name == "atom") it.to[0] = operand(operands[next++]);
  address(it, operands[next++]);
  for (size_t i = 0; next < operands.size(); ++i) it.of[i] = operand(operands[next++]);
  return true;
}

bool Decoder::add_arithmetic(Instruction &it, const std::string &name, const Words &operands) {
  const bool real = is_float(it.type);
  if (name == "mov") {
    const bool packs = operands[1][0] == '{', unpacks = operands[0][0] == '{';
    it.op = packs ? Op::kPack : unpacks ? Op::kUnpack : Op::kMove;
    pieces(operands[0], it.to, &it.width);
    pieces(operands[1], it.of, &it.width);
  } else if (name == "mul") {
    const Op op = real ? Op::kMul : take("wide") ? Op::kMulWide : take("hi") ? Op::kMulHigh : Op::kMul;
    if (op == Op::kMul && !real && !take("lo")) refuse("a product of no known part");
    simple(it, op, operands);
  } else if (name == "mad" || name == "madc") {
    it.high = take("hi");
    it.carry_in = name == "madc";
    const Op op = real ? Op::kFma : take("wide") ? Op::kMulAddWide : it.high ? Op::kMulAddHigh : Op::kMulAdd;
    if (op == Op::kMulAdd && !take("lo")) refuse("a product of no known part");
    simple(it, op, operands);
  } else if (name == "setp") {
    const Compare *compare = take_first(kCompares, modifiers_);
    if (compare == nullptr) refuse("a comparison of no known kind");
    it.compare = *compare;
    it.op = Op::kSetPredicate;
    destinations(it, operands[0]);
    for (size_t i = 1; i < 3; ++i) it.of[i - 1] = operand(operands[i]);
    if (operands.size() > 3) {
      const Bool *boolean = take_first(kBools, modifiers_);
      if (boolean == nullptr) refuse("predicates are combined in no known way");
      it.boolean = *boolean;
      it.negate = operands[3][0] == '!';
      it.of[2] = operand(operands[3].substr(it.negate ? 1 : 0));
    }
  } else if (name == "shf") {
    const bool left = take("l");
    if (!left && !take("r")) refuse("a shift in no direction");
    if (!take("wrap")) refuse("only .wrap is known here");
    simple(it, left ? Op::kFunnelLeft : Op::kFunnelRight, operands);
  } else if (name == "testp") {
    const Class *wanted = take_first(kClasses, modifiers_);
    if (wanted == nullptr) refuse("a test of no known kind");
    it.wanted = *wanted;
    simple(it, Op::kTest, operands);
  } else {
    return false;
  }
  return true;
}

bool Decoder::add_mathematics(Instruction &it, const std::string &name, const Words &operands) {
  const Op *op = find(kPlain, name);
  if (op == nullptr) return false;
  const size_t *count = find(kOperands, name);
  if (operands.size() != (count == nullptr ? 3 : *count)) refuse("another number of operands is known");
  it.carry_in = name == "addc" || name == "subc";
  simple(it, *op, operands);
  return true;
}

void Decoder::finish() {
  for (const auto &branch : branches_) {
    const auto found = labels_.find(branch.second);
    if (found == labels_.end()) throw Error("PTX: " + function_.name + ": there is no label " + branch.second);
    function_.code[branch.first].target = found->second;
  }
}

}  // namespace ptx
