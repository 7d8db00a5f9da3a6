// number.cpp: numbers, Python's and NumPy's, that stand for arrays without dimensions.
#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>

#include "call.hpp"
#include "dtypes.hpp"

namespace tiaot::binding {
namespace {

// The element type that a number is to have: that of the first variant that takes the arrays which were read.
uint32_t number_dtype(const EntryState &entry, const Call &call, int position) {
  for (uint32_t v = 0; v < entry.desc->variant_count; ++v) {
    const uint32_t *dtypes = entry.desc->variants[v].dtypes;
    bool fits = true;
    for (int i = 0; i < entry.positional_count && fits; ++i) {
      const DLDataType &type = call.tensors[i].dtype;
      const uint32_t dtype = dtypes[argument_of(entry, i)];
      fits = is_number(call.operands[i]) || dtype == (static_cast<uint32_t>(type.code) << 8 | type.bits);
    }
    if (fits) return dtypes[argument_of(entry, position)];
  }
  return entry.desc->variants[0].dtypes[argument_of(entry, position)];
}

// The parts of a message about a number.
struct Number {
  PyObject *object;
  const std::string &label;
  std::string subject;
};

[[gnu::cold]] bool raise_number(const Number &number, PyObject *exception, const std::string &expected) {
  PyErr_Clear();
  const bool of_value = exception == PyExc_ValueError;
  std::string got = of_value ? text_of(number.object) : type_name(number.object);
  if (got.size() > 40) got = got.substr(0, 37) + "...";  // of digits
  raise_mismatch(exception, number.label, number.subject, expected, got);
  return false;
}

template <typename T>
bool write_integer(const Number &number, int64_t *place) {
  if (!PyIndex_Check(number.object)) return raise_number(number, PyExc_TypeError, "an integer");
  Ref index(PyNumber_Index(number.object));
  if (!index) return false;
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(index.get(), &overflow);
  const T narrow = static_cast<T>(value);
  if (overflow != 0 || static_cast<long long>(narrow) != value) {
    const std::string kind = std::string(std::is_signed_v<T> ? "int" : "uint") + std::to_string(8 * sizeof(T));
    return raise_number(number, PyExc_ValueError, "an integer that fits " + kind);
  }
  std::memcpy(place, &narrow, sizeof narrow);
  return true;
}

// Rounds, as Python's own floats are; a finite number does not become infinite.
template <typename T>
bool write_real(const Number &number, int64_t *place) {
  const double value = PyFloat_AsDouble(number.object);
  const bool failed = value == -1 && PyErr_Occurred();
  if (failed && !PyErr_ExceptionMatches(PyExc_OverflowError)) return false;
  const auto narrow = static_cast<T>(value);
  if (failed || (std::isfinite(value) && !std::isfinite(static_cast<double>(narrow)))) {
    const std::string kind = "float" + std::to_string(8 * sizeof(T));
    return raise_number(number, PyExc_ValueError, "a number that fits " + kind);
  }
  std::memcpy(place, &narrow, sizeof narrow);
  return true;
}

bool write_number(const EntryState &entry, int position, uint32_t dtype, const Number &number, int64_t *place) {
  bool written = false;
  const bool known = visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_integral_v<T>) {
      written = write_integer<T>(number, place);
    } else {
      written = write_real<T>(number, place);
    }
  });
  if (known) return written;
  return raise_number(number, PyExc_TypeError, "an array of " + dtypes_of(entry, argument_of(entry, position)));
}

}  // namespace

bool take_number(const EntryState &entry, int position, Call *call) {
  auto memory = std::make_unique<int64_t[]>(1);
  int64_t *place = memory.get();
  const uint32_t dtype = number_dtype(entry, *call, position);
  const Number number = {call->operands[position], entry.label, operand_text(entry, position)};
  if (!write_number(entry, position, dtype, number, place)) return false;
  const DLDataType type = {static_cast<uint8_t>(dtype >> 8), static_cast<uint8_t>(dtype), 1};
  call->tensors[position] = {place, {kDLCPU, 0}, 0, type, nullptr, nullptr, 0};
  call->reading.leases.emplace_back(std::move(memory));
  return true;
}

bool write_plain_number(PyObject *object, uint32_t dtype, int64_t *place) {
  bool written = false;
  visit_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    T narrow{};
    if constexpr (std::is_integral_v<T>) {
      if (!PyLong_CheckExact(object)) return;
      int overflow = 0;
      const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
      narrow = static_cast<T>(value);
      written = overflow == 0 && static_cast<long long>(narrow) == value;
    } else {
      if (!PyFloat_CheckExact(object)) return;
      const double value = PyFloat_AS_DOUBLE(object);
      narrow = static_cast<T>(value);
      written = std::isfinite(static_cast<double>(narrow)) || !std::isfinite(value);
    }
    std::memcpy(place, &narrow, sizeof narrow);
  });
  return written;
}

bool is_numpy_number(PyObject *object) {
  if (PyArray_IsScalar(object, Integer)) return !PyArray_IsScalar(object, Timedelta);
  return PyArray_IsScalar(object, Half) || PyArray_IsScalar(object, Float);  // a Double is a Python float
}

}  // namespace tiaot::binding
