// loading.hpp: keeps forks and the dynamic loader apart. Knows nothing of modules.
#pragma once

namespace tiaot {

// Held while libraries are loaded or unloaded. A process that forks meanwhile, on another thread, would leave its child
// a loader in the middle of its work, which crashes or hangs there; so the fork waits. One thread may hold it twice.
class Loading {
 public:
  Loading();
  ~Loading();
  Loading(const Loading &) = delete;
  Loading &operator=(const Loading &) = delete;
};

}  // namespace tiaot
