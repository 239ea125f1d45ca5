"""3D Shapes and MPI3D: read from files of the official form, with smaller grids; refused by name where they are not."""

import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from data import (
    DataError,
    _cache,
    _mpi3d,
    mpi3d_real,
    mpi3d_real_complex,
    mpi3d_realistic,
    mpi3d_toy,
    shapes3d,
)
from data._cache import cached
from data._dataset import Images, factor_grid

REPOSITORY = Path(__file__).parents[1]
CHUNK = (1200, 4, 4, 1)  # flat and deep, as h5py chooses them for the official file: (15000, 4, 4, 1)


def md5_of(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def pixels(n, seed=0):
    """(n, 64, 64, 3) images that all differ, mostly dark so that they compress fast."""
    images = np.zeros((n, 64, 64, 3), np.uint8)
    images[:, 20:24, 5:9] = np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), np.uint8)
    return images


def expected(images, rows):
    return torch.from_numpy(images[rows].transpose(0, 3, 1, 2).copy()).float().div_(255)


def left(root):
    """What lies in the folder beside locks."""
    return sorted(path.name for path in root.iterdir() if path.suffix != ".lock")


# 3D Shapes

SIZES = (2, 2, 3, 4, 4, 10)  # 1,920 rows: two blocks
LEVELS = [np.arange(2) / 10, np.arange(2) / 10, np.arange(3) / 10, np.linspace(0.75, 1.25, 4), np.arange(4.0),
          np.linspace(-30, 30, 10)]  # fmt: skip


def shapes_arrays():
    labels = np.stack([levels[column] for levels, column in zip(LEVELS, factor_grid(SIZES).T, strict=True)], axis=1)
    return {"images": pixels(len(labels)), "labels": labels}


