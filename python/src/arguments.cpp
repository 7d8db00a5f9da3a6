// arguments.cpp: the arguments of a call as Python passes them: operands by position and by name, and options. Knows
// nothing of what an operand is.
#include <algorithm>

#include "call.hpp"
#include "cuda_arrays.hpp"

namespace tiaot::binding {
namespace {

// The keywords that say how to run a call. No operand goes by one of these names, but for `mode`, which it then keeps.
enum Option : int { kOut, kWrt, kNumThreads, kStream, kMode, kOptions };
constexpr const char *kOptionNames[kOptions] = {"out", "wrt", "num_threads", "stream", "mode"};
PyObject *option_names[kOptions];  // interned

bool has_option(const EntryState &entry, Option option) {
  if (option == kOut) return has_results(entry);
  if (option == kWrt) return takes_wrt(entry);
  if (option == kMode) return entry.kind == TIAOT_JACOBIAN;
  return option == kNumThreads || entry.desc->state == 0 || is_on_device(entry);
}

std::string operand_names(const EntryState &entry) {
  std::string names = input_names(*entry.desc, 0);
  for (int i = static_cast<int>(entry.desc->input_count); i < entry.positional_count; ++i) {
    names += (names.empty() ? "" : ", ") + operand_text(entry, i);
  }
  return names;
}

// "dense_tanh.forward: expected 3 arrays (x, W, b), got 2": the beginning of what there is to say of their number.
std::string count_text(const EntryState &entry, Py_ssize_t got) {
  return entry.label + ": expected " + std::to_string(entry.positional_count) +
         (entry.positional_count == 1 ? " array (" : " arrays (") + operand_names(entry) + "), got " +
         std::to_string(got);
}

[[gnu::cold]] bool raise_too_many(const EntryState &entry, Py_ssize_t got) {
  PyErr_SetString(PyExc_TypeError, count_text(entry, got).c_str());
  return false;
}

[[gnu::cold]] bool raise_missing(const EntryState &entry, const Call &call) {
  std::string missing;
  int count = 0;
  for (int i = 0; i < entry.positional_count; ++i) {
    if (call.operands[i] != nullptr) continue;
    missing += (count++ > 0 ? ", " : "") + operand_text(entry, i);
  }
  const std::string text = count_text(entry, entry.positional_count - count) + ": " + missing;
  PyErr_Format(PyExc_TypeError, "%s %s missing", text.c_str(), count == 1 ? "is" : "are");
  return false;
}

[[gnu::cold]] bool raise_twice(const EntryState &entry, int position) {
  PyErr_Format(PyExc_TypeError, "%s: %s: expected it once, got it twice, by position and by name", entry.label.c_str(),
               operand_text(entry, position).c_str());
  return false;
}

[[gnu::cold]] bool raise_keyword(const EntryState &entry, PyObject *keyword) {
  std::vector<std::string> known;
  for (const Ref &name : entry.names) known.push_back(text_of(name.get()));
  for (int option = 0; option < kOptions; ++option) {
    if (has_option(entry, static_cast<Option>(option))) known.emplace_back(kOptionNames[option]);
  }
  std::string text = known.size() == 1 ? "no keyword but " : "keywords ";
  for (size_t i = 0; i < known.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == known.size() ? " or " : ", ") + known[i];
  }
  PyErr_Format(PyExc_TypeError, "%s: expected %s, got %R", entry.label.c_str(), text.c_str(), keyword);
  return false;
}

// Whether a `wrt` is a name, or a tuple of names, and says the same for good.
bool cannot_change(PyObject *wrt) {
  if (!PyTuple_CheckExact(wrt)) return PyUnicode_CheckExact(wrt);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(wrt); ++i) {
    if (!PyUnicode_CheckExact(PyTuple_GET_ITEM(wrt, i))) return false;
  }
  return true;
}

bool take_wrt(EntryState *entry, PyObject *object, Call *call) {
  if (object == entry->last_wrt_object.get()) {
    call->parsed_wrt = entry->last_wrt;
  } else {
    if (!read_wrt(*entry, object, &call->parsed_wrt)) return false;
    if (cannot_change(object)) {
      Py_INCREF(object);
      entry->last_wrt_object = Ref(object);
      entry->last_wrt = call->parsed_wrt;
    }
  }
  call->wrt = &call->parsed_wrt;
  call->wrt_object = object;
  return true;
}

[[gnu::cold]] bool take_mode(const EntryState &entry, PyObject *value, Call *call) {
  const bool text = PyUnicode_Check(value);
  if (text && PyUnicode_CompareWithASCIIString(value, "forward") == 0) {
    call->kind = TIAOT_JACOBIAN_FORWARD;
  } else if (text && PyUnicode_CompareWithASCIIString(value, "reverse") == 0) {
    call->kind = TIAOT_JACOBIAN_REVERSE;
  } else {
    PyErr_Format(text ? PyExc_ValueError : PyExc_TypeError,
                 "%s: argument 'mode': expected 'forward', 'reverse' or None, got %R", entry.label.c_str(), value);
    return false;
  }
  return true;
}

