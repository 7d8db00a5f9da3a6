// cuda_arrays.hpp: arrays on CUDA devices: whose stream a call works on, how they are read for work on that stream, and
// how results come to be. Knows nothing of kernels, shapes or modules.
//
// A call is read in three steps. Its inputs are met: it is asked where they are. Then the place is settled: the stream
// is the caller's, or the current one of the library of the first array there. Then they are read, which makes that
// stream wait for what their library has put on its own; so nothing waits for a call whose arrays are on several
// devices.
#pragma once

#include "arrays.hpp"

namespace tiaot::binding {

constexpr DLDeviceType kCudaManaged = static_cast<DLDeviceType>(13);  // DLPack's kDLCUDAManaged

inline bool is_cuda(DLDeviceType type) { return type == kDLCUDA || type == kCudaManaged; }

// Reads an array on `device`, or one that says so by __cuda_array_interface__, where that is nullptr. While the place
// is not settled an input is only met: the tensor gets its device, nothing else. False with `mismatch` filled in.
bool meet_cuda_array(PyObject *object, const DLDevice *device, bool writable, DLTensor *tensor, Reading *reading,
                     Mismatch *mismatch);

// Finds the stream that the call's work goes to, where the caller gave none. False with an exception set.
bool settle(CudaPlace *cuda);

// Reads an array that was met. `ordered`: the call's stream waits for what the array's library has put on its own.
bool read_cuda_array(PyObject *object, bool writable, bool ordered, DLTensor *tensor, Reading *reading,
                     Mismatch *mismatch);

// A new, uninitialised array of a result's type and shape on a CUDA device, made by the library of reading->cuda.like;
// sets the tensor's data. nullptr with `mismatch` filled in.
PyObject *new_cuda_array(DLTensor *tensor, Reading *reading, Mismatch *mismatch);

// The argument `stream` of a call: an integer, or an object that has one. `label` and `argument` open the message.
// False with an exception set.
bool read_stream(PyObject *object, const char *label, const char *argument, void **stream);

// What the driver knows of an address; of a device's memory, and of memory that moves between both, the device.
enum class DeviceOfAddress { kUnknown, kHost, kDevice };
DeviceOfAddress device_of_address(const void *address, int32_t *device);

}  // namespace tiaot::binding
