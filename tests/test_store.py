import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from benchmark import store
from benchmark.errors import UserError
from benchmark.running import encoder, floors, trainer
from benchmark.spec import Spec
from models.jointvae import JointVAE
from models.qlae import QLAE


def test_replacing_leaves_the_old_file_where_the_writer_fails(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), store.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import sys, time; from pathlib import Path; from benchmark import store\n"
        "with store.replacing(Path(sys.argv[1])) as p:\n"
        "    p.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.kill()
    process.wait()
    process.stdout.close()
    assert path.read_text() == "old"


REWRITE = """
import os, signal, sys
from pathlib import Path
from benchmark import store

folder, at = Path(sys.argv[1]), sys.argv[2]
whole = getattr(store, at)

def killed(*arguments):
    if at == "_list":
        whole(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(store, at, killed)
store.rewrite_csv(folder, "scores.csv", [{"a": 2}], ["a"])
"""


@pytest.mark.parametrize(("at", "kept"), [("digest", "1"), ("_list", "2")])
def test_a_kill_while_a_finished_file_is_replaced_loses_nothing(tmp_path, at, kept):
    """Killed before the new file is listed, the old one stands; killed after, the new one takes its place."""
    store.write_csv(tmp_path / "scores.csv", [{"a": 1}], ["a"])
    store.finish(tmp_path, "scores.csv")
    child = subprocess.run([sys.executable, "-c", REWRITE, str(tmp_path), at], cwd=Path(__file__).parent.parent)
    assert child.returncode == -signal.SIGKILL
    said = []
    store.is_finished(tmp_path, "scores.csv", warn=said.append)
    assert not said  # nothing is damaged
    store.sweep(tmp_path)
    assert store.is_finished(tmp_path, "scores.csv", warn=said.append) and not said
    assert store.read_csv(tmp_path / "scores.csv") == [{"a": kept}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SHA256SUMS", "scores.csv"]


def test_csv_keeps_every_digit_and_text_cannot_become_a_formula(tmp_path):
    path = tmp_path / "t.csv"
    rows = [{"x": 0.1 + 0.2, "text": "=1+1"}, {"x": -1e-17, "text": "-0.5"}, {"x": math.nan, "text": "@SUM(A1)"}]
    store.write_csv(path, rows)
    first, second, third = store.read_csv(path)
    assert float(first["x"]) == 0.1 + 0.2 and float(second["x"]) == -1e-17 and third["x"] == ""
    assert [row["text"] for row in (first, second, third)] == ["'=1+1", "-0.5", "'@SUM(A1)"]


def test_only_listed_files_with_their_digest_are_finished(tmp_path):
    (tmp_path / "a").write_text("1")
    assert not store.is_finished(tmp_path, "a")
    store.finish(tmp_path, "a")
    assert store.is_finished(tmp_path, "a") and not store.is_finished(tmp_path, "a", "b")
    (tmp_path / "a").write_text("2")
    warnings: list[str] = []
    assert not store.is_finished(tmp_path, "a", warn=warnings.append)
    assert str(tmp_path / "a") in warnings[0]
    store.discard(tmp_path, "a")
    assert store.sums(tmp_path) == {} and not (tmp_path / "a").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_tensors_survive_and_a_flipped_bit_does_not(tmp_path, dtype):
    path = tmp_path / "t.safetensors"
    tensors = {"a": torch.ones(3, 2).to(dtype), "scalar": torch.tensor(1).to(dtype), "none": torch.zeros(0).to(dtype)}
    store.save_tensors(path, tensors)
    loaded = store.load_tensors(path)
    assert loaded.keys() == tensors.keys() and all(torch.equal(loaded[n], t) for n, t in tensors.items())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(store.CorruptFile, match=str(path)):
        store.load_tensors(path)


def test_losses_that_come_and_go_are_named_before_a_checkpoint_is_written(tmp_path):
    model = torch.nn.Linear(1, 1)
    history = [{"step": 100, "loss": 1.0}, {"step": 200, "loss": 1.0, "late": 2.0}]
    with pytest.raises(UserError, match="late came at some steps only"):
        store.save_checkpoint(tmp_path / "c.safetensors", model, {}, 200, history, {})
    assert not list(tmp_path.iterdir())


def test_codes_survive(small, tmp_path):
    spec = Spec("blobs", "jointvae", 0, 1, 16, 1e-3, hparams={"latents": 3, "categories": (4, 2)})
    model = trainer.build(JointVAE, spec, small)
    codes = encoder.encode(model, small, encoder.select(small, "study"))
    store.save_codes(tmp_path / "codes.h5", codes, "all")
    again, rows = store.load_codes(tmp_path / "codes.h5")
    assert rows == "all" and again.factor_names == codes.factor_names and again.grid == codes.grid
    for name in ("mean", "logvar", "recon", "factors"):
        assert np.array_equal(getattr(again, name), getattr(codes, name), equal_nan=True)
    assert [p.shape[1] for p in again.probs] == [4, 2]


def test_quantised_codes_stay_so(small, tmp_path):
    spec = Spec("blobs", "qlae", 0, 1, 16, 1e-3, hparams={"latents": 3, "values": 4})
    model = trainer.build(QLAE, spec, small)
    codes = encoder.encode(model, small, encoder.select(small, "study"))
    store.save_codes(tmp_path / "codes.h5", codes, "all")
    again = store.load_codes(tmp_path / "codes.h5")[0]
    assert codes.ordinal and again.ordinal and again.logvar is None
    assert set(np.unique(again.mean)) <= set(model.points.detach().numpy().ravel().tolist())


def test_encoding_is_the_models_posterior_whatever_the_batches(small, monkeypatch):
    spec = Spec("blobs", "jointvae", 0, 1, 16, 1e-3, hparams={"latents": 3, "categories": (4,)})
    model = trainer.build(JointVAE, spec, small)
    selection = encoder.select(small, "study")
    codes = encoder.encode(model, small, selection)
    q = encoder.posterior(model, small.batch(small.score_rows))
    assert np.allclose(codes.mean, q.mean.numpy(), atol=1e-5) and np.allclose(codes.probs[0], q.probs[0], atol=1e-5)
    x = small.batch(small.score_rows[:5])
    logits = model.decode(encoder.posterior(model, x).mode())
    by_hand = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
    assert codes.recon is not None and np.allclose(codes.recon[:5], by_hand.detach().numpy(), rtol=1e-5)
    monkeypatch.setattr(encoder, "BATCH", 7)
    assert np.allclose(encoder.encode(model, small, selection).mean, codes.mean, atol=1e-5)


def test_quick_selects_a_regular_sub_grid_of_dsprites_geometry(small):
    import dataclasses

    sizes = (3, 6, 40, 32, 32)
    factors = np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1).astype(np.uint8)
    rows = np.arange(len(factors))
    fake = dataclasses.replace(small, factors=factors, factor_names=tuple("abcde"), factor_sizes=sizes,
                               class_factor="a", train_rows=rows, score_rows=rows)  # fmt: skip
    selection = encoder.select(fake, "quick")
    assert len(selection.rows) == 11_520 and selection.factor_sizes == (3, 6, 10, 8, 8)
    assert np.array_equal(np.ravel_multi_index(tuple(selection.factors.T), selection.factor_sizes), np.arange(11_520))
    everything = encoder.select(fake, "study")
    assert len(everything.rows) == 737_280 and everything.reconstructed.sum() == 11_520


