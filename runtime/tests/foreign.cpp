// foreign.cpp: a shared library that is no module. Knows nothing of tiaot.
extern "C" int foreign_answer() { return 42; }
