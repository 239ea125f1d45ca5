"""A user's own data set from an .npz file: what is read, what is refused, and a grid on it."""

import re
import shlex
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import write_run
from test_cluster import dask, on  # noqa: F401
from test_command import ROOT, here, run  # noqa: F401

from benchmark import load_results, load_run, runs
from benchmark.errors import UserError
from benchmark.reporting import repeat
from benchmark.reporting.gallery import Gallery
from benchmark.reporting.report import score_table
from benchmark.spec import Spec
from data import DataError, _file
from data.mnist import _resize

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (120, 32, 32), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (120, 3, 32, 32), dtype=np.uint8)
GRID = np.indices((5, 4, 6)).reshape(3, -1).T
NAMES = ["hue", "size", "x"]


def saved(folder: Path, name: str = "mine", **arrays) -> Path:
    np.savez(folder / f"{name}.npz", **arrays)
    return folder / f"{name}.npz"


def loaded(folder: Path, **arrays):
    return _file.data_set(saved(folder, **arrays))(folder)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY, GREY[:, None]),
        (GREY[..., None], GREY[:, None]),
        (GREY[:, None], GREY[:, None]),
        (COLOUR, COLOUR),
        (np.moveaxis(COLOUR, 1, -1), COLOUR),
        (GREY / 255, GREY[:, None]),
        ((COLOUR / 255).astype(">f4"), COLOUR),
        (GREY > 99, 255 * (GREY > 99)[:, None]),
    ],
)
def test_every_form_of_images_is_the_same_picture(tmp_path, images, expected):
    data = loaded(tmp_path, images=images)
    assert np.array_equal(data.images, expected) and data.shape == expected.shape[1:]
    assert data.batch(np.arange(3)).numpy() == pytest.approx(expected[:3] / np.float32(255))
    assert data.factors.shape == (120, 0) and not data.grid and data.class_factor is None


@pytest.mark.parametrize(
    ("side", "target", "like"), [(28, 32, "mnist"), (32, 32, "mnist"), (33, 64, "dsprites"), (100, 64, "dsprites")]
)
def test_images_are_brought_to_the_sides_that_networks_take(tmp_path, side, target, like):
    grey = RNG.integers(0, 256, (120, side, side), dtype=np.uint8)
    data = loaded(tmp_path, images=np.stack([grey, 255 - grey, grey], axis=-1))
    assert data.shape == (3, target, target) and data.like == like
    assert np.array_equal(data.images[:, 0], data.images[:, 2]) and not np.array_equal(*data.images.swapaxes(0, 1)[:2])
    text = _file.note(tmp_path / "mine.npz", data)
    assert (f"resized to {target}×{target}" in text) == (side != target)
    if side == 28:
        assert np.array_equal(data.images[:, :1], _resize(grey))


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_full_grid_is_found_in_whatever_order(tmp_path, shuffled):
    rows = RNG.permutation(120) if shuffled else np.arange(120)
    data = loaded(tmp_path, images=GREY[rows], factors=(3 * GRID + 2)[rows].astype(np.uint8), factor_names=NAMES)
    assert data.grid and data.factor_sizes == (5, 4, 6) and data.factor_names == tuple(NAMES)
    assert np.array_equal(data.factors[data.score_rows], GRID)
    assert np.array_equal(data.images[data.score_rows][:, 0], GREY)
    assert np.array_equal(np.sort(data.train_rows), np.arange(120))
    assert "full grid: all images train and are scored; class factor: none" in _file.note(tmp_path / "mine.npz", data)


def test_without_a_grid_one_image_in_five_is_scored(tmp_path):
    labels = np.repeat([4, 7, 9], 40)
    data = loaded(tmp_path, images=GREY, factors=labels, spare=labels)
    again = loaded(tmp_path, images=255 - GREY, factors=labels)
    assert np.array_equal(np.union1d(data.train_rows, data.score_rows), np.arange(120)) and len(data.score_rows) == 24
    assert np.array_equal(data.score_rows, again.score_rows) and not data.grid
    assert len(np.unique(data.factors[data.score_rows])) == 3  # though they come class by class
    assert data.factor_names == ("factor0",) and data.class_factor == "factor0" and data.factor_sizes == (3,)
    assert data.origin != again.origin
    named = loaded(tmp_path, images=GREY, factors=GRID, factor_names=NAMES, class_factor="size")
    assert named.class_factor == "size"
    assert _file.note(saved(tmp_path, images=GREY, spare=labels), data).endswith("not read: spare")


def but(images, index, value):
    changed = images.copy()
    changed[index] = value
    return changed


