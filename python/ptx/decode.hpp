// decode.hpp: the statements of a function -> its instructions; see decode.cpp.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ptx.hpp"

namespace ptx {

Type type_named(const std::string &name);  // "u64"; kNone where it is none

class Decoder {
 public:
  Decoder(Program &program, Function &function);

  void declare_registers(const std::string &text);  // "%r<15>", "%SP"
  void declare_memory(const std::string &name, Space space, int64_t offset);
  void add_label(const std::string &name) { labels_[name] = static_cast<int>(function_.code.size()); }
  void add(const std::string &statement);
  void finish();  // where branches go, and which registers hold what from the start

 private:
  using Words = std::vector<std::string>;

  void add_parts(Instruction &it, const std::string &name, const std::string &rest);
  bool add_arithmetic(Instruction &it, const std::string &name, const Words &operands);
  bool add_mathematics(Instruction &it, const std::string &name, const Words &operands);
  bool add_memory(Instruction &it, const std::string &name, const Words &operands);
  bool add_control(Instruction &it, const std::string &name, const Words &operands, const std::string &rest);

  bool take(const char *modifier);
  int operand(const std::string &text);
  int constant(uint64_t value);
  int new_register() { return function_.registers++; }
  void simple(Instruction &it, Op op, const Words &operands);
  void destinations(Instruction &it, const std::string &text);  // "%p1", "%p1|%p2"
  void pieces(const std::string &text, std::array<int, 4> &places, uint8_t *width);
  void address(Instruction &it, const std::string &text);
  [[noreturn]] void refuse(const std::string &why) const;

  Program &program_;
  Function &function_;
  std::map<std::string, int> registers_;
  std::map<uint64_t, int> constants_;
  std::map<std::string, int> labels_;
  std::vector<std::pair<size_t, std::string>> branches_;
  std::map<std::string, std::pair<Space, int64_t>> memory_;
  std::vector<std::string> modifiers_;
  std::string statement_;
};

}  // namespace ptx
