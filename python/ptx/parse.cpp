// parse.cpp: the text of a PTX module -> its functions. Statements and declarations; instructions are in decode.cpp.
#include <algorithm>

#include "decode.hpp"
#include "text.hpp"

namespace ptx {
namespace {

class Parser {
 public:
  Parser(std::string text, Program &program) : text_(std::move(text)), program_(program) {}

  void run() {
    while (skip_space(), at_ < text_.size()) {
      const std::string word = read_word();
      if (word == ".version" || word == ".target" || word == ".address_size") {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (word == ".visible" || word == ".weak" || word == ".extern") {
        continue;
      } else if (word == ".entry" || word == ".func") {
        read_function(word == ".entry");
      } else if (word == ".const" || word == ".global") {
        read_constant(read_until(';'));
      } else {
        throw Error("PTX: '" + word + "' is not known here");
      }
    }
    for (auto &each : program_.functions) link(*each.second);
  }

 private:
  void skip_space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  std::string read_word() {
    skip_space();
    const size_t first = at_;
    while (at_ < text_.size() && !std::isspace(static_cast<unsigned char>(text_[at_])) &&
           std::strchr("(){};,:", text_[at_]) == nullptr) {
      ++at_;
    }
    return text_.substr(first, at_ - first);
  }
  std::string read_until(char end) {
    const size_t found = text_.find(end, at_);
    if (found == std::string::npos) throw Error(std::string("PTX: no '") + end + "' behind a declaration");
    const std::string read = trimmed(text_.substr(at_, found - at_));
    at_ = found + 1;
    return read;
  }

  struct Variable {
    std::string name;
    int64_t bytes = 0, alignment = 1;
  };
  // ".align 8 .b8 name[16]", ".u64 .ptr .global .align 8 name"
  static Variable read_variable(const std::string &text) {
    Variable found;
    const std::vector<std::string> words = split(text, ' ');
    for (size_t i = 0; i < words.size(); ++i) {
      if (words[i] == ".align") {
        found.alignment = static_cast<int64_t>(number(words[++i]));
      } else if (words[i][0] != '.') {
        found.name = words[i];
      } else if (const Type type = type_named(words[i].substr(1)); type != Type::kNone) {
        found.bytes = bytes_of(type);
        found.alignment = std::max<int64_t>(found.alignment, found.bytes);
      }
    }
    const size_t bracket = found.name.find('[');
    if (bracket != std::string::npos) {
      found.bytes *= static_cast<int64_t>(std::strtoll(found.name.c_str() + bracket + 1, nullptr, 0));
      found.name.resize(bracket);
    }
    return found;
  }

  void read_constant(const std::string &text) {
    const size_t equals = text.find('=');
    const Variable variable = read_variable(text.substr(0, equals));
    std::vector<uint8_t> data(static_cast<size_t>(variable.bytes), 0);
    if (equals != std::string::npos) {
      std::string values = trimmed(text.substr(equals + 1));
      if (values[0] == '{') values = without_brackets(values);
      const std::vector<std::string> parts = split(values, ',');
      const size_t item = data.size() / std::max<size_t>(parts.size(), 1);
      for (size_t i = 0; i < parts.size(); ++i) {
        const uint64_t value = number(parts[i]);
        std::memcpy(data.data() + i * item, &value, std::min(item, sizeof value));
      }
    }
    program_.constants[variable.name] = std::move(data);
  }

  void read_function(bool is_kernel) {
    auto made = std::make_unique<Function>();
    Function &function = *made;
    function.is_kernel = is_kernel;
    function.parameters.bytes = 0;
    const auto add_formal = [&](const std::string &text) {
      const Variable variable = read_variable(text);
      function.parameters.add(variable.name, variable.bytes, std::max<int64_t>(variable.alignment, 8));
      return variable.name;
    };
    skip_space();
    if (text_[at_] == '(') {
      ++at_;
      function.result = add_formal(read_until(')'));
    }
    function.name = read_word();
    skip_space();
    if (text_[at_] == '(') {
      ++at_;
      for (const std::string &formal : split(read_until(')'), ',')) function.formals.push_back(add_formal(formal));
    }
    while (skip_space(), text_[at_] == '.') {
      const std::string directive = read_word();
      const size_t end = text_.find_first_of("\n{;", at_);
      if (directive == ".maxntid") function.most_threads = std::atoi(text_.c_str() + at_);
      at_ = end;
    }
    if (text_[at_] == '{') {
      ++at_;
      function.defined = true;
      read_body(function);
    } else {
      ++at_;
    }
    std::unique_ptr<Function> &place = program_.functions[function.name];
    if (place == nullptr || function.defined) place = std::move(made);
  }

  void read_body(Function &function) {
    Decoder decoder(program_, function);
    for (int depth = 1; depth > 0;) {
      skip_space();
      if (at_ >= text_.size()) throw Error("PTX: " + function.name + " has no end");
      const char c = text_[at_];
      if (c == '{' || c == '}') {
        depth += c == '{' ? 1 : -1;
        ++at_;
        continue;
      }
      if (c == ';') {
        ++at_;
        continue;
      }
      const size_t end = text_.find_first_of(":;", at_);
      if (end != std::string::npos && text_[end] == ':') {
        decoder.add_label(trimmed(text_.substr(at_, end - at_)));
        at_ = end + 1;
        continue;
      }
      const std::string statement = read_until(';');
      if (statement[0] == '.') {
        declare(function, decoder, statement);
      } else {
        decoder.add(statement);
      }
    }
    decoder.finish();
  }

  static void declare(Function &function, Decoder &decoder, const std::string &statement) {
    const std::string kind = statement.substr(0, statement.find_first_of(" \t"));
    const std::string rest = trimmed(statement.substr(kind.size()));
    if (kind == ".reg") {
      for (const std::string &each : split(rest.substr(rest.find_first_of(" \t")), ','))
        decoder.declare_registers(each);
      return;
    }
    if (kind == ".pragma" || kind == ".loc") return;
    const Variable variable = read_variable(rest);
    if (kind == ".local") {
      decoder.declare_memory(variable.name, Space::kLocal,
                             function.locals.add(variable.name, variable.bytes, variable.alignment));
    } else if (kind == ".shared") {
      decoder.declare_memory(variable.name, Space::kShared,
                             function.shared.add(variable.name, variable.bytes, variable.alignment));
    } else if (kind == ".param") {
      function.parameters.add(variable.name, variable.bytes, std::max<int64_t>(variable.alignment, 8));
    } else {
      throw Error("PTX: " + function.name + ": '" + statement + "' is not known here");
    }
  }

  void link(Function &function) {
    for (Instruction &instruction : function.code) {
      if (instruction.op != Op::kCall) continue;
      const auto found = program_.functions.find(instruction.name);
      if (found == program_.functions.end() || !found->second->defined) {
        throw Error("PTX: " + function.name + " calls " + instruction.name + ", which there is not");
      }
      instruction.callee = found->second.get();
      if (instruction.arguments.size() != instruction.callee->formals.size() ||
          (instruction.result >= 0) != !instruction.callee->result.empty()) {
        throw Error("PTX: " + function.name + " calls " + instruction.name + " with other arguments than it takes");
      }
    }
  }

  const std::string text_;
  Program &program_;
  size_t at_ = 0;
};

}  // namespace

std::unique_ptr<Program> parse(const std::string &text) {
  auto program = std::make_unique<Program>();
  Parser(without_comments(text), *program).run();
  return program;
}

}  // namespace ptx
