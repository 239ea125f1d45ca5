"""The data sets: exact images, sources that are checked before they are used, a cache that is never trusted blindly."""

import gzip
import hashlib
import io
import itertools
import logging
import os
import pickle
import resource
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from benchmark import plugins
from data import DataError, Dataset, _cache, dsprites, mnist
from data._cache import cached
from data._dataset import factor_grid
from data.blobs import blobs

REPOSITORY = Path(__file__).parents[1]


def start(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


# dSprites, drawn


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """The whole grid, asked for by two processes at once."""
    root = tmp_path_factory.mktemp("dsprites")
    code = """
import logging, pathlib, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
from data.dsprites import dsprites
assert len(dsprites(pathlib.Path(sys.argv[1])).images) == 737280
"""
    processes = [start(code, root) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    yield dsprites.dsprites(root), outputs
    shutil.rmtree(root)


def test_two_processes_draw_once(drawn):
    assert "".join(drawn[1]).count("drawing dSprites") == 1


def test_the_whole_grid_is_the_known_one(drawn):
    assert hashlib.sha256(drawn[0].images.data).hexdigest() == dsprites.GRID_SHA256


def test_every_published_frame_is_reproduced(drawn):
    with np.load(REPOSITORY / "tests/data/dsprites_frames.npz") as frames:
        images, latents = frames["images"], frames["latents"]
    rows = np.ravel_multi_index(tuple(latents.T.astype(int)), dsprites.SIZES)
    assert len(rows) == 320
    assert (drawn[0].images[rows] == images).all()
    assert (drawn[0].factors[rows] == latents).all()


def test_dsprites_is_a_packed_read_only_map_of_a_grid(drawn):
    data = drawn[0]
    assert isinstance(data.images, np.memmap)
    assert not data.images.flags.writeable
    assert data.images.shape == (737_280, 512)
    assert data.factor_sizes == (3, 6, 40, 32, 32)
    assert data.grid and data.class_factor in data.factor_names
    assert len(data.train_rows) == len(data.score_rows) == len(data.factors) == 737_280


def test_ties_go_to_left_and_bottom_edges():
    low, high = 256 * 10 + 128, 256 * 20 + 128  # on pixel centres
    x, y = (np.array([corners], np.int32) for corners in ([low, high, high, low], [low, low, high, high]))
    for order in (slice(None), slice(None, None, -1)):
        words = dsprites.rasterise(x[:, order], y[:, order])[0, 0]
        pixels = np.unpackbits(words.astype(">u8").view(np.uint8)).reshape(64, 64)
        rows, columns = np.nonzero(pixels)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (11, 20, 10, 19)
        assert pixels.sum() == 100


def test_a_grid_that_comes_out_otherwise_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dsprites, "SIZES", (3, 1, 1, 32, 32))
    with pytest.raises(DataError, match=r"differs from the known grid.*put the official"):
        dsprites.dsprites(tmp_path)
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob("*.h5"))


# dSprites, the official archive: a smaller grid in the official layout

SIZES = (3, 2, 4, 8, 12)  # 2,304 rows: three blocks


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def official_arrays():
    n = int(np.prod(SIZES))
    rng = np.random.default_rng(0)
    images = np.zeros((n, 64, 64), np.uint8)
    images[:, 20:28, 5:21] = rng.integers(0, 2, (n, 8, 16))
    return {
        "imgs": images,
        "latents/classes": factor_grid((1, *SIZES)),
        "latents/values": rng.random((n, 6)),
    }


def write_archive(root, suffix, arrays, bomb=None):
    path = root / (dsprites.ARCHIVE + suffix)
    if suffix == ".hdf5":
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file.create_dataset(key, data=array, compression="gzip", compression_opts=1)
    else:
        metadata = np.array(Bomb(bomb) if bomb else {"title": "dSprites dataset"}, dtype=object)
        members = {key.replace("/", "_"): array for key, array in arrays.items()}
        np.savez_compressed(path, metadata=metadata, **members)
    return path


both_suffixes = pytest.mark.parametrize("suffix", [".npz", ".hdf5"])


