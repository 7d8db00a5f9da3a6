// operators.cpp: registers the kernels of modules as operators of torch's dispatcher, as tiaot.torch does in Python.
// Compiled where torch is, by tiaot_torch_library of the CMake package. Knows nothing of Python.
#include <ATen/DLConvertor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <memory>
#include <string>
#include <tiaot/tiaot.hpp>
#include <tiaot/torch.hpp>
#include <vector>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A kernel, or one variant of it. Lives as long as the process, as what is registered does.
class Operator {
 public:
  Operator(tiaot::Kernel kernel, std::string name, std::string variant)
      : kernel_(std::move(kernel)), name_(std::move(name)), variant_(std::move(variant)) {
    for (uint32_t i = 0; i < desc().input_count && i < 32; ++i) {
      if (covers(TIAOT_VJP, 1u << i)) differentiable_ |= 1u << i;
    }
  }

  const std::string &name() const { return name_; }
  const tiaot_kernel_desc &desc() const { return kernel_.descriptor(); }
  size_t inputs() const { return desc().input_count; }
  size_t outputs() const { return desc().output_count; }

  // Whether each variant has an entry of this kind for these inputs, or more. The smallest such set is left in *found.
  bool covers(uint32_t kind, uint32_t wrt, uint32_t *found = nullptr) const {
    uint32_t best = 0;
    const tiaot_variant_desc *first = variants().front();
    for (uint32_t i = 0; i < first->entry_count; ++i) {
      const tiaot_entry_desc &entry = first->entries[i];
      if (entry.kind != kind || (entry.wrt & wrt) != wrt || !every_variant_has(kind, entry.wrt)) continue;
      if (best == 0 || __builtin_popcount(entry.wrt) < __builtin_popcount(best)) best = entry.wrt;
    }
    if (found != nullptr) *found = best;
    return best != 0;
  }

  // The inputs whose gradient every variant has.
  uint32_t differentiable() const { return differentiable_; }

  // The inputs of these names. Throws tiaot::Error for a name that is no input.
  uint32_t bits(const std::vector<std::string> &names) const {
    uint32_t wrt = 0;
    for (const std::string &name : names) wrt |= kernel_.bits({name.c_str()});
    return wrt;
  }

  // Runs it on tensors that hold their values; all results of tiaot_call. Throws torch's errors.
  std::vector<at::Tensor> run(int entry, uint32_t wrt, at::TensorList operands) const {
    std::vector<at::Tensor> dense, results;
    std::vector<DLTensor> arrays;
    dense.reserve(operands.size());
    for (const at::Tensor &each : operands) dense.push_back(each.contiguous());
    arrays.reserve(2 * TIAOT_MAX_ARRAYS);
    for (const at::Tensor &each : dense) arrays.push_back(described(each));
    tiaot_options options = TIAOT_OPTIONS_INIT;
    options.variant = variant_.empty() ? nullptr : variant_.c_str();
    DLTensor made[TIAOT_MAX_ARRAYS];
    int64_t shapes[TIAOT_MAX_ARRAYS * TIAOT_MAX_DIMS];
    int32_t count = 0;
    check(tiaot_results(kernel_.get(), entry, wrt, arrays.data(), static_cast<int32_t>(arrays.size()), &options, made,
                        TIAOT_MAX_ARRAYS, shapes, TIAOT_MAX_ARRAYS * TIAOT_MAX_DIMS, &count));
    for (int32_t i = 0; i < count; ++i) {
      const at::IntArrayRef shape(made[i].shape, static_cast<size_t>(made[i].ndim));
      results.push_back(at::empty(shape, at::TensorOptions().dtype(at::toScalarType(made[i].dtype))));
      arrays.push_back(described(results.back()));
    }
    check(tiaot_call(kernel_.get(), entry, wrt, arrays.data(), static_cast<int32_t>(arrays.size()), &options));
    return results;
  }

  // The gradients of the inputs in wrt, of tensors that hold their values, in one call where there is an entry for
  // them, else one after another.
  std::vector<at::Tensor> gradients(uint32_t wrt, at::TensorList operands) const {
    if (wrt == 0) return {};
    if (covers(TIAOT_VJP, wrt)) return run(TIAOT_VJP, wrt, operands);
    std::vector<at::Tensor> all;
    for (uint32_t i = 0; i < inputs(); ++i) {
      if (wrt >> i & 1) all.push_back(run(TIAOT_VJP, 1u << i, operands).front());
    }
    return all;
  }

