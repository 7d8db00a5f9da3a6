// xla_ffi.hpp: the part of XLA's FFI that a handler needs to read its buffers and attributes and to report an error, as
// the C ABI of its version 0.x fixes it (openxla/xla, xla/ffi/api/c_api.h). Every struct says its own size, which grows
// with the versions; fields are never moved.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tiaot::xla {

constexpr int kMajor = 0;  // the version that these structs are of
constexpr int kMinor = 3;

struct Extension {
  size_t struct_size;
  int type;
  Extension *next;
};

constexpr int kMetadataExtension = 1;

struct Version {
  size_t struct_size;
  Extension *extensions;
  int major;
  int minor;
};

struct Metadata {
  size_t struct_size;
  Version version;
  uint32_t traits;
};

struct MetadataExtension {
  Extension base;
  Metadata *metadata;
};

enum ErrorCode {
  kInvalidArgument = 3,
  kNotFound = 5,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kUnimplemented = 12,
  kInternal = 13
};

struct Error;

struct ErrorArguments {
  size_t struct_size;
  Extension *extensions;
  const char *message;
  int code;
};

struct StreamArguments {
  size_t struct_size;
  Extension *extensions;
  void *context;
  void *stream;  // out: CUstream on CUDA
};

struct DeviceArguments {
  size_t struct_size;
  Extension *extensions;
  void *context;
  int32_t device;  // out: its ordinal
};

struct Api {
  size_t struct_size;  // an older XLA's ends earlier
  Extension *extensions;
  Version version;
  const void *internal;
  Error *(*create_error)(ErrorArguments *arguments);
  const void *between_error_and_stream[3];
  Error *(*get_stream)(StreamArguments *arguments);
  const void *between_stream_and_device[12];
  Error *(*get_device)(DeviceArguments *arguments);
};

enum DataType { kS32 = 4, kS64 = 5, kU8 = 6, kF16 = 10, kF32 = 11, kF64 = 12 };

struct Buffer {
  size_t struct_size;
  Extension *extensions;
  int dtype;
  void *data;
  int64_t rank;
  int64_t *dims;
};

constexpr int kBuffer = 1;  // the type of an argument or result

struct Operands {  // arguments, and results
  size_t struct_size;
  Extension *extensions;
  int64_t size;
  int *types;
  void **values;
};

struct Span {
  const char *data;
  size_t size;
};

struct Scalar {
  int dtype;
  void *value;
};

enum AttributeType { kScalar = 3, kString = 4 };

struct Attributes {
  size_t struct_size;
  Extension *extensions;
  int64_t size;
  int *types;
  Span **names;
  void **values;
};

constexpr int kExecute = 3;  // the stage

struct CallFrame {
  size_t struct_size;
  Extension *extensions;
  const Api *api;
  void *context;
  int stage;
  Operands arguments;
  Operands results;
  Attributes attributes;
};

}  // namespace tiaot::xla