FLOATS = GREY / 255
REFUSED = {
    "no images": ({"pictures": GREY}, "has no array `images`; it has pictures"),
    "objects": ({"images": np.array([None] * 120)}, "images are (120,) object, and must be uint8"),
    "factors of objects": ({"factors": np.array([{}] * 120)}, "factors is object, of Python objects"),
    "names of objects": ({"factors": GRID, "factor_names": np.array(NAMES, dtype=object)}, "factor_names is object"),
    "nan": ({"images": but(FLOATS, (7, 1, 1), np.nan)}, "images: row 7 holds nan, and floats must be in [0, 1]"),
    "above 1": ({"images": but(FLOATS, (119, 1, 1), 1.5)}, "images: row 119 holds 1.5"),
    "below 0": ({"images": but(FLOATS, (2, 1, 1), -0.5)}, "images: row 2 holds -0.5"),
    "integers": ({"images": GREY.astype(int)}, "int64, and must be uint8, bool, or floats in [0, 1]"),
    "bits as bytes": (
        {"images": GREY // 128},
        "images are all black, with nothing above 1 of 255: save",
    ),
    "channels": ({"images": GREY[:, None].repeat(4, 1)}, "1 or 3 channels"),
    "dimensions": ({"images": GREY[:, 0]}, "(120, 32) uint8, and must be (n, h, w)"),
    "oblong": ({"images": GREY[:, :20]}, "must be square"),
    "tiny": ({"images": GREY[:, :4, :4]}, "8×8 pixels or more"),
    "few": ({"images": GREY[:99]}, "(99, 32, 32) uint8, and must be 100 or more"),
    "columns": ({"images": np.asfortranarray(GREY)}, "save np.ascontiguousarray(images)"),
    "lengths": ({"factors": GRID[:-1]}, "factors are (119, 3) int64, and must be (120, f) integers"),
    "fractions": ({"factors": GRID / 2}, "float64, and must be (120, f) integers"),
    "negative": ({"factors": GRID - 1, "factor_names": NAMES}, "factor 'hue' has the values -1..3"),
    "constant": ({"factors": GRID * [0, 1, 1]}, "factor 'factor0' has the values 0..0"),
    "too few names": ({"factors": GRID, "factor_names": NAMES[:2]}, "are hue, size, and must be 3 different ones"),
    "names twice": ({"factors": GRID, "factor_names": ["a", "b", "a"]}, "are a, b, a, and must be 3 different ones"),
    "names that are none": ({"factors": GRID, "factor_names": ["a", "b", " "]}, "' ', and must be text"),
    "names as numbers": ({"factors": GRID, "factor_names": np.arange(3)}, "factor_names is (3,) int64"),
    "names alone": ({"factor_names": NAMES}, "has factor_names, but no array `factors`"),
    "class factor": ({"factors": GRID, "class_factor": "tint"}, "class_factor is tint, and must be one of factor0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_by_name_and_leaves_nothing(tmp_path, case):
    arrays, text = REFUSED[case]
    with pytest.raises(DataError, match=re.escape(text)) as error:
        loaded(tmp_path, **{**({} if "pictures" in arrays else {"images": GREY}), **arrays})
    assert "\n" not in str(error.value) and str(error.value).startswith(str(tmp_path / "mine.npz"))
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".h5", ".tmp")]


def test_too_many_numbers_are_refused_by_the_header(tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive, archive.open("images.npy", "w") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1_048_577, 64, 64)}
        np.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(DataError, match=r"at most 2\*\*32 numbers"):
        _file.data_set(tmp_path / "mine.npz")(tmp_path)