 private:
  std::vector<const tiaot_variant_desc *> variants() const {
    std::vector<const tiaot_variant_desc *> chosen;
    for (uint32_t i = 0; i < desc().variant_count; ++i) {
      if (variant_.empty() || variant_ == desc().variants[i].name) chosen.push_back(&desc().variants[i]);
    }
    return chosen;
  }
  bool every_variant_has(uint32_t kind, uint32_t wrt) const {
    for (const tiaot_variant_desc *variant : variants()) {
      const auto is = [&](const tiaot_entry_desc &each) { return each.kind == kind && each.wrt == wrt; };
      if (std::none_of(variant->entries, variant->entries + variant->entry_count, is)) return false;
    }
    return true;
  }

  // Points into the tensor.
  static DLTensor described(const at::Tensor &tensor) {
    DLTensor array{};
    array.data = const_cast<void *>(tensor.const_data_ptr());
    array.device = {kDLCPU, 0};
    array.ndim = static_cast<int32_t>(tensor.dim());
    array.dtype = at::getDLDataType(tensor);
    array.shape = const_cast<int64_t *>(tensor.sizes().data());
    return array;
  }

  static void check(tiaot_status status) {
    if (status == TIAOT_OK) return;
    const char *message = tiaot_last_error();
    TORCH_CHECK_TYPE(status != TIAOT_ERROR_TYPE, message);
    TORCH_CHECK_VALUE(status != TIAOT_ERROR_VALUE, message);
    TORCH_CHECK_NOT_IMPLEMENTED(status != TIAOT_ERROR_UNSUPPORTED, message);
    TORCH_CHECK(false, message);
  }

  tiaot::Kernel kernel_;
  std::string name_;
  std::string variant_;
  uint32_t differentiable_ = 0;
};

// ---- Through the dispatcher, for tensors of any kind: what is below autograd makes plain ones of them.

std::vector<at::Tensor> call(const Operator &of, const char *ending, torch::jit::Stack stack) {
  c10::Dispatcher::singleton().findSchemaOrThrow(("tiaot::" + of.name() + ending).c_str(), "").callBoxed(&stack);
  if (stack.size() == 1 && stack.front().isTensorList()) return stack.front().toTensorVector();
  std::vector<at::Tensor> results;
  for (const c10::IValue &each : stack) results.push_back(each.toTensor());
  return results;
}

std::vector<at::Tensor> call_vjp(const Operator &of, uint32_t wrt, at::TensorList operands) {
  torch::jit::Stack stack(operands.begin(), operands.end());
  c10::List<bool> needed;
  for (size_t i = 0; i < of.inputs(); ++i) needed.push_back(i < 32 && (wrt >> i & 1));
  stack.emplace_back(needed);
  const std::vector<at::Tensor> every = call(of, "_vjp", std::move(stack));
  std::vector<at::Tensor> results;
  size_t next = 0;
  for (size_t i = 0; i < of.inputs() && i < 32; ++i) {
    if (!(of.differentiable() >> i & 1)) continue;
    if (wrt >> i & 1) results.push_back(every[next]);
    ++next;
  }
  return results;
}

// The tangents of the outputs, or of the gradients of the inputs in wrt.
std::vector<at::Tensor> call_along(const Operator &of, int entry, uint32_t wrt, at::TensorList operands) {
  c10::List<std::string> names;
  for (size_t i = 0; i < of.inputs() && i < 32; ++i) {
    if (wrt >> i & 1) names.push_back(of.desc().arguments[i].name);
  }
  torch::jit::Stack stack;
  stack.emplace_back(operands);
  stack.emplace_back(names);
  return call(of, entry == TIAOT_JVP ? "_jvp" : "_hvp", std::move(stack));
}

// ---- Autograd. The Functions are applied on the operator, as a number since they take no pointers, and on tensors, as
// a TensorList: torch sees no tensors in a vector, and would record nothing.

const Operator &operator_of(const c10::IValue &number) { return *reinterpret_cast<const Operator *>(number.toInt()); }

int64_t number_of(const Operator &of) { return reinterpret_cast<int64_t>(&of); }

// Which of `count` tensors need a gradient, as bits; of the tensors that the Function was applied on, `first` is the
// first one.
uint32_t needing(AutogradContext *context, size_t first, size_t count) {
  uint32_t bits = 0;
  for (size_t i = 0; i < count && i < 32; ++i) {
    if (context->needs_input_grad(first + i)) bits |= 1u << i;
  }
  return bits;
}

