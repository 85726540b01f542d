"""Small files that claim or unpack to gigabytes: by name, where they stand in a parser's sample.

python -m tests.faults.bombs        every one, in this process under a limit: a line of JSON each
"""

from __future__ import annotations

import functools
import gzip
import json
import resource
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.faults.fuzz import attempt, laid, sample
from tests.faults.parsers import PARSERS

LIMIT = 128 << 20  # bytes beyond what the libraries take
HUGE = 6 << 30
ZEROS = bytes(1 << 20)
Place = Callable[[Path], object]
BOMBS: dict[str, tuple[str, Place]] = {}


def bomb(name: str, parser: str) -> Callable[[Place], Place]:
    """Names a function that puts a bomb into the sample of a row, given what is opened."""

    def add(place: Place) -> Place:
        BOMBS[name] = parser, place
        return place

    return add


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, packed: bytes, *more: bytes, bits: int = 8) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    chunks = (*more, chunk(b"IDAT", packed), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks)


@functools.cache
def deflated(megabytes: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join([*(packer.compress(ZEROS) for _ in range(megabytes)), packer.flush()])


def npy(header: str) -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def claims(shape: str, dtype: str = "<f4") -> bytes:
    return npy(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n")


ROWS = zlib.compress(bytes(6 * 10))  # of 9 x 6 pixels


@bomb("png: 60000 x 60000 pixels", "layout flat")
def _(folder: Path) -> None:
    (folder / "a.png").write_bytes(png(60_000, 60_000, deflated(1)))


@bomb("png: rows unpack to 300 MB", "layout flat")
def _(folder: Path) -> None:
    (folder / "a.png").write_bytes(png(9, 6, deflated(300)))


@bomb("png: text unpacks to 300 MB", "layout flat")
def _(folder: Path) -> None:
    text = chunk(b"iTXt", b"note\0\1\0\0\0" + deflated(300))
    (folder / "a.png").write_bytes(png(9, 6, ROWS, text))


@bomb("png: a profile unpacks to 300 MB", "importer images")
def _(folder: Path) -> None:
    profile = chunk(b"iCCP", b"icc\0\0" + deflated(300))
    for c in range(3):
        place = folder / "clip" / "f0" / f"{c}.png"
        place.write_bytes(png(9, 6, ROWS, profile))


@bomb("png: 200,000 chunks", "layout flat")
def _(folder: Path) -> None:
    many = chunk(b"tEXt", b"a\0b") * 200_000
    (folder / "a.png").write_bytes(png(9, 6, ROWS, many))


@bomb("png: a gif, a tiff in its place", "layout flat")
def _(folder: Path) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((6, 9), np.uint8)).save(folder / "a.png", format="GIF")
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(folder / "b.png", format="TIFF")


@bomb("jpeg: 60000 x 60000 pixels", "pictures")
def _(folder: Path) -> None:
    raw = (folder / "u" / "jpg.jpg").read_bytes()
    at = raw.index(b"\xff\xc0") + 5
    (folder / "u" / "jpg.jpg").write_bytes(raw[:at] + b"\xea\x60\xea\x60" + raw[at + 4 :])


for shape in ("(99999999999,)", "(3, 40000, 40000)", "(9223372036854775807, 9)", "(3, -4, 5)"):

    def _claim(folder: Path, shape: str = shape) -> None:
        (folder / "a.npy").write_bytes(claims(shape) + bytes(240))

    bomb(f"npy: {shape}", "importer arrays")(_claim)
    bomb(f"labels npy: {shape}", "label arrays")(_claim)


@bomb("npy: a header of 60,000 brackets", "label arrays")
def _(folder: Path) -> None:
    (folder / "a.npy").write_bytes(npy("(" * 60_000))


@bomb("npy: objects", "label arrays")
def _(folder: Path) -> None:
    (folder / "a.npy").write_bytes(claims("(2,)", "|O") + b"cos\nsystem\n(S'false'\ntR.")


def zipped(path: Path, *members: tuple[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, body in members:
            archive.writestr(name, body)


@bomb("npz: a member that lies about its size", "importer arrays")
def _(folder: Path) -> None:
    zipped(folder / "b.npz", ("probabilities.npy", claims("(78643200,)") + ZEROS * 300))
    raw = (folder / "b.npz").read_bytes()
    size = struct.pack("<I", (300 << 20) + len(claims("(78643200,)")))
    (folder / "b.npz").write_bytes(raw.replace(size, struct.pack("<I", 300)))


@bomb("npz: 20,000 members, of one name", "importer arrays")
def _(folder: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of equal names
        zipped(folder / "b.npz", *[("a.npy", b"")] * 20_000)


@bomb("npz: paths out of it", "importer arrays")
def _(folder: Path) -> None:
    zipped(folder / "b.npz", ("../../x.npy", claims("(1,)") + bytes(4)), ("/x.npy", b""))


@bomb("pt: a tensor of 6 GB", "importer tensors")
def _(folder: Path) -> None:
    import torch

    storage = torch.zeros(1).expand(1 << 30)
    torch.save({"a": storage}, folder / "a.pt")


@bomb("safetensors: a header of 6 GB", "checkpoint w.safetensors")
def _(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(struct.pack("<Q", HUGE) + raw[8:])


def nifti(path: Path, *shape: int) -> None:
    packed = path.name.endswith(".gz")
    raw = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    raw[40:56] = struct.pack("<8h", len(shape), *shape, *(1,) * (7 - len(shape)))
    path.write_bytes(gzip.compress(bytes(raw)) if packed else bytes(raw))


@bomb("nifti: 32767 cubed", "importer nifti")
def _(folder: Path) -> None:
    nifti(folder / "a.nii", 32767, 32767, 32767, 3)


@bomb("nifti: 20000 x 20000 x 1000", "layout nifti")
def _(folder: Path) -> None:
    nifti(folder / "b.nii", 20_000, 20_000, 1000)


@bomb("nifti.gz: 100 MB behind its numbers", "layout nifti")
def _(folder: Path) -> None:
    raw = gzip.decompress((folder / "a.nii.gz").read_bytes())
    with gzip.open(folder / "a.nii.gz", "wb", 1) as file:
        file.write(raw)
        for _ in range(100):
            file.write(ZEROS)


@bomb("geotiff: 100000 x 100000", "layout geotiff")
def _(folder: Path) -> None:
    import rasterio

    how = {"driver": "GTiff", "width": 9_000, "height": 9_000, "count": 40, "dtype": "uint16"}
    with rasterio.open(folder / "a.tif", "w", sparse_ok=True, tiled=True, **how):
        pass


@bomb("hdf5: a dataset of 6 GB that was never written", "importer hdf5")
def _(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("maps", (1, 3, 20_000, 30_000), "f4", chunks=(1, 1, 100, 100))


def zarr_json(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "v3.zarr" / "a" / "zarr.json"
    path = path if path.exists() else folder / "a" / "zarr.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@bomb("zarr: an absurd shape", "importer zarr")
def _(folder: Path) -> None:
    zarr_json(folder, lambda d: d.update(shape=[2, 3, 1 << 40, 1 << 40]))


@bomb("zarr: an absurd chunk", "importer zarr")
def _(folder: Path) -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [1, 3, 1 << 20, 1 << 20]}}
    zarr_json(folder, lambda d: d.update(chunk_grid=grid))


@bomb("zarr labels: an absurd chunk", "layout zarr")
def _(folder: Path) -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [1, 1 << 17, 1 << 17]}}
    zarr_json(folder, lambda d: d.update(chunk_grid=grid))


def zstd_zeros(megabytes: int) -> bytes:
    """A zstd frame of so many MB: blocks of 128 KB of one byte. Source: RFC 8878, 3.1.1."""
    size = megabytes << 20
    head = b"\x28\xb5\x2f\xfd" + bytes([3 << 6 | 1 << 5]) + struct.pack("<Q", size)
    whole = size >> 17
    blocks = ((1 << 17) << 3 | 1 << 1 | (k == whole - 1) for k in range(whole))
    return head + b"".join(struct.pack("<I", block)[:3] + b"\0" for block in blocks)


@bomb("zarr: a chunk unpacks to 1 GB", "importer zarr")
def _(folder: Path) -> None:
    for path in (folder / "v3.zarr" / "a" / "c").rglob("*"):
        if path.is_file():
            path.write_bytes(zstd_zeros(1024))


@bomb("zarr labels: a chunk unpacks to 1 GB", "layout zarr")
def _(folder: Path) -> None:
    for path in (folder / "a" / "c").rglob("*"):
        if path.is_file():
            path.write_bytes(zstd_zeros(1024))


@bomb("store: a chunk unpacks to 1 GB", "store")
def _(folder: Path) -> None:
    import google_crc32c

    for path in [p for p in folder.rglob("*") if p.is_file() and p.suffix == ""]:
        packed = zstd_zeros(1024)
        frames = 2 if "/a-" in str(path) else 1
        index = struct.pack("<2Q", 0, len(packed)) * frames
        path.write_bytes(packed + index + struct.pack("<I", google_crc32c.value(index)))


@bomb("store: an absurd shape, vouched for", "store")
def _(folder: Path) -> None:
    for name in ("zarr.json", "commit.json"):
        for path in folder.glob(f"*/{name}"):
            text = path.read_text().replace("3,\n   4,\n   5", "3,\n   400000,\n   500000")
            path.write_text(text.replace("3,\n  4,\n  5", "3,\n  400000,\n  500000"))
    assert PARSERS["store"].mend is not None
    PARSERS["store"].mend(folder)


for name, parser, file in (
    ("store", "store", "zarr.json"),
    ("ensemble", "ensemble a.json", ""),
    ("class map", "class map classes", ""),
    ("classes", "classes", ""),
    ("results", "results", "search.json"),
    ("operations", "postprocessing", ""),
    ("frame ids", "frame ids", ""),
    ("coco", "layout coco", ""),
    ("dataset.json", "layout nnunet", "dataset.json"),
    ("checkpoint's document", "checkpoint w.pt", "pt"),
):
    for what, text in (
        ("100,000 brackets", "[" * 100_000),
        ("500 levels", '{"a":' * 500 + "1" + "}" * 500),
        ("10^6 digits", f'{{"a": {"9" * 1_000_000}}}'),
        ("1e999999", '{"version": 1e999999, "format": "segfusion.ensemble"}'),
    ):

        def _deep(path: Path, file: str = file, text: str = text) -> None:
            if file != "pt":
                return (path / file if file else path).write_text(text) and None
            import torch

            torch.save({"tensors": {}, "document": text}, path)

        bomb(f"{name}: {what}", parser)(_deep)

for what, text in (
    ("10,000 brackets", "a = " + "[" * 10_000),
    ("500 levels", "a = " + "[" * 500 + "]" * 500),
    ("500 inline tables", "a = " + "{b = " * 500 + "1" + "}" * 500),
    ("a key of 5,000 parts", ".".join("a" * 5000) + " = 1"),
    ("10^6 digits", "a = " + "9" * 1_000_000),
):

    def _toml(path: Path, text: str = text) -> None:
        path.write_text(text)

    bomb(f"toml: {what}", "training")(_toml)
    bomb(f"ensemble toml: {what}", "ensemble e.toml")(_toml)


@bomb("pickle: a bytearray of 6 GB", "pickles")
def _(folder: Path) -> None:
    (folder / "2.pkl").write_bytes(b"\x80\x05\x96" + struct.pack("<Q", HUGE) + b".")


@bomb("pickle: bytes(6 GB)", "pickles")
def _(folder: Path) -> None:
    number = b"\x8a\x05" + HUGE.to_bytes(5, "little")
    (folder / "2.pkl").write_bytes(b"\x80\x02c_codecs\nencode\n" + number + b"\x85R.")


@bomb("pickle: 100,000 lists inside each other", "importer nnunet")
def _(folder: Path) -> None:
    nested = b"]" * 100_000 + b"a" * 99_999
    head = b"\x80\x02}X\x15\x00\x00\x00shape_before_croppingX"
    (folder / "a.pkl").write_bytes(head[:-1] + nested + b"s.")


@bomb("csv: a field of 10 MB", "layout csv")
def _(path: Path) -> None:
    path.write_text("mask,unit\n" + "a" * (10 << 20) + ".png,a\n")


def main() -> int:
    samples = {parser: sample(PARSERS[parser]) for parser, _ in BOMBS.values()}
    for opened, files in samples.values():  # libraries are loaded before the limit is set
        assert files, opened
    for parser in samples:
        with tempfile.TemporaryDirectory() as place:
            laid(samples[parser][1], Path(place))
            assert attempt(PARSERS[parser], Path(place) / samples[parser][0])[0] == "read", parser
    for name, (parser, put) in BOMBS.items():
        opened, files = samples[parser]
        place = Path(tempfile.mkdtemp())
        laid(files, place)
        put(place / opened)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT, hard))
        outcome, what = attempt(PARSERS[parser], place / opened)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        print(json.dumps({"name": name, "outcome": outcome, "what": str(what)[-600:]}), flush=True)
        shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
