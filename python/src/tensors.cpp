// tensors.cpp: reads and makes torch's tensors; TensorCall, which runs a kernel at once on tensors that hold plain data
// and hands everything else (gradients, transforms, tracing, subclasses) to Python functions.
#include "tensors.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <new>

#include "cuda_arrays.hpp"
#include "dlpack_exchange.hpp"

// structmember.h gives T_PYSSIZET to Python 3.10 and 3.11; later ones have it under another name too.
#include <structmember.h>

namespace tiaot::binding {
namespace {

// A method, attribute or function that takes no arguments, called straight through its C function where it has one:
// through the interpreter's protocols, the questions that a call asks of its tensors would cost as much as the call.
class Question {
 public:
  // The attribute `name` of objects of `type`, or of its bases.
  static Question of_type(PyObject *type, const char *name) {
    Question question;
    question.name_ = PyUnicode_InternFromString(name);
    PyObject *found = _PyType_Lookup(reinterpret_cast<PyTypeObject *>(type), question.name_);  // borrowed
    if (found != nullptr && Py_TYPE(found) == &PyMethodDescr_Type) {
      const PyMethodDef *method = reinterpret_cast<PyMethodDescrObject *>(found)->d_method;
      question.is_method_ = true;
      if (method->ml_flags == METH_NOARGS) question.function_ = method->ml_meth;
    } else if (found != nullptr && Py_TYPE(found) == &PyGetSetDescr_Type) {
      const PyGetSetDef *attribute = reinterpret_cast<PyGetSetDescrObject *>(found)->d_getset;
      question.getter_ = attribute->get;
      question.closure_ = attribute->closure;
    }
    return question;
  }

  // A function of a module; its reference is kept.
  static Question of_function(PyObject *callable) {
    Question question;
    question.callable_ = callable;
    if (PyCFunction_CheckExact(callable) && PyCFunction_GET_FLAGS(callable) == METH_NOARGS) {
      question.function_ = PyCFunction_GET_FUNCTION(callable);
      question.self_ = PyCFunction_GET_SELF(callable);
    }
    return question;
  }

  // 1 for a true answer, 0 for a false one, -1 with an exception set. `object` is that of an of_type question.
  int ask(PyObject *object = nullptr) const {
    PyObject *answer;
    if (function_ != nullptr) {
      answer = function_(object != nullptr ? object : self_, nullptr);
    } else if (getter_ != nullptr) {
      answer = getter_(object, closure_);
    } else if (callable_ != nullptr) {
      answer = PyObject_CallNoArgs(callable_);
    } else if (is_method_) {
      answer = PyObject_CallMethodNoArgs(object, name_);
    } else {
      answer = PyObject_GetAttr(object, name_);
    }
    if (answer == nullptr) return -1;
    const int truth = answer == Py_False ? 0 : answer == Py_True ? 1 : PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return truth;
  }

