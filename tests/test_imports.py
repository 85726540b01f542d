"""The architecture's arrows: rooms in one order, no circle, and what a bare import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The order of the data, of reading and of imports: a room imports those before it, and itself.
ORDER = (
    ["errors", "version", "interrupts"],
    ["arguments"],
    ["files", "text", "folds", "device", "parsing"],
    ["plain"],
    ["terminal", "memory", "progress", "sealed", "tensors", "geometry", "images", "cluster"],
    ["parallel", "overlap"],
    ["kernels"],
    ["stores"],
    ["labels", "integrations"],
    ["postprocess"],
    ["ensemble"],
    ["estimate"],
    ["metrics"],
    ["contested"],
    ["search"],
    ["outputs"],
    ["hierarchical"],
    ["report"],
    ["arrays"],
    ["cli"],
    ["demo", "predict", "evaluate", "models"],
    ["__main__", "__init__"],
)
# they live in their rooms
COMMANDS = {
    "fusion.search.__main__": "__main__",
    "fusion.stores.__main__": "demo",
    "fusion.report.__main__": "demo",
}


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    if parts[0] != "fusion":  # kernels and models are linked into fusion
        parts = ("fusion", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def sources() -> dict[str, Path]:
    files = [f for room in ("fusion", "kernels", "models") for f in (ROOT / room).rglob("*.py")]
    linked = (ROOT / "fusion" / "kernels", ROOT / "fusion" / "models")
    plain = [f for f in files if not any(f.is_relative_to(link) for link in linked)]
    return {module_name(f): f for f in plain}


def imported(text: str, module: str, package: bool) -> set[str]:
    """Absolute names of all that a file imports, also in functions and for type checking."""
    found: set[str] = set()
    here = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            whole = ".".join([*base, *([node.module] if node.module else [])])
            names = {f"{whole}.{alias.name}" for alias in node.names}
            found |= names | ({whole} - {"fusion"})
    return {name for name in found if name.split(".")[0] in ("fusion", "kernels", "models")}


def graph() -> dict[str, set[str]]:
    """Module -> the modules of the library that it imports."""
    known = sources()
    edges = {}
    for module, path in known.items():
        names = imported(path.read_text(), module, path.name == "__init__.py")
        edges[module] = {name for name in names if name in known and name != module}
        # the package itself, or a name of it
        if any(name.count(".") < 2 and name not in known for name in names):
            edges[module].add("fusion.__init__")
    return edges


def level(module: str) -> int:
    room = COMMANDS.get(module, module.split(".")[1])
    found = [k for k, rooms in enumerate(ORDER) if room in rooms]
    assert found, f"{module} has no place in ORDER; give its room one"
    return found[0]


def test_rooms_import_only_what_comes_before():
    wrong = [
        f"{module} -> {other}"
        for module, others in graph().items()
        for other in others
        if module.split(".")[1] != other.split(".")[1] and level(other) >= level(module)
    ]
    assert not wrong, "arrows that point back:\n" + "\n".join(sorted(wrong))


def test_no_circle():
    edges = {
        module: {o for o in others if not module.startswith(f"{o}.")}
        for module, others in graph().items()
    }
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_is_imported_by_a_bare_name():
    for module, path in sources().items():
        names = imported(path.read_text(), module, path.name == "__init__.py")
        assert all(name.split(".")[0] == "fusion" for name in names), f"{module} imports {names}"


def test_no_module_shadows_a_library_that_it_uses():
    for module, path in sources().items():
        if module.split(".")[1] == "kernels" and path.stem == "triton":
            continue  # kernels/<operation>/triton.py: the name says which backend it is
        text = path.read_text()
        libraries = {
            node.names[0].name.split(".")[0]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import)
        }
        assert path.stem not in libraries, f"{module} has the name of a library that it imports"


def test_the_walk_sees_relative_and_hidden_imports():
    text = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from ..labels import Labels\n"
        "def f():\n    from fusion.search import search\n    from . import sibling\n"
        "    import models.train\n"
    )
    found = imported(text, "fusion.stores.reader", package=False)
    hidden = {"fusion.labels.Labels", "fusion.search", "fusion.stores.sibling", "models.train"}
    assert hidden <= found


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import fusion", "torch zarr dask optuna triton matplotlib transformers PIL"),
        ("import fusion.kernels", "torch triton"),
        ("from fusion import LogitStore, LogitWriter", "torch zarr dask optuna triton"),
        (
            "from fusion import HierarchicalEnsemble",
            "dask optuna triton matplotlib transformers torch._dynamo torch._inductor",
        ),
        ("from fusion import cache_predictions", "zarr dask optuna triton transformers lightning"),
        ("import fusion.search", "optuna triton matplotlib transformers"),
        ("from fusion import fuse, search_weights", "optuna triton matplotlib transformers pandas"),
        ("from fusion import MemoryStore", "torch zarr dask optuna triton"),
    ],
)
def test_imports_stay_light(statement, heavy):
    code = f"{statement}\nimport sys\nprint([m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.strip() == "[]"


def test_kernels_carries_no_version():
    """Transformers probes a package `kernels` by its __version__, and may find ours."""
    import fusion.kernels

    assert not hasattr(fusion.kernels, "__version__")
