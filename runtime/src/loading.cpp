// loading.cpp: the one lock, and its handlers around a fork.
#include "loading.hpp"

#include <pthread.h>

#include <mutex>
#include <new>

namespace tiaot {
namespace {

// Recursive: a library's constructor may open another module. Never destroyed: modules are closed by destructors too.
std::recursive_mutex &the_mutex() {
  static std::recursive_mutex *const mutex = [] {
    alignas(std::recursive_mutex) static unsigned char storage[sizeof(std::recursive_mutex)];
    auto *made = new (storage) std::recursive_mutex;
    pthread_atfork(
        [] { the_mutex().lock(); }, [] { the_mutex().unlock(); },
        [] { new (&the_mutex()) std::recursive_mutex; });  // the child's thread has another id than its owner
    return made;
  }();
  return *mutex;
}

}  // namespace

Loading::Loading() { the_mutex().lock(); }
Loading::~Loading() { the_mutex().unlock(); }

}  // namespace tiaot