 private:
  PyCFunction function_ = nullptr;
  getter getter_ = nullptr;
  void *closure_ = nullptr;
  PyObject *self_ = nullptr;
  PyObject *callable_ = nullptr;
  PyObject *name_ = nullptr;
  bool is_method_ = false;
};

constexpr struct {
  uint32_t dtype;
  const char *name;
} kDtypes[6] = {{TIAOT_FLOAT32, "float32"}, {TIAOT_FLOAT64, "float64"}, {TIAOT_FLOAT16, "float16"},
                {TIAOT_INT32, "int32"},     {TIAOT_INT64, "int64"},     {TIAOT_UINT8, "uint8"}};

// What was found of torch. Never given back: torch cannot be unloaded.
struct Torch {
  const ExchangeTable *table = nullptr;
  PyObject *tensor = nullptr;       // the types
  PyObject *parameter = nullptr;    //
  PyObject *empty = nullptr;        // the function
  PyObject *dtypes[6] = {};         // torch's own, as in kDtypes
  PyObject *empty_names = nullptr;  // ("dtype", "device")
  Question is_neg;
  Question requires_grad;
  Question is_grad_enabled;
  Question is_transforming;           // whether one of torch.func's transforms is at work
  Question observers[3];              // each true while a mode, or the profiler, is to see what is called
  PyObject *forward_level = nullptr;  // dict with "_current_level": >= 0 while there are dual tensors
  PyObject *name_resolve_neg = nullptr;
  PyObject *name_contiguous = nullptr;
  PyObject *name_level = nullptr;
} torch;

bool is_dense(const DLTensor &tensor) {
  int64_t expected = 1;
  bool dense = true;
  for (int axis = tensor.ndim - 1; axis >= 0; --axis) {
    if (tensor.shape[axis] == 0) return true;
    dense = dense && (tensor.shape[axis] == 1 || tensor.strides[axis] == expected);
    expected *= tensor.shape[axis];
  }
  return dense;
}

// The last exception's text, which is cleared.
std::string take_message() {
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  const std::string text = value != nullptr ? text_of(value) : "?";
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
  return text.substr(0, text.find('\n'));
}

// Reads a tensor as it lies. False with `mismatch` filled in.
bool borrow(PyObject *object, DLTensor *tensor, Mismatch *mismatch) {
  constexpr char kExpected[] = "a dense tensor on the CPU or a CUDA device";
  if (torch.table->borrow_tensor(object, tensor) != 0) {
    *mismatch = {PyExc_TypeError, kExpected, type_name(object) + " (" + take_message() + ")"};
    return false;
  }
  if (tensor->device.device_type != kDLCPU && tensor->device.device_type != kDLCUDA) {
    Ref device = get_attribute(object, "device");
    *mismatch = {PyExc_TypeError, kExpected, "one on " + (device ? text_of(device.get()) : "another device")};
    return false;
  }
  return true;
}

// The first tensor on a CUDA device says where the call goes: to the stream that torch works on there. Nothing has to
// be ordered, since all that torch does is on that stream too; and no device is entered, since the runtime does that.
bool settle_on_tensor(PyObject *object, int32_t device, CudaPlace *cuda) {
  cuda->found = cuda->settled = true;
  cuda->device = device;
  cuda->like = object;
  return cuda->stream_is_given || torch.table->current_stream(kDLCUDA, device, &cuda->stream) == 0;
}

// Reads a tensor for the length of a call. One that is strided, or stands for its negated memory, is copied first, as
// torch's own functions do; not one to be written to.
bool read_tensor(PyObject *object, bool writable, DLTensor *tensor, Reading *reading, Mismatch *mismatch) {
  if (Py_TYPE(object) != reinterpret_cast<PyTypeObject *>(torch.tensor) &&
      PyObject_IsInstance(object, torch.tensor) <= 0) {
    *mismatch = {PyExc_TypeError, "a torch.Tensor", type_name(object)};
    return false;
  }
  if (!borrow(object, tensor, mismatch)) return false;
  if (tensor->device.device_type == kDLCUDA && !reading->cuda.found &&
      !settle_on_tensor(object, tensor->device.device_id, &reading->cuda)) {
    return false;
  }
  const int negated = torch.is_neg.ask(object);
  if (negated < 0) return false;
  if (negated == 0 && is_dense(*tensor)) {
    int64_t count = 1;
    for (int axis = 0; axis < tensor->ndim; ++axis) count *= tensor->shape[axis];
    if (tensor->data != nullptr || count == 0) return true;
    *mismatch = {PyExc_TypeError, "a tensor that holds its values", "one without memory"};
    return false;
  }
  if (writable) {
    *mismatch = {PyExc_ValueError, "a dense row-major tensor", "a strided one"};
    return false;
  }
  Ref plain(PyObject_CallMethodNoArgs(object, torch.name_resolve_neg));
  Ref copy(plain ? PyObject_CallMethodNoArgs(plain.get(), torch.name_contiguous) : nullptr);
  if (!copy || !borrow(copy.get(), tensor, mismatch)) return false;
  reading->leases.emplace_back(std::move(copy));  // its memory goes back to torch in the order of the stream
  return true;
}

// torch.empty, so that the memory is of torch's caching allocator, with its graphs and its record_stream.
PyObject *new_cuda_tensor(DLTensor *tensor, const CudaPlace &cuda) {
  PyObject *dtype = nullptr;
  for (size_t i = 0; i < std::size(kDtypes); ++i) {
    const uint32_t known = kDtypes[i].dtype;
    if (known == (static_cast<uint32_t>(tensor->dtype.code) << 8 | tensor->dtype.bits)) dtype = torch.dtypes[i];
  }
  Ref shape(PyTuple_New(tensor->ndim));
  for (int axis = 0; axis < tensor->ndim && shape; ++axis) {
    PyObject *size = PyLong_FromLongLong(tensor->shape[axis]);
    if (size == nullptr) return nullptr;
    PyTuple_SET_ITEM(shape.get(), axis, size);
  }
  Ref device = shape ? get_attribute(cuda.like, "device") : Ref();
  if (!device) return nullptr;
  PyObject *const arguments[] = {shape.get(), dtype, device.get()};
  Ref made(PyObject_Vectorcall(torch.empty, arguments, 1, torch.empty_names));
  DLTensor read = {};
  if (!made || torch.table->borrow_tensor(made.get(), &read) != 0) return nullptr;
  tensor->data = read.data;
  tensor->device = read.device;
  return made.release();
}

// A result's memory and all that torch has to know of it, in one piece. The memory comes last.
struct Result {
  DLManagedTensorVersioned managed;
  int64_t shape[1];  // then the strides
};

constexpr size_t kAlignment = 64;  // of the memory: torch's own

// On the CPU torch.empty takes 1 to 2 us; to hand over memory of ours takes a third of that.
PyObject *new_tensor(DLTensor *tensor, Reading *reading) {
  if (tensor->device.device_type != kDLCPU) return new_cuda_tensor(tensor, reading->cuda);
  const auto ndim = static_cast<size_t>(tensor->ndim);
  uint64_t bytes = tensor->dtype.bits / 8;
  for (size_t axis = 0; axis < ndim; ++axis) bytes *= static_cast<uint64_t>(tensor->shape[axis]);
  const size_t head = sizeof(Result) + 2 * ndim * sizeof(int64_t);
  void *memory = std::malloc(head + kAlignment + bytes);  // aligned_alloc takes longer than all the rest here
  if (memory == nullptr) return PyErr_NoMemory();
  auto *result = static_cast<Result *>(memory);
  int64_t *strides = result->shape + ndim;
  int64_t stride = 1;
  for (size_t axis = ndim; axis-- > 0;) {
    result->shape[axis] = tensor->shape[axis];
    strides[axis] = stride;
    stride *= tensor->shape[axis];
  }
  result->managed.version = {1, 0};
  result->managed.manager_ctx = nullptr;
  result->managed.deleter = [](DLManagedTensorVersioned *self) { std::free(self); };
  result->managed.flags = 0;
  result->managed.dl_tensor = *tensor;
  DLTensor &made = result->managed.dl_tensor;
  const uintptr_t end_of_head = reinterpret_cast<uintptr_t>(memory) + head;
  made.data = reinterpret_cast<void *>((end_of_head + kAlignment - 1) / kAlignment * kAlignment);
  made.shape = result->shape;
  made.strides = strides;
  void *object = nullptr;
  if (torch.table->import_tensor(&result->managed, &object) != 0) {
    std::free(memory);
    return nullptr;
  }
  tensor->data = made.data;
  return static_cast<PyObject *>(object);
}

// TensorCall

PyTypeObject *tensor_call_type = nullptr;

struct TensorCallObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject *kernel;    // a Kernel that takes tensors
  PyObject *recorder;  // called with `subject` in front of the arguments
  PyObject *subject;
  PyObject *fallback;  // called with the same arguments
};

// Who has to know of a call: the kernel alone, autograd too, or perhaps others. kFailed: an exception is set.
enum class Way { kFailed, kPlain, kRecorded, kGeneral };

Way way_of(PyObject *const *arguments, Py_ssize_t count) {
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject *type = reinterpret_cast<PyObject *>(Py_TYPE(arguments[i]));
    if (type != torch.tensor && type != torch.parameter) return Way::kGeneral;
  }
  for (const Question &observer : torch.observers) {
    const int active = observer.ask();
    if (active != 0) return active < 0 ? Way::kFailed : Way::kGeneral;
  }
  PyObject *level = PyDict_GetItemWithError(torch.forward_level, torch.name_level);
  if (level == nullptr) return PyErr_Occurred() ? Way::kFailed : Way::kGeneral;
  if (PyLong_AsLong(level) >= 0) return Way::kGeneral;
  if (PyErr_Occurred()) return Way::kFailed;
  const int recording = torch.is_grad_enabled.ask();
  if (recording <= 0) return recording < 0 ? Way::kFailed : Way::kPlain;
  for (Py_ssize_t i = 0; i < count; ++i) {
    const int wanted = torch.requires_grad.ask(arguments[i]);
    if (wanted < 0) return Way::kFailed;
    if (wanted == 0) continue;
    const int transformed = torch.is_transforming.ask();
    return transformed < 0 ? Way::kFailed : transformed > 0 ? Way::kGeneral : Way::kRecorded;
  }
  return Way::kPlain;
}

