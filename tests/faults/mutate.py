"""Other bytes than a file's: anything anywhere, or where its format has a word.

    mutated(content, name, draw)    a file's bytes with a few edits, as its format is edited

What is checked or packed is unpacked, edited and packed again, so that the edits reach what lies
behind checksums: PNG chunks, zip members, gzip. `draw` decides everything: equal ones, equal bytes.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
WIDE = (*NUMBERS, -1, -(2**31), 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30)
FLOATS = (-0.0, 0.5, 1e-45, 1e-300, 1e38, 1e308, float("inf"), float("nan"))
WORDS = ("", "a", "../x", "/abs", "..", ".", "\0", "\n", "\x1b[2J", "\u202e", "\ud800", "x" * 300)
WORDS = (*WORDS, "sky", "NaN", "1e999", "=1+1", "<b>", "CON", "e\u0301", "%s%n{0}", "logits", "|O8")
LITERALS = ("true", "1e400", "nan", "[]", "{}", "1979-05-27", '"x"', "[[1]]", "0x" + "f" * 30, "-1")
LITERALS = (*LITERALS, "''", "[" * 200 + "]" * 200, "9" * 5000, "{a.b.c=1}", "inf", "00:00:00")
TOKEN = re.compile(rb'"[^"\n]*"|[0-9][0-9.eE+-]*|\[|\]|\{|\}|=|,|[A-Za-z_]+|\n')
Draw = random.Random


def mutated(content: bytes, name: str, draw: Draw) -> bytes:
    """The bytes of a file of this name after one to three edits; now and then none of its form."""
    edits = [KINDS[end] for end in KINDS if name.endswith(end)]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        edit = draw.choice((*edits[:1] * 3, plain))
        with contextlib.suppress(Exception):  # what was mutated already is of its format no more
            content = edit(content, draw)
    return content


def plain(content: bytes, draw: Draw) -> bytes:
    """A byte, a number, a run of bytes: changed, copied, lost or put in."""
    at, raw = draw.randrange(len(content) + 1), bytearray(content)
    upto = min(len(raw), at + draw.choice((1, 2, 4, 8, 64, 4096)))
    kind = draw.randrange(8)
    if kind == 0 and raw:
        raw[at % len(raw)] ^= 1 << draw.randrange(8)
    elif kind == 1 and raw:
        raw[at % len(raw)] = draw.choice((0, 1, 0x2E, 0x7F, 0x80, 0xFF, draw.randrange(256)))
    elif kind == 2:
        width, order = draw.choice((1, 2, 4, 8)), draw.choice(("little", "big"))
        number = draw.choice(NUMBERS) % (1 << 8 * width)
        raw[at : at + width] = number.to_bytes(width, order)
    elif kind == 3:
        del raw[at:upto]
    elif kind == 4:
        raw[at:at] = raw[at:upto] * draw.choice((1, 2, 50))
    elif kind == 5:
        other = draw.randrange(len(raw) + 1)
        raw[at:upto] = raw[other : other + upto - at]
    elif kind == 6:
        del raw[at:]
    else:
        raw[at:at] = draw.randbytes(draw.choice((1, 4, 16, 256)))
    return bytes(raw)


def value(draw: Draw, depth: int = 0) -> Any:
    """Anything that JSON can hold."""
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: draw.choice(WIDE),
        lambda: draw.choice(FLOATS),
        lambda: draw.choice(WORDS),
        lambda: draw.choice((None, True, False)),
        lambda: [value(draw, depth + 1) for _ in range(draw.randrange(4))],
        lambda: {draw.choice(WORDS): value(draw, depth + 1) for _ in range(draw.randrange(3))},
    )
    return draw.choice(kinds[: 4 if depth > 2 else 6])()


def edit_json(content: bytes, draw: Draw) -> bytes:
    """A value somewhere inside replaced, dropped, doubled, renamed or wrapped."""
    if draw.random() < 0.1:
        return tokens(content, draw)
    document = json.loads(content)
    places: list[tuple[Any, Any]] = []
    pending = [document]
    while pending:
        each = pending.pop()
        keys = list(each) if isinstance(each, dict) else list(range(len(each)))
        places += [(each, key) for key in keys]
        pending += [each[key] for key in keys if isinstance(each[key], (dict, list))]
    if not places or draw.random() < 0.03:
        return json.dumps(value(draw)).encode()
    where, key = draw.choice(places)
    kind = draw.randrange(7)
    if kind <= 2:
        where[key] = value(draw)
    elif kind == 3:
        del where[key]
    elif kind == 4 and isinstance(where, dict):
        where[draw.choice(WORDS)] = where.pop(key)
    elif kind == 5:
        where[key] = [where[key]] * draw.choice((1, 2, 100))
    else:
        one, two = draw.choice(places), draw.choice(places)
        with contextlib.suppress(KeyError, IndexError):
            one[0][one[1]] = json.loads(json.dumps(two[0][two[1]]))
    return json.dumps(document, indent=1).encode()


def tokens(content: bytes, draw: Draw) -> bytes:
    """A word, number, name or bracket of a text replaced, dropped or doubled."""
    found = list(TOKEN.finditer(content))
    if not found:
        return plain(content, draw)
    one = draw.choice(found)
    kind = draw.randrange(4)
    if kind == 0:
        new = draw.choice(LITERALS).encode()
    elif kind == 1:
        new = draw.choice(found).group()
    else:
        new = b"" if kind == 2 else one.group() * 2
    return content[: one.start()] + new + content[one.end() :]


def edit_png(content: bytes, draw: Draw) -> bytes:
    """A chunk edited, dropped, doubled or moved; pixels edited; checksums right again."""
    chunks, at = [], 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        chunks.append([kind, body])
        at += 12 + length
    one = draw.randrange(len(chunks))
    act = draw.randrange(6)
    if act == 0:
        del chunks[one]
    elif act == 1:
        chunks.insert(draw.randrange(len(chunks)), list(chunks[one]))
    elif act == 2:
        packed = [chunk for chunk in chunks if chunk[0] == b"IDAT"]
        packed[0][1] = zlib.compress(plain(zlib.decompress(b"".join(c[1] for c in packed)), draw))
    elif act == 3:
        kinds = (b"IDAT", b"PLTE", b"tRNS", b"iTXt", b"zTXt", b"acTL", b"fcTL", b"eXIf", b"iCCP")
        chunks[one][0] = draw.choice((*kinds, draw.randbytes(4)))
    elif act == 4:
        chunks[0][1] = plain(chunks[0][1], draw)[:13].ljust(13, b"\0")
    else:
        chunks[one][1] = plain(chunks[one][1], draw)
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return content[:8] + b"".join(parts)


def edit_zip(content: bytes, draw: Draw) -> bytes:
    """A member edited by what it is, renamed, dropped or doubled."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(item, archive.read(item)) for item in archive.infolist()]
    one, act = draw.randrange(len(members)), draw.randrange(6)
    item, body = members[one]
    if act == 0:
        del members[one]
    elif act == 1:
        item.filename = draw.choice(("../x.npy", "/abs.npy", "a.npy", "x" * 300, "", "data.pkl"))
    elif act == 2:
        item.compress_type = draw.choice((0, 8, 12, 14))
    else:
        members[one] = item, mutated(body, item.filename, draw)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for item, body in members:
            archive.writestr(item.filename, body, item.compress_type)
    return out.getvalue()