[[gnu::hot]] bool take_option(EntryState *entry, Option option, PyObject *value, Call *call) {
  if (option == kWrt) return take_wrt(entry, value, call);
  if (value == Py_None) return true;
  if (option == kOut) {
    call->out = value;
    return true;
  }
  if (option == kMode) return take_mode(*entry, value, call);
  if (option == kNumThreads) {
    call->num_threads = value;
    return read_num_threads(value, entry->label.c_str(), ": argument 'num_threads'", &call->options.num_threads);
  }
  CudaPlace *cuda = &call->reading.cuda;
  cuda->stream_is_given = true;
  cuda->stream_object = value;
  return read_stream(value, entry->label.c_str(), ": argument 'stream'", &cuda->stream);
}

// The option that the keyword is, or kOptions + the operand; -1 for neither.
[[gnu::noinline]] int meaning_of(const EntryState &entry, PyObject *keyword) {
  const int count = entry.positional_count;
  for (int i = 0; i < count; ++i) {
    if (entry.names[static_cast<size_t>(i)].get() == keyword) return kOptions + i;
  }
  for (int i = 0; i < count; ++i) {
    if (PyUnicode_Compare(entry.names[static_cast<size_t>(i)].get(), keyword) == 0) return kOptions + i;
  }
  for (int i = 0; i < kOptions; ++i) {
    if (PyUnicode_Compare(option_names[i], keyword) == 0) return i;
  }
  return -1;
}

// Moves the operands by position to where there is room for all, unless they are there.
void make_room(const EntryState &entry, PyObject *const *arguments, Py_ssize_t count, Call *call) {
  if (call->operands != arguments) return;
  for (int i = 0; i < entry.positional_count; ++i) call->named[i] = i < count ? arguments[i] : nullptr;
  call->operands = call->named;
}

// An operand by name.
bool take_named(const EntryState &entry, int position, PyObject *const *arguments, Py_ssize_t count, PyObject *value,
                Call *call) {
  make_room(entry, arguments, count, call);
  if (call->named[position] != nullptr) return raise_twice(entry, position);
  call->named[position] = value;
  return true;
}

[[gnu::hot]] bool take_keywords(EntryState *entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords,
                                Call *call) {
  const Py_ssize_t keyword_count = PyTuple_GET_SIZE(keywords);
  for (Py_ssize_t i = 0; i < keyword_count; ++i) {
    PyObject *keyword = PyTuple_GET_ITEM(keywords, i), *value = arguments[count + i];
    // Names written in source code are interned, so the pointers mostly decide.
    const int meaning = keyword == option_names[kOut]   ? kOut
                        : keyword == option_names[kWrt] ? kWrt
                                                        : meaning_of(*entry, keyword);
    if (meaning >= kOptions) {
      if (!take_named(*entry, meaning - kOptions, arguments, count, value, call)) return false;
    } else if (meaning < 0 || !has_option(*entry, static_cast<Option>(meaning))) {
      return raise_keyword(*entry, keyword);
    } else if (!take_option(entry, static_cast<Option>(meaning), value, call)) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool take_arguments(EntryState *entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords, Call *call) {
  if (count > entry->positional_count) return raise_too_many(*entry, count);
  call->operands = arguments;
  if (keywords != nullptr && !take_keywords(entry, arguments, count, keywords, call)) return false;
  if (count == entry->positional_count) return true;
  make_room(*entry, arguments, count, call);
  for (int i = 0; i < entry->positional_count; ++i) {
    if (call->operands[i] == nullptr) return raise_missing(*entry, *call);
  }
  return true;
}

bool take_usual_arguments(const EntryState &entry, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords,
                          UsualArguments *usual) {
  usual->operands = arguments;
  const Py_ssize_t keyword_count = keywords != nullptr ? PyTuple_GET_SIZE(keywords) : 0;
  Py_ssize_t operands = count;
  for (Py_ssize_t k = 0; k < keyword_count; ++k) {
    PyObject *keyword = PyTuple_GET_ITEM(keywords, k), *value = arguments[count + k];
    if (keyword == option_names[kOut]) {
      usual->out = value == Py_None ? nullptr : value;
    } else if (keyword == option_names[kWrt]) {
      usual->wrt = value;
    } else {
      Py_ssize_t i = count;
      while (i < entry.positional_count && entry.names[static_cast<size_t>(i)].get() != keyword) ++i;
      if (i >= entry.positional_count) return false;
      if (usual->operands == arguments) {
        std::copy(arguments, arguments + count, usual->named);
        std::fill(usual->named + count, usual->named + entry.positional_count, nullptr);
        usual->operands = usual->named;
      }
      operands += usual->named[i] == nullptr;  // so that each has come once when all are there
      usual->named[i] = value;
    }
  }
  return operands == entry.positional_count;
}

bool prepare_entries() {
  for (int i = 0; i < kOptions; ++i) {
    option_names[i] = PyUnicode_InternFromString(kOptionNames[i]);
    if (option_names[i] == nullptr) return false;
  }
  return true;
}

}  // namespace tiaot::binding
