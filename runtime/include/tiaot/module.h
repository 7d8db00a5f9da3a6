/* tiaot/module.h: the layout of a module file: a shared library with one descriptor symbol and one ELF note.
 * The exporter writes these tables and the runtime reads them; nobody else needs this header.
 *
 * Layout rules. Every struct is plain C with fields of 4 or 8 bytes at their natural alignment, so it is the same for
 * every compiler of a 64-bit platform. A field is never removed or given another meaning; a change of any kind raises
 * TIAOT_ABI_VERSION. From its first release on, a runtime opens the modules of every version from TIAOT_ABI_OLDEST to
 * its own, and says of a newer one which tiaot to upgrade to. All pointers point to constant data or code inside the
 * module and are relocated by the OS loader. Strings are UTF-8, NUL-ended. */
#ifndef TIAOT_MODULE_H
#define TIAOT_MODULE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TIAOT_ABI_VERSION 5u
#define TIAOT_ABI_OLDEST 5u
#define TIAOT_DESCRIPTOR_SYMBOL "tiaot_module_descriptor"
#define TIAOT_MAX_ARRAYS 64 /* inputs + cotangents + results of one entry, the state and its tangents */
#define TIAOT_MAX_DIMS 32   /* named dimensions of one kernel */

/* CPU levels, in ascending order: of x86-64 the psABI's microarchitecture levels; of aarch64 the one that every CPU
 * has. A table has TIAOT_LEVEL_COUNT places; those beyond the levels of a kind of CPU are NULL and 0. */
enum { TIAOT_LEVEL_V2 = 0, TIAOT_LEVEL_V3 = 1, TIAOT_LEVEL_V4 = 2, TIAOT_LEVEL_COUNT = 3 };
enum { TIAOT_LEVEL_NEON = 0 };

/* Element types: DLPack's type code in bits 8..15 (0 int, 1 uint, 2 float), the width in bits in bits 0..7. */
enum {
  TIAOT_INT32 = 0x0020,
  TIAOT_INT64 = 0x0040,
  TIAOT_UINT8 = 0x0108,
  TIAOT_FLOAT16 = 0x0210,
  TIAOT_FLOAT32 = 0x0220,
  TIAOT_FLOAT64 = 0x0240
};

/* TIAOT_ARGUMENT_VALUE: an input of few elements that the code reads as values: on a CUDA device it is taken from the
 * device's memory or from the host's. */
enum {
  TIAOT_ARGUMENT_BATCHED = 1u,
  TIAOT_ARGUMENT_DIFFERENTIABLE = 2u, /* some vjp has its gradient */
  TIAOT_ARGUMENT_VALUE = 4u,
  TIAOT_ARGUMENT_TANGENT = 8u /* some jvp or hvp has its tangent */
};

/* What an entry computes. TIAOT_JACOBIAN is made by the runtime from TIAOT_VJP or TIAOT_JVP and never stands in a
 * module.
 * TIAOT_GRAD is the adjoint of a kernel over state, in place, as Taichi's `kernel.grad()`: it reads the gradients of
 * what the kernel wrote and adds into the gradients of what the kernel read.
 * TIAOT_JVP is the outputs y = f(x) and their derivative along tangents t of inputs, J t. TIAOT_HVP is a vjp J^T v and
 * its derivative along tangents of the same inputs: the Hessian of <v, f> times these.
 * Of a kernel over state, TIAOT_JVP is the kernel and its derivative along the tangents of all fields and of no input,
 * in place, and TIAOT_HVP is TIAOT_GRAD and its derivative along them: gradients are fields, and have tangents too. */
enum { TIAOT_FORWARD = 0, TIAOT_VJP = 1, TIAOT_JACOBIAN = 2, TIAOT_GRAD = 3, TIAOT_JVP = 4, TIAOT_HVP = 5 };

