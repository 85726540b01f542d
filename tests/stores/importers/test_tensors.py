"""torch.save, safetensors, h5py and zarr write: the numbers come back, bad files are named."""

from __future__ import annotations

import os
import zipfile
from typing import ClassVar

import h5py
import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import save_file

from fusion.errors import InputError
from fusion.stores import GapCodec, LogitStore
from fusion.stores.importers import choose, import_folder
from fusion.stores.importers.hdf5 import Hdf5
from fusion.stores.importers.tensors import Tensors, load_tensor
from fusion.stores.importers.zarrs import Zarrs
from tests.stores.common import CLIP
from tests.stores.contract import ImporterContract

CODES = GapCodec().encode(CLIP)


class TestTorch(ImporterContract):
    importer = Tensors

    def save(self, folder, clips):
        for video, clip in clips.items():
            (folder / video).mkdir()
            for frame, array in clip.items():
                torch.save(torch.from_numpy(array), folder / video / f"{frame}.pt")
        return folder

    def damage(self, folder, video):
        path = folder / video / "f9.pt"
        path.write_bytes(path.read_bytes()[:-300])


class TestSafetensors(TestTorch):
    options: ClassVar = {"key": "seg"}

    def save(self, folder, clips):
        for video, clip in clips.items():
            (folder / video).mkdir()
            for frame, array in clip.items():
                named = {"seg": torch.from_numpy(array), "other": torch.ones(3)}
                save_file(named, folder / video / f"{frame}.safetensors")
        return folder

    def damage(self, folder, video):
        path = folder / video / "f9.safetensors"
        path.write_bytes(path.read_bytes()[:-3])


def test_tensors_of_every_float(tmp_path):
    exact = torch.from_numpy(CLIP).half()
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    for kind in kinds:
        tensor = exact.to(kind)
        torch.save(tensor, tmp_path / "v.pt")
        torch.save({"logits": tensor.requires_grad_(), "step": 3}, tmp_path / "v.pth")
        save_file({"logits": tensor.detach()}, tmp_path / "v.safetensors")
        for name in ("v.pt", "v.pth", "v.safetensors"):
            found = load_tensor(tmp_path / name, None)
            assert np.array_equal(found, tensor.detach().double().numpy())
    torch.save(torch.from_numpy(CLIP).permute(1, 0, 2, 3), tmp_path / "v.pt")
    assert import_folder(tmp_path / "v.pt", tmp_path / "s.zarr", 4, axes="CTHW") == (1, 0)
    assert np.array_equal(LogitStore(tmp_path / "s.zarr").codes("v"), CODES)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_tensor_is_refused_and_no_code_is_run(tmp_path):
    huge = torch.zeros(1).expand(1 << 20, 1 << 20)
    bad = {
        "code": Bomb(tmp_path / "boom"),
        "list": [torch.ones(3)],
        "text": "hello",
        "integers": torch.ones(4, 5, 6, dtype=torch.int64),
        "complex": torch.ones(4, 5, 6, dtype=torch.complex64),
        "sparse": torch.ones(4, 5).to_sparse(),
        "huge": huge,
        "several": {"a": torch.ones(3), "b": torch.ones(3)},
        "none": {"a": 3},
    }
    for name, content in bad.items():
        path = tmp_path / f"{name}.pt"
        torch.save(content, path)
        with pytest.raises(InputError, match=rf"{name}.pt: ") as caught:
            load_tensor(path, None)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "boom").exists()
    for content in (b"", b"hello", b"\x80\x02}q\x00."):
        for suffix in (".pt", ".safetensors"):
            (tmp_path / f"v{suffix}").write_bytes(content)
            with pytest.raises(InputError, match=f"v{suffix}: "):
                load_tensor(tmp_path / f"v{suffix}", None)
    with zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    with pytest.raises(InputError, match=r"z.pt: not a readable tensor \(claims 1048576 bytes in"):
        load_tensor(tmp_path / "z.pt", None)