@both_suffixes
def test_the_official_archive_is_used_where_there_is_one(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(dsprites, "SIZES", SIZES)
    arrays = official_arrays()
    write_archive(tmp_path, suffix, arrays)
    data = dsprites.dsprites(tmp_path)
    assert torch.equal(data.batch(np.arange(len(data.images))), torch.from_numpy(arrays["imgs"]).float()[:, None])
    assert not (tmp_path / "dsprites_drawn.h5").exists()
    with h5py.File(tmp_path / "dsprites_archive.h5") as file:
        assert file.attrs["origin"].startswith(dsprites.ARCHIVE + suffix)

    monkeypatch.setattr(dsprites, "read_archive", lambda path, sizes: iter(()))  # not read again
    assert (dsprites.dsprites(tmp_path).images == data.images).all()


def test_an_archive_that_was_replaced_is_read_anew(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dsprites, "SIZES", SIZES)
    arrays = official_arrays()
    write_archive(tmp_path, ".npz", arrays)
    dsprites.dsprites(tmp_path)
    arrays["imgs"] = 1 - arrays["imgs"]
    write_archive(tmp_path, ".npz", arrays)
    assert dsprites.dsprites(tmp_path).images[0, 0] == np.packbits(arrays["imgs"][0, 0, :8])[0]
    assert "was made from" in caplog.text


def test_pickled_metadata_is_never_loaded(tmp_path):
    path = write_archive(tmp_path, ".npz", official_arrays(), bomb=tmp_path / "exploded")
    assert sum(map(len, dsprites.read_archive(path, SIZES))) == np.prod(SIZES)
    assert not (tmp_path / "exploded").exists()
    with np.load(path, allow_pickle=True) as archive, pytest.raises(Exception):  # noqa: B017
        archive["metadata"].item().nothing  # noqa: B018
    assert (tmp_path / "exploded").exists()  # the bomb was live


def swap_rows(arrays):
    arrays["latents/classes"][[1500, 1501]] = arrays["latents/classes"][[1501, 1500]]


def drop(key):
    return lambda arrays: arrays.pop(key)


def replace(key, change):
    return lambda arrays: arrays.update({key: change(arrays[key])})


def grey(arrays):
    arrays["imgs"][2000, 5, 5] = 255


FAULTS = {
    "order": (swap_rows, r"latents.classes is not the grid in its order near row 1024"),
    "no imgs": (drop("imgs"), r"has no imgs"),
    "no classes": (drop("latents/classes"), r"has no latents.classes"),
    "no values": (drop("latents/values"), r"has no latents.values"),
    "short imgs": (
        replace("imgs", lambda a: a[:-1]),
        r"imgs\S* is \(2303, 64, 64\) uint8, and must be \(2304,",
    ),
    "small imgs": (replace("imgs", lambda a: a[:, :32, :32]), r"imgs\S* is \(2304, 32, 32\)"),
    "wide imgs": (replace("imgs", lambda a: a.astype(np.int64)), r"imgs\S* is .* int64, and must be .* uint8"),
    "classes as floats": (replace("latents/classes", lambda a: a.astype(float)), r"classes\S* is .* float64"),
    "five classes": (replace("latents/classes", lambda a: a[:, 1:]), r"classes\S* is \(2304, 5\)"),
    "grey": (grey, r"imgs holds 255"),
}


@both_suffixes
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_archive_is_refused_by_name(tmp_path, suffix, fault):
    change, message = FAULTS[fault]
    arrays = official_arrays()
    change(arrays)
    path = write_archive(tmp_path, suffix, arrays)
    with pytest.raises(DataError, match=message.replace("latents.", "latents[/_]")) as caught:
        list(dsprites.read_archive(path, SIZES))
    assert str(path) in str(caught.value)


def test_images_in_fortran_order_are_refused(tmp_path):
    arrays = official_arrays()
    arrays["imgs"] = np.asfortranarray(arrays["imgs"])
    path = write_archive(tmp_path, ".npz", arrays)
    with pytest.raises(DataError, match=r"imgs\.npy is stored column by column"):
        list(dsprites.read_archive(path, SIZES))


@both_suffixes
@pytest.mark.parametrize("damage", ["half", "flip", "text", "empty"])
def test_a_damaged_archive_is_refused_and_leaves_nothing(tmp_path, monkeypatch, suffix, damage):
    monkeypatch.setattr(dsprites, "SIZES", SIZES)
    path = write_archive(tmp_path, suffix, official_arrays())
    content = bytearray(path.read_bytes())
    if damage == "flip":
        place = len(content) // 4
        content[place : place + 64] = bytes(64)
    path.write_bytes({"half": content[: len(content) // 2], "flip": content, "text": b"not here", "empty": b""}[damage])
    with pytest.raises(DataError, match=r"is damaged .* fetch it again") as caught:
        dsprites.dsprites(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob("*.h5"))


# The cache

SHAPES = {"images": (500, 30), "digits": (500,)}


def fill():
    images = (np.arange(15_000).reshape(500, 30) % 251).astype(np.uint8)
    return {"images": [images[:300], images[300:]], "digits": [(np.arange(500) % 10).astype(np.uint8)]}


def never():
    raise AssertionError("filled again")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "new" / "file.h5"
    cached(path, SHAPES, "test", fill)
    return path


def check(arrays):
    assert {name: array.shape for name, array in arrays.items()} == SHAPES
    assert arrays["images"][400, 7] == (400 * 30 + 7) % 251
    assert arrays["digits"][13] == 3
    assert not any(array.flags.writeable for array in arrays.values())


def test_a_sound_file_is_opened_without_filling(file, caplog):
    check(cached(file, SHAPES, "test", never))
    assert not caplog.text


def flip_bit(path, name="images"):
    with h5py.File(path) as content:
        place = content[name].id.get_offset() + content[name].nbytes // 2
    raw = bytearray(path.read_bytes())
    raw[place] ^= 4
    path.write_bytes(raw)


def other_hdf5(path):
    with h5py.File(path, "w") as content:
        content["images"] = np.zeros(3)


def other_shape(path):
    path.unlink()
    cached(path, {"digits": (3,)}, "test", lambda: {"digits": [np.zeros(3, np.uint8)]})


FOREIGN = "is damaged or foreign"
DAMAGES = {
    "flipped bit": (flip_bit, FOREIGN),
    "flipped label": (lambda path: flip_bit(path, "digits"), FOREIGN),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size - 1000), FOREIGN),
    "empty": (lambda path: os.truncate(path, 0), FOREIGN),
    "header only": (lambda path: os.truncate(path, 1000), FOREIGN),
    "text": (lambda path: path.write_text("hello"), FOREIGN),
    "foreign": (other_hdf5, FOREIGN),
    "other shape": (other_shape, "holds {'digits': (3,)}, not {'images': (500, 30)"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_file_is_reported_and_made_anew(file, caplog, damage):
    change, message = DAMAGES[damage]
    change(file)
    check(cached(file, SHAPES, "test", fill))
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("data", logging.WARNING)
    assert str(file) in record.getMessage() and message in record.getMessage()
    assert "\n" not in record.getMessage()
    check(cached(file, SHAPES, "test", never))


def test_a_flipped_byte_is_found_wherever_it_is(file):
    original = file.read_bytes()
    for place in range(0, len(original), 97):  # in HDF5's own structures too, where its library could crash or hang
        raw = bytearray(original)
        raw[place] ^= 0xFF
        file.write_bytes(raw)
        assert "damaged" in _cache._fault(file, SHAPES, "test")


def test_another_origin_is_made_anew(file, caplog):
    check(cached(file, SHAPES, "better", fill))
    assert "was made from 'test', not 'better'" in caplog.text


def test_a_map_outlives_the_file_that_it_maps(file):
    arrays = cached(file, SHAPES, "test", never)
    cached(file, SHAPES, "better", fill)
    check(arrays)


def test_a_failed_fill_leaves_nothing(tmp_path):
    def fail():
        def blocks():
            yield np.zeros((250, 30), np.uint8)
            raise DataError("no source")

        return {"images": blocks()}

    with pytest.raises(DataError, match="no source"):
        cached(tmp_path / "file.h5", SHAPES, "test", fail)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["file.h5.lock"])


def test_a_short_fill_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="15 bytes of digits"):
        cached(tmp_path / "file.h5", {"digits": (16,)}, "test", lambda: {"digits": [np.zeros(15, np.uint8)]})
    assert not (tmp_path / "file.h5").exists()


def test_a_killed_process_does_no_harm(tmp_path):
    code = """
import pathlib, sys, time
import numpy as np
from data._cache import cached
def fill():
    def blocks():
        yield np.ones((250, 30), np.uint8)
        print("half", flush=True)
        time.sleep(600)
    return {"images": blocks()}
cached(pathlib.Path(sys.argv[1]), {"images": (500, 30), "digits": (500,)}, "test", fill)
"""
    path = tmp_path / "file.h5"
    process = start(code, path)
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not path.exists() and list(tmp_path.glob("*.tmp"))
    check(cached(path, SHAPES, "test", fill))
    assert not list(tmp_path.glob("*.tmp"))


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"cannot write .*taken/file\.h5: .*make its folder writable"):
        cached(tmp_path / "taken" / "file.h5", SHAPES, "test", fill)


@pytest.mark.parametrize("limit", [100, 200_000])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, limit):
    code = """
import pathlib, resource, sys
from data import DataError
from data._cache import cached
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    cached(pathlib.Path(sys.argv[1]), {"images": (500, 30), "digits": (500,)}, "test", lambda: {})
except DataError as error:
    print(error)
"""
    process = start(code, tmp_path / "file.h5", limit)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert output.startswith(f"cannot write {tmp_path / 'file.h5'}") and output.count("\n") == 1, output
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob("*.h5"))