PyObject *tensor_call_run(PyObject *object, PyObject *const *arguments, size_t nargsf, PyObject *keywords) {
  auto *self = reinterpret_cast<TensorCallObject *>(object);
  const Py_ssize_t count = PyVectorcall_NARGS(nargsf);
  const bool bare = keywords == nullptr || PyTuple_GET_SIZE(keywords) == 0;
  const Way way = bare && count <= TIAOT_MAX_ARRAYS ? way_of(arguments, count) : Way::kGeneral;
  if (way == Way::kFailed) return nullptr;
  if (way != Way::kGeneral) {
    PyObject *result = nullptr;
    if (way == Way::kPlain) {
      result = PyObject_Vectorcall(self->kernel, arguments, nargsf, nullptr);
    } else {
      PyObject *operands[TIAOT_MAX_ARRAYS + 1] = {self->subject};
      std::copy(arguments, arguments + count, operands + 1);
      result = PyObject_Vectorcall(self->recorder, operands, static_cast<size_t>(count) + 1, nullptr);
    }
    if (result != nullptr || !PyErr_ExceptionMatches(PyExc_TypeError)) return result;
    PyErr_Clear();  // no plain memory after all (a transform's wrapper, meta, sparse): the fallback knows
  }
  return PyObject_Vectorcall(self->fallback, arguments, nargsf, keywords);
}