/* The lowered code of an entry: `rows` samples, one after another in memory.
 *   rows       number of samples, >= 0; 1 for a kernel without a batch dimension
 *   dims       the size of each of the kernel's dimensions; the batch dimension's own slot is not read
 *   arrays     forward: inputs, outputs. vjp: inputs, cotangents of all outputs, then the gradients of the inputs in
 *              the entry's `wrt`, each group in the order of the signature. jvp: inputs, tangents of the inputs in
 *              `wrt`, outputs, tangents of all outputs. hvp: inputs, cotangents, tangents of the inputs in `wrt`,
 *              gradients of these, tangents of the gradients. Dense row-major, aligned to their element;
 *              a batched array points to the first of the `rows` samples. No result overlaps another array.
 *              Of a kernel over state: inputs, for forward and jvp then outputs, for jvp then tangents of these, and
 *              last the state's memory, `state_bytes` bytes aligned to 64, and for jvp and hvp its tangents, as many
 *              bytes of the same layout. These are read and written in place; no other array overlaps them.
 *   workspace  as many bytes as the entry's `workspace` function says for these rows and dims, 64-byte aligned, with
 *              any content; NULL where that is 0
 *   host       threads that the code may use, which it does for kernels without a batch dimension only; NULL: it works
 *              on the calling thread
 * Every element of every result is overwritten; the gradient of a shared input, and its tangent, is the sum over the
 * `rows` samples (so zeros for none). Inputs, cotangents and tangents of inputs are only read. Results do not depend on
 * the host. Returns 0, or 1 when there was no memory for a variable that changes in a loop of unknown length, which an
 * adjoint keeps all values of, or 4 when an index was out of range, in a module that checks them and has a tiaot_fault;
 * results are then not valid. */
typedef struct tiaot_host {
  /* Runs task(context, index) once for each index in 0..count-1, in any order, and returns when all have returned. */
  void (*parallel_for)(void *user, int64_t count, void (*task)(void *context, int64_t index), void *context);
  void *user;
} tiaot_host;

typedef int32_t (*tiaot_code)(int64_t rows, const int64_t *dims, void *const *arrays, void *workspace,
                              const tiaot_host *host);

/* What a module that was exported with --check-bounds found last: a variable of the name TIAOT_FAULT_SYMBOL, which
 * others do not have. Calls at the same time may find each other's. */
#define TIAOT_FAULT_SYMBOL "tiaot_fault"
#define TIAOT_FAULT_VALUES 16
typedef struct tiaot_fault {
  int32_t state;    /* 0: nothing. 1: it is being written. 2: the rest is whole. Written and read atomically */
  int32_t count;    /* of values */
  const char *text; /* with %d for each value, and %% for a percent sign */
  int64_t values[TIAOT_FAULT_VALUES];
} tiaot_fault;

/* Bytes of workspace that a call of the entry's code with these arguments needs; >= 0. */
typedef int64_t (*tiaot_workspace_size)(int64_t rows, const int64_t *dims);

/* ---- CUDA. The code of an entry for CUDA devices is a function too, which runs on the host: it puts copies, fills and
 * kernels on the call's stream, in the order that they are to run in, and waits for none of them. */

#define TIAOT_CUDA_BLOCK 128 /* threads of a block, of every kernel */

/* What such a function asks of the runtime. Each returns 0, or something else, which the function returns at once. */
typedef struct tiaot_cuda_host {
  /* Launches kernel `kernel` of the module's tiaot_cuda_desc, its parameters as cuLaunchKernel takes them.
   *   threads   how many are of use: fewer do too, since every kernel goes over its work with a grid's stride; 0: none
   *             is launched; < 0: not known, as many as the device runs at a time
   *   exact     1: exactly `threads`, a multiple of TIAOT_CUDA_BLOCK */
  int32_t (*launch)(void *user, uint32_t kernel, int64_t threads, int32_t exact, void **parameters);
  int32_t (*fill)(void *user, void *target, int64_t bytes); /* with zeros */
  int32_t (*copy)(void *user, void *target, const void *source, int64_t bytes);
  void *user;
} tiaot_cuda_host;

/* As tiaot_code, with all arrays in the device's memory but the arrays i with bit i of `on_host` set, inputs that have
 * TIAOT_ARGUMENT_VALUE and tangents of such, which are read before it returns. The workspace is the device's too,
 * aligned to 256 bytes; it is the call's until the work on the stream is done. */
typedef int32_t (*tiaot_cuda_code)(int64_t rows, const int64_t *dims, void *const *arrays, uint64_t on_host,
                                   void *workspace, const tiaot_cuda_host *host);

/* Whether an entry's results are the same bits whenever it runs on the same device: always; where what it adds up
 * atomically is small beside its arguments; or not, since it needs the order of atomic operations. */
enum { TIAOT_CUDA_ORDERED = 0, TIAOT_CUDA_ORDERED_IF_SMALL = 1, TIAOT_CUDA_UNORDERED = 2 };

