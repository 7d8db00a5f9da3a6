// test_tables.cpp: tables that break a rule of tiaot/module.h are refused.
#include "check.hpp"
#include "cpu.hpp"
#include "toy.hpp"

namespace {

// The toy's tables with the first kernel in parts that a test can change.
struct Tables {
  tiaot_module_desc module = toy_descriptor;
  tiaot_kernel_desc kernel = toy_descriptor.kernels[0];
  std::vector<tiaot_argument_desc> arguments{kernel.arguments, kernel.arguments + 4};
  tiaot_variant_desc variant = kernel.variants[0];
  std::vector<int64_t> fixed{variant.fixed, variant.fixed + 3};
  std::vector<uint32_t> dtypes{variant.dtypes, variant.dtypes + 4};
  tiaot_entry_desc entry = variant.entries[1];

  tiaot_status check() {
    variant.fixed = fixed.data();
    variant.dtypes = dtypes.data();
    variant.entries = &entry;
    variant.entry_count = 1;
    kernel.variants = &variant;
    kernel.variant_count = kernel.variant_count == 0 ? 0 : 1;
    kernel.arguments = arguments.data();
    module.kernels = &kernel;
    module.kernel_count = 1;
    return tiaot::check_tables(module, "f.so");
  }
};

}  // namespace

TEST(the_toy_is_right) {
  CHECK_OK(tiaot::check_tables(toy_descriptor, "toy"));
  CHECK_OK(Tables().check());
}

TEST(broken_tables) {
  check::refused<Tables>("a name or a version is missing", [](Tables &t) { t.module.hash = nullptr; });
  check::refused<Tables>("a kernel has no name", [](Tables &t) { t.kernel.name = nullptr; });
  check::refused<Tables>("kernel 'dense': no signature or description", [](Tables &t) { t.kernel.doc = nullptr; });
  check::refused<Tables>("kernel 'dense': too many dimensions", [](Tables &t) { t.kernel.dim_count = 33; });
  check::refused<Tables>("kernel 'dense': no such batch dimension", [](Tables &t) { t.kernel.batch_dim = 3; });
  check::refused<Tables>("kernel 'dense': no names of dimensions", [](Tables &t) { t.kernel.dim_names = nullptr; });
  check::refused<Tables>("kernel 'dense': too many arguments", [](Tables &t) { t.kernel.input_count = 0xffffffff; });
  check::refused<Tables>("kernel 'dense': no output", [](Tables &t) { t.kernel.output_count = 0; });
  check::refused<Tables>("kernel 'dense': an argument has no name", [](Tables &t) { t.arguments[1].name = nullptr; });
  check::refused<Tables>("kernel 'dense': argument 'W' has no dimensions",
                         [](Tables &t) { t.arguments[1].dims = nullptr; });
  check::refused<Tables>("kernel 'dense': argument 'W' has too many dimensions",
                         [](Tables &t) { t.arguments[1].rank = 33; });
  static const uint32_t unknown[] = {9, 9};
  check::refused<Tables>("kernel 'dense': argument 'W' has an unknown dimension",
                         [](Tables &t) { t.arguments[1].dims = unknown; });
  check::refused<Tables>("kernel 'dense': argument 'x' has the batch dimension in the wrong place",
                         [](Tables &t) { t.arguments[0].flags = 0; });
  check::refused<Tables>("kernel 'dense': argument 'W' has the batch dimension in the wrong place",
                         [](Tables &t) { t.arguments[1].flags = TIAOT_ARGUMENT_BATCHED; });
  check::refused<Tables>("kernel 'dense': argument 'y' is an output without the batch dimension",
                         [](Tables &t) { t.arguments[3] = t.arguments[2], t.arguments[3].name = "y"; });
  check::refused<Tables>("kernel 'dense': no variant", [](Tables &t) { t.kernel.variant_count = 0; });
  check::refused<Tables>("kernel 'dense': a variant has no name", [](Tables &t) { t.variant.name = nullptr; });
  check::refused<Tables>("kernel 'dense': variant 'float32_n8_m4' has an unknown element type",
                         [](Tables &t) { t.dtypes[2] = 7; });
  check::refused<Tables>("kernel 'dense': variant 'float32_n8_m4' has an impossible fixed size",
                         [](Tables &t) { t.fixed[0] = 3; });
  check::refused<Tables>("kernel 'dense': variant 'float32_n8_m4' has an impossible fixed size",
                         [](Tables &t) { t.fixed[1] = 0; });
  const std::string entry = "kernel 'dense': variant 'float32_n8_m4': entry 'dense_vjp_x' ";
  check::refused<Tables>((entry + "is of an unknown kind").c_str(), [](Tables &t) { t.entry.kind = TIAOT_JACOBIAN; });
  check::refused<Tables>((entry + "has the wrong gradients for its kind").c_str(), [](Tables &t) { t.entry.wrt = 0; });
  check::refused<Tables>((entry + "has the derivative of an input that is not differentiable").c_str(),
                         [](Tables &t) { t.entry.wrt = 8; });
  check::refused<Tables>((entry + "has an impossible block size").c_str(), [](Tables &t) { t.entry.block_rows = 0; });
  check::refused<Tables>((entry + "lacks the code of a CPU level").c_str(),
                         [](Tables &t) { t.entry.code[tiaot::kLevels - 1] = nullptr; });
}