@pytest.mark.parametrize("damage", ["half", "text", "changed", "short"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = saved(tmp_path, images=GREY)
    content = path.read_bytes()
    if damage == "short":  # a header that says more than what follows
        with zipfile.ZipFile(path, "w") as archive, archive.open("images.npy", "w") as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": GREY.shape})
            stream.write(GREY[:100].tobytes())
    else:
        broken = {"half": content[: len(content) // 2], "text": b"no archive", "changed": but_byte(content)}
        path.write_bytes(broken[damage])
    with pytest.raises(DataError, match=re.escape(str(path))):
        _file.data_set(path)(tmp_path)
    assert not [found for found in tmp_path.iterdir() if found.suffix in (".h5", ".tmp")]


def but_byte(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_the_images_are_read_once_and_again_where_the_file_is_another(tmp_path, monkeypatch):
    path = saved(tmp_path, images=GREY)
    first = _file.data_set(path)(tmp_path)
    monkeypatch.setattr(_file, "_images", lambda *_: pytest.fail("read again"))
    assert np.array_equal(_file.data_set(path)(tmp_path).images, first.images)
    monkeypatch.undo()
    other = loaded(tmp_path, images=255 - GREY)
    assert np.array_equal(other.images, 255 - first.images)


# The command


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mnist.npz", "a data set named 'mnist' exists already; rename the file"),
        ("My-Data.npz", "the name must be like my_data2.npz"),
        ("absent.npz", "no such file"),
        ("code.py", "needed a file like my_data2.npz"),
    ],
)
def test_a_name_is_refused_before_any_work(tmp_path, here, name, text):  # noqa: F811
    path = tmp_path / name
    if name == "code.py":
        path.write_text(f"open({str(tmp_path / 'run')!r}, 'w')\n")
    elif name != "absent.npz":
        saved(tmp_path, path.stem, images=GREY)
    status, out, err = here("--models", "vae", "--dataset-file", path, "--results", tmp_path / "r")
    assert status == 2 and not out and text in " ".join(err.split())
    assert not (tmp_path / "r").exists() and not (tmp_path / "run").exists()


def test_a_wrong_file_is_refused_before_other_data_are_made(tmp_path, here):  # noqa: F811
    path = saved(tmp_path, images=GREY[:, :20])
    line = ["--models", "vae", "--datasets", "dsprites", "mine", "--dataset-file", path, "--data-dir", tmp_path / "d"]
    status, _, err = here(*line, "--results", tmp_path / "r")
    assert status == 1 and "must be square" in " ".join(err.split())
    assert not (tmp_path / "d").exists() and not list((tmp_path / "r").glob("*"))


def test_a_forgotten_option_is_named(tmp_path, here, monkeypatch):  # noqa: F811
    saved(tmp_path, images=GREY)
    monkeypatch.chdir(tmp_path)
    status, _, err = here("--models", "vae", "--datasets", "mine", "--results", tmp_path / "r")
    assert status == 2 and "add --dataset-file mine.npz" in " ".join(err.split())


def test_only_a_file_of_arrays_changes_an_id():
    plain = Spec("blobs", "vae", 0, 1, 16, 1e-3)
    assert "content" not in plain.to_json() and Spec.from_json(plain.to_json()) == plain
    one, other = (replace(plain, content=text) for text in ("1f3a9c2e", "00000000"))
    assert len({plain.config, one.config, other.config}) == 3 and Spec.from_json(one.to_json()) == one


OPTIONS = ["--models", "vae", "--steps", 3, "--batch-size", 16, "--metrics", "kl", "mig", "reconstruction"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Two data sets, colour with factors and grey without, by two processes."""
    folder = tmp_path_factory.mktemp("grid")
    files = [
        saved(folder, "tints", images=COLOUR, factors=GRID, factor_names=NAMES, class_factor="hue"),
        saved(folder, "plain", images=GREY[:, :28, :28]),
    ]
    line = [*OPTIONS, "--data-dir", folder / "data", "--results", folder / "r", "--dataset-file", *files]
    status, out, err = run(*line, "--jobs", 2, "--threads", 1)
    assert status == 0, err
    return folder, line, out, err


def folder_of(results: Path, name: str) -> Path:
    (found,) = (results / "runs").glob(f"{name}-vae-s0-*")
    return found


def test_a_grid_says_what_it_made_of_the_files_and_is_done_once(grid, here):  # noqa: F811
    folder, line, _, err = grid
    said = " ".join(err.split())
    assert "plain: 120 images of 28×28, resized to 32×32 (bilinear); no factors" in said
    assert "settings of mnist are used for tints (vae)" in said
    assert "nothing to do" in here(*line, "--dry-run")[1]
    scores = pd.read_csv(folder / "r" / "scores.csv")
    assert set(scores["dataset"]) == {"tints", "plain"}
    assert "factors" not in set(scores.loc[scores["dataset"] == "plain", "model"])  # there are none to be a ceiling
    mig = scores[(scores["metric"] == "mig") & (scores["model"] == "vae")].set_index("dataset")
    assert np.isfinite(mig.loc["tints", "value"]) and "needs one factor" in mig.loc["plain", "note"]


@pytest.mark.slow
def test_another_file_of_the_name_is_another_run(grid, tmp_path, here):  # noqa: F811
    folder, line, _, _ = grid
    other = saved(tmp_path, "tints", images=255 - COLOUR, factors=GRID, factor_names=NAMES, class_factor="hue")
    line = [word for word in line if word != folder / "plain.npz"]
    line[line.index(folder / "tints.npz")] = other
    status, _, err = here(*line)
    assert (
        status == 2 and "is not what tints-vae-s0-" in err and "rename it, or pass --results" in " ".join(err.split())
    )
    line[line.index(folder / "r")] = tmp_path / "r"
    status, _, err = run(*line)
    assert status == 0, err
    shutil.copytree(folder / "r" / "runs", tmp_path / "r" / "runs", dirs_exist_ok=True)  # by hand
    summary = load_results(tmp_path / "r", plugin_files=[other]).summary
    rows = summary[(summary["kind"] == "run") & (summary["metric"] == "kl_total") & (summary["dataset"] == "tints")]
    assert rows["n"].tolist() == [1, 1] and rows["config"].nunique() == 2
    status, _, err = here("--report", tmp_path / "r", "--dataset-file", other, "--data-dir", tmp_path)
    assert status == 0 and "trained on other images of tints" in " ".join(err.split())
    labels = runs.config_labels(runs.read_runs(tmp_path / "r", print, [other]))
    assert {text for text in labels.values() if "content=" in text and text.startswith("vae")}


@pytest.mark.parametrize("kind", ["runs", "floors"])
def test_a_folder_takes_one_data_set_of_a_name(tmp_path, here, kind):  # noqa: F811
    """Floors of another file are refused as runs are, and code of the name of a file as another file is."""
    made = Spec("mine", "vae" if kind == "runs" else "noise", 0, 0, 0, 0.0, content="12345678")
    folder = write_run(tmp_path / "r", made, {"mig": 0.1}, kind=kind)
    code = tmp_path / "mine.py"
    code.write_text((ROOT / "data/blobs.py").read_text().replace("blobs", "mine"))
    line = ["--models", "vae", "--datasets", "mine", "--data-dir", tmp_path / "d", "--results", tmp_path / "r"]
    for option, path, named in (
        ("--dataset-file", saved(tmp_path, images=GREY), "mine.npz (sha256 "),
        ("--plugin", code, "the data set mine"),
    ):
        status, _, err = here(*line, option, path, "--dry-run")
        assert status == 2 and named in err and f"is not what {folder.name} was made of" in " ".join(err.split())
    assert here("--models", "vae", "--datasets", "blobs", *line[4:], "--dry-run")[0] == 0


@pytest.mark.slow
def test_a_report_without_the_file_has_all_but_pictures(grid, here, tmp_path):  # noqa: F811
    folder = grid[0]
    shutil.copytree(folder / "r", tmp_path / "r")
    status, _, err = here("--report", tmp_path / "r", "--data-dir", folder / "data")
    page = (tmp_path / "r" / "report.html").read_text()
    assert status == 0 and "no pictures" in err and "tints" in page
    assert not list((tmp_path / "r" / "plots").glob("reconstructions_*"))
    assert list((tmp_path / "r" / "plots").glob("scores_tints_*"))
    for name in ("scores.csv", "summary.csv"):
        assert (tmp_path / "r" / name).read_bytes() == (folder / "r" / name).read_bytes()


def test_a_notebook_reads_a_run_back(grid, tmp_path):
    folder = grid[0]
    loaded_run = load_run(folder_of(folder / "r", "tints"), data_dir=folder / "data",
                          plugin_files=[folder / "tints.npz"])  # fmt: skip
    x = loaded_run.data.batch(loaded_run.data.score_rows[:4]).numpy()
    images = loaded_run.decode(loaded_run.encode(x))
    assert images.shape == (4, 3, 32, 32)
    drawn = loaded_run.traversals(x)
    assert any(image.get_array().shape[-1] == 3 for axis in drawn.axes for image in axis.images)
    other = saved(tmp_path, "tints", images=255 - COLOUR)
    with pytest.raises(UserError, match="was trained on other images of tints"):
        load_run(folder_of(folder / "r", "tints"), data_dir=tmp_path, plugin_files=[other]).data  # noqa: B018
    with pytest.raises(UserError, match="plugin_files"):
        load_run(folder_of(folder / "r", "tints")).data  # noqa: B018


def test_the_commands_that_repeat_it_name_the_file(grid, here, monkeypatch):  # noqa: F811
    folder = grid[0]
    found = runs.read_runs(folder / "r", print)
    lines = repeat.commands(found, score_table(found, (), print), Gallery(folder / "data", (), print))
    assert len(lines) == 2
    monkeypatch.chdir(folder)
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["python", "run_benchmark.py"] and words[-2] == "--dataset-file"
        status, out, err = here(*words[2:], "--data-dir", "data", "--results", "r", "--dry-run")
        assert status == 0 and "nothing to do" in out, out + err


@pytest.mark.slow
def test_a_cluster_has_the_bits_of_this_machine(grid, dask, tmp_path):  # noqa: F811
    folder, line, _, _ = grid
    there = [tmp_path / "r" if word == folder / "r" else word for word in line]
    dask.add("one")
    status, _, err = run(*there, *on(dask), "--threads", 1)
    assert status == 0, err
    for name in ("tints", "plain"):
        mine, theirs = (folder_of(results, name) for results in (folder / "r", tmp_path / "r"))
        assert mine.name == theirs.name
        for file in ("model.safetensors", "scores.csv"):
            assert (mine / file).read_bytes() == (theirs / file).read_bytes()