def test_default_root_is_the_users_cache():
    assert _cache.default_root().is_absolute()
    assert "disentangle-bench" in _cache.default_root().parts


# MNIST

COUNTS = (20, 10)


@pytest.fixture
def raw_files():
    """Tiny IDX files under MNIST's names."""
    rng = np.random.default_rng(0)
    shapes = [(20, 28, 28), (20,), (10, 28, 28), (10,)]
    headers = [bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape) for shape in shapes]
    bodies = [rng.integers(0, 10 if len(shape) == 1 else 256, shape, np.uint8).tobytes() for shape in shapes]
    return {name: header + body for name, header, body in zip(mnist.MD5, headers, bodies, strict=True)}


def sums(files):
    return {name: hashlib.md5(raw, usedforsecurity=False).hexdigest() for name, raw in files.items()}


def load(root, raw, **sources):
    return mnist.load(root, sources or {"files": mnist.user_files}, sums(raw), COUNTS)


@pytest.mark.parametrize("folder", ["MNIST/raw", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_files_of_the_user(tmp_path, raw_files, folder, suffix):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, raw in raw_files.items():
        (tmp_path / folder / (name + suffix)).write_bytes(gzip.compress(raw) if suffix else raw)
    arrays = load(tmp_path, raw_files)
    train, labels, _, test_labels = raw_files.values()
    assert arrays["images"].shape == (30, 1, 32, 32)
    assert arrays["digits"].tolist() == [*labels[8:], *test_labels[8:]]
    # A bilinear resize keeps the corners: the outermost centres have one old centre within reach.
    pixels = np.frombuffer(train, np.uint8, offset=16).reshape(20, 28, 28)
    assert (arrays["images"][:20, 0, 0, 0] == pixels[:, 0, 0]).all()
    assert (arrays["images"][:20, 0, -1, -1] == pixels[:, -1, -1]).all()


@pytest.mark.parametrize("name", mnist.MD5)
@pytest.mark.parametrize("damage", ["flip", "short"])
def test_damaged_mnist_files_are_never_used(tmp_path, raw_files, name, damage, caplog):
    for file, raw in raw_files.items():
        (tmp_path / file).write_bytes(raw)
    raw = bytearray(raw_files[name])
    raw[-3] ^= 1
    (tmp_path / name).write_bytes(raw if damage == "flip" else raw_files[name][:-1])
    with pytest.raises(DataError, match=f"files: {name} is damaged"):
        load(tmp_path, raw_files)
    assert not list(tmp_path.glob("*.h5"))

    sources = {"files": mnist.user_files, "mirror": lambda root: raw_files}
    assert load(tmp_path, raw_files, **sources)["images"].shape == (30, 1, 32, 32)
    assert f"{name} is damaged and not used" in caplog.text


def test_a_broken_gz_is_named(tmp_path, raw_files):
    name = next(iter(raw_files))
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(raw_files[name])[:-100])
    with pytest.raises(DataError, match=rf"{name}\.gz cannot be read"):
        load(tmp_path, raw_files)


def test_every_failed_source_is_listed_in_one_line(tmp_path, raw_files):
    def unreachable(root):
        raise DataError("Tried a,\nand b")

    with pytest.raises(DataError) as caught:
        load(tmp_path, raw_files, files=mnist.user_files, mirror=unreachable)
    message = str(caught.value)
    assert "\n" not in message
    assert "files: no train-images-idx3-ubyte in" in message and "mirror: Tried a, and b" in message
    assert f"into {tmp_path / 'MNIST' / 'raw'}" in message
    assert all(name in message for name in mnist.MD5)


def test_a_server_that_answers_no_http_is_a_reason_and_no_traceback(tmp_path, monkeypatch):
    from torchvision import datasets

    class Greeting(socketserver.StreamRequestHandler):
        def handle(self):
            self.rfile.readline()
            self.wfile.write(b"please log in\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Greeting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_address[1]}/"])
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        try:
            with pytest.raises(DataError, match="please log in"):
                mnist.torchvision_files(tmp_path)
        finally:
            server.shutdown()


