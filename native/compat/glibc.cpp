// Hidden definitions of the symbols that the addon and libstdc++.a would otherwise import from a
// glibc newer than 2.28. See cmake/glibc_floor.cmake.

#include <sys/syscall.h>
#include <unistd.h>

#if defined(__aarch64__)
#define ML_FIRST_VERSION "GLIBC_2.17"
#else
#define ML_FIRST_VERSION "GLIBC_2.2.5"
#endif

extern "C" {

double ml_old_exp(double x);
double ml_old_exp2(double x);
double ml_old_log(double x);
double ml_old_pow(double x, double y);
__asm__(".symver ml_old_exp, exp@" ML_FIRST_VERSION);
__asm__(".symver ml_old_exp2, exp2@" ML_FIRST_VERSION);
__asm__(".symver ml_old_log, log@" ML_FIRST_VERSION);
__asm__(".symver ml_old_pow, pow@" ML_FIRST_VERSION);

#pragma GCC visibility push(hidden)

// "This process has one thread": glibc 2.32 keeps it true while it can. Never true is right too:
// reference counts are atomic then.
char __libc_single_threaded = 0;

// Functions of their own since glibc 2.33. On 64-bit systems the kernel fills the struct that glibc
// declares for both.
int ml_fstat(int file, void* result) __asm__("fstat");
int ml_fstat64(int file, void* result) __asm__("fstat64");
int ml_fstat(int file, void* result) { return static_cast<int>(syscall(SYS_fstat, file, result)); }
int ml_fstat64(int file, void* result) { return ml_fstat(file, result); }

// In glibc 2.29 these stopped calling matherr; the numbers are the same.
double ml_exp(double x) __asm__("exp");
double ml_exp2(double x) __asm__("exp2");
double ml_log(double x) __asm__("log");
double ml_pow(double x, double y) __asm__("pow");
double ml_exp(double x) { return ml_old_exp(x); }
double ml_exp2(double x) { return ml_old_exp2(x); }
double ml_log(double x) { return ml_old_log(x); }
double ml_pow(double x, double y) { return ml_old_pow(x, y); }

#pragma GCC visibility pop

}  // extern "C"
