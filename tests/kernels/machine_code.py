"""What a compiled kernel executes: counts of its machine code, by cuobjdump of triton's wheel."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import triton

LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);")
CONVERSIONS = ("I2F", "F2F", "F2I", "I2FP")


def streaming_loop(cubin: bytes) -> Counter[str]:
    """Instructions of one turn of the longest innermost loop, by mnemonic without suffix."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-sass", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [(int(address, 16), name, rest) for address, name, rest in LINE.findall(text)]
    loops = []
    for address, name, rest in lines:
        target = re.search(r"0x([0-9a-f]+)", rest)
        if name.startswith("BRA") and target and int(target.group(1), 16) < address:
            loops.append((int(target.group(1), 16), address))
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    first, last = max(inner, key=lambda loop: loop[1] - loop[0])
    return Counter(name.split(".")[0] for at, name, _ in lines if first <= at <= last)