def write_shapes(root, arrays):
    path = root / shapes3d.ARCHIVE
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            chunks = CHUNK if array.shape[1:] == (64, 64, 3) else True
            stored = file.create_dataset(key, array.shape, array.dtype, chunks=chunks, compression="gzip")
            for place in stored.iter_chunks():
                stored[place] = array[place]
    return path


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A sound file of the official form, its arrays and its md5 sum."""
    arrays = shapes_arrays()
    path = write_shapes(tmp_path_factory.mktemp("shapes"), arrays)
    return path, arrays, md5_of(path)


def test_3d_shapes_are_what_the_file_holds(shapes, tmp_path, caplog):
    path, arrays, md5 = shapes
    shutil.copy(path, tmp_path)
    caplog.set_level(logging.INFO)
    data = shapes3d.read(tmp_path, SIZES, md5)
    assert data.shape == (3, 64, 64) and data.images.shape == (1920, 3, 64, 64)
    assert isinstance(data.images, np.memmap) and not data.images.flags.writeable
    rows = np.random.default_rng(1).permutation(1920)
    assert torch.equal(data.batch(rows), expected(arrays["images"], rows))
    assert data.factor_sizes == SIZES and data.class_factor == "shape" and data.grid and data.origin == ""
    for factor, levels in enumerate(LEVELS):
        assert np.array_equal(levels[data.factors[:, factor]], arrays["labels"][:, factor])
    assert caplog.text.count("into 23,592,960 bytes beside it") == 1
    again = shapes3d.read(tmp_path, SIZES, md5)
    assert (again.images == data.images).all() and caplog.text.count("reading") == 1
    assert left(tmp_path) == ["3dshapes.h5", "3dshapes_read.h5"]


def drop(key):
    return lambda arrays: arrays.pop(key)


def change(key, function):
    return lambda arrays: arrays.update({key: function(arrays[key])})


def other_order(order):
    return change("labels", lambda labels: labels[:, order])


def nan(arrays):
    arrays["labels"][1700, 3] = np.nan


def swap_rows(arrays):
    arrays["labels"][[1500, 1501]] = arrays["labels"][[1501, 1500]]


SHAPES_FAULTS = {
    "no images": (drop("images"), "has no images"),
    "no labels": (drop("labels"), "has no labels"),
    "fewer": (change("images", lambda a: a[:-1]), r"is \(1919, 64, 64, 3\) uint8, and must be \(1920, 64, 64, 3\)"),
    "smaller": (change("images", lambda a: a[:, ::2, ::2]), r"images is \(1920, 32, 32, 3\)"),
    "grey": (change("images", lambda a: a[..., 0]), r"images is \(1920, 64, 64\)"),
    "channels first": (change("images", lambda a: a.transpose(0, 3, 1, 2)), r"images is \(1920, 3, 64, 64\)"),
    "floats": (change("images", lambda a: a.astype(np.float32)), "images is .* float32, and must be .* uint8"),
    "five factors": (change("labels", lambda a: a[:, 1:]), r"labels is \(1920, 5\)"),
    "classes": (change("labels", lambda a: a.astype(int)), "labels is .* int64, and must be .* floating"),
    "other order": (other_order([0, 1, 2, 4, 3, 5]), "labels is not the grid in its order: scale in row 10"),
    "hues in another order": (other_order([1, 0, 2, 3, 4, 5]), "not the grid in its order: floor_hue in row 480"),
    "rows": (swap_rows, "labels is not the grid in its order: orientation in row 1500"),
    "nan": (nan, "labels is not the grid in its order: scale in row 1700"),
    "constant": (change("labels", lambda a: a * [1, 1, 0, 1, 1, 1]), "has 1 values of object_hue, and must have 3"),
    "other pixels": (change("images", lambda a: 255 - a), r"is not the published file \(md5 \w+, not \w+; .* not 267,"),
}  # fmt: skip


@pytest.mark.parametrize("fault", SHAPES_FAULTS)
def test_another_3d_shapes_is_refused_by_name(shapes, tmp_path, fault):
    spoil, message = SHAPES_FAULTS[fault]
    arrays = {key: array.copy() for key, array in shapes[1].items()}
    spoil(arrays)
    path = write_shapes(tmp_path, arrays)
    with pytest.raises(DataError, match=message) as caught:
        shapes3d.read(tmp_path, SIZES, shapes[2])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert left(tmp_path) == ["3dshapes.h5"]


def damaged(content, damage):
    content = bytearray(content)
    if damage == "flip":
        place = len(content) // 2
        content[place : place + 64] = bytes(byte ^ 0xFF for byte in content[place : place + 64])
    return {"half": content[: len(content) // 2], "last byte": content[:-1], "flip": content, "text": b"<html>",
            "empty": b""}[damage]  # fmt: skip


@pytest.mark.parametrize("damage", ["half", "last byte", "flip", "text", "empty"])
def test_a_damaged_3d_shapes_is_refused_and_leaves_nothing(shapes, tmp_path, damage):
    path = tmp_path / shapes3d.ARCHIVE
    path.write_bytes(damaged(shapes[0].read_bytes(), damage))
    with pytest.raises(DataError, match=r"is damaged .*fetch it again|is not the published file") as caught:
        shapes3d.read(tmp_path, SIZES, shapes[2])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert left(tmp_path) == ["3dshapes.h5"]


@pytest.mark.parametrize(
    ("make", "name", "size"),
    [
        (shapes3d.shapes3d, "3dshapes.h5", "267,573,662 bytes"),
        (mpi3d_toy.mpi3d_toy, "mpi3d_toy.npz", "12,740,198,400 bytes of pixels"),
        (mpi3d_realistic.mpi3d_realistic, "mpi3d_realistic.npz", "12,740,198,400 bytes of pixels"),
        (mpi3d_real.mpi3d_real, "mpi3d_real.npz", "12,740,198,400 bytes of pixels"),
        (mpi3d_real_complex.mpi3d_real_complex, "real3d_complicated_shapes_ordered.npz", "5,662,310,400 bytes of"),
    ],
)
def test_without_the_file_it_is_said_what_to_fetch(tmp_path, make, name, size):
    with pytest.raises(DataError, match=rf"no {name} in {tmp_path}: fetch https://\S+ \({size}") as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value) and not left(tmp_path)


def test_a_file_that_may_not_be_read_is_named(shapes, tmp_path):
    path = Path(shutil.copy(shapes[0], tmp_path))
    path.chmod(0)
    code = f"""
import pathlib, sys
from data import DataError, shapes3d
try:
    shapes3d.read(pathlib.Path(sys.argv[1]), {SIZES}, {shapes[2]!r})
except DataError as error:
    print(error)