// A derivative of an order that no module has is an error when it is asked for, never zero.
struct Along : torch::autograd::Function<Along> {
  static variable_list forward(AutogradContext *context, int64_t number, int64_t entry, int64_t wrt,
                               at::TensorList operands) {
    context->saved_data["operator"] = number;
    const at::AutoDispatchBelowADInplaceOrView below;
    return call_along(operator_of(number), static_cast<int>(entry), static_cast<uint32_t>(wrt), operands);
  }
  static variable_list backward(AutogradContext *context, const variable_list &) {
    TORCH_CHECK_NOT_IMPLEMENTED(false, operator_of(context->saved_data["operator"]).desc().name,
                                ": a derivative of a jvp or an hvp was asked for, which no module has");
  }
};

struct Gradient : torch::autograd::Function<Gradient> {
  static variable_list forward(AutogradContext *context, int64_t number, int64_t wrt, at::TensorList operands) {
    context->saved_data["operator"] = number;
    context->saved_data["wrt"] = wrt;
    context->save_for_backward(operands.vec());
    const at::AutoDispatchBelowADInplaceOrView below;
    return call_vjp(operator_of(number), static_cast<uint32_t>(wrt), operands);
  }

  // <u, J(x)^T v> for the gradients' cotangents u: its gradient is the Hessian of <v, f> times u in x, and J u in v.
  static variable_list backward(AutogradContext *context, const variable_list &cotangents) {
    const int64_t number = context->saved_data["operator"].toInt();
    const Operator &of = operator_of(number);
    const auto wrt = static_cast<uint32_t>(context->saved_data["wrt"].toInt());
    const variable_list operands = context->get_saved_variables();
    const size_t inputs = of.inputs(), outputs = of.outputs();
    const uint32_t of_inputs = needing(context, 0, inputs), of_cotangents = needing(context, inputs, outputs);

    // `before` and the tangents of an entry: u where there is one, else zeros.
    const auto along = [&](uint32_t kind, uint32_t names, at::TensorList before, uint32_t *entry) {
      TORCH_CHECK_NOT_IMPLEMENTED(
          of.covers(kind, names, entry), of.desc().name, ": a derivative of its gradient was asked for, which takes ",
          kind == TIAOT_JVP ? "a jvp" : "an hvp", " that the module lacks: export it with derivatives=['jvp', 'hvp']");
      variable_list all = before.vec();
      size_t next = 0;
      for (size_t i = 0; i < inputs && i < 32; ++i) {
        const bool given = wrt >> i & 1;
        if (*entry >> i & 1) all.push_back(given ? cotangents[next] : at::zeros_like(operands[i]));
        next += given;
      }
      return Along::apply(number, int64_t{kind}, int64_t{*entry}, at::TensorList(all));
    };
    variable_list all(2 + inputs + outputs);  // nothing for the number and for wrt
    uint32_t entry = 0;
    if (of_inputs != 0) {
      const variable_list found = along(TIAOT_HVP, wrt | of_inputs, operands, &entry);
      size_t next = 0;
      for (size_t i = 0; i < inputs && i < 32; ++i) {
        if (!(entry >> i & 1)) continue;
        if (of_inputs >> i & 1) all[2 + i] = found[next];
        ++next;
      }
    }
    if (of_cotangents != 0) {
      const variable_list found = along(TIAOT_JVP, wrt, at::TensorList(operands).slice(0, inputs), &entry);
      for (size_t i = 0; i < outputs; ++i) {
        if (of_cotangents >> i & 1) all[2 + inputs + i] = found[i];
      }
    }
    return all;
  }
};

struct Forward : torch::autograd::Function<Forward> {
  static variable_list forward(AutogradContext *context, int64_t number, at::TensorList inputs) {
    context->saved_data["operator"] = number;
    context->save_for_backward(inputs.vec());
    const at::AutoDispatchBelowADInplaceOrView below;
    return call(operator_of(number), "", torch::jit::Stack(inputs.begin(), inputs.end()));
  }
  static variable_list backward(AutogradContext *context, const variable_list &cotangents) {
    const int64_t number = context->saved_data["operator"].toInt();
    variable_list operands = context->get_saved_variables();
    const size_t inputs = operands.size();
    operands.insert(operands.end(), cotangents.begin(), cotangents.end());
    const uint32_t wrt = needing(context, 0, inputs);
    const variable_list found = Gradient::apply(number, int64_t{wrt}, at::TensorList(operands));
    variable_list all(1 + inputs);  // nothing for the number
    size_t next = 0;
    for (size_t i = 0; i < inputs && i < 32; ++i) {
      if (wrt >> i & 1) all[1 + i] = found[next++];
    }
    return all;
  }
};