@pytest.mark.parametrize("name", [*floors.FLOORS, *floors.CEILINGS])
def test_floors_are_deterministic_and_draw_from_their_seed_alone(small, name):
    make = {**floors.FLOORS, **floors.CEILINGS}[name]
    selection = encoder.select(small, "study")
    np.random.seed(1)  # noqa: NPY002 - the point is that nothing reads it
    torch.manual_seed(1)
    first = make(small, selection, 0)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(2)
    again = make(small, selection, 0)
    assert np.array_equal(first.mean, again.mean) and np.array_equal(first.classes, again.classes)
    assert len(first.mean) == len(selection.rows) and np.isfinite(first.mean).all()
    if name in ("noise", "untrained"):
        assert not np.array_equal(first.mean, make(small, selection, 1).mean)


def test_ica_is_white_and_a_rotation_of_the_whitened_principal_components(small):
    selection = encoder.select(small, "study")
    found, first = (make(small, selection, 0).mean.astype(float) for make in (floors.ica, floors.pca))
    assert np.allclose(np.cov(found.T), np.eye(10), atol=1e-2)
    white = (first - first.mean(0)) / first.std(0)
    turn = np.linalg.lstsq(white, found, rcond=None)[0]
    assert np.allclose(turn @ turn.T, np.eye(10), atol=2e-2)
    excess = [np.abs((z**4).mean(0) / (z**2).mean(0) ** 2 - 3).sum() for z in (found, white)]
    assert excess[0] > excess[1]


def test_ica_takes_the_start_whose_components_are_furthest_from_normal(small):
    selection = encoder.select(small, "study")
    x = floors._pca(small, 0).transform(floors._training_images(small, "pca", 0)).astype(float)
    fits = [floors._fast_ica(x, start) for start in range(floors.ICA_STARTS)]
    normal = quad(lambda value: np.log(np.cosh(value)) * norm.pdf(value), -30, 30)[0]
    contrasts = [sum((np.log(np.cosh(s)).mean() - normal) ** 2 for s in fit.transform(x).T) for fit in fits]
    assert max(contrasts) > 1.01 * min(contrasts)
    white = floors.pca(small, selection, 0).mean
    best = fits[int(np.argmax(contrasts))].transform(white)
    assert np.allclose(floors.ica(small, selection, 0).mean, best, atol=1e-4)
    others = [fit.transform(white) for fit, value in zip(fits, contrasts, strict=True) if value < max(contrasts)]
    assert not any(np.allclose(best, other, atol=1e-2) for other in others)


def test_kmeans_gives_one_class_an_image_and_no_continuous_latent(small):
    codes = floors.kmeans(small, encoder.select(small, "study"), 0)
    assert codes.mean.shape == (576, 0) and codes.probs[0].shape == (576, 3)
    assert set(np.unique(codes.probs[0])) == {0, 1} and len(np.unique(codes.classes)) == 3


@pytest.mark.parametrize("name", ["pca", "ica", "kmeans"])
def test_floors_survive_images_that_are_nearly_all_alike(small, name):
    import dataclasses

    images = small.images[np.arange(576) % 2]
    codes = floors.FLOORS[name](dataclasses.replace(small, images=images), encoder.select(small, "study"), 0)
    assert np.isfinite(codes.mean).all()