class TestHdf5(ImporterContract):
    """A dataset a video."""

    importer = Hdf5
    frames: ClassVar = ("00000", "00001", "00002")

    def save(self, folder, clips):
        with h5py.File(folder / "all.h5", "w") as file:
            for video, clip in clips.items():
                array = np.stack(list(clip.values()))
                file.create_dataset(
                    video, data=array, chunks=(1, 4, 5, 6), compression="gzip", fletcher32=True
                )
        return folder

    def damage(self, folder, video):
        with h5py.File(folder / "all.h5") as file:
            at = file[video].id.get_chunk_info(2).byte_offset
        data = bytearray((folder / "all.h5").read_bytes())
        data[at + 20] ^= 0xFF
        (folder / "all.h5").write_bytes(data)

    def test_damage_is_named_and_nothing_of_the_video_is_kept(self, folder, tmp_path):
        self.damage(folder, "v2")
        with pytest.raises(InputError, match=r"all.h5: cannot be read \(.*\); restore it"):
            self.bring(folder, tmp_path / "s.zarr")
        assert LogitStore(tmp_path / "s.zarr").videos == ("a",)


class TestHdf5Files(TestHdf5):
    """A file a video, and the frames named beside it."""

    frames: ClassVar = ("f10", "f9", "f1")

    def save(self, folder, clips):
        for video, clip in clips.items():
            with h5py.File(folder / f"{video}.hdf5", "w") as file:
                file["deep/logits"] = np.stack([clip[name] for name in self.order("")])
                file["deep/frames"] = list(self.order(""))
                file["weights"] = np.ones(3)
        return folder

    def damage(self, folder, video):
        path = folder / f"{video}.hdf5"
        path.write_bytes(path.read_bytes()[:1000])

    def test_damage_is_named_and_nothing_of_the_video_is_kept(self, folder, tmp_path):
        self.damage(folder, "v2")
        with pytest.raises(InputError, match=r"v2.hdf5: cannot be read \(.*\); restore it"):
            self.bring(folder, tmp_path / "s.zarr")


def test_an_array_of_images(tmp_path):
    for n, names in enumerate((None, ["x", "y", "z"])):
        with h5py.File(tmp_path / f"{n}.h5", "w") as file:
            file["logits"] = CLIP
            if names:
                file["names"] = names
        root = zarr.open_group(tmp_path / f"{n}.zarr", mode="w", zarr_format=2)
        root.create_array("logits", data=CLIP)
        if names:
            root.create_array("names", data=np.array(names, "U8"))
        for kind in ("h5", "zarr"):
            out = tmp_path / f"out.{n}.{kind}"
            assert import_folder(tmp_path / f"{n}.{kind}", out, 4, first="videos") == (3, 0)
            store = LogitStore(out)
            assert store.videos == (tuple(names) if names else ("00000", "00001", "00002"))
            for t, video in enumerate(store.videos):
                assert np.array_equal(store.codes(video), CODES[t : t + 1])
                assert store.frames(video) == (video,)
            out = tmp_path / f"clip.{n}.{kind}"
            assert import_folder(tmp_path / f"{n}.{kind}", out, 4) == (1, 0)
            assert LogitStore(out).frames(str(n)) == tuple(names or ("00000", "00001", "00002"))