// ---- What the dispatcher calls: with a stack, since the number of arguments is the module's.

enum class Kind { kForward, kVjp, kJvp, kHvp };

class Boxed : public c10::OperatorKernel {
 public:
  Boxed(const Operator &of, Kind kind, bool recording) : operator_(of), kind_(kind), recording_(recording) {}

  void operator()(const c10::OperatorHandle &, c10::DispatchKeySet, torch::jit::Stack *stack) {
    if (kind_ == Kind::kForward) {
      const std::vector<at::Tensor> inputs = take(stack, operator_.inputs());
      push(stack, forward(inputs));
    } else if (kind_ == Kind::kVjp) {
      const c10::List<bool> needed = torch::jit::pop(*stack).toBoolList();
      const std::vector<at::Tensor> operands = take(stack, operator_.inputs() + operator_.outputs());
      push(stack, vjp(needed, operands));
    } else {
      const c10::List<c10::IValue> names = torch::jit::pop(*stack).toList();
      const std::vector<at::Tensor> operands = torch::jit::pop(*stack).toTensorVector();
      stack->emplace_back(along(names, operands));
    }
  }

 private:
  static std::vector<at::Tensor> take(torch::jit::Stack *stack, size_t count) {
    std::vector<at::Tensor> tensors;
    for (size_t i = stack->size() - count; i < stack->size(); ++i) tensors.push_back((*stack)[i].toTensor());
    torch::jit::drop(*stack, count);
    return tensors;
  }
  static void push(torch::jit::Stack *stack, std::vector<at::Tensor> results) {
    for (at::Tensor &each : results) stack->emplace_back(std::move(each));
  }

  std::vector<at::Tensor> forward(const std::vector<at::Tensor> &inputs) const {
    if (!recording_) return operator_.run(TIAOT_FORWARD, 0, inputs);
    const uint32_t known = operator_.differentiable();
    for (size_t i = 0; i < inputs.size() && at::GradMode::is_enabled(); ++i) {
      const bool has = i < 32 && (known >> i & 1);
      TORCH_CHECK_NOT_IMPLEMENTED(has || !inputs[i].requires_grad(), operator_.desc().name, ": argument '",
                                  operator_.desc().arguments[i].name,
                                  "': requires grad, but the module has no gradient for it");
    }
    return Forward::apply(number_of(operator_), at::TensorList(inputs));
  }

  // A tensor for each differentiable input, an empty one where none is needed.
  std::vector<at::Tensor> vjp(const c10::List<bool> &needed, const std::vector<at::Tensor> &operands) const {
    const uint32_t known = operator_.differentiable();
    uint32_t wrt = 0;
    TORCH_CHECK_VALUE(needed.size() == operator_.inputs(), operator_.name(), "_vjp: expected ", operator_.inputs(),
                      " values in needed, got ", needed.size());
    for (size_t i = 0; i < needed.size(); ++i) {
      if (!needed.get(i)) continue;
      TORCH_CHECK_NOT_IMPLEMENTED(i < 32 && (known >> i & 1), operator_.desc().name,
                                  ": the module has no gradient for '", operator_.desc().arguments[i].name, "'");
      wrt |= 1u << i;
    }
    const std::vector<at::Tensor> found =
        recording_ ? Gradient::apply(number_of(operator_), int64_t{wrt}, at::TensorList(operands))
                   : operator_.gradients(wrt, operands);
    std::vector<at::Tensor> all;
    size_t next = 0;
    for (size_t i = 0; i < operator_.inputs() && i < 32; ++i) {
      if (!(known >> i & 1)) continue;
      all.push_back(wrt >> i & 1 ? found[next++] : operands.front().new_empty({0}));
    }
    return all;
  }

  // The tangents alone: of the outputs, or of the gradients.
  c10::List<at::Tensor> along(const c10::List<c10::IValue> &names, const std::vector<at::Tensor> &operands) const {
    std::vector<std::string> wanted;
    for (const c10::IValue &each : names) wanted.push_back(each.toStringRef());
    const int entry = kind_ == Kind::kJvp ? TIAOT_JVP : TIAOT_HVP;
    const uint32_t wrt = operator_.bits(wanted);
    if (recording_) {
      return c10::List<at::Tensor>(
          Along::apply(number_of(operator_), int64_t{entry}, int64_t{wrt}, at::TensorList(operands)));
    }
    const std::vector<at::Tensor> found = operator_.run(entry, wrt, operands);
    const size_t half = found.size() / 2;  // behind the outputs, or the gradients
    return c10::List<at::Tensor>(at::TensorList(found).slice(half, half));
  }

