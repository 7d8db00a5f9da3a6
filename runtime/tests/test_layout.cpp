// test_layout.cpp: the layout that the exporter writes, as numbers. Passes when it compiles.
#include <cstddef>

#include "check.hpp"

#define FIELD(type, field, at) static_assert(offsetof(type, field) == (at), #type "." #field)

static_assert(sizeof(tiaot_entry_desc) == 112);
FIELD(tiaot_entry_desc, kind, 0);
FIELD(tiaot_entry_desc, wrt, 4);
FIELD(tiaot_entry_desc, symbol, 8);
FIELD(tiaot_entry_desc, block_rows, 16);
FIELD(tiaot_entry_desc, workspace, 24);
FIELD(tiaot_entry_desc, code, 32);
FIELD(tiaot_entry_desc, code_bytes, 56);
FIELD(tiaot_entry_desc, cuda, 80);
FIELD(tiaot_entry_desc, cuda_workspace, 88);
FIELD(tiaot_entry_desc, cuda_missing, 96);
FIELD(tiaot_entry_desc, cuda_any_rows, 104);
FIELD(tiaot_entry_desc, cuda_order, 108);

static_assert(sizeof(tiaot_variant_desc) == 40);
FIELD(tiaot_variant_desc, name, 0);
FIELD(tiaot_variant_desc, dtypes, 8);
FIELD(tiaot_variant_desc, fixed, 16);
FIELD(tiaot_variant_desc, autodiff, 24);
FIELD(tiaot_variant_desc, entry_count, 28);
FIELD(tiaot_variant_desc, entries, 32);

static_assert(sizeof(tiaot_argument_desc) == 24);
FIELD(tiaot_argument_desc, name, 0);
FIELD(tiaot_argument_desc, flags, 8);
FIELD(tiaot_argument_desc, rank, 12);
FIELD(tiaot_argument_desc, dims, 16);

static_assert(sizeof(tiaot_kernel_desc) == 80);
FIELD(tiaot_kernel_desc, name, 0);
FIELD(tiaot_kernel_desc, signature, 8);
FIELD(tiaot_kernel_desc, doc, 16);
FIELD(tiaot_kernel_desc, verification, 24);
FIELD(tiaot_kernel_desc, batch_dim, 32);
FIELD(tiaot_kernel_desc, dim_count, 36);
FIELD(tiaot_kernel_desc, dim_names, 40);
FIELD(tiaot_kernel_desc, input_count, 48);
FIELD(tiaot_kernel_desc, output_count, 52);
FIELD(tiaot_kernel_desc, arguments, 56);
FIELD(tiaot_kernel_desc, variant_count, 64);
FIELD(tiaot_kernel_desc, state, 68);
FIELD(tiaot_kernel_desc, variants, 72);

static_assert(sizeof(tiaot_field_desc) == 48);
FIELD(tiaot_field_desc, name, 0);
FIELD(tiaot_field_desc, dtype, 8);
FIELD(tiaot_field_desc, rank, 12);
FIELD(tiaot_field_desc, shape, 16);
FIELD(tiaot_field_desc, strides, 24);
FIELD(tiaot_field_desc, offset, 32);
FIELD(tiaot_field_desc, gradient, 40);
FIELD(tiaot_field_desc, reserved, 44);

static_assert(sizeof(tiaot_cuda_image_desc) == 32);
FIELD(tiaot_cuda_image_desc, architecture, 0);
FIELD(tiaot_cuda_image_desc, kind, 4);
FIELD(tiaot_cuda_image_desc, data, 8);
FIELD(tiaot_cuda_image_desc, bytes, 16);
FIELD(tiaot_cuda_image_desc, code_bytes, 24);

static_assert(sizeof(tiaot_cuda_desc) == 32);
FIELD(tiaot_cuda_desc, image_count, 0);
FIELD(tiaot_cuda_desc, kernel_count, 4);
FIELD(tiaot_cuda_desc, images, 8);
FIELD(tiaot_cuda_desc, kernels, 16);
FIELD(tiaot_cuda_desc, ptxas_version, 24);

static_assert(sizeof(tiaot_cuda_host) == 32);
FIELD(tiaot_cuda_host, launch, 0);
FIELD(tiaot_cuda_host, fill, 8);
FIELD(tiaot_cuda_host, copy, 16);
FIELD(tiaot_cuda_host, user, 24);

static_assert(sizeof(tiaot_content_desc) == 24);
FIELD(tiaot_content_desc, offset, 0);
FIELD(tiaot_content_desc, bytes, 8);
FIELD(tiaot_content_desc, data, 16);

static_assert(sizeof(tiaot_module_desc) == 112);
FIELD(tiaot_module_desc, abi_version, 0);
FIELD(tiaot_module_desc, struct_size, 4);
FIELD(tiaot_module_desc, name, 8);
FIELD(tiaot_module_desc, hash, 16);
FIELD(tiaot_module_desc, target, 24);
FIELD(tiaot_module_desc, tiaot_version, 32);
FIELD(tiaot_module_desc, taichi_version, 40);
FIELD(tiaot_module_desc, llvm_version, 48);
FIELD(tiaot_module_desc, kernel_count, 56);
FIELD(tiaot_module_desc, field_count, 60);
FIELD(tiaot_module_desc, kernels, 64);
FIELD(tiaot_module_desc, fields, 72);
FIELD(tiaot_module_desc, state_bytes, 80);
FIELD(tiaot_module_desc, cuda, 88);
FIELD(tiaot_module_desc, contents, 96);
FIELD(tiaot_module_desc, content_count, 104);
FIELD(tiaot_module_desc, reserved, 108);

static_assert(sizeof(tiaot_note) == 264);
FIELD(tiaot_note, name, 12);
FIELD(tiaot_note, abi_version, 24);
FIELD(tiaot_note, range_count, 28);
FIELD(tiaot_note, file_crc, 32);
FIELD(tiaot_note, note_crc, 36);
FIELD(tiaot_note, content_crc, 40);
FIELD(tiaot_note, reserved, 44);
FIELD(tiaot_note, file_size, 48);
FIELD(tiaot_note, tiaot_version, 56);
FIELD(tiaot_note, hash, 72);
FIELD(tiaot_note, ranges, 136);
static_assert(sizeof(TIAOT_NOTE_NAME) == sizeof(tiaot_note::name));

static_assert(sizeof(DLTensor) == 48);
FIELD(DLTensor, data, 0);
FIELD(DLTensor, device, 8);
FIELD(DLTensor, ndim, 16);
FIELD(DLTensor, dtype, 20);
FIELD(DLTensor, shape, 24);
FIELD(DLTensor, strides, 32);
FIELD(DLTensor, byte_offset, 40);

static_assert(sizeof(tiaot_options) == 40);
FIELD(tiaot_options, struct_size, 0);
FIELD(tiaot_options, num_threads, 4);
FIELD(tiaot_options, variant, 8);
FIELD(tiaot_options, executor, 16);
FIELD(tiaot_options, state, 24);
FIELD(tiaot_options, stream, 32);

static_assert(TIAOT_ABI_VERSION == 5, "a change above raises the version, and the numbers here follow it");
