// older_libstdcxx.cpp: what headers of GCC 11 and 12 call and the libstdc++ and glibc that wheels are for do not have.
// Each of these is said in what they do have. wheels.py makes an archive of it, so that a library takes what it lacks
// and no more.
#include <new>

#define HIDDEN_AS(name) asm(name) __attribute__((visibility("hidden")))

extern "C" {

// glibc 2.32: whether there is one thread only. Never known here: reference counts are atomic.
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;

// GLIBCXX_3.4.29
[[noreturn]] void throw_bad_array_new_length() HIDDEN_AS("_ZSt28__throw_bad_array_new_lengthv");
void throw_bad_array_new_length() { throw std::bad_array_new_length(); }

// CXXABI_1.3.13: the halves of std::exception_ptr's copy constructor and destructor, which are CXXABI_1.3.3.
void copy(void **to, void *const *from) asm("_ZNSt15__exception_ptr13exception_ptrC1ERKS0_");
void destroy(void **pointer) asm("_ZNSt15__exception_ptr13exception_ptrD1Ev");

void add_reference(void **pointer) HIDDEN_AS("_ZNSt15__exception_ptr13exception_ptr9_M_addrefEv");
void add_reference(void **pointer) {
  void *another;
  copy(&another, pointer);
}

void release(void **pointer) HIDDEN_AS("_ZNSt15__exception_ptr13exception_ptr10_M_releaseEv");
void release(void **pointer) {
  destroy(pointer);
  *pointer = nullptr;
}
}
