"""Handwriting with known factors: what the factors do to the drawn image, and which handwriting is drawn."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import label
from scipy.stats import spearmanr

from benchmark.authoring.contract_data import DataCase, grid_order
from benchmark.evidence import handwriting
from benchmark.reporting import canvas
from benchmark.running import encoder, floors, trainer, watch
from benchmark.spec import Spec
from data import DataError, _cache, digits
from data._dataset import Dataset, factor_grid
from metrics import score
from models.vae import VAE

FRAMES = Path(__file__).parent / "data/mnist_digits.npz"  # the first 20 training images of every digit, at 32x32
SHA256 = "3d0ac6af8bebbbaa2d4d6b295b18ac65cef5aba5197ef3eb0ada5d399d16e461"


@pytest.fixture(scope="module")
def written():
    with np.load(FRAMES) as frames:
        return frames["images"], frames["labels"].astype(np.int64)


@pytest.fixture(scope="module")
def drawn(written):
    """(2250, 32, 32): the grid once."""
    return np.concatenate(list(digits.draw(*written, copies=1)))[:, 0]


def bar():
    """A vertical line in standard form."""
    places = np.linspace(-digits.ONE, digits.ONE, 100).astype(np.int64)
    return np.stack([np.zeros_like(places), places])


def form(slant=0.0, thickness=2.5, degrees=0.0, height=14):
    return digits.stroke(digits._matrix(slant, degrees, height) @ bar(), digits._levels(thickness)) / 255


def moments(image):
    """Centre (x, y) and covariance of the ink, y downwards."""
    y, x = np.indices(image.shape)
    places = np.stack([x.ravel(), y.ravel()])
    return np.average(places, axis=1, weights=image.ravel()), np.cov(places, aweights=image.ravel(), ddof=0)


@pytest.mark.parametrize("thickness", digits.THICKNESSES)
def test_a_stroke_is_as_thick_as_it_says(thickness):
    assert_allclose(form(thickness=thickness)[12:20].sum(axis=1), thickness, atol=0.07)


@pytest.mark.parametrize("height", digits.HEIGHTS)
def test_a_bar_is_as_high_as_it_says(height):
    ends = digits.THICKNESSES[1]  # the stroke's round ends reach half its thickness further
    assert_allclose(form(height=height)[:, 15:17].max(axis=1).sum(), height + ends, atol=0.3)


@pytest.mark.parametrize("slant", digits.SLANTS)
def test_slant_is_a_shift_per_row(slant):
    rows = form(slant=slant)[10:22]
    middles = (rows * np.arange(32)).sum(1) / rows.sum(1)
    assert_allclose(np.diff(middles), -slant, atol=0.1)
    assert_allclose(moments(form(slant=slant))[0], 15.5, atol=0.05)


@pytest.mark.parametrize("degrees", digits.ROTATIONS)
def test_rotation_turns_clockwise(degrees):
    (_, spread) = moments(form(degrees=degrees))
    major = np.linalg.eigh(spread)[1][:, -1]
    assert_allclose(np.degrees(np.arctan(-major[0] / major[1])), degrees, atol=1)


def test_standard_form_is_upright_centred_and_of_one_size():
    rng = np.random.default_rng(0)
    for shear in (-0.7, 0.0, 0.4):
        y = rng.integers(0, 60, 400)
        x = np.rint(30 + shear * (30 - y) + rng.uniform(-8, 8, 400)).astype(np.int64)
        px, py = digits.standard(x, y) / digits.ONE
        assert abs(np.cov(px, py)[0, 1]) < 1e-3
        assert_allclose([py.min(), py.max()], [-1, 1], atol=1e-3)
        assert_allclose(px.min() + px.max(), 0, atol=1e-3)
    wide = digits.standard(np.arange(50), np.tile([20, 21], 25)) / digits.ONE
    assert_allclose([wide[0].min(), wide[0].max()], [-1, 1], atol=1e-3)
    assert_allclose(digits.standard(np.array([5]), np.array([7])), 0)


def test_skeletons_hang_together_as_the_ink_does(written):
    bits = digits._bits(written[0])
    for before, after in zip(pixels(bits), pixels(digits.thinned(bits)), strict=True):
        assert label(before, np.ones((3, 3)))[1] == label(after, np.ones((3, 3)))[1]


def test_skeletons_are_those_of_the_paper(written):
    bits = digits._bits(written[0][:8])
    for before, after in zip(pixels(bits), pixels(digits.thinned(bits)), strict=True):
        assert np.array_equal(after, by_the_paper(before.copy()))


def by_the_paper(image):
    """Zhang and Suen's two passes, pixel by pixel."""
    while True:
        removed = 0
        for step in (1, 2):
            spare = []
            for y, x in np.argwhere(image):
                p = [
                    image[y + dy, x + dx]
                    for dy, dx in ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
                ]
                p2, p4, p6, p8 = p[::2]
                rises = sum(a == 0 and b == 1 for a, b in zip(p, [*p[1:], p2], strict=True))
                edges = (p2 * p4 * p6, p4 * p6 * p8) if step == 1 else (p2 * p4 * p8, p2 * p6 * p8)
                if 2 <= sum(p) <= 6 and rises == 1 and not any(edges):
                    spare.append((y, x))
            for place in spare:
                image[place] = 0
            removed += len(spare)
        if not removed:
            return image


