/* Confusion counts. */

#include "kernels.h"

/* counts [C, C] += pairs (target, label); 0 if a counted pair is out of range. */
#define CONFUSION(name, type)                                                                \
    EXPORT int name(const type *targets, const type *labels, int64_t n, int64_t classes,     \
                    int64_t ignore, int64_t *counts) {                                       \
        int sound = 1;                                                                       \
        for (int64_t i = 0; i < n; i++) {                                                    \
            int64_t target = (int64_t)targets[i], label = (int64_t)labels[i];                \
            if (target == ignore) continue;                                                  \
            if ((uint64_t)target < (uint64_t)classes && (uint64_t)label < (uint64_t)classes) \
                counts[target * classes + label]++;                                          \
            else sound = 0;                                                                  \
        }                                                                                    \
        return sound;                                                                        \
    }
CONFUSION(fusion_confusion_bytes, uint8_t)
CONFUSION(fusion_confusion, int64_t)