enum { TIAOT_CUDA_CUBIN = 0, TIAOT_CUDA_PTX = 1 };

/* All kernels of a module, compiled. */
typedef struct tiaot_cuda_image_desc {
  uint32_t architecture; /* compute capability, 10 * major + minor: 90 for 9.0 */
  uint32_t kind;         /* TIAOT_CUDA_CUBIN: for devices of the same major capability and this minor or a later one;
                          * TIAOT_CUDA_PTX: for any of this capability or a later one, once the driver has compiled it */
  const void *data;      /* as cuModuleLoadData takes it */
  int64_t bytes;         /* of `data` */
  int64_t code_bytes;    /* of what it holds, uncompressed, for people */
} tiaot_cuda_image_desc;

typedef struct tiaot_cuda_desc {
  uint32_t image_count;
  uint32_t kernel_count;
  const tiaot_cuda_image_desc *images;
  const char *const *kernels; /* names; a kernel's index is what tiaot_cuda_host::launch is given */
  const char *ptxas_version;
} tiaot_cuda_desc;

typedef struct tiaot_entry_desc {
  uint32_t kind;                  /* TIAOT_FORWARD... but TIAOT_JACOBIAN */
  uint32_t wrt;                   /* vjp, hvp: bit i set when the gradient of input i is computed; jvp: when it has a
                                   * tangent; else 0, and on state */
  const char *symbol;             /* name of the entry, for people: "dense_tanh_float32_n8_m4_vjp_x" */
  int64_t block_rows;             /* a batch is cut between threads at multiples of this number of samples; >= 1 */
  tiaot_workspace_size workspace; /* NULL: none is needed */
  tiaot_code code[TIAOT_LEVEL_COUNT];
  int64_t code_bytes[TIAOT_LEVEL_COUNT]; /* machine code and constants of each, for people */
  tiaot_cuda_code cuda;                  /* NULL: none */
  tiaot_workspace_size cuda_workspace;   /* NULL: none is needed */
  const char *cuda_missing;              /* why `cuda` is NULL in a module that has CUDA code; else "" */
  uint32_t cuda_any_rows;                /* 1: takes any number of rows; 0: arrays of up to 2^31 - 1 elements */
  uint32_t cuda_order;                   /* TIAOT_CUDA_ORDERED... */
} tiaot_entry_desc;

/* One compiled form of a kernel: the element types and the dimensions that it was made for. */
typedef struct tiaot_variant_desc {
  const char *name;       /* "float32_n8_m4", "float32_dynamic" */
  const uint32_t *dtypes; /* TIAOT_FLOAT32... of each argument, inputs then outputs */
  const int64_t *fixed;   /* per dimension: the size that it is compiled for, or -1 when any size is right */
  uint32_t autodiff;      /* 1: Taichi's autodiff made its vjp; 0: a backward kernel written by the author */
  uint32_t entry_count;
  const tiaot_entry_desc *entries;
} tiaot_variant_desc;

typedef struct tiaot_argument_desc {
  const char *name;
  uint32_t flags; /* TIAOT_ARGUMENT_* */
  uint32_t rank;
  const uint32_t *dims; /* for each axis the index of its dimension */
} tiaot_argument_desc;

/* How a kernel works on the module's state. WITHOUT_GRADIENT: it was to have a TIAOT_GRAD, which the exporter refused,
 * so that a derivative of what it is called in would be wrong. */
enum { TIAOT_STATE_WORKS = 1, TIAOT_STATE_WITHOUT_GRADIENT = 2 };

/* A kernel over state has no batch dimension, and may have no inputs and no outputs. The entries of each variant are
 * one TIAOT_FORWARD, at most one TIAOT_JVP and, where it has no outputs, at most one TIAOT_GRAD and TIAOT_HVP; never
 * one of another kind. */
typedef struct tiaot_kernel_desc {
  const char *name;
  const char *signature;    /* as the author wrote it: "x[B, n], W[m, n], b[m] -> y[B, m]" */
  const char *doc;          /* the kernel's docstring, "" when it has none */
  const char *verification; /* how the exporter checked it, and what errors it found, for people; "" when it did not */
  int32_t batch_dim;        /* index of the batch dimension, -1 when the kernel has none */
  uint32_t dim_count;
  const char *const *dim_names;
  uint32_t input_count;
  uint32_t output_count;
  const tiaot_argument_desc *arguments; /* inputs, then outputs */
  uint32_t variant_count;
  uint32_t state;                     /* 0: works on its arguments alone; else on the module's state: TIAOT_STATE_... */
  const tiaot_variant_desc *variants; /* the more dimensions fixed the earlier: the first that fits is run */
} tiaot_kernel_desc;

