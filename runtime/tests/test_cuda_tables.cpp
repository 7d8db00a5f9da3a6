// test_cuda_tables.cpp: CUDA tables that break a rule of tiaot/module.h are refused.
#include "toy_cuda.hpp"

namespace {

// The module's tables with its first kernel and its CUDA tables in parts that a test can change.
struct Tables {
  tiaot_module_desc module = toy_cuda_descriptor;
  tiaot_cuda_desc cuda = *module.cuda;
  tiaot_cuda_image_desc image = cuda.images[0];
  std::vector<const char *> names{cuda.kernels, cuda.kernels + cuda.kernel_count};
  tiaot_kernel_desc kernel = module.kernels[0];
  std::vector<tiaot_argument_desc> arguments{kernel.arguments, kernel.arguments + 4};
  tiaot_variant_desc variant = kernel.variants[0];
  tiaot_entry_desc entry = variant.entries[0];
  bool images = true, kernels = true, has_cuda = true;

  tiaot_status check() {
    variant.entries = &entry;
    variant.entry_count = 1;
    kernel.variants = &variant;
    kernel.variant_count = 1;
    kernel.arguments = arguments.data();
    module.kernels = &kernel;
    module.kernel_count = 1;
    cuda.images = images ? &image : nullptr;
    if (cuda.image_count > 0) cuda.image_count = 1;
    cuda.kernels = kernels ? names.data() : nullptr;
    module.cuda = has_cuda ? &cuda : nullptr;
    return tiaot::check_tables(module, "f.so");
  }
};

}  // namespace

TEST(right_tables) {
  CHECK_OK(Tables().check());
  Tables tables;
  tables.entry.cuda_missing = nullptr;
  CHECK_OK(tables.check());
  tables.entry.cuda = nullptr;
  tables.has_cuda = false;
  CHECK_OK(tables.check());
}

TEST(broken_tables) {
  check::refused<Tables>("the version of ptxas is missing", [](Tables &t) { t.cuda.ptxas_version = nullptr; });
  check::refused<Tables>("no table of CUDA images", [](Tables &t) { t.cuda.image_count = 0; });
  check::refused<Tables>("no table of CUDA images", [](Tables &t) { t.images = false; });
  check::refused<Tables>("CUDA image 0 is of an unknown kind", [](Tables &t) { t.image.kind = 2; });
  check::refused<Tables>("CUDA image 0 has an impossible architecture", [](Tables &t) { t.image.architecture = 9; });
  check::refused<Tables>("CUDA image 0 has an impossible architecture", [](Tables &t) { t.image.architecture = 1000; });
  check::refused<Tables>("CUDA image 0 has no data", [](Tables &t) { t.image.data = nullptr; });
  check::refused<Tables>("CUDA image 0 has no data", [](Tables &t) { t.image.bytes = 0; });
  check::refused<Tables>("CUDA image 0 has no data", [](Tables &t) { t.image.code_bytes = -1; });
  check::refused<Tables>("no table of CUDA kernels", [](Tables &t) { t.kernels = false; });
  check::refused<Tables>("a CUDA kernel has no name", [](Tables &t) { t.names[3] = nullptr; });
  check::refused<Tables>("kernel 'scale': it has CUDA code, but the module has no CUDA images",
                         [](Tables &t) { t.has_cuda = false; });
  check::refused<Tables>("kernel 'scale': argument 'x' has an unknown flag",
                         [](Tables &t) { t.arguments[0].flags |= 16; });
  check::refused<Tables>("kernel 'scale': argument 'y' is an output and a value",
                         [](Tables &t) { t.arguments[3].flags |= TIAOT_ARGUMENT_VALUE; });
  const std::string entry = "kernel 'scale': variant 'float32': entry 'scale_forward' ";
  check::refused<Tables>((entry + "has a CUDA workspace without CUDA code").c_str(), [](Tables &t) {
    t.entry.cuda = nullptr;
    t.entry.cuda_workspace = [](int64_t, const int64_t *) { return int64_t{0}; };
  });
  check::refused<Tables>((entry + "neither takes any number of rows on CUDA nor not").c_str(),
                         [](Tables &t) { t.entry.cuda_any_rows = 2; });
  check::refused<Tables>((entry + "has an unknown order of atomic operations").c_str(),
                         [](Tables &t) { t.entry.cuda_order = 3; });
}

TEST(state) {
  Tables tables;
  static const tiaot_field_desc field = {"f", TIAOT_FLOAT32, 0, nullptr, nullptr, 0, -1, 0};
  static const uint32_t n[] = {1};
  tables.module.fields = &field;
  tables.module.field_count = 1;
  tables.module.state_bytes = 4;
  tables.kernel.state = 1;
  tables.kernel.batch_dim = -1;
  for (tiaot_argument_desc &argument : tables.arguments) argument = {argument.name, 0, 1, n};
  CHECK_OK(tables.check());
  const Module module = open_toy_cuda(tables.module);
  Array<float> a({3}), b({3}), c({3}), d({3});
  const DLTensor arrays[] = {on_cuda(a), on_cuda(b), on_cuda(c), on_cuda(d)};
  tiaot_options options = TIAOT_OPTIONS_INIT;
  CHECK_OK(tiaot_state_create(module.get(), &options.state));
  CHECK_ERROR(tiaot_call(find_kernel(module, "scale"), TIAOT_FORWARD, 0, arrays, 4, &options), TIAOT_ERROR_TYPE,
              "scale.forward: argument 'x': the kernel works on state, which is on the CPU, got an array on cuda:0");
  tiaot_state_destroy(options.state);
}
