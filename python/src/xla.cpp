// xla.cpp: the handlers that XLA calls, on threads of its own and without the GIL: one for the CPU and one for CUDA,
// each for all kernels. A call's attributes say which one, in words that hold in any process, since compiled programs
// are kept and shipped.
#include "xla.hpp"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string_view>

#include "cuda_arrays.hpp"
#include "xla_ffi.hpp"

namespace tiaot::binding {
namespace {

struct Registered {
  std::shared_ptr<OpenModule> module;
  const tiaot_kernel *kernel;
  const char *variant;
};

struct Registry {
  std::shared_mutex mutex;
  std::map<std::string, Registered, std::less<>> kernels;
};

// Never deleted: XLA's threads may run longer than any destructor waits. The thread that forks takes the lock over the
// fork, so that no other holds it in the child, where that thread is not.
Registry &registry() {
  static auto *const only = [] {
    auto *made = new Registry;
    pthread_atfork([] { registry().mutex.lock(); }, [] { registry().mutex.unlock(); },
                   [] { registry().mutex.unlock(); });
    return made;
  }();
  return *only;
}

xla::Error *fail(const xla::Api *api, int code, const std::string &message) {
  xla::ErrorArguments arguments = {sizeof arguments, nullptr, message.c_str(), code};
  return api->create_error(&arguments);
}

int code_of(tiaot_status status) {
  switch (status) {
    case TIAOT_ERROR_TYPE:
    case TIAOT_ERROR_VALUE:
      return xla::kInvalidArgument;
    case TIAOT_ERROR_UNSUPPORTED:
      return xla::kUnimplemented;
    case TIAOT_ERROR_MEMORY:
      return xla::kResourceExhausted;
    default:
      return xla::kInternal;
  }
}

bool dtype_of(int type, DLDataType *dtype) {
  switch (type) {
    case xla::kS32:
      *dtype = {kDLInt, 32, 1};
      return true;
    case xla::kS64:
      *dtype = {kDLInt, 64, 1};
      return true;
    case xla::kU8:
      *dtype = {kDLUInt, 8, 1};
      return true;
    case xla::kF16:
      *dtype = {kDLFloat, 16, 1};
      return true;
    case xla::kF32:
      *dtype = {kDLFloat, 32, 1};
      return true;
    case xla::kF64:
      *dtype = {kDLFloat, 64, 1};
      return true;
    default:
      return false;
  }
}

struct Attributes {
  std::string_view kernel;
  int64_t entry = -1;
  int64_t wrt = -1;
};

Attributes read_attributes(const xla::Attributes &given) {
  Attributes attributes;
  for (int64_t i = 0; i < given.size; ++i) {
    const std::string_view name(given.names[i]->data, given.names[i]->size);
    if (given.types[i] == xla::kString && name == "kernel") {
      const auto *text = static_cast<const xla::Span *>(given.values[i]);
      attributes.kernel = {text->data, text->size};
    } else if (given.types[i] == xla::kScalar && (name == "entry" || name == "wrt")) {
      const auto *scalar = static_cast<const xla::Scalar *>(given.values[i]);
      int64_t value = -1;
      if (scalar->dtype == xla::kS64) value = *static_cast<const int64_t *>(scalar->value);
      if (scalar->dtype == xla::kS32) value = *static_cast<const int32_t *>(scalar->value);
      (name == "entry" ? attributes.entry : attributes.wrt) = value;
    }
  }
  return attributes;
}

// Adds buffers to `tensors`. False for one that is none, or has an element type that no module has.
bool read_buffers(const xla::Operands &operands, DLDevice device, DLTensor *tensors) {
  for (int64_t i = 0; i < operands.size; ++i) {
    const auto *buffer = static_cast<const xla::Buffer *>(operands.values[i]);
    DLTensor &tensor = tensors[i];
    if (operands.types[i] != xla::kBuffer || !dtype_of(buffer->dtype, &tensor.dtype)) return false;
    tensor.data = buffer->data;
    tensor.device = device;
    tensor.ndim = static_cast<int32_t>(buffer->rank);
    tensor.shape = buffer->dims;
    tensor.strides = nullptr;
    tensor.byte_offset = 0;
  }
  return true;
}

void answer_metadata(const xla::CallFrame &frame, xla::Metadata *metadata) {
  // What is read here is the same in all versions up to ours; an older XLA is told its own.
  metadata->version = {sizeof(xla::Version), nullptr, xla::kMajor, xla::kMinor};
  if (frame.api != nullptr && frame.api->version.major == xla::kMajor) {
    metadata->version.minor = std::min(frame.api->version.minor, xla::kMinor);
  }
  // Not compatible with command buffers, into which XLA captures a call as a part of a graph: a call may allocate its
  // workspace on the stream, and CUDA takes no such part. XLA runs the call between its command buffers instead.
  metadata->traits = 0;
}

// The device of the call's buffers. XLA from before its version of the function tells it by their addresses.
xla::Error *find_device(const xla::CallFrame &frame, int32_t *device) {
  const xla::Api &api = *frame.api;
  if (api.struct_size >= offsetof(xla::Api, get_device) + sizeof api.get_device && api.get_device != nullptr) {
    xla::DeviceArguments arguments = {sizeof arguments, nullptr, frame.context, 0};
    if (xla::Error *error = api.get_device(&arguments)) return error;
    *device = arguments.device;
    return nullptr;
  }
  for (const xla::Operands *operands : {&frame.arguments, &frame.results}) {
    for (int64_t i = 0; i < operands->size; ++i) {
      const void *data =
          operands->types[i] == xla::kBuffer ? static_cast<xla::Buffer *>(operands->values[i])->data : nullptr;
      if (data != nullptr && device_of_address(data, device) == DeviceOfAddress::kDevice) return nullptr;
    }
  }
  return nullptr;  // nothing has memory, so there is nothing to do: any device will do
}

// Where XLA wants the work to go.
xla::Error *find_place(const xla::CallFrame &frame, DLDevice *device, void **stream) {
  device->device_type = kDLCUDA;
  xla::StreamArguments arguments = {sizeof arguments, nullptr, frame.context, nullptr};
  if (xla::Error *error = frame.api->get_stream(&arguments)) return error;
  *stream = arguments.stream;
  return find_device(frame, &device->device_id);
}

xla::Error *run(const xla::CallFrame &frame, bool cuda) {
  const Attributes attributes = read_attributes(frame.attributes);
  Registered found = {};
  {
    Registry &known = registry();
    const std::shared_lock<std::shared_mutex> lock(known.mutex);
    const auto place = known.kernels.find(attributes.kernel);
    if (place != known.kernels.end()) found = place->second;
  }
  if (found.module == nullptr) {
    return fail(frame.api, xla::kNotFound,
                "tiaot: the program calls the kernel '" + std::string(attributes.kernel) +
                    "', which this process has not loaded with tiaot.jax");
  }
  if (found.module->closed.load(std::memory_order_relaxed)) {
    return fail(frame.api, xla::kFailedPrecondition, "tiaot: the module '" + found.module->path + "' is closed");
  }
  DLDevice device = {kDLCPU, 0};
  tiaot_options options = TIAOT_OPTIONS_INIT;
  if (cuda) {
    if (xla::Error *error = find_place(frame, &device, &options.stream)) return error;
  }
  if (attributes.entry != static_cast<int>(attributes.entry) || attributes.wrt < 0 || attributes.wrt > UINT32_MAX) {
    return fail(frame.api, xla::kInvalidArgument,
                "tiaot: the call's attributes are not those of a kernel: entry " + std::to_string(attributes.entry) +
                    ", wrt " + std::to_string(attributes.wrt));
  }
  const int64_t count = frame.arguments.size + frame.results.size;
  DLTensor tensors[TIAOT_MAX_ARRAYS];
  if (count > TIAOT_MAX_ARRAYS || !read_buffers(frame.arguments, device, tensors) ||
      !read_buffers(frame.results, device, tensors + frame.arguments.size)) {
    return fail(frame.api, xla::kInvalidArgument, "tiaot: the call's operands are not those of a kernel");
  }
  options.variant = found.variant;
  const tiaot_status status =
      tiaot_call(found.kernel, static_cast<int>(attributes.entry), static_cast<uint32_t>(attributes.wrt), tensors,
                 static_cast<int32_t>(count), &options);
  return status == TIAOT_OK ? nullptr : fail(frame.api, code_of(status), tiaot_last_error());
}

xla::Error *handle(xla::CallFrame *frame, bool cuda) {
  for (xla::Extension *each = frame->extensions; each != nullptr; each = each->next) {
    if (each->type != xla::kMetadataExtension) continue;
    answer_metadata(*frame, reinterpret_cast<xla::MetadataExtension *>(each)->metadata);
    return nullptr;
  }
  if (frame->stage != xla::kExecute) return nullptr;
  try {
    return run(*frame, cuda);
  } catch (const std::exception &error) {
    return fail(frame->api, xla::kInternal, error.what());
  }
}

extern "C" xla::Error *tiaot_xla_call(xla::CallFrame *frame) { return handle(frame, false); }
extern "C" xla::Error *tiaot_xla_call_on_cuda(xla::CallFrame *frame) { return handle(frame, true); }

}  // namespace

PyObject *xla_handler(bool cuda) {
  return PyCapsule_New(reinterpret_cast<void *>(cuda ? tiaot_xla_call_on_cuda : tiaot_xla_call),
                       "xla._CUSTOM_CALL_TARGET", nullptr);
}

void register_for_xla(const std::string &key, const EntryState &kernel) {
  Registry &known = registry();
  const std::unique_lock<std::shared_mutex> lock(known.mutex);
  known.kernels.insert_or_assign(key, Registered{kernel.module, kernel.kernel, kernel.variant});
}

}  // namespace tiaot::binding
