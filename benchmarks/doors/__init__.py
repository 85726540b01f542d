"""Doors: what people have, and the lines that bring it in. Each makes its own data.

    python -m benchmarks.doors                    all of them, with their lines counted
    python -m benchmarks.doors binary             200 images of different sizes, masks of 0 and 255
    python -m benchmarks.doors volumes            three nnU-Net configurations, 3D cases
    python -m benchmarks.doors rasters            remote sensing tiles, colour-coded labels
    python -m benchmarks.doors cityscapes         Cityscapes' names and ids
    python -m benchmarks.doors huggingface        a SegFormer into a store and out as pseudo-labels
    python -m benchmarks.doors arrays             arrays in memory (camvid22 where it is there)

A door is a module with `make(root)`, which writes what such a user has, and `use(root)`, the lines
that this user writes; `use` returns what a test can look at.
"""