def pixels(words):
    return np.unpackbits(words.astype(">u8").view(np.uint8)).reshape(-1, 64, 64)


def test_twice_the_resolution_keeps_a_block_in_its_place():
    image, block = np.zeros((1, 32, 32), np.uint8), np.zeros((64, 64), np.uint8)
    image[0, 10:14, :3], block[20:28, :6] = 255, 1
    (found,) = pixels(digits._bits(image))
    found[[20, 27], 0] = 1  # beyond the edge all is blank, so the block's corners there are rounded
    assert np.array_equal(found, block)


def test_real_digits_are_drawn_as_everywhere(drawn):
    assert hashlib.sha256(drawn.tobytes()).hexdigest() == SHA256


def test_factors_are_what_the_images_show(drawn):
    """What second moments and ink say of real handwriting follows the factor that they measure, and no other."""
    slants = np.array([-spread[0, 1] / spread[1, 1] for _, spread in map(moments, drawn)])
    levels = factor_grid(digits.SIZES)
    means = [slants[levels[:, 1] == level].mean() for level in range(5)]
    assert_allclose(means, digits.SLANTS, atol=0.06)
    assert spearmanr(slants, levels[:, 1])[0] > 0.8
    assert all(abs(spearmanr(slants, levels[:, j])[0]) < 0.06 for j in (0, 2, 4))
    ink = drawn.sum((1, 2), dtype=float)
    assert all(abs(spearmanr(ink, levels[:, j])[0]) < 0.1 for j in (1, 3))


def test_handwriting_is_used_in_turn_and_no_digit_for_another():
    labels = np.random.default_rng(0).integers(0, 10, 60_000)
    used = digits.handwriting(labels, 24)
    assert used.shape == (24, 10, 225) and (labels[used] == np.arange(10)[:, None]).all()
    assert len(np.unique(used)) == used.size  # 60,000 digits are enough to use none twice
    again = digits.handwriting(labels[:8000], 8)
    for copy, other in ((0, 4), (3, 7)):
        assert (again[copy] != again[other]).any()
    forms = {tuple(pair) for pair in np.stack([again.ravel(), np.tile(np.arange(225), 80)], axis=1)}
    assert len(forms) == again.size  # none is drawn twice in the same form


@pytest.fixture(scope="module")
def data(drawn):
    """The scored part, of the same handwriting eight times."""
    factors, rows = np.tile(factor_grid(digits.SIZES), (8, 1)), np.arange(18_000)
    return Dataset("digits", (1, 32, 32), np.tile(drawn[:, None], (8, 1, 1, 1)), factors, digits.NAMES, digits.SIZES,
                   "digit", rows, rows, grid=True)  # fmt: skip


LEAST = {"betavae_score": 0.3, "factorvae_score": 0.3, "irs": 0.45}  # of noise, where it is not near 0


@pytest.mark.parametrize("protocol", ["quick", "study"])
@pytest.mark.parametrize("name", ["betavae_score", "dcimig", "discrete_accuracy", "factorvae_score", "irs", "mig"])
def test_ceiling_and_floor(data, protocol, name):
    selection = encoder.select(data, protocol)
    best, least = (score(name, made(data, selection, 0), protocol=protocol) for made in (floors.factors, floors.noise))
    assert best[name] > 0.97
    if name == "discrete_accuracy":
        assert "no categorical latent" in least.notes[name]
    else:
        assert least[name] < LEAST.get(name, 0.02)


