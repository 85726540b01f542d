/* What differs between compilers and systems. The loops are written in GNU C11, whose vectors they
 * use: gcc, clang, or on Windows clang and clang-cl. */
#pragma once

#include <stdlib.h>

#if !defined(__GNUC__) && !defined(__clang__)
#error "the kernels need GNU C: gcc, clang, or on Windows clang"
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNUSED __attribute__((unused)) /* a function of a header that not every file calls */

#ifdef _WIN32
#include <malloc.h>
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum { CACHE_LINE = 64 }; /* bytes; the widest vectors are as long */

/* Memory that begins with a line of the cache, or NULL. */
UNUSED static void *allocate_aligned(size_t bytes) {
    size_t whole = (bytes + 2 * CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
#ifdef _WIN32
    return _aligned_malloc(whole, CACHE_LINE);
#else
    return aligned_alloc(CACHE_LINE, whole);
#endif
}

UNUSED static void free_aligned(void *memory) {
#ifdef _WIN32
    _aligned_free(memory);
#else
    free(memory);
#endif
}