PyObject *tensor_call_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
  static const char *const names[] = {"kernel", "recorder", "subject", "fallback", nullptr};
  PyObject *kernel = nullptr, *recorder = nullptr, *subject = nullptr, *fallback = nullptr;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OOOO:TensorCall", const_cast<char **>(names), &kernel,
                                   &recorder, &subject, &fallback)) {
    return nullptr;
  }
  if (torch.table == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "TensorCall: prepare_torch was not called");
    return nullptr;
  }
  auto *self = reinterpret_cast<TensorCallObject *>(type->tp_alloc(type, 0));
  if (self == nullptr) return nullptr;
  self->vectorcall = tensor_call_run;
  Py_INCREF(kernel);
  Py_INCREF(recorder);
  Py_INCREF(subject);
  Py_INCREF(fallback);
  self->kernel = kernel;
  self->recorder = recorder;
  self->subject = subject;
  self->fallback = fallback;
  return reinterpret_cast<PyObject *>(self);
}

int tensor_call_traverse(PyObject *object, visitproc visit, void *arg) {
  auto *self = reinterpret_cast<TensorCallObject *>(object);
  Py_VISIT(Py_TYPE(object));
  Py_VISIT(self->kernel);
  Py_VISIT(self->recorder);
  Py_VISIT(self->subject);
  Py_VISIT(self->fallback);
  return 0;
}

int tensor_call_clear(PyObject *object) {
  auto *self = reinterpret_cast<TensorCallObject *>(object);
  Py_CLEAR(self->subject);
  Py_CLEAR(self->fallback);
  return 0;
}

void tensor_call_dealloc(PyObject *object) {
  auto *self = reinterpret_cast<TensorCallObject *>(object);
  PyTypeObject *type = Py_TYPE(object);
  PyObject_GC_UnTrack(object);
  Py_XDECREF(self->kernel);
  Py_XDECREF(self->recorder);
  Py_XDECREF(self->subject);
  Py_XDECREF(self->fallback);
  type->tp_free(object);
  Py_DECREF(type);
}

PyMemberDef tensor_call_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(TensorCallObject, vectorcall), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

