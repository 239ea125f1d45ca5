"""Attributes of drawn strokes and of MNIST's first digit, and how much of such a table latents tell."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from benchmark import plan, plugins, sources, store
from benchmark.authoring.contract import Fault
from benchmark.authoring.contract_data import DataCase, attribute_table, fields
from benchmark.options import parser as options_parser
from benchmark.running import worker
from benchmark.running.job import Job
from benchmark.spec import Spec
from data import DataError, _attributes
from data._attributes import NAMES, attributes_of, measure
from metrics import Codes, score

FINE = 16  # places a pixel that are looked at, along each side
MEASURED = '''"""Blobs whose place and size are attributes."""

from dataclasses import replace

from data import Dataset
from data.blobs import blobs


def measured(root) -> Dataset:
    data = blobs(root)
    table = data.factors[:, 1:3] @ [[1.0, 0.5], [0.0, 1.0]]
    return replace(data, name="measured", attributes=table, attribute_names=("size", "both"))
'''


# --- what is measured -----------------------------------------------------------------------------------------------


def drawn(inside):
    """(28, 28) uint8 image of what is inside of a shape; y points up, the origin is the middle."""
    x = (np.arange(28 * FINE) + 0.5) / FINE - 14
    cover = inside(x[None], -x[:, None]).reshape(28, FINE, 28, FINE).mean((1, 3))
    return np.rint(255 * cover).astype(np.uint8)


def parallelogram(width, height, shear):
    """`width` along a row; it moves by `shear` to the right with each row upwards."""
    return drawn(lambda x, y: (abs(x - shear * y) < width / 2) & (abs(y) < height / 2))


def found(image):
    return dict(zip(NAMES, measure(image[None])[0], strict=True))


def pen(width, length, angle):
    """A straight stroke with round ends, `angle` to the right of upright; `length` between the middles of its ends."""
    along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])

    def inside(x, y):
        beyond = np.maximum(abs(along[0] * x + along[1] * y) - length / 2, 0)
        return np.hypot(beyond, across[0] * x + across[1] * y) < width / 2

    return drawn(inside)


@pytest.mark.parametrize("width", [2, 3, 5])
@pytest.mark.parametrize("angle", [-0.5, 0, 0.3, np.pi / 4])
def test_a_drawn_stroke_has_its_thickness_and_length(width, angle):
    stroke = found(pen(width, 18, angle))
    assert_allclose(stroke["thickness"], width, rtol=0.08)
    # The skeleton may reach the tips, and its steps, straight or aslant, are up to 8 % longer than a line.
    assert 0.95 * 18 < stroke["length"] < 1.08 * (18 + width)
    assert_allclose(stroke["area"], width * 18 + np.pi * width**2 / 4, rtol=0.05)


@pytest.mark.parametrize(("width", "height", "shear"), [(10, 16, 0), (6, 20, 0.4), (12, 8, -0.7), (3, 20, 0.2)])
def test_a_drawn_parallelogram_has_its_slant_and_a_frame_that_leaves_a_hundredth_to_each_side(width, height, shear):
    frame = found(parallelogram(width, height, shear))
    wider = frame["width"] - 0.98 * width, frame["height"] - 0.98 * height
    assert 0.2 < min(wider) < max(wider) < 1.7  # edges are blurred by pixels, and by the enlarging
    assert_allclose(np.tan(frame["slant"]), shear, atol=0.03)
    assert_allclose(frame["area"], width * height, rtol=0.03)


@pytest.mark.parametrize(("radius", "thickness"), [(7, 2), (9, 3), (6, 4)])
def test_a_ring_is_as_long_as_its_middle(radius, thickness):
    ring = found(drawn(lambda x, y: abs(np.hypot(x, y) - radius) < thickness / 2))
    assert_allclose(ring["length"], 2 * np.pi * radius, rtol=0.12)
    assert_allclose(ring["thickness"], thickness, rtol=0.09)
    assert_allclose(ring["slant"], 0, atol=1e-6)


def test_a_mirrored_digit_slants_to_the_other_side_and_a_moved_one_is_the_same():
    digit = parallelogram(3, 14, 0.4) | parallelogram(12, 2, 0.0)
    plain, mirrored, moved = measure(np.stack([digit, digit[:, ::-1], np.roll(digit, (2, -3), (0, 1))]))
    assert_allclose(mirrored[3], -plain[3], atol=2e-3)  # grey levels are cut, not rounded
    assert_allclose(moved, plain, atol=1e-9)


def test_a_digit_is_measured_as_if_it_were_alone():
    rng = np.random.default_rng(0)
    shapes = [parallelogram(rng.uniform(1, 9), rng.uniform(5, 26), rng.uniform(-1, 1)) for _ in range(12)]
    together = measure(np.stack(shapes))
    assert_allclose(np.concatenate([measure(shape[None]) for shape in shapes]), together, rtol=1e-9)
    assert_array_equal(measure(np.stack(shapes)), together)


@pytest.mark.network
def test_the_first_training_image_has_the_attributes_that_morpho_mnist_gives(tmp_path):
    first = measure(_attributes.ORIGINALS["mnist"](tmp_path)[:1])[0]
    assert [f"{value:.4g}" for value in first] == ["107.3", "50.27", "2.461", "0.2311", "14.54", "19.85"]


# --- where they are from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "mnist_dev"])
def test_measured_attributes_are_those_of_the_scored_rows_and_are_kept(small, tmp_path, monkeypatch, name):
    images, rows = small.images[:, 0], np.arange(100, 400, 3)
    monkeypatch.setitem(_attributes.ORIGINALS, name, lambda root: images)
    data = replace(small, name=name, score_rows=rows, grid=False)
    table, names = attributes_of(data, rows[5:40:7], tmp_path)
    assert names == NAMES and table.dtype == np.float64
    assert_allclose(table, measure(images[rows[5:40:7]]), rtol=1e-9)
    kept = (tmp_path / f"{name}_attributes.h5").read_bytes()
    monkeypatch.setitem(_attributes.ORIGINALS, name, None)  # is not asked again
    assert_array_equal(attributes_of(data, rows[5:40:7], tmp_path)[0], table)
    assert (tmp_path / f"{name}_attributes.h5").read_bytes() == kept
    assert attributes_of(replace(data, name="other"), rows, tmp_path) == (None, ())


def test_what_cannot_be_measured_is_said_before_any_work(small, tmp_path, monkeypatch):
    def gone(root):
        raise DataError("MNIST cannot be had")

    monkeypatch.setitem(_attributes.ORIGINALS, "mnist", gone)
    found, said = plugins.discover(), []

    def measurable(*names):
        options = options_parser().parse_args(["--models", "vae", "--metrics", *names])
        data = {"mnist": replace(small, name="mnist")}
        return plan._measurable(options, found, data, tmp_path, "quick", {"attributes", "mig"}, said.append)

    assert measurable("all") == {"mig"} and said == ["without attributes: MNIST cannot be had"]
    for names in (("attributes", "mig"), ("all", "attributes")):
        with pytest.raises(DataError, match="MNIST cannot be had"):
            measurable(*names)
    monkeypatch.setitem(_attributes.ORIGINALS, "mnist", lambda root: small.images[:, 0])
    assert measurable("attributes", "mig") == {"attributes", "mig"}


def test_a_data_set_may_bring_its_own(small, tmp_path):
    own = np.arange(2.0 * len(small.images)).reshape(-1, 2)
    table, names = attributes_of(replace(small, attributes=own, attribute_names=("a", "b")), np.array([5, 3]), tmp_path)
    assert names == ("a", "b") and table.tolist() == [[10, 11], [6, 7]]


@pytest.mark.parametrize(
    ("table", "names", "fault"),
    [
        (np.zeros((575, 2)), ("a", "b"), r"attributes are \(575, 2\) float64, needed \(576, a\) floats"),
        (np.zeros((576, 2), int), ("a", "b"), r"attributes are \(576, 2\) int64, needed \(576, a\) floats"),
        (np.zeros((576, 2)), ("a",), "2 columns of attributes and the names .*, needed as many different ones"),
        (np.zeros((576, 2)), ("a", "a"), "needed as many different ones"),
        (np.full((576, 1), np.nan), ("a",), r"attributes of image \[0\] are not finite \(576 such images\)"),
        (None, ("a",), "there are names of attributes, .*, and no attributes"),
    ],
)
def test_a_table_that_breaks_its_promise_is_refused_by_name(small, tmp_path, table, names, fault):
    data = replace(small, attributes=table, attribute_names=names)
    with pytest.raises(Fault, match=fault):
        attribute_table(DataCase("blobs", lambda root: data, tmp_path))
    with pytest.raises(ValueError, match="attributes"):
        Codes(np.zeros((576, 1)), small.factors, small.factor_names, small.factor_sizes, attributes=table,
              attribute_names=names)  # fmt: skip


@pytest.mark.parametrize("name", ["images", "factors", "train_rows", "score_rows"])
def test_a_list_in_the_place_of_an_array_is_refused_by_name(small, tmp_path, name):
    data = replace(small, **{name: getattr(small, name)[:3].tolist()})
    with pytest.raises(Fault, match=f"^{name} is a list, needed a numpy array"):
        fields(DataCase("blobs", lambda root: data, tmp_path))
    fields(DataCase("blobs", lambda root: replace(small, factor_sizes=np.array(small.factor_sizes)), tmp_path))


def test_an_attribute_cannot_have_the_name_of_scores(small, tmp_path):
    data = replace(small, attributes=np.zeros((576, 1)), attribute_names=("within",))
    with pytest.raises(Fault, match="no attribute can be called 'within'"):
        attribute_table(DataCase("blobs", lambda root: data, tmp_path))
    with pytest.raises(ValueError, match="no attribute can be called 'within'"):
        score("attributes", np.zeros((9, 1)), attributes=np.zeros((9, 1)), attribute_names=["within"])


def test_editing_the_measuring_changes_no_run_but_the_scores_of_metrics_that_ask_for_it(tmp_path, monkeypatch):
    chosen = plugins.discover()
    before = {name: sources.of_metric(chosen["metric"][name]) for name in ("attributes", "kl")}
    runs = [Spec(data, model, 0, 1, 16, 1e-3) for data in ("mnist", "mnist_dev") for model in ("vae", "factors")]
    assert not [stage for spec in runs for stage in sources.of_run(spec, chosen).values()
                if "data/_attributes.py" in stage]  # fmt: skip
    edited = tmp_path / "_attributes.py"
    edited.write_text(sources.MEASURING.read_text().replace("OUTSIDE = 0.01", "OUTSIDE = 0.02"))
    monkeypatch.setattr(sources, "MEASURING", edited)
    after = {name: sources.of_metric(chosen["metric"][name]) for name in before}
    assert after["attributes"] != before["attributes"] and after["kl"] == before["kl"]


def test_attributes_are_part_of_what_a_users_data_set_is(small):
    own = plugins.Plugin("data set", "own", Path("own.py"))
    tables = [None, np.zeros((576, 1)), np.ones((576, 1))]
    data = [replace(small, attributes=table, attribute_names=() if table is None else ("a",)) for table in tables]
    assert len({sources.images_of(own, one) for one in data}) == 3


def scores_of(model, dataset, folder):
    """Key -> (value, note) of the metric, by a run's process."""
    file = folder / "measured.py"
    file.write_text(MEASURED)
    chosen, spec = plugins.discover([file]), Spec(dataset, model, 0, 0, 0, 0.0)
    plugin = plugins.pick("data set", dataset, chosen)
    origin = sources.images_of(plugin, plugin.load()(folder))
    run = folder / spec.id()
    job = Job(spec, run, ("attributes",), "quick", folder, (file,), sources=sources.of_run(spec, chosen), origin=origin)
    worker.run_one(job)
    return {row["metric"]: (float(row["value"] or "nan"), row["note"]) for row in store.read_csv(run / "scores.csv")}


