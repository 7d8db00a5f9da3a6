// module.cpp: the extension module tiaot._core, and in it the type Module: open, describe, close. Knows nothing of
// calls.
#define TIAOT_IMPORTS_NUMPY
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "documentation.hpp"
#include "entry.hpp"
#include "state.hpp"
#include "tensors.hpp"
#include "xla.hpp"

namespace nb = nanobind;

namespace tiaot::binding {
namespace {

class Module {
 public:
  explicit Module(const std::shared_ptr<OpenModule> &open) : of_(open), shipped_(open->shipped) {
    path_ = nb::steal(PyUnicode_DecodeFSDefault(open->file.c_str()));
    if (!path_.is_valid()) throw nb::python_error();
    const tiaot_module_desc *desc = tiaot_module_descriptor(open->handle);
    name_ = desc->name;
    hash_ = desc->hash;
    cpu_level_ = tiaot_cpu_level_name(tiaot_module_cpu_level(open->handle));
    if (open->closed.load(std::memory_order_relaxed)) return;
    for (uint32_t i = 0; i < desc->kernel_count; ++i) {
      const char *name = desc->kernels[i].name;
      const tiaot_kernel *kernel = nullptr;
      const tiaot_status status = tiaot_module_kernel(open->handle, name, &kernel);
      if (status != TIAOT_OK) raise_status(status);
      PyObject *object = status == TIAOT_OK ? new_kernel(open, kernel, nullptr, nullptr, nullptr) : nullptr;
      if (object == nullptr) throw nb::python_error();
      kernels_[name] = nb::steal(object);
    }
    open_ = open;
  }
  Module(const Module &) = delete;
  Module &operator=(const Module &) = delete;
  ~Module() {
    const Share open = of_.lock();
    if (open && open->object == self_) open->object = nullptr;
  }

  // Becomes the Module of its open module, which may have got another one while this one was made.
  void introduce(PyObject *self) {
    const Share open = of_.lock();
    if (open->object == nullptr) open->object = self_ = self;
  }

  bool closed() const { return !open_; }

  // Calls in flight keep their share of the module, and its code mapped, until they return.
  void close() {
    if (!open_) return;
    open_->closed.store(true, std::memory_order_relaxed);
    open_.reset();
    kernels_.clear();
  }

  // To be held while the tables are read: whatever allocates an object may run a finalizer, which may close the module.
  using Share = std::shared_ptr<OpenModule>;
  Share open() const {
    if (open_) return open_;
    PyErr_Format(module_error, "%s: the module '%U' is closed", name_.c_str(), path_.ptr());
    throw nb::python_error();
  }

  nb::dict kernels() const {
    open();
    return nb::steal<nb::dict>(PyDict_Copy(kernels_.ptr()));
  }

  nb::object kernel(nb::str name) const {
    // Python and its tools ask any object for attributes with underscores, a closed module too.
    if (open_ || name.c_str()[0] != '_') open();
    PyObject *found = PyDict_GetItemWithError(kernels_.ptr(), name.ptr());
    if (found != nullptr) return nb::borrow(found);
    if (PyErr_Occurred()) throw nb::python_error();
    Ref names(PyDict_Keys(kernels_.ptr()));
    PyErr_Format(PyExc_AttributeError, "%s: expected an attribute or the name of a kernel, of %S, got %R",
                 name_.c_str(), names.get(), name.ptr());
    throw nb::python_error();
  }

  nb::object state(nb::handle self, bool zeros, nb::handle device) const {
    if (device.is_none()) return nb::module_::import_("tiaot._state").attr("State")(state_memory(zeros, -1));
    return nb::module_::import_("tiaot._cuda_state").attr("new_state")(self, zeros, device);
  }

  nb::object state_memory(bool zeros, int32_t device) const {
    PyObject *memory = new_state_memory(open(), zeros, device);
    if (memory == nullptr) throw nb::python_error();
    return nb::steal(memory);
  }

