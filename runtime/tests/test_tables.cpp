// test_tables.cpp: tables that break a rule of tiaot/module.h are refused.
#include "check.hpp"
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

template <typename Break>
void refused(const char *why, Break &&break_it) {
  Tables tables;
  break_it(tables);
  CHECK_ERROR(tables.check(), TIAOT_ERROR_MODULE,
              std::string("cannot open module 'f.so': its tables are wrong: ") + why);
}

}  // namespace

TEST(the_toy_is_right) {
  CHECK_OK(tiaot::check_tables(toy_descriptor, "toy"));
  CHECK_OK(Tables().check());
}

TEST(broken_tables) {
  refused("a name or a version is missing", [](Tables &t) { t.module.hash = nullptr; });
  refused("a kernel has no name", [](Tables &t) { t.kernel.name = nullptr; });
  refused("kernel 'dense': no signature or description", [](Tables &t) { t.kernel.doc = nullptr; });
  refused("kernel 'dense': too many dimensions", [](Tables &t) { t.kernel.dim_count = 33; });
  refused("kernel 'dense': no such batch dimension", [](Tables &t) { t.kernel.batch_dim = 3; });
  refused("kernel 'dense': no names of dimensions", [](Tables &t) { t.kernel.dim_names = nullptr; });
  refused("kernel 'dense': too many arguments", [](Tables &t) { t.kernel.input_count = 0xffffffff; });
  refused("kernel 'dense': no output", [](Tables &t) { t.kernel.output_count = 0; });
  refused("kernel 'dense': an argument has no name", [](Tables &t) { t.arguments[1].name = nullptr; });
  refused("kernel 'dense': argument 'W' has no dimensions", [](Tables &t) { t.arguments[1].dims = nullptr; });
  refused("kernel 'dense': argument 'W' has too many dimensions", [](Tables &t) { t.arguments[1].rank = 33; });
  static const uint32_t unknown[] = {9, 9};
  refused("kernel 'dense': argument 'W' has an unknown dimension", [](Tables &t) { t.arguments[1].dims = unknown; });
  refused("kernel 'dense': argument 'x' has the batch dimension in the wrong place",
          [](Tables &t) { t.arguments[0].flags = 0; });
  refused("kernel 'dense': argument 'W' has the batch dimension in the wrong place",
          [](Tables &t) { t.arguments[1].flags = TIAOT_ARGUMENT_BATCHED; });
  refused("kernel 'dense': argument 'y' is an output without the batch dimension",
          [](Tables &t) { t.arguments[3] = t.arguments[2], t.arguments[3].name = "y"; });
  refused("kernel 'dense': no variant", [](Tables &t) { t.kernel.variant_count = 0; });
  refused("kernel 'dense': a variant has no name", [](Tables &t) { t.variant.name = nullptr; });
  refused("kernel 'dense': variant 'float32_n8_m4' has an unknown element type", [](Tables &t) { t.dtypes[2] = 7; });
  refused("kernel 'dense': variant 'float32_n8_m4' has an impossible fixed size", [](Tables &t) { t.fixed[0] = 3; });
  refused("kernel 'dense': variant 'float32_n8_m4' has an impossible fixed size", [](Tables &t) { t.fixed[1] = 0; });
  const std::string entry = "kernel 'dense': variant 'float32_n8_m4': entry 'dense_vjp_x' ";
  refused((entry + "is of an unknown kind").c_str(), [](Tables &t) { t.entry.kind = TIAOT_JACOBIAN; });
  refused((entry + "has the wrong gradients for its kind").c_str(), [](Tables &t) { t.entry.wrt = 0; });
  refused((entry + "has the gradient of an input that is not differentiable").c_str(),
          [](Tables &t) { t.entry.wrt = 8; });
  refused((entry + "has an impossible block size").c_str(), [](Tables &t) { t.entry.block_rows = 0; });
  refused((entry + "lacks the code of a CPU level").c_str(), [](Tables &t) { t.entry.code[2] = nullptr; });
}