"""
    powerless = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if powerless and not shutil.which("setpriv"):
        pytest.skip("root may read everything")
    command = [*powerless, sys.executable, "-c", code, str(tmp_path)]
    output = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert output == f"{path} cannot be read (permission denied): make it readable\n"


def test_killed_while_it_is_made_it_is_made_again(shapes, tmp_path):
    path, arrays, md5 = shapes
    shutil.copy(path, tmp_path)
    code = f"import pathlib, sys; from data import shapes3d; shapes3d.read(pathlib.Path(sys.argv[1]), {SIZES}, {md5!r})"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY)
    half_made = tmp_path / "3dshapes_read.h5.tmp"
    while not half_made.exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert left(tmp_path) == ["3dshapes.h5", "3dshapes_read.h5.tmp"]
    data = shapes3d.read(tmp_path, SIZES, md5)
    assert torch.equal(data.batch(np.array([1919])), expected(arrays["images"], [1919]))
    assert left(tmp_path) == ["3dshapes.h5", "3dshapes_read.h5"]


def test_a_disk_without_room_is_named_before_anything_is_written(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(DataError, match=r"cannot write .*file\.h5: only \d+ MB are free there; .* with \d+ MB free"):
        cached(tmp_path / "file.h5", {"images": (2 * free,)}, "test", lambda: {})
    assert not left(tmp_path)


def test_a_disk_that_fills_is_named_and_leaves_nothing(shapes, tmp_path):
    shutil.copy(shapes[0], tmp_path)
    code = f"""
import pathlib, resource, sys
from data import DataError, shapes3d
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, resource.RLIM_INFINITY))
try:
    shapes3d.read(pathlib.Path(sys.argv[1]), {SIZES}, {shapes[2]!r})
except DataError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    output = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert output.startswith(f"cannot write {tmp_path / '3dshapes_read.h5'}: ") and "24 MB free" in output
    assert output.count("\n") == 1 and left(tmp_path) == ["3dshapes.h5"]