def edit_gzip(content: bytes, draw: Draw) -> bytes:
    return gzip.compress(edit_nifti(gzip.decompress(content), draw), mtime=0)


def edit_nifti(content: bytes, draw: Draw) -> bytes:
    """The header, which is the first 352 bytes."""
    return plain(content[:352], draw) + content[352:]


def edit_npy(content: bytes, draw: Draw) -> bytes:
    """The header, a Python literal, with its length right again."""
    start, end = 10, content.index(b"\n") + 1
    shapes = (
        "(99999999999,)",
        "()",
        "(-1, 3)",
        "(0,)",
        "(2, 3, 4, 5, 6)",
        "[3]",
        "(3.5,)",
        "((",
        "1",
    )
    types = (
        "'|O'",
        "'<f2'",
        "'<c16'",
        "'<U9'",
        "'>f8'",
        "[('a', '<f4')]",
        "'<m8[s]'",
        "'V8'",
        "'!'",
    )
    head = content[start:end].decode("latin-1")
    act = draw.randrange(4)
    if act == 0:
        head = re.sub(r"\([^)]*\)", lambda _: draw.choice(shapes), head, count=1)
    elif act == 1:
        head = re.sub(r"'[<>|=][^']*'", lambda _: draw.choice(types), head, count=1)
    elif act == 2:
        head = draw.choice(
            ("(" * 500, "{'a':" * 300, "9" * 5000, "-" * 3000 + "1", "{}", "__import__")
        )
    else:
        head = tokens(head.encode("latin-1"), draw).decode("latin-1")
    packed = head.encode("latin-1")[:60000]
    return content[:8] + struct.pack("<H", len(packed)) + packed + content[end:]


def edit_safetensors(content: bytes, draw: Draw) -> bytes:
    """The JSON in front, with its length right again; ours inside it too."""
    (length,) = struct.unpack("<Q", content[:8])
    head, rest = content[8 : 8 + length], content[8 + length :]
    known = json.loads(head)
    if draw.random() < 0.5 and "__metadata__" in known:
        inner = known["__metadata__"]["segfusion"].encode()
        known["__metadata__"]["segfusion"] = edit_json(inner, draw).decode()
        head = json.dumps(known).encode()
    else:
        head = edit_json(head, draw)
    return struct.pack("<Q", len(head)) + head + rest


KINDS: dict[str, Callable[[bytes, Draw], bytes]] = {
    ".json": edit_json,
    ".zarray": edit_json,
    ".zgroup": edit_json,
    ".zattrs": edit_json,
    ".toml": tokens,
    ".txt": tokens,
    ".csv": tokens,
    ".png": edit_png,
    ".npz": edit_zip,
    ".pt": edit_zip,
    ".nii.gz": edit_gzip,
    ".nii": edit_nifti,
    ".npy": edit_npy,
    ".safetensors": edit_safetensors,
}
