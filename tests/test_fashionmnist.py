"""Fashion-MNIST: small files of its form, every way in which files can be wrong, and the real ones where they are."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from benchmark.spec import resolve
from data import DataError, fashionmnist, mnist
from models.jointvae import JointVAE
from models.vae import VAE

FOLDER = "FashionMNIST/raw"
REAL = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts them
COUNTS = (20, 10)
TRAIN, TRAIN_LABELS, TEST, TEST_LABELS = fashionmnist.MD5


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


@pytest.fixture
def files(monkeypatch):
    """The bytes of tiny files under the real names, which are taken for the real ones."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (n, 28, 28), np.uint8) for n in COUNTS]
    labels = [rng.permutation(n).astype(np.uint8) % 10 for n in COUNTS]
    raw = dict(zip(fashionmnist.MD5, map(idx, (arrays[0], labels[0], arrays[1], labels[1])), strict=True))
    sums = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in raw.items()}
    monkeypatch.setattr(fashionmnist, "MD5", sums)
    monkeypatch.setattr(fashionmnist, "COUNTS", COUNTS)
    own = {name: source for name, source in fashionmnist.SOURCES.items() if name != "torchvision"}
    monkeypatch.setattr(fashionmnist, "SOURCES", own)
    return raw


def put(root, files, folder=FOLDER, suffix=""):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / folder / (name + suffix)).write_bytes(gzip.compress(content) if suffix else content)


def refused(root):
    """The one line that says why, and nothing is kept."""
    with pytest.raises(DataError) as caught:
        fashionmnist.fashionmnist(root)
    assert "\n" not in str(caught.value) and not [*root.rglob("*.h5"), *root.rglob("*.tmp")]
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_files_become_a_data_set(tmp_path, files, suffix):
    put(tmp_path, files, suffix=suffix)
    data = fashionmnist.fashionmnist(tmp_path)
    labels = np.frombuffer(files[TRAIN_LABELS][8:] + files[TEST_LABELS][8:], np.uint8)
    assert data.factors[:, 0].tolist() == labels.tolist()
    assert data.images.shape == (30, 1, 32, 32) and (data.shape, data.like) == ((1, 32, 32), "mnist")
    assert data.train_rows.tolist() == [*range(20)] and data.score_rows.tolist() == [*range(20, 30)]
    assert (tmp_path / "fashionmnist.h5").exists() and not (tmp_path / "mnist.h5").exists()
    put(tmp_path, dict.fromkeys(files, b""), suffix=suffix)
    assert (fashionmnist.fashionmnist(tmp_path).images == data.images).all()  # read once


def test_images_are_resized_as_mnists(tmp_path, files):
    put(tmp_path, files)
    put(tmp_path, files, "MNIST/raw")
    sums = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in files.items()}
    plain = mnist.load(tmp_path, {"files": mnist.user_files}, sums, COUNTS)
    assert (fashionmnist.fashionmnist(tmp_path).images == plain["images"]).all()


def test_without_a_source_it_says_which_files_go_where(tmp_path, files):
    text = refused(tmp_path)
    assert text.startswith(f"FashionMNIST cannot be had (files in the data folder: no {TRAIN} in {tmp_path / FOLDER}")
    assert text.endswith(f"put {', '.join(files)}, plain or .gz, into {tmp_path / FOLDER}")


@pytest.mark.parametrize("folder", ["MNIST/raw", "."])
def test_mnists_folders_are_not_looked_at(tmp_path, files, folder):
    put(tmp_path, files, folder)
    assert f"no {TRAIN} in {tmp_path / FOLDER}" in refused(tmp_path)


@pytest.mark.parametrize("name", fashionmnist.MD5)
def test_a_wrong_file_is_named(tmp_path, files, name):
    swapped = {TRAIN: TEST, TEST: TRAIN, TRAIN_LABELS: TEST_LABELS, TEST_LABELS: TRAIN_LABELS}[name]
    put(tmp_path, {**files, name: files[swapped]})
    found = hashlib.md5(files[swapped], usedforsecurity=False).hexdigest()
    expected = fashionmnist.MD5[name]
    assert f"{name} is damaged or another file (md5 {found}, not {expected})" in refused(tmp_path)


@pytest.mark.parametrize("name", fashionmnist.MD5)
def test_a_half_download_is_named(tmp_path, files, name):
    put(tmp_path, files, suffix=".gz")
    path = tmp_path / FOLDER / f"{name}.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"{path} cannot be read (" in refused(tmp_path)


def test_names_are_torchvisions():
    from torchvision.datasets import FashionMNIST

    assert [name.removesuffix(".gz") for name, _ in FashionMNIST.resources] == list(fashionmnist.MD5)
    assert tuple(name.lower() for name in FashionMNIST.classes) == tuple(n.lower() for n in fashionmnist.CLASS_NAMES)


def test_jointvae_has_its_papers_settings_and_others_take_mnists():
    spec = resolve("fashionmnist", 32, "jointvae", JointVAE, preset="paper", like="mnist")
    assert (spec.steps, spec.batch_size, spec.lr) == (93_800, 64, 5e-4)
    assert spec.hparams == {"latents": 10, "categories": (10,), "gamma": 100.0, "capacity_z": 5.0, "capacity_c": 10.0,
                            "capacity_steps": 50_000, "temperature": 0.67}  # fmt: skip
    spec, digits = (resolve(name, 32, "vae", VAE, preset="paper", like="mnist") for name in ("fashionmnist", "mnist"))
    assert (spec.steps, spec.hparams) == (digits.steps, digits.hparams)


def check_real(data):
    assert data.images.shape == (70_000, 1, 32, 32) and data.factors[:5, 0].tolist() == [9, 0, 0, 3, 0]
    assert np.bincount(data.factors[data.train_rows, 0]).tolist() == [6000] * 10
    assert np.bincount(data.factors[data.score_rows, 0]).tolist() == [1000] * 10


@pytest.mark.skipif(not REAL.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_files(tmp_path):
    (tmp_path / "FashionMNIST").mkdir()
    (tmp_path / FOLDER).symlink_to(REAL)
    check_real(fashionmnist.fashionmnist(tmp_path))


@pytest.mark.network
def test_fashionmnist_from_the_network(tmp_path):
    check_real(fashionmnist.fashionmnist(tmp_path))