def test_what_an_hdf5_file_takes_from_elsewhere(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["logits"] = CLIP
    CLIP.tofile(tmp_path / "raw.bin")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["logits"] = h5py.ExternalLink("other.h5", "logits")
    with h5py.File(tmp_path / "external.h5", "w") as file:
        where = [(str(tmp_path / "raw.bin"), 0, CLIP.nbytes)]
        file.create_dataset("logits", CLIP.shape, "f4", external=where)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(CLIP.shape, "f4")
        layout[:] = h5py.VirtualSource("other.h5", "logits", CLIP.shape)
        file.create_virtual_dataset("logits", layout)
    with pytest.raises(InputError, match=r"link.h5: holds no floats .*, but nothing"):
        import_folder(tmp_path / "link.h5", tmp_path / "s.zarr", 4)
    for name in ("external", "virtual"):
        with pytest.raises(InputError, match=rf"{name}.h5: 'logits' reads from other files"):
            import_folder(tmp_path / f"{name}.h5", tmp_path / "s.zarr", 4)


class TestZarr(ImporterContract):
    """A group with an array a video."""

    importer = Zarrs
    frames: ClassVar = ("00000", "00001", "00002")
    how: ClassVar[dict] = {"zarr_format": 3}

    def save(self, folder, clips):
        root = zarr.open_group(folder / "all.zarr", mode="w", zarr_format=self.how["zarr_format"])
        for video, clip in clips.items():
            more = {k: v for k, v in self.how.items() if k != "zarr_format"}
            array = np.stack(list(clip.values()))
            root.create_array(video, data=array, chunks=(1, 4, 5, 6), **more)
        return folder

    def files(self, folder, video):
        return sorted(
            path
            for path in (folder / "all.zarr" / video).rglob("*")
            if path.is_file() and path.name not in ("zarr.json", ".zarray", ".zattrs")
        )

    def damage(self, folder, video):
        self.files(folder, video)[-1].write_bytes(b"hello")

    def test_damage_is_named_and_nothing_of_the_video_is_kept(self, folder, tmp_path):
        self.damage(folder, "v2")
        with pytest.raises(InputError, match=r"all.zarr.*; "):
            self.bring(folder, tmp_path / "s.zarr")
        assert LogitStore(tmp_path / "s.zarr").videos == ("a",)

    def test_a_chunk_that_is_not_there_is_no_zero(self, folder, tmp_path):
        self.files(folder, "v2")[-1].unlink()
        with pytest.raises(InputError, match=r"all.zarr, 'v2': \d of \d chunks are not there"):
            self.bring(folder, tmp_path / "s.zarr")
        assert LogitStore(tmp_path / "s.zarr").videos == ("a",)

    def test_a_link_out_of_the_array(self, folder, tmp_path):
        path = self.files(folder, "v2")[-1]
        path.rename(tmp_path / "chunk")
        path.symlink_to(tmp_path / "chunk")
        with pytest.raises(InputError, match=r"a link that leads out of its array; copy"):
            choose(folder).videos(folder)


class TestZarr2(TestZarr):
    how: ClassVar = {"zarr_format": 2}


class TestShardedZarr(TestZarr):
    how: ClassVar = {"zarr_format": 3, "shards": (3, 4, 5, 6)}


def test_a_logit_store_is_not_imported(tmp_path):
    from tests.stores.common import write

    write(tmp_path / "s.zarr", {"v": CLIP})
    with pytest.raises(InputError, match=r"s.zarr: a logit store already; use it as it is"):
        import_folder(tmp_path / "s.zarr", tmp_path / "t.zarr", 4)


def test_absurd_shapes_and_wrong_names(tmp_path):
    zarr.create_array(
        tmp_path / "a.zarr", shape=(9, 4, 1 << 20, 1 << 20), dtype="f4", chunks=(1, 4, 99, 99)
    )
    with pytest.raises(InputError, match=r"claims \[9, 4, 1048576, 1048576\] numbers"):
        import_folder(tmp_path / "a.zarr", tmp_path / "s.zarr", 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("v", (9, 4, 1 << 20, 1 << 20), "f4", chunks=(1, 4, 99, 99))
        file["small"] = np.ones(3)
    with pytest.raises(InputError, match=r"claims \[9, 4, 1048576, 1048576\] numbers"):
        import_folder(tmp_path / "a.h5", tmp_path / "s.zarr", 4)
    with pytest.raises(InputError, match=r"holds no floats .* called 'w', but small \[3\], v "):
        import_folder(tmp_path / "a.h5", tmp_path / "s.zarr", 4, key="w")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["v"], file["w"] = CLIP, CLIP
    with pytest.raises(InputError, match=r"holds 2 arrays, and first=videos is for one"):
        import_folder(tmp_path / "b.h5", tmp_path / "s.zarr", 4, first="videos")
    assert import_folder(tmp_path / "b.h5", tmp_path / "s.zarr", 4, first="videos", key="v") == (
        3,
        0,
    )
