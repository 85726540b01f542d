"""The arrows of the architecture, and what a bare import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Reading order: a module may import from its own row's list only (and from inside its own package).
MAY_IMPORT = {
    "fusion/errors.py": set(),
    "fusion/cli.py": {"errors"},
    "fusion/plan.py": {"errors"},
    "fusion/png.py": {"errors"},
    "fusion/stores": {"errors"},
    "fusion/stores/__main__.py": {"errors", "cli", "labels"},
    "fusion/labels.py": {"errors", "png"},
    "fusion/metrics": {"errors"},
    "fusion/config.py": {"errors", "stores"},
    "fusion/ensemble.py": {"errors", "stores", "plan", "kernels", "metrics", "config", "labels", "search"},
    "fusion/contested.py": {"errors", "kernels", "metrics"},
    "fusion/contested_cache.py": {"errors", "stores", "kernels", "contested"},
    "fusion/search": {"__init__", "errors", "cli", "contested", "contested_cache", "stores", "metrics", "kernels", "config"}
    | {"ensemble", "labels"},
    "fusion/search/__main__.py": {"errors", "cli", "metrics", "ensemble", "labels", "config", "evaluate"},
    "fusion/search/inputs.py": {"errors", "cli", "metrics", "ensemble", "labels", "demo", "stores"},
    "fusion/demo.py": {"errors", "stores", "labels"},
    "fusion/predict.py": {"errors", "cli", "ensemble", "labels"},
    "fusion/evaluate.py": {"errors", "cli", "ensemble", "labels", "metrics", "kernels", "stores"},
    "fusion/__init__.py": {"kernels", "ensemble", "errors", "labels", "metrics", "search", "stores"},
    "kernels": set(),
    "models": {"errors", "stores", "labels", "cli"},
}


def rule(path: Path) -> tuple[str, set[str]]:
    """The most specific row of the table for a file."""
    name = path.relative_to(ROOT).as_posix()
    fits = [key for key in MAY_IMPORT if name == key or name.startswith(key + "/")]
    assert fits, f"{name} has no row in MAY_IMPORT; give it a place in the architecture"
    key = max(fits, key=len)
    return key, MAY_IMPORT[key]


def imported(path: Path) -> set[str]:
    """Absolute names of the fusion modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"fusion.{a.name}" for a in node.names} if node.module == "fusion" else {node.module}
    return {name for name in found if name.split(".")[0] in ("fusion", "kernels", "models")}


def sources() -> list[Path]:
    files = [*(ROOT / "fusion").glob("*.py"), *(ROOT / "kernels").glob("*.py"), *(ROOT / "models").glob("*.py")]
    return files + [f for part in ("stores", "metrics", "search") for f in (ROOT / "fusion" / part).glob("*.py")]


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_arrows_point_one_way(path):
    key, allowed = rule(path)
    package = path.relative_to(ROOT).parts[1] if path.parts[-2] in ("stores", "metrics", "search") else path.stem
    for name in imported(path):
        assert name.split(".")[0] == "fusion", f"{path.name} imports the bare name {name}"
        part = name.split(".")[1] if "." in name else "__init__"
        assert part in allowed | {package}, f"{path.name} imports {name}; the row {key!r} of MAY_IMPORT does not allow it"


def test_the_walk_sees_imports_inside_functions(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from fusion.search import search\n    from fusion import kernels\n    import models.train\n")
    assert imported(file) == {"fusion.search", "fusion.kernels", "models.train"}


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import fusion", "torch zarr dask optuna triton matplotlib transformers PIL"),
        ("import fusion.kernels", "torch triton"),
        ("from fusion import LogitStore, LogitWriter", "torch zarr dask optuna triton"),
        ("from fusion import HierarchicalEnsemble", "dask optuna triton matplotlib transformers torch._dynamo torch._inductor"),
        ("import fusion.search", "optuna triton matplotlib transformers"),
    ],
)
def test_imports_stay_light(statement, heavy):
    code = f"{statement}\nimport sys\nprint([m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


def test_kernels_carries_no_version():
    """Hugging Face transformers probes a package named `kernels` by its __version__; from a checkout ours is importable."""
    import fusion.kernels

    assert not hasattr(fusion.kernels, "__version__")
