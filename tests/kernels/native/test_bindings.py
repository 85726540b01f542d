"""The types that Python declares are those of the C sources."""

from __future__ import annotations

import ctypes
import re

import pytest

from fusion.kernels.native import bindings, build

NAMES = {
    **{"int": ctypes.c_int, "int64_t": ctypes.c_int64, "void": None},
    "const char *": ctypes.c_char_p,
    **{"float": ctypes.c_float, "double": ctypes.c_double},
}
ARRAYS = {  # by the C type of their elements; a table of run_t is one of int64
    **{"float": bindings.F4, "double": bindings.F8, "int64_t": bindings.I8, "run_t": bindings.I8},
    **{"uint8_t": bindings.U1, "uint16_t": bindings.U2, "flip_t": bindings.FLIPS},
}
SOURCES = {path: path.read_text() for path in sorted(build.KERNELS.glob("*/*.[ch]"))}


def c_type(declaration: str) -> object:
    declaration = declaration.strip()
    if "*" in declaration or declaration.endswith("]"):
        return ctypes.c_void_p
    return NAMES[declaration.replace("const ", "").split()[0]]


def functions(text: str) -> dict[str, tuple[object, list[str]]]:
    """Every exported function: name -> result and arguments."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    kinds = r"^EXPORT (int|void|int64_t|float|const char \*) ?"
    found = re.findall(kinds + r"(\w+)\(([^)]*)\) \{", text, flags=re.M)
    return {n: (NAMES[r], [] if args == "void" else args.split(",")) for r, n, args in found}


def fits(argument: str, declared: object) -> bool:
    """An address may be declared as one, or as an array of the elements that C reads there."""
    element = argument.replace("const ", "").replace("*", " ").split()[0]
    return declared == c_type(argument) or ("*" in argument and declared is ARRAYS.get(element))


def expanded(text: str) -> str:
    """Confusion's two functions come from a macro."""
    macro = re.search(r"#define CONFUSION\(name, type\)(.*?)\n(?!.*\\\n)", text, flags=re.S)
    if macro is None:
        return text
    body = macro[1].replace("\\\n", "\n")
    uses = re.findall(r"^CONFUSION\((\w+), (\w+)\)", text, flags=re.M)
    made = [
        re.sub(r"\btype\b", kind, body.replace("int name", f"int {name}")) for name, kind in uses
    ]
    return "\n".join(re.sub(r"^\s*EXPORT", "EXPORT", part, flags=re.M) for part in made)


def test_every_function_is_declared_as_it_is_written():
    written = {}
    for text in SOURCES.values():
        written |= functions(expanded(text))
    assert written.keys() == bindings.SIGNATURES.keys()
    for name, (result, arguments) in written.items():
        returns, takes = bindings.SIGNATURES[name]
        assert returns == result, name
        assert len(takes) == len(arguments), name
        wrong = [a for a, t in zip(arguments, takes, strict=True) if not fits(a, t)]
        assert not wrong, f"{name}: {wrong}"


def test_every_function_is_exported_or_static():
    """On Windows a library shows only what is marked."""
    for path, text in SOURCES.items():
        plain = re.findall(
            r"^(?!EXPORT|static|INLINE|UNUSED|typedef)\w[\w *]* \*?\w+\(.*", text, flags=re.M
        )
        assert not plain, f"{path.name}: {plain} without EXPORT or static"


@pytest.mark.parametrize(
    ("name", "mirror"),
    [
        *(("sources", bindings.Sources), ("average", bindings.Average)),
        *(("head", bindings.Head), ("maps", bindings.Maps)),
        *(("steps", bindings.Steps), ("frame", bindings.Frame), ("strip_map", bindings.StripMap)),
    ],
)
def test_structures_have_the_fields_of_c(name, mirror):
    text = re.sub(r"/\*.*?\*/", "", "\n".join(SOURCES.values()), flags=re.S)
    body = re.search(rf"^struct {name} \{{(.*?)^\}};", text, flags=re.S | re.M)
    assert body is not None
    fields = []
    for line in filter(str.strip, body[1].split(";")):
        first, *others = line.strip().split(",")
        fields += [(re.findall(r"\w+", first)[-1], c_type(first))]
        pointer = "*" in first
        fields += [(o.strip(" *"), ctypes.c_void_p if pointer else c_type(first)) for o in others]
    assert fields == list(mirror._fields_)


def test_numbers_and_addresses_are_taken_as_they_are():
    library = build.library()
    assert library is not None
    counts = (ctypes.c_int64 * 4)()
    ids = (ctypes.c_uint8 * 3)(0, 1, 255)
    given = (ctypes.addressof(ids), ctypes.addressof(ids), 3, 2, 255, ctypes.addressof(counts))
    assert library.fusion_confusion_bytes(*given) == 1
    assert list(counts) == [1, 0, 0, 1]
    with pytest.raises(ctypes.ArgumentError):
        library.fusion_confusion_bytes(*given[:2], 3.0, *given[3:])