def test_an_idx_header_must_say_the_shape(raw_files):
    raw = next(iter(raw_files.values()))
    assert mnist._idx(raw, (20, 28, 28)).shape == (20, 28, 28)
    with pytest.raises(DataError, match="IDX header"):
        mnist._idx(raw, (10, 28, 28))


def test_a_wheel_of_another_hash_is_not_opened():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as wheel:
        wheel.writestr(mnist.MEMBER, gzip.compress(pickle.dumps([])))
    with pytest.raises(DataError, match="is not the known one: sha256"):
        mnist._read_wheel(content.getvalue())


def test_the_unpickler_knows_arrays_only(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    loaded = mnist._ArrayUnpickler(io.BytesIO(pickle.dumps(array, protocol=2)), encoding="bytes")
    with pytest.raises(DataError, match="the pickle asks for"):
        mnist._ArrayUnpickler(io.BytesIO(pickle.dumps(Bomb(tmp_path / "exploded")))).load()
    assert not (tmp_path / "exploded").exists()
    assert loaded.find_class("numpy.core.multiarray", "_reconstruct")(np.ndarray, (0,), b"b").shape == (0,)


@pytest.mark.network
def test_mnist_from_the_network(tmp_path):
    data = mnist.mnist(tmp_path)
    assert data.images.shape == (70_000, 1, 32, 32)
    assert data.factors[:5, 0].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(data.factors[data.train_rows, 0])[:3].tolist() == [5923, 6742, 5958]
    assert np.bincount(data.factors[data.score_rows, 0])[:3].tolist() == [980, 1135, 1032]
    assert not data.grid and data.class_factor == "digit"


@pytest.mark.network
def test_mnist_from_the_package_index():
    files = mnist._package_index(Path())
    assert sums(files) == mnist.MD5


# Blobs and batches


def test_blobs_are_a_grid_of_distinct_images(tmp_path):
    data, again = blobs(tmp_path), blobs(tmp_path)
    assert (data.images == again.images).all()
    assert data.images.shape == (576, 1, 32, 32) and data.images.dtype == np.uint8
    assert len(np.unique(data.images.reshape(576, -1), axis=0)) == 576
    assert data.factors.tolist() == [list(row) for row in itertools.product(*map(range, data.factor_sizes))]
    assert data.grid and (data.score_rows == np.arange(576)).all()
    assert not list(tmp_path.iterdir())


def dataset(images):
    rows = np.arange(len(images))
    factors = np.zeros((len(images), 0), int)
    return Dataset("test", (2, 4, 8), images, factors, (), (), None, rows, rows, False)


def test_batches_of_both_storages():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (50, 2, 4, 8), np.uint8)
    rows = np.array([7, 3, 3, 49])
    expected = torch.from_numpy(bits[rows]).float()
    for images in (np.packbits(bits.reshape(50, -1), axis=1), 255 * bits):
        batch = dataset(images).batch(rows)
        assert batch.dtype == torch.float32 and batch.shape == (4, 2, 4, 8)
        assert torch.equal(batch, expected)