constexpr char kTensorCallDoc[] =
    "TensorCall(kernel, recorder, subject, fallback)\n"
    "--\n\n"
    "Called with tensors that hold plain data it runs `kernel`, a Kernel of for_tensors; where one of them needs a\n"
    "gradient, recorder(subject, *tensors); in all other cases, and when these raise TypeError, fallback(*tensors).";

PyType_Slot tensor_call_slots[] = {
    {Py_tp_doc, const_cast<char *>(kTensorCallDoc)},
    {Py_tp_new, reinterpret_cast<void *>(tensor_call_new)},
    {Py_tp_call, reinterpret_cast<void *>(PyVectorcall_Call)},
    {Py_tp_traverse, reinterpret_cast<void *>(tensor_call_traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(tensor_call_clear)},
    {Py_tp_dealloc, reinterpret_cast<void *>(tensor_call_dealloc)},
    {Py_tp_members, tensor_call_members},
    {0, nullptr},
};

PyType_Spec tensor_call_spec = {"tiaot._core.TensorCall", sizeof(TensorCallObject), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
                                tensor_call_slots};

// The attribute at a dotted path below `object`.
Ref find(PyObject *object, const char *path) {
  Py_INCREF(object);
  Ref found(object);
  std::string rest = path;
  while (found && !rest.empty()) {
    const size_t dot = rest.find('.');
    found = get_attribute(found.get(), rest.substr(0, dot).c_str());
    rest = dot == std::string::npos ? "" : rest.substr(dot + 1);
  }
  return found;
}

}  // namespace

const ArrayKind kTensorArrays = {read_tensor, new_tensor};

bool prepare_torch(PyObject *package) {
  if (torch.table != nullptr) return true;
  Torch found;
  found.tensor = find(package, "Tensor").release();
  if (found.tensor != nullptr) found.parameter = find(package, "nn.Parameter").release();
  if (found.parameter != nullptr) found.forward_level = find(package, "autograd.forward_ad.__dict__").release();
  const struct {
    Question *question;
    const char *path;
  } functions[] = {
      {&found.is_grad_enabled, "is_grad_enabled"},
      {&found.is_transforming, "_C._are_functorch_transforms_active"},
      {&found.observers[0], "_C._len_torch_dispatch_stack"},
      {&found.observers[1], "_C._len_torch_function_stack"},
      {&found.observers[2], "_C._autograd._profiler_enabled"},
  };
  bool complete = found.forward_level != nullptr;
  for (const auto &each : functions) {
    PyObject *function = complete ? find(package, each.path).release() : nullptr;
    complete = function != nullptr;
    if (complete) *each.question = Question::of_function(function);
  }
  for (size_t i = 0; i < std::size(kDtypes) && complete; ++i) {
    found.dtypes[i] = find(package, kDtypes[i].name).release();
    complete = found.dtypes[i] != nullptr;
  }
  if (complete) found.empty = find(package, "empty").release();
  if (found.empty != nullptr) found.table = find_exchange_table(found.tensor);
  if (found.table == nullptr || found.table->borrow_tensor == nullptr || found.table->current_stream == nullptr) {
    PyErr_Clear();
    Ref version = get_attribute(package, "__version__");
    PyErr_Format(PyExc_ImportError, "tiaot.torch: expected torch 2.10 or newer, got %s",
                 version ? text_of(version.get()).c_str() : "another package of that name");
    return false;
  }
  found.is_neg = Question::of_type(found.tensor, "is_neg");
  found.requires_grad = Question::of_type(found.tensor, "requires_grad");
  found.name_resolve_neg = PyUnicode_InternFromString("resolve_neg");
  found.name_contiguous = PyUnicode_InternFromString("contiguous");
  found.name_level = PyUnicode_InternFromString("_current_level");
  found.empty_names = Py_BuildValue("(ss)", "dtype", "device");
  if (PyErr_Occurred()) return false;
  torch = found;
  return true;
}

bool add_tensor_call_type(PyObject *module) {
  tensor_call_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&tensor_call_spec));
  return tensor_call_type != nullptr &&
         PyObject_SetAttrString(module, "TensorCall", reinterpret_cast<PyObject *>(tensor_call_type)) == 0;
}

}  // namespace tiaot::binding
