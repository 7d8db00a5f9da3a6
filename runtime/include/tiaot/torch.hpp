// tiaot/torch.hpp: the kernels of a module as operators of torch's dispatcher, for programs without Python. What is
// declared here is in the library that tiaot_torch_library of the CMake package makes.
#ifndef TIAOT_TORCH_HPP
#define TIAOT_TORCH_HPP

#include <cstddef>
#include <string>

namespace tiaot {
inline namespace v1 {

// Registers what tiaot.torch.load registers in Python, under the same names, so that programs that were exported there
// find it: for a kernel of a module with the hash H, tiaot::KERNEL_H, and _vjp, _jvp and _hvp of it where the module
// has them, H cut to 12 digits; with _VARIANT behind it where there is one variant only, and for each variant by
// itself. They take dense tensors on the CPU. Gradients are recorded as for torch's own operators, and second
// derivatives too, where the module has hvp and jvp. Kernels over state are left out, and so are operators that exist.
// The module stays open as long as the process lives.
//
// `sha256`: 64 hexadecimal digits that the file's SHA-256 must be, "" for any. Throws tiaot::Error where the module
// cannot be opened.
__attribute__((visibility("default"))) void register_torch_operators(const std::string &path,
                                                                     const std::string &sha256 = "");

// As above, of a module in memory, which is read during the call only; `name` is for messages.
__attribute__((visibility("default"))) void register_torch_operators(const void *data, size_t size,
                                                                     const std::string &name,
                                                                     const std::string &sha256 = "");

}  // namespace v1
}  // namespace tiaot

#endif  // TIAOT_TORCH_HPP
