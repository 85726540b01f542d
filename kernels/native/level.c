/* What a packaged library says of itself and of the processor, before any loop of it runs. */
#include <stdint.h>

#include "portable.h"

#ifndef FUSION_SOURCES
#define FUSION_SOURCES ""
#endif

/* The digest of the sources that this library was compiled from: levels.py. */
EXPORT const char *fusion_sources(void) { return FUSION_SOURCES; }

/* How many of the levels of levels.py, from the lowest, this processor and its system have. */
#ifdef __x86_64__
#include <cpuid.h>

#define ALL(word, bits) (((word) & (bits)) == (bits))

/* Registers that the system keeps when it switches between programs; XGETBV itself, because its
 * intrinsic asks for a level of its own. */
static uint32_t kept_registers(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

EXPORT int fusion_level(void) {
    uint32_t a, b, c, d, b7 = 0, c7 = 0, cx = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d)) b7 = c7 = 0;
    if (!__get_cpuid(0x80000001u, &a, &b, &cx, &d)) cx = 0;
    uint32_t low = bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT | bit_CMPXCHG16B;
    if (!ALL(c, low) || !ALL(cx, bit_LAHF_LM)) return 0;
    uint32_t middle = bit_AVX | bit_F16C | bit_FMA | bit_MOVBE | bit_OSXSAVE;
    uint32_t state = ALL(c, bit_OSXSAVE) ? kept_registers() : 0;
    if (!ALL(c, middle) || !ALL(b7, bit_AVX2 | bit_BMI | bit_BMI2) || !ALL(cx, bit_LZCNT) ||
        !ALL(state, 0x06u)) /* xmm, ymm */
        return 1;
    uint32_t high = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
    if (!ALL(b7, high) || !ALL(state, 0xe6u)) return 2; /* and k, zmm */
    return ALL(c7, bit_AVX512VBMI) ? 4 : 3;
}
#else
EXPORT int fusion_level(void) { return 1; }
#endif