def test_in_a_run_the_ceiling_has_the_attributes_as_latents_and_noise_tells_nothing(tmp_path):
    ceiling, noise = scores_of("factors", "measured", tmp_path), scores_of("noise", "measured", tmp_path)
    assert ceiling.keys() == noise.keys() and len(noise) == 4 * 3
    assert all(value > 1 - 1e-9 for value, _ in ceiling.values())
    assert all(value < 0.05 for value, _ in noise.values())


def test_a_data_set_without_attributes_has_no_score(tmp_path):
    (found,) = scores_of("noise", "blobs", tmp_path).items()
    assert found[0] == "attributes" and np.isnan(found[1][0]) and "no attributes" in found[1][1]


# --- what latents tell ----------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
N = 12_000


def told(codes, table, digits=None, **more):
    factors = np.zeros((len(table), 0), int) if digits is None else digits
    return score("attributes", codes, factors, attributes=table, **more)


def test_what_one_latent_and_all_tell_is_the_known_share():
    z = RNG.normal(size=(N, 3))
    wanted = np.column_stack([2 * z[:, 0] + z[:, 1] + RNG.normal(size=N), z[:, 2] / 1000 + 7])
    scores = told(z, wanted, attribute_names=("blend", "pure"))
    assert_allclose([scores[f"attributes_blend_{kind}"] for kind in ("one", "all")], (4 / 6, 5 / 6), atol=0.03)
    assert_allclose([scores[f"attributes_pure_{kind}"] for kind in ("one", "all")], 1, atol=1e-9)
    assert_allclose(scores["attributes_one"], (4 / 6 + 1) / 2, atol=0.02)