def test_grey_levels_are_divided_by_255():
    images = np.arange(256, dtype=np.uint8).reshape(4, 2, 4, 8)
    batch = dataset(images).batch(np.array([0, 3]))
    assert batch[0, 0, 0, 1] == np.float32(1) / np.float32(255)
    assert batch.min() == 0 and batch.max() == 1


@pytest.mark.parametrize("name", ["colordsprites", "noisydsprites"])
def test_sprites_with_a_nuisance_are_kept_as_dsprites(drawn, name):
    root = Path(drawn[0].images.filename).parent
    before = sorted(path.name for path in root.iterdir())
    data = plugins.discover()["data set"][name].load()(root)
    assert (data.name, data.shape, data.images.filename) == (name, (3, 64, 64), drawn[0].images.filename)
    assert sorted(path.name for path in root.iterdir()) == before
    sprite, x = (one.batch(np.array([700_000])) for one in (drawn[0], data))
    assert x.shape == (1, 3, 64, 64) and ((x >= 0.5) | (sprite == 0)).all() and x.max() <= 1


def test_a_batch_touches_only_its_own_rows(drawn):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    batch = drawn[0].batch(np.arange(0, 737_280, 11_520))
    assert batch.shape == (64, 1, 64, 64)
    assert set(batch.unique().tolist()) == {0.0, 1.0}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