def test_the_scored_rows_are_eight_grids(tmp_path, data):
    assert grid_order(DataCase("digits", lambda root: data, tmp_path)) is None
    for protocol in ("quick", "study"):
        selection = encoder.select(data, protocol)
        assert len(selection.rows) == 18_000 and encoder.labels(data, selection)["grid"]


def test_images_that_are_watched_are_no_grid():
    """However their number divides: 4,000 of five copies of 1,000 combinations."""
    factors, rows = np.tile(factor_grid((10, 10, 10)), (5, 1)), np.arange(5_000)
    images = np.random.default_rng(0).integers(0, 256, (5_000, 1, 8, 8), np.uint8).repeat(4, 2).repeat(4, 3)
    data = Dataset("grid", (1, 32, 32), images, factors, ("a", "b", "c"), (10, 10, 10), None, rows, rows, grid=True)
    spec = Spec("grid", "vae", 0, 1, 64, 1e-3, hparams={"latents": 2})
    row = watch.watch(data, spec).note(trainer.build(VAE, spec, data), 0)
    assert np.isfinite(list(row.values())).all()


@pytest.mark.parametrize(
    ("sizes", "rows"), [((3, 6, 40, 32), 1_440), ((10, 10, 10, 8, 15), 2_500), ((6, 6, 2, 3, 3, 40), 3_888)]
)
def test_quick_leaves_a_regular_grid_that_is_not_too_large(sizes, rows, monkeypatch):
    monkeypatch.setattr(encoder, "MOST", 4_000)
    factors = factor_grid(sizes)
    every = np.arange(len(factors))
    images, names = np.zeros((len(factors), 1, 1, 1), np.uint8), tuple("abcdef"[: len(sizes)])
    data = Dataset("grid", (1, 32, 32), images, factors, names, sizes, None, every, every, grid=True)
    thin, every = (encoder.select(data, protocol) for protocol in ("quick", "study"))
    assert len(thin.rows) == rows == every.reconstructed.sum() and len(every.rows) == len(factors)
    assert np.array_equal(thin.factors, factor_grid(thin.factor_sizes)) and min(thin.factor_sizes) > 1
    for column in factors[thin.rows].T:
        assert len(set(np.diff(np.unique(column)))) == 1


@pytest.mark.slow
def test_what_is_measured_of_the_factors(data, monkeypatch):
    """The tables and the figure of RESULTS.md, of few handwritten digits."""
    told = handwriting.leakage(data)
    for measured, factor in (*handwriting.SHOWS.items(), ("slant, not turned", "slant")):
        assert told.loc[measured, factor] > 0.8, measured
        assert (np.diff(told.loc[measured, "levels"]) > 0).all()
    assert abs(told.loc["thickness", "rotation"]) < 0.1 > abs(told.loc["slant", "size"])
    monkeypatch.setattr(handwriting, "FIT", 1_000)
    read = handwriting.ceiling(data)
    assert (read.loc["linear probe from pixels"] > read.loc["chance"] + 0.1).all()
    assert list(read.columns) == list(digits.NAMES)
    figure = handwriting.grid(data)
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert len(shown) == 6 and all((image > 0).any() for image in shown)
    canvas.close(figure)


def test_other_images_are_refused_and_leave_nothing(tmp_path, monkeypatch, written):
    images, labels = written[0][:, None], written[1][:, None]
    few = Dataset(
        "mnist", (1, 32, 32), images, labels, ("digit",), (10,), "digit", np.arange(150), np.arange(50), False
    )
    monkeypatch.setattr(digits, "mnist", lambda root: few)
    monkeypatch.setattr(digits, "COPIES", (2, 1))
    with pytest.raises(DataError, match=r"digits drawn here are not the known ones \(sha256 [0-9a-f]{64}, not "):
        digits.digits(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


@pytest.mark.network
def test_the_whole_data_set_is_the_known_one():
    root = _cache.default_root()
    data = digits.digits(root)
    assert hashlib.sha256(data.images.data).hexdigest() == digits.SHA256
    assert data.images.shape == (72_000, 1, 32, 32) and len(data.train_rows) == 54_000
    assert np.array_equal(data.factors[data.score_rows][:2250], factor_grid(digits.SIZES))
    images = data.images[:, 0]
    assert max(images[:, [0, -1]].max(), images[:, :, [0, -1]].max()) < 128  # nothing is cut off