  const Operator &operator_;
  Kind kind_;
  bool recording_;
};

// ---- Registration.

// Python's words, which its torch cannot take as parameters.
bool is_keyword(const std::string &name) {
  static const char *const kWords[] = {"False",  "None",   "True",    "and",      "as",       "assert", "async",
                                       "await",  "break",  "class",   "continue", "def",      "del",    "elif",
                                       "else",   "except", "finally", "for",      "from",     "global", "if",
                                       "import", "in",     "is",      "lambda",   "nonlocal", "not",    "or",
                                       "pass",   "raise",  "return",  "try",      "while",    "with",   "yield"};
  return std::find(std::begin(kWords), std::end(kWords), name) != std::end(kWords);
}

// "Tensor", or "(Tensor, Tensor)".
std::string results_of(size_t count) {
  if (count == 1) return "Tensor";
  std::string text = "(";
  for (size_t i = 0; i < count; ++i) text += i == 0 ? "Tensor" : ", Tensor";
  return text + ")";
}

void define(torch::Library *library, const Operator &of, Kind kind, const std::string &name,
            const std::string &schema) {
  const bool compliant = kind == Kind::kForward || kind == Kind::kVjp;
  const std::vector<at::Tag> tags(compliant ? 1 : 0, at::Tag::pt2_compliant_tag);
  library->def((name + schema).c_str(), tags);
  for (const bool recording : {false, true}) {
    library->impl(
        name.c_str(),
        torch::dispatch(recording ? c10::DispatchKey::Autograd : c10::DispatchKey::CPU,
                        torch::CppFunction::makeFromBoxedFunctor(std::make_unique<Boxed>(of, kind, recording))));
  }
}

void register_operator(torch::Library *library, const tiaot::Kernel &kernel, const std::string &name,
                       const std::string &variant) {
  if (c10::Dispatcher::singleton().findSchema({"tiaot::" + name, ""})) return;
  const Operator &of = *new Operator(kernel, name, variant);
  const tiaot_kernel_desc &desc = of.desc();
  std::string inputs, cotangents;
  for (uint32_t i = 0; i < desc.input_count; ++i) {
    const std::string argument = desc.arguments[i].name;
    inputs += (i == 0 ? "Tensor " : ", Tensor ") + argument + (is_keyword(argument) ? "_" : "");
  }
  for (uint32_t i = 0; i < desc.output_count; ++i) {
    cotangents += std::string(", Tensor cotangent_") + desc.arguments[desc.input_count + i].name;
  }
  define(library, of, Kind::kForward, name, "(" + inputs + ") -> " + results_of(desc.output_count));
  const auto count = static_cast<size_t>(__builtin_popcount(of.differentiable()));
  if (count == 0) return;
  define(library, of, Kind::kVjp, name + "_vjp",
         "(" + inputs + cotangents + ", bool[] needed) -> " + results_of(count));
  for (const auto &[kind, entry, ending] :
       {std::tuple(Kind::kJvp, TIAOT_JVP, "_jvp"), std::tuple(Kind::kHvp, TIAOT_HVP, "_hvp")}) {
    if (of.covers(static_cast<uint32_t>(entry), 0)) {
      define(library, of, kind, name + ending, "(Tensor[] operands, str[] wrt) -> Tensor[]");
    }
  }
}

void register_module(const tiaot::Module &module) {
  // Never destroyed: what is in it calls into the module.
  auto *library = new torch::Library(torch::Library::FRAGMENT, "tiaot", std::nullopt, __FILE__, __LINE__);
  const tiaot_module_desc &desc = module.descriptor();
  for (uint32_t i = 0; i < desc.kernel_count; ++i) {
    const tiaot_kernel_desc &each = desc.kernels[i];
    if (each.state != 0 || each.input_count == 0) continue;
    const tiaot::Kernel kernel = module.kernel(each.name);
    const std::string name = std::string(each.name) + "_" + module.hash().substr(0, 12);
    if (each.variant_count != 1) register_operator(library, kernel, name, "");
    for (uint32_t k = 0; k < each.variant_count; ++k) {
      const std::string variant = each.variants[k].name;
      register_operator(library, kernel, name + "_" + variant, variant);
    }
  }
}

}  // namespace

void tiaot::v1::register_torch_operators(const std::string &path, const std::string &sha256) {
  register_module(tiaot::Module(path, sha256));
}

void tiaot::v1::register_torch_operators(const void *data, size_t size, const std::string &name,
                                         const std::string &sha256) {
  register_module(tiaot::Module::from_memory(data, size, name, sha256));
}