  nb::list dir(nb::handle self) const {
    nb::list names = nb::steal<nb::list>(
        PyObject_CallMethod(reinterpret_cast<PyObject *>(&PyBaseObject_Type), "__dir__", "O", self.ptr()));
    if (!names.is_valid()) throw nb::python_error();
    for (auto item : kernels_) names.append(item.first);
    return names;
  }

  nb::object reduce() const {
    nb::object restore = nb::module_::import_("tiaot._load").attr("restore_module");
    nb::object source = shipped_ ? nb::cast(name_) : path_;
    return nb::make_tuple(restore, nb::make_tuple(source, shipped_, hash_));
  }

  std::string repr() const {
    const std::string state = closed() ? ", closed" : "";
    return "<tiaot.Module " + name_ + " '" + text_of(path_.ptr()) + "'" + state + ">";
  }

  nb::dict info() const;
  nb::object cuda_image(int32_t device) const;

  std::string name_;
  std::string hash_;
  std::string cpu_level_;

  nb::object path() const { return path_; }

 private:
  const std::weak_ptr<OpenModule> of_;
  std::shared_ptr<OpenModule> open_;  // empty when closed
  PyObject *self_ = nullptr;          // once it is introduced
  nb::object path_;
  bool shipped_;
  nb::dict kernels_;
};

nb::list describe_arguments(const tiaot_kernel_desc &kernel, uint32_t first, uint32_t count) {
  nb::list list;
  for (uint32_t i = first; i < first + count; ++i) {
    const tiaot_argument_desc &argument = kernel.arguments[i];
    nb::list dims;
    for (uint32_t axis = 0; axis < argument.rank; ++axis) dims.append(kernel.dim_names[argument.dims[axis]]);
    nb::dict item;
    item["name"] = argument.name;
    item["dims"] = dims;
    item["batched"] = (argument.flags & TIAOT_ARGUMENT_BATCHED) != 0;
    item["differentiable"] = (argument.flags & TIAOT_ARGUMENT_DIFFERENTIABLE) != 0;
    item["value"] = (argument.flags & TIAOT_ARGUMENT_VALUE) != 0;
    list.append(item);
  }
  return list;
}

nb::dict describe_entry(const tiaot_kernel_desc &kernel, const tiaot_entry_desc &entry) {
  nb::list wrt;
  for (uint32_t i = 0; i < kernel.input_count; ++i) {
    if ((entry.wrt >> i & 1u) != 0) wrt.append(kernel.arguments[i].name);
  }
  nb::dict code_bytes;
  for (int level = 0; tiaot_cpu_level_name(level) != nullptr; ++level) {
    code_bytes[tiaot_cpu_level_name(level)] = entry.code_bytes[level];
  }
  nb::dict item;
  item["kind"] = kind_name(static_cast<int>(entry.kind));
  item["wrt"] = wrt;
  item["symbol"] = entry.symbol;
  item["block_rows"] = entry.block_rows;
  item["code_bytes"] = code_bytes;
  item["cuda"] = entry.cuda != nullptr;
  item["cuda_missing"] = entry.cuda_missing != nullptr ? entry.cuda_missing : "";
  constexpr const char *kOrders[] = {"ordered", "ordered if small", "unordered"};
  item["cuda_order"] = entry.cuda != nullptr ? nb::object(nb::str(kOrders[entry.cuda_order])) : nb::none();
  return item;
}

nb::dict describe_image(const tiaot_cuda_image_desc &image) {
  nb::dict item;
  item["architecture"] =
      nb::str((std::to_string(image.architecture / 10) + "." + std::to_string(image.architecture % 10)).c_str());
  item["kind"] = image.kind == TIAOT_CUDA_CUBIN ? "cubin" : "ptx";
  item["bytes"] = image.bytes;
  item["code_bytes"] = image.code_bytes;
  return item;
}

nb::object describe_cuda(const tiaot_cuda_desc *cuda) {
  if (cuda == nullptr) return nb::none();
  nb::list images, kernels;
  for (uint32_t i = 0; i < cuda->image_count; ++i) images.append(describe_image(cuda->images[i]));
  for (uint32_t k = 0; k < cuda->kernel_count; ++k) kernels.append(cuda->kernels[k]);
  nb::dict item;
  item["ptxas_version"] = cuda->ptxas_version;
  item["images"] = images;
  item["kernels"] = kernels;
  return item;
}

nb::dict describe_variant(const tiaot_kernel_desc &kernel, const tiaot_variant_desc &variant) {
  nb::dict dtypes, fixed, item;
  for (uint32_t i = 0; i < kernel.input_count + kernel.output_count; ++i) {
    dtypes[kernel.arguments[i].name] = dtype_name(variant.dtypes[i]);
  }
  for (uint32_t d = 0; d < kernel.dim_count; ++d) {
    if (variant.fixed[d] >= 0) fixed[kernel.dim_names[d]] = variant.fixed[d];
  }
  nb::list entries;
  for (uint32_t e = 0; e < variant.entry_count; ++e) entries.append(describe_entry(kernel, variant.entries[e]));
  item["name"] = variant.name;
  item["dtypes"] = dtypes;
  item["fixed"] = fixed;
  item["autodiff"] = variant.autodiff != 0;
  item["entries"] = entries;
  return item;
}

nb::dict describe_kernel(const tiaot_kernel_desc &kernel) {
  nb::list dims, variants;
  for (uint32_t d = 0; d < kernel.dim_count; ++d) dims.append(kernel.dim_names[d]);
  for (uint32_t v = 0; v < kernel.variant_count; ++v) variants.append(describe_variant(kernel, kernel.variants[v]));
  nb::dict item;
  item["name"] = kernel.name;
  item["signature"] = kernel.signature;
  item["doc"] = kernel.doc;
  item["verification"] = kernel.verification;
  item["dims"] = dims;
  item["batch_dim"] = kernel.batch_dim < 0 ? nb::object(nb::none()) : nb::cast(kernel.dim_names[kernel.batch_dim]);
  item["state"] = kernel.state != 0;
  item["inputs"] = describe_arguments(kernel, 0, kernel.input_count);
  item["outputs"] = describe_arguments(kernel, kernel.input_count, kernel.output_count);
  item["variants"] = variants;
  return item;
}

nb::object describe_state(const tiaot_module_desc &desc) {
  if (desc.field_count == 0) return nb::none();
  nb::list fields;
  for (uint32_t f = 0; f < desc.field_count; ++f) {
    const tiaot_field_desc &field = desc.fields[f];
    nb::list shape, strides;
    for (uint32_t axis = 0; axis < field.rank; ++axis) {
      shape.append(field.shape[axis]);
      strides.append(field.strides[axis]);
    }
    nb::dict item;
    item["name"] = field.name;
    item["dtype"] = dtype_name(field.dtype);
    item["shape"] = shape;
    item["strides"] = strides;
    item["offset"] = field.offset;
    item["gradient"] = field.gradient < 0 ? nb::object(nb::none()) : nb::cast(desc.fields[field.gradient].name);
    fields.append(item);
  }
  nb::dict item;
  item["bytes"] = desc.state_bytes;
  item["fields"] = fields;
  return item;
}

nb::dict Module::info() const {
  const Share module = open();
  const tiaot_module_desc &desc = *tiaot_module_descriptor(module->handle);
  nb::list kernels;
  for (uint32_t i = 0; i < desc.kernel_count; ++i) kernels.append(describe_kernel(desc.kernels[i]));
  nb::dict item;
  item["name"] = desc.name;
  item["path"] = path_;
  item["hash"] = desc.hash;
  item["abi_version"] = desc.abi_version;
  item["rewritten"] = tiaot_module_rewritten(module->handle) != 0;
  item["target"] = desc.target;
  item["cpu_level"] = cpu_level_;
  item["tiaot_version"] = desc.tiaot_version;
  item["taichi_version"] = desc.taichi_version;
  item["llvm_version"] = desc.llvm_version;
  item["state"] = describe_state(desc);
  item["cuda"] = describe_cuda(desc.cuda);
  item["kernels"] = kernels;
  return item;
}

// For the commands: the image of the module that a device runs.
nb::object Module::cuda_image(int32_t device) const {
  const Share module = open();
  if (tiaot_module_descriptor(module->handle)->cuda == nullptr) return nb::none();
  const tiaot_cuda_image_desc *image = nullptr;
  const tiaot_status status = tiaot_module_cuda_image(module->handle, device, &image);
  if (status == TIAOT_OK) return describe_image(*image);
  raise_status(status);
  throw nb::python_error();
}

int32_t cuda_device_count() {
  int32_t count = 0;
  const tiaot_status status = tiaot_cuda_device_count(&count);
  if (status == TIAOT_OK) return count;
  raise_status(status);
  throw nb::python_error();
}

void cuda_release(int32_t device) {
  tiaot_status status;
  {
    nb::gil_scoped_release release;  // it waits for the device
    status = tiaot_cuda_release(device);
  }
  if (status == TIAOT_OK) return;
  raise_status(status);
  throw nb::python_error();
}

nb::object open_module(nb::bytes path, nb::str path_text, bool shipped) {
  tiaot_module *handle = nullptr;
  tiaot_status status;
  {
    nb::gil_scoped_release release;  // reads and checks the whole file
    status = tiaot_module_open(path.c_str(), &handle);
  }
  if (status != TIAOT_OK) {
    raise_status(status);
    throw nb::python_error();
  }
  const auto open = std::make_shared<OpenModule>(handle, path.c_str(), text_of(path_text.ptr()), shipped);
  PyObject *module = module_object(open);
  if (module == nullptr) throw nb::python_error();
  return nb::steal(module);
}

int32_t num_threads() {
  int32_t count = 0;
  const tiaot_status status = tiaot_num_threads(&count);
  if (status != TIAOT_OK) {
    raise_status(status);
    throw nb::python_error();
  }
  return count;
}

void set_num_threads(nb::handle count) {
  int32_t value = 0;
  if (!read_num_threads(count.ptr(), "set_num_threads", "", &value)) throw nb::python_error();
  const tiaot_status status = tiaot_set_num_threads(value);
  if (status != TIAOT_OK) {
    raise_status(status);
    throw nb::python_error();
  }
}

nb::object cpu_level() {
  const char *name = tiaot_cpu_level_name(tiaot_cpu_level());
  return name != nullptr ? nb::cast(name) : nb::none();
}

void use_torch(nb::handle package) {
  if (!prepare_torch(package.ptr())) throw nb::python_error();
}

nb::object for_tensors(nb::handle kernel) {
  const EntryState *state = kernel_state(kernel.ptr());
  PyObject *object =
      state == nullptr ? nullptr : new_kernel(state->module, state->kernel, state->variant, &kTensorArrays, nullptr);
  if (object == nullptr) throw nb::python_error();
  return nb::steal(object);
}

nb::object make_xla_handler(const std::string &platform) {
  PyObject *capsule = xla_handler(platform == "CUDA");
  if (capsule == nullptr) throw nb::python_error();
  return nb::steal(capsule);
}

void add_xla_kernel(const std::string &key, nb::handle kernel) {
  const EntryState *state = kernel_state(kernel.ptr());
  if (state == nullptr) throw nb::python_error();
  register_for_xla(key, *state);
}

// import_array is a macro that returns from its function.
int import_numpy() {
  import_array1(-1);
  return 0;
}

}  // namespace

PyObject *module_object(const std::shared_ptr<OpenModule> &module) try {
  if (module->object != nullptr) return Py_NewRef(module->object);
  nb::object made = nb::cast(new Module(module), nb::rv_policy::take_ownership);
  nb::cast<Module &>(made).introduce(made.ptr());
  return Py_NewRef(module->object);
} catch (nb::python_error &error) {
  error.restore();
  return nullptr;
}

NB_MODULE(_core, m) {
  // What a daemon thread or a library such as torch still holds when the process ends is no leak.
  nb::set_leak_warnings(false);
  module_error = PyErr_NewExceptionWithDoc("tiaot.ModuleError", kErrorDoc, PyExc_OSError, nullptr);
  if (module_error == nullptr || import_numpy() != 0 || !prepare_arrays() || !prepare_entries() ||
      !add_kernel_types(m.ptr()) || !add_bound_call_type(m.ptr()) || !add_tensor_call_type(m.ptr())) {
    throw nb::python_error();
  }
  m.attr("ModuleError") = nb::borrow(module_error);
  m.attr("__version__") = tiaot_version();
  m.def("open_module", &open_module);
  m.def("get_num_threads", &num_threads, kGetNumThreadsDoc);
  m.def("set_num_threads", &set_num_threads, nb::arg("count").none(), kSetNumThreadsDoc);
  m.def("cpu_level", &cpu_level, kCpuLevelDoc);
  m.def("cuda_device_count", &cuda_device_count,
        "The number of CUDA devices. RuntimeError, with the reason, where there is no driver or it does not work.");

  m.def("cuda_release", &cuda_release, nb::arg("device"), "See tiaot.cuda.release; -1: every device.");

  m.def("prepare_torch", &use_torch, nb::arg("torch"),
        "Readies for_tensors and TensorCall for the package `torch`. ImportError where it is too old.");
  m.def("for_tensors", &for_tensors, nb::arg("kernel"),
        "The kernel on torch's tensors: they come as arguments and as results, without gradients.");

  m.def(
      "accept_field_type", [](nb::handle type) { accept_field_type(type.ptr()); }, nb::arg("type"),
      "Lets arrays of that type, a subclass of numpy.ndarray, be arguments of kernels.");
  add_state_memory_type(m.ptr());

  m.def("xla_handler", &make_xla_handler, nb::arg("platform"),
        "The handler of XLA's custom calls for the platform 'cpu' or 'CUDA', as jax.ffi registers it.");
  m.def("register_for_xla", &add_xla_kernel, nb::arg("key"), nb::arg("kernel"),
        "Lets the handler find the kernel, for calls whose attribute `kernel` is the key.");

  nb::class_<Module> type(m, "Module", kModuleDoc);
  type.attr("__module__") = "tiaot";
  type.def_ro("name", &Module::name_, kModuleNameDoc)
      .def_prop_ro("path", &Module::path, kPathDoc)
      .def_ro("hash", &Module::hash_, kHashDoc)
      .def_ro("cpu_level", &Module::cpu_level_, kModuleLevelDoc)
      .def_prop_ro("closed", &Module::closed, kClosedDoc)
      .def_prop_ro("kernels", &Module::kernels, kKernelsDoc)
      .def("info", &Module::info, kInfoDoc)
      .def("_cuda_image", &Module::cuda_image, nb::arg("device"))
      .def(
          "state",
          [](nb::handle self, bool zeros, nb::handle device) {
            return nb::cast<Module &>(self).state(self, zeros, device);
          },
          nb::kw_only(), nb::arg("zeros") = false, nb::arg("device").none() = nb::none(), kStateDoc)
      .def("_state_memory", &Module::state_memory, nb::arg("zeros"), nb::arg("device"))
      .def("close", &Module::close, kCloseDoc)
      .def("__enter__", [](nb::handle self) { return nb::borrow(self); })
      .def("__exit__", [](Module &self, nb::args) { self.close(); })
      .def("__getattr__", &Module::kernel)
      .def("__dir__", [](nb::handle self) { return nb::cast<Module &>(self).dir(self); })
      .def("__repr__", &Module::repr)
      .def("__reduce__", &Module::reduce);
}

}  // namespace tiaot::binding