/* A named array in the module's state. */
typedef struct tiaot_field_desc {
  const char *name; /* "x"; the gradient of a field "x" is the field "x.grad" */
  uint32_t dtype;
  uint32_t rank;          /* <= TIAOT_MAX_DIMS */
  const int64_t *shape;   /* each >= 0; NULL for rank 0 */
  const int64_t *strides; /* in elements, >= 0; NULL for rank 0 */
  int64_t offset;         /* bytes from the start of the state's memory to the first element; a multiple of its size */
  int32_t gradient;       /* index of the field that is its gradient, of the same type and shape; -1: it has none */
  uint32_t reserved;
} tiaot_field_desc;

/* A piece of what a state holds when it is made; where there is none, it is zeros. */
typedef struct tiaot_content_desc {
  int64_t offset; /* bytes from the start of the state's memory */
  int64_t bytes;
  const void *data;
} tiaot_content_desc;

typedef struct tiaot_module_desc {
  uint32_t abi_version;      /* TIAOT_ABI_VERSION */
  uint32_t struct_size;      /* sizeof(tiaot_module_desc) */
  const char *name;          /* "dense_tanh" */
  const char *hash;          /* SHA-256 of the objects that were linked, 64 lower-case hex digits */
  const char *target;        /* "x86_64-linux", "aarch64-linux" */
  const char *tiaot_version; /* of the exporter */
  const char *taichi_version;
  const char *llvm_version;
  uint32_t kernel_count;
  uint32_t field_count; /* 0: the module has no state */
  const tiaot_kernel_desc *kernels;
  const tiaot_field_desc *fields;
  int64_t state_bytes;         /* of one instance of the state */
  const tiaot_cuda_desc *cuda; /* NULL: the module has no CUDA code */
  const tiaot_content_desc *contents;
  uint32_t content_count; /* 0: a state starts as zeros */
  uint32_t reserved;
} tiaot_module_desc;

/* The note of a module file: an ELF note of its own (a PT_NOTE segment; the section is .note.tiaot), which `strip` and
 * `patchelf` leave alone. It is read and checked before the file is given to the OS loader, which would map a truncated
 * file and fault, and would run the constructors of a foreign one. Checksums are CRC-32 as in zlib (polynomial
 * 0xEDB88320, reflected, inverted). Little-endian.
 *
 * A file of `file_size` bytes is as it was exported: all of its bytes must be right. One of another size has been
 * rewritten by a tool: what is in the ranges must be right, which are code, constants, tables and relocations; the
 * loader's own tables (headers, the dynamic section, symbols) are then as the tool left them. */
#define TIAOT_NOTE_NAME "TiaotModule" /* 12 bytes with its NUL, so that no padding follows under any rule */
#define TIAOT_NOTE_TYPE 1u
#define TIAOT_NOTE_RANGES 8

typedef struct tiaot_note {
  uint32_t name_size;     /* 12 */
  uint32_t desc_size;     /* bytes behind the name: sizeof(tiaot_note) - 24 */
  uint32_t type;          /* TIAOT_NOTE_TYPE */
  char name[12];          /* TIAOT_NOTE_NAME */
  uint32_t abi_version;   /* TIAOT_ABI_VERSION of the exporter; what is up to here has this place in every version */
  uint32_t range_count;   /* of `ranges`, from 1 to TIAOT_NOTE_RANGES */
  uint32_t file_crc;      /* of the whole file, with zeros in the place of file_crc and note_crc */
  uint32_t note_crc;      /* of this struct, with zeros in the place of note_crc */
  uint32_t content_crc;   /* of the bytes in the ranges, one behind the other */
  uint32_t reserved;      /* 0 */
  uint64_t file_size;     /* in bytes, when it was exported */
  char tiaot_version[16]; /* of the exporter, NUL-ended: what to upgrade to where the version is too new */
  char hash[64];          /* equals the descriptor's `hash`, without the NUL */
  struct {
    uint64_t address; /* before relocation */
    uint64_t size;
  } ranges[TIAOT_NOTE_RANGES];
} tiaot_note;

#ifdef __cplusplus
}
#endif

#endif /* TIAOT_MODULE_H */
