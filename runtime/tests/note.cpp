// note.cpp: an empty note of a module, which the test fills in. Linked into the toys that are module files.
#include "tiaot/module.h"

extern "C" __attribute__((section(".note.tiaot"), used, visibility("hidden"))) const tiaot_note toy_note = {};