def test_what_is_the_classes_alone_is_told_overall_and_not_within():
    """Variances: 1 between four classes (means -1.34 to 1.34), 1 within."""
    classes, own = RNG.integers(4, size=N), RNG.normal(size=N)
    level = (classes - 1.5) / np.sqrt(1.25)
    table = (level + own)[:, None]
    by_class = told(np.zeros((N, 1)), table, classes, classes=classes)
    assert_allclose([by_class[f"attributes_{kind}"] for kind in ("one", "all", "within_one", "within_all")],
                    (0, 0.5, 0, 0), atol=0.03)  # fmt: skip
    by_level = told(level[:, None], table, classes)
    assert_allclose([by_level[f"attributes_{kind}"] for kind in ("one", "within_one")], (0.5, 0), atol=0.03)
    by_own = told(own[:, None], table, classes)
    assert_allclose([by_own[f"attributes_{kind}"] for kind in ("one", "within_one")], (0.5, 1), atol=0.03)


def test_noise_is_not_told_however_many_latents_there_are():
    scores = told(RNG.normal(size=(150, 80)), RNG.normal(size=(150, 2)), RNG.integers(3, size=150))
    assert max(scores.values()) < 0.1  # on the points fitted 80 latents tell 0.8 of it


def test_fixed_test_rows_have_attributes_of_their_own():
    z, z_test = RNG.normal(size=(400, 1)), RNG.normal(size=(300, 1))
    rows = {"codes_test": z_test, "factors_test": np.zeros((300, 0), int)}
    assert told(z, 3 * z, attributes_test=3 * z_test, **rows)["attributes_one"] == pytest.approx(1)
    assert told(z, 3 * z, attributes_test=-3 * z_test, **rows)["attributes_one"] == 0
    with pytest.raises(ValueError, match="test rows"):
        told(z, 3 * z, **rows)
    with pytest.raises(ValueError, match="attributes_test needs codes_test"):
        told(z, 3 * z, attributes_test=3 * z_test)


def test_an_attribute_that_does_not_vary_is_said_to():
    z = RNG.normal(size=(400, 1))
    scores = told(z, np.column_stack([z, np.full(400, 0.1)]))
    assert np.isnan(scores["attributes_a1_all"]) and "does not vary" in scores.notes["attributes_a1_all"]
    assert scores["attributes_one"] == pytest.approx(1)