def test_a_file_is_made_in_little_memory(tmp_path):
    code = """
import pathlib, resource, sys
import h5py, numpy as np
from data import _archive
path = pathlib.Path(sys.argv[1]) / "a.h5"
with h5py.File(path, "w") as file:
    images = file.create_dataset("images", (8800, 64, 64, 3), np.uint8, chunks=(1100, 16, 16, 3), compression="gzip")
    for place in images.iter_chunks():
        images[place] = place[0].start // 1100
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found, _ = _archive.images(path, "images", (8800, 64, 64, 3), lambda md5: None)
assert found[::1100, 2, 63, 63].tolist() == list(range(8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    kilobytes = int(subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout)
    assert kilobytes < 54_000  # half of what it holds: 1,100 images twice, and the same pages in order


# MPI3D

GRID, OTHER = (2, 3, 2, 3, 3, 4, 4), (2, 2, 2, 3, 3, 4, 4)  # 1,728 and 1,152 rows


def write_mpi3d(root, archive="mpi3d_toy.npz", compressed=False, seed=0, n=1728, **arrays):
    arrays = arrays or {"images": pixels(n, seed)}
    (np.savez_compressed if compressed else np.savez)(root / archive, **arrays)
    return root / archive, arrays.get("images")


def sources(**known):
    """The official table with small grids, and the md5 sums of these files instead of the official ones."""
    table = {name: replace(source, sizes=GRID, md5="") for name, source in _mpi3d.SOURCES.items()}
    table["mpi3d_real_complex"] = replace(table["mpi3d_real_complex"], sizes=OTHER)
    return table | {name: replace(table[name], md5=md5_of(path)) for name, path in known.items()}


@pytest.mark.parametrize("compressed", [False, True])
def test_mpi3d_is_what_the_file_holds(tmp_path, compressed, caplog):
    path, images = write_mpi3d(tmp_path, compressed=compressed)
    caplog.set_level(logging.INFO)
    known = sources(mpi3d_toy=path)
    data = _mpi3d.read(tmp_path, "mpi3d_toy", known)
    assert data.images.shape == (1728, 3, 64, 64) and not data.images.flags.writeable
    rows = np.random.default_rng(1).permutation(1728)
    batch = data.batch(rows)
    assert batch.is_contiguous() and torch.equal(batch, expected(images, rows))
    assert data.factors.tolist() == factor_grid(GRID).tolist() and data.origin == "" and data.name == "mpi3d_toy"
    assert ("beside it" in caplog.text) == compressed
    again = _mpi3d.read(tmp_path, "mpi3d_toy", known)
    assert (again.images == data.images).all() and caplog.text.count("reading") == 1
    record = tmp_path / "mpi3d_toy_read.h5"
    assert left(tmp_path) == ["mpi3d_toy.npz", record.name]
    assert (record.stat().st_size > images.nbytes) if compressed else (record.stat().st_size < 10_000)


def test_a_file_stored_plain_is_mapped_where_it_lies(tmp_path):
    path, images = write_mpi3d(tmp_path, first=np.arange(10), images=pixels(1728))
    data = _mpi3d.read(tmp_path, "mpi3d_toy", sources())
    assert data.images.filename == path
    assert (data.images[1500] == images[1500].transpose(2, 0, 1)).all()


def test_readers_give_the_same_of_a_view_as_of_a_copy(tmp_path):
    for folder in ("plain", "packed"):
        (tmp_path / folder).mkdir()
    write_mpi3d(tmp_path / "plain")
    write_mpi3d(tmp_path / "packed", compressed=True)
    plain, packed = (_mpi3d.read(tmp_path / folder, "mpi3d_toy", sources()) for folder in ("plain", "packed"))
    rows = np.array([5, 1700, 5, 0])
    batches = [data.batch(rows) for data in (plain, packed)]
    moved = [Images(data.images, data.shape, torch.device("cpu")) for data in (plain, packed)]
    batches += [images.batch(torch.from_numpy(rows)) for images in moved]
    assert all(batch.is_contiguous() and torch.equal(batch, batches[0]) for batch in batches)


def test_which_file_it_is_is_recorded(tmp_path, caplog):
    path, _ = write_mpi3d(tmp_path)
    assert _mpi3d.read(tmp_path, "mpi3d_toy", sources()).origin == f"archive md5 {md5_of(path)[:8]}"
    assert f"md5 {md5_of(path)} is not known" in caplog.text
    path, images = write_mpi3d(tmp_path, seed=1)  # replaced by another: read anew
    data = _mpi3d.read(tmp_path, "mpi3d_toy", sources())
    assert data.origin == f"archive md5 {md5_of(path)[:8]}"
    assert torch.equal(data.batch(np.array([7])), expected(images, [7]))


def test_the_file_of_another_variant_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real, _ = write_mpi3d(tmp_path / "elsewhere", "mpi3d_real.npz")
    shutil.copy(real, tmp_path / "mpi3d_toy.npz")
    with pytest.raises(
        DataError, match=r"mpi3d_toy\.npz is the file of mpi3d_real \(md5 \w+\), not of mpi3d_toy: fetch"
    ):
        _mpi3d.read(tmp_path, "mpi3d_toy", sources(mpi3d_real=real))
    write_mpi3d(tmp_path, "real3d_complicated_shapes_ordered.npz", n=1152)
    assert len(_mpi3d.read(tmp_path, "mpi3d_real_complex", sources()).images) == 1152
    write_mpi3d(tmp_path, "mpi3d_toy.npz", n=1152)
    with pytest.raises(DataError, match=r"images\.npy is \(1152, 64, 64, 3\) uint8, and must be \(1728, 64, 64, 3\)"):
        _mpi3d.read(tmp_path, "mpi3d_toy", sources())
    assert left(tmp_path) == ["elsewhere", "mpi3d_toy.npz", "real3d_complicated_shapes_ordered.npz",
                              "real3d_complicated_shapes_ordered_read.h5"]  # fmt: skip


MPI3D_FAULTS = {
    "another key": ({"pictures": pixels(1728)}, r"has no images\.npy"),
    "smaller": ({"images": pixels(1728)[:, ::2, ::2]}, r"images\.npy is \(1728, 32, 32, 3\)"),
    "grid": ({"images": pixels(1728).reshape(*GRID, 64, 64, 3)}, r"images\.npy is \(2, 3, 2, 3, 3, 4, 4, 64, 64, 3\)"),
    "floats": ({"images": pixels(1728) / np.float32(255)}, r"images\.npy is .* float32"),
    "objects": ({"images": np.array([{}] * 1728)}, r"images\.npy is \(1728,\) object"),
    "fortran": ({"images": np.asfortranarray(pixels(1728))}, r"images\.npy is stored column by column"),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("fault", MPI3D_FAULTS)
def test_another_mpi3d_is_refused_by_name(tmp_path, fault, compressed):
    arrays, message = MPI3D_FAULTS[fault]
    path, _ = write_mpi3d(tmp_path, compressed=compressed, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        _mpi3d.read(tmp_path, "mpi3d_toy", sources())
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert left(tmp_path) == ["mpi3d_toy.npz"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("damage", ["half", "last byte", "flip", "text", "empty"])
def test_a_damaged_mpi3d_is_refused_and_leaves_nothing(tmp_path, damage, compressed):
    path, _ = write_mpi3d(tmp_path, compressed=compressed)
    path.write_bytes(damaged(path.read_bytes(), damage))
    with pytest.raises(DataError, match=r"is damaged .*: fetch it again") as caught:
        _mpi3d.read(tmp_path, "mpi3d_toy", sources())
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert left(tmp_path) == ["mpi3d_toy.npz"]


def test_a_file_cut_off_after_it_was_read_is_refused(tmp_path):
    path, _ = write_mpi3d(tmp_path)
    _mpi3d.read(tmp_path, "mpi3d_toy", sources())
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match=r"mpi3d_toy\.npz is damaged"):
        _mpi3d.read(tmp_path, "mpi3d_toy", sources())


def test_published_settings_are_those_of_dsprites(shapes, tmp_path):
    shutil.copy(shapes[0], tmp_path)
    write_mpi3d(tmp_path)
    data = [shapes3d.read(tmp_path, SIZES, shapes[2]), _mpi3d.read(tmp_path, "mpi3d_toy", sources())]
    assert [one.like for one in data] == ["dsprites", "dsprites"]


# A cache too large to be read whole on every opening

LARGE = {"images": (2000, 12288)}  # 24.6 MB


def large(seed=0):
    return lambda: {"images": [np.random.default_rng(seed).integers(0, 256, (2000, 12288), np.uint8)]}


@pytest.fixture
def sampled(tmp_path, monkeypatch):
    """A file that is taken to be large."""
    monkeypatch.setattr(_cache, "WHOLE", 1 << 20)
    monkeypatch.setattr(_cache, "PIECE", 1 << 12)
    path = tmp_path / "file.h5"
    cached(path, LARGE, "test", large())
    return path


def test_a_large_file_is_opened_without_filling(sampled, caplog):
    (array,) = cached(sampled, LARGE, "test", None).values()
    assert (array == large()()["images"][0]).all() and not caplog.text


def overwrite(path, place, content):
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(content)


@pytest.mark.parametrize("damage", ["shorter", "longer", "empty", "other origin", "hole", "head", "structures", "end"])
def test_damage_to_a_large_file_is_noticed(sampled, damage, caplog):
    size = sampled.stat().st_size
    places = {"hole": size // 3, "head": 10, "structures": 600, "end": size - 1000}
    if damage in places:
        overwrite(sampled, places[damage], bytes(size // 100) if damage == "hole" else b"x")
    elif damage == "other origin":
        cached(sampled, LARGE, "another", large(1))
        caplog.clear()
    else:
        os.truncate(sampled, {"shorter": size - 1, "longer": size + 1, "empty": 0}[damage])
    (array,) = cached(sampled, LARGE, "test", large()).values()
    assert (array == large()()["images"][0]).all()
    assert ("was made from" if damage == "other origin" else "is damaged or foreign") in caplog.text


def test_a_hole_in_a_large_file_is_noticed_wherever_it_is(sampled):
    content, size = sampled.read_bytes(), sampled.stat().st_size
    for place in range(0, size - size // 100, size // 50):
        overwrite(sampled, place, bytes(size // 100))
        assert "damaged" in _cache._fault(sampled, LARGE, "test")
        overwrite(sampled, place, content[place : place + size // 100])
    assert _cache._fault(sampled, LARGE, "test") is None


def test_every_flipped_byte_of_hdf5s_own_is_found(sampled):
    with h5py.File(sampled) as file:
        first = file["images"].id.get_offset()
    for place in range(0, first, 53):
        byte = sampled.read_bytes()[place]
        overwrite(sampled, place, bytes([byte ^ 0xFF]))
        assert "damaged" in _cache._fault(sampled, LARGE, "test")
        overwrite(sampled, place, bytes([byte]))


def test_a_few_bytes_between_the_pieces_are_not_noticed(sampled):
    """What `cached` says of itself."""
    overwrite(sampled, _cache.HEAD + sampled.stat().st_size // _cache.PIECES * 50 - 100, b"changed")
    assert _cache._fault(sampled, LARGE, "test") is None
