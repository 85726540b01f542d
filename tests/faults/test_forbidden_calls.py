"""No code comes out of data: calls that would run it, or that hand a file's name to somebody else.

The library's source is walked, not run. Whoever needs such a call has it in ALLOWED, with the
reason; what is no longer there has to leave that table.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.test_imports import ROOT, sources

FORBIDDEN = {
    "reads objects that run code": """
        pickle.load pickle.loads pickle.Unpickler pickle._Unpickler pickle._load pickle._loads
        cloudpickle.load cloudpickle.loads dill.load dill.loads joblib.load marshal.load
        marshal.loads shelve.open pandas.read_pickle torch.jit.load torch.hub.load
        torch.serialization.add_safe_globals torch.package.PackageImporter
        yaml.load yaml.load_all yaml.unsafe_load yaml.full_load jsonpickle.decode""",
    "runs text": "eval exec compile __import__ code.interact runpy.run_path runpy.run_module",
    "loads code by a name": """
        importlib.import_module importlib.util.spec_from_file_location importlib.reload
        ctypes.CDLL ctypes.PyDLL ctypes.cdll.LoadLibrary numpy.ctypeslib.load_library""",
    "goes through a shell": """
        os.system os.popen subprocess.getoutput subprocess.getstatusoutput
        asyncio.create_subprocess_shell""",
    "takes a name that somebody can foresee": "tempfile.mktemp os.tempnam os.tmpnam",
    "takes numbers and depths that fusion.parsing refuses": (
        "json.load json.loads json.JSONDecoder tomllib.load tomllib.loads"
    ),
    "writes wherever an archive says": "shutil.unpack_archive tarfile.open zipfile.Path",
}
WHY = {name: why for why, names in FORBIDDEN.items() for name in names.split()}
NEEDS = {  # a call is fine with this argument
    "numpy.load": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
}
SUBPROCESSES = {f"subprocess.{name}" for name in ("Popen", "run", "call", "check_output")}

CONSTANT = "the library's own modules, by names that stand in its source"
OWN_JSON = "JSON that was made a line before"
LIBRARY = "optional libraries, by names that stand in the source"
ALLOWED = {
    ("fusion.__init__", "importlib.import_module"): CONSTANT,
    ("fusion.arguments", "importlib.import_module"): CONSTANT,
    ("fusion.arguments", "eval"): "annotations that stand in the library's source",
    ("fusion.__main__", "importlib.import_module"): CONSTANT,
    ("fusion.kernels.backends", "importlib.import_module"): CONSTANT,
    ("fusion.geometry", "importlib.import_module"): LIBRARY,
    ("fusion.stores.locations.remote", "importlib.import_module"): LIBRARY,
    ("fusion.models.registry", "importlib.import_module"): (
        "`module =` of a training configuration and --module: code of the user's own"
    ),
    ("fusion.cluster", "cloudpickle.loads"): (
        "on a worker of the user's own cluster, whose scheduler has sent a task: not a file"
    ),
    ("fusion.stores.importers.mmsegmentation", "pickle.load"): (
        "MMSegmentation's pickled results, where unsafe_pickle says that the file is trusted"
    ),
    ("fusion.stores.importers.pickles", "pickle._Unpickler"): (
        "the base of the reader that looks up no name beyond its list of plain data"
    ),
    ("fusion.parsing", "json.loads"): "the one reader of JSON",
    ("fusion.parsing", "tomllib.loads"): "the one reader of TOML",
    ("fusion.sealed", "json.loads"): OWN_JSON,
    ("fusion.tensors", "json.loads"): OWN_JSON,
    ("fusion.files", "ctypes.CDLL"): "the C library that Python runs on, for renameat2",
    ("fusion.memory", "ctypes.CDLL"): "the same, for mallopt",
    ("fusion.kernels.native.bindings", "ctypes.CDLL"): "the type alone",
    ("setup", "runpy.run_path"): "plain Python of the checkout that is being built",
    ("fusion.kernels.native.build", "ctypes.CDLL"): "a wheel's libraries, installed beside it",
    ("fusion.kernels.native.kept", "ctypes.CDLL"): "builds of this user's own, by their seal",
}


def found_in(text: str) -> Iterator[tuple[str, int, str]]:
    """Name, line and reason of every forbidden thing that a module mentions, called or not."""
    tree = ast.parse(text)
    aliases = dict(imported(tree))
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute):
            continue
        name, call = dotted(node, aliases), calls.get(id(node))
        if name in WHY:
            yield name, node.lineno, WHY[name]
        elif name in NEEDS and not says(call, *NEEDS[name]):
            yield name, node.lineno, "is called without {}={}".format(*NEEDS[name])
        elif name in SUBPROCESSES and says(call, "shell", True):
            yield name, node.lineno, "goes through a shell"
        elif says(call, "trust_remote_code", True):
            yield name, node.lineno, "runs what a server sends"
        elif name.endswith(".extractall"):
            yield name, node.lineno, "writes wherever an archive says"


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Local name -> full name, wherever in the file it is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (first, first)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, aliases)}.{node.attr}".removeprefix("builtins.")
    if not isinstance(node, ast.Name):
        return "?"
    return aliases.get(node.id, node.id)


def says(call: ast.Call | None, argument: str, value: bool) -> bool:
    """Whether a call has this argument as a literal; of no call, which names it alone, no."""
    given = [word.value for word in call.keywords if word.arg == argument] if call else []
    return any(isinstance(node, ast.Constant) and node.value is value for node in given)


@pytest.fixture(scope="module")
def everything() -> list[tuple[str, str, int, str]]:
    """Of every module of the library, what is found in it."""
    modules = {**sources(), "setup": ROOT / "setup.py"}
    found = ((module, found_in(path.read_text())) for module, path in modules.items())
    return [(module, *each) for module, some in found for each in some]


def test_nothing_in_the_library_runs_what_it_reads(everything):
    wrong = [
        f"{module}:{line}: {name} {why}"
        for module, name, line, why in everything
        if (module, name) not in ALLOWED
    ]
    assert not wrong, "\n".join(wrong)


def test_what_is_allowed_is_there(everything):
    there = {(module, name) for module, name, _, _ in everything}
    assert set(ALLOWED) - there == set()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import pickle\npickle.load(f)", "pickle.load"),
        ("from pickle import loads as read\nread(b)", "pickle.loads"),
        ("import pickle as p\nreaders = {'.pkl': p.load}", "pickle.load"),
        ("def f():\n    import cloudpickle\n    return cloudpickle.loads(b)", "cloudpickle.loads"),
        ("class A(pickle.Unpickler): pass", "pickle.Unpickler"),
        ("eval(text)", "eval"),
        ("list(map(exec, texts))", "exec"),
        ("import builtins\nbuiltins.eval(text)", "eval"),
        ("import numpy as np\nnp.load(path)", "numpy.load"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "numpy.load"),
        ("import numpy as np\nnp.load(path, allow_pickle=given)", "numpy.load"),
        ("import numpy\nlist(map(numpy.load, paths))", "numpy.load"),
        ("import torch\ntorch.load(path)", "torch.load"),
        ("import torch\ntorch.load(path, weights_only=False)", "torch.load"),
        ("from subprocess import run\nrun(words, shell=True)", "subprocess.run"),
        ("import os\nos.system(words)", "os.system"),
        ("import tempfile\ntempfile.mktemp()", "tempfile.mktemp"),
        ("import json\njson.loads(text)", "json.loads"),
        ("import json\njson.load(file)", "json.load"),
        ("import yaml\nyaml.load(text)", "yaml.load"),
        ("import zipfile\nzipfile.ZipFile(path).extractall(folder)", "?.extractall"),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", "AutoModel.from_pretrained"),
        ("from importlib import import_module\nimport_module(name)", "importlib.import_module"),
    ],
)
def test_the_walk_sees(text, name):
    assert [found for found, _, _ in found_in(text)] == [name]


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.dumps(value)",
        "network.eval()",
        "import re\nre.compile(text)",
        "import numpy as np\nnp.load(path, mmap_mode='r', allow_pickle=False)",
        "import torch\ntorch.load(path, weights_only=True)",
        "import subprocess\nsubprocess.run(words, shell=False)",
        "import yaml\nyaml.safe_load(text)",
    ],
)
def test_the_walk_passes(text):
    assert list(found_in(text)) == []
