"""One training step: its batch on a device, its number as data, and its recording."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark import plugins
from benchmark.authoring.contract_model import image_sets
from benchmark.errors import UserError
from benchmark.running import step as step_module
from benchmark.running import trainer
from benchmark.running.step import Captured, Step, captures, epoch_rows, step_of
from benchmark.spec import SCHEDULE, Spec, hyper_parameters
from data import Dataset, _dataset
from data._dataset import Images
from models import Model
from models.vae import VAE

MODELS = {name: plugin.load() for name, plugin in plugins.discover()["model"].items() if plugin.builtin}
CAPTURED = sorted(name for name, cls in MODELS.items() if captures(cls))
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def spec_of(name, data, **changes):
    short = {parameter: 8 for parameter in hyper_parameters(MODELS[name]) if parameter.endswith(SCHEDULE)}
    return replace(Spec(data.name, name, 3, 9, 16, 1e-3, hparams=short), **changes)


def packed(data):
    flat = (data.images > 127).reshape(len(data.images), -1)
    return replace(data, images=np.packbits(flat, axis=1))


def sets():
    found = image_sets()
    return {"grey": found["32x32"], "colour": found["64x64 in colour"], "packed": packed(found["64x64"]),
            "packed in colour": packed(found["32x32 in colour"])}  # fmt: skip


@pytest.mark.parametrize("kind", sets())
def test_images_on_a_device_are_those_of_batch(kind):
    data = sets()[kind]
    rows = np.random.default_rng(0).permutation(len(data.images))[:40]
    expected = data.batch(rows)
    found = Images(data.images, data.shape, torch.device("cpu")).batch(torch.from_numpy(rows))
    assert found.dtype == torch.float32 and found.shape == expected.shape == (40, *data.shape)
    assert torch.equal(found, expected)


def test_images_are_moved_once_and_given_back(small):
    data, meta = replace(small), torch.device("meta")
    first = data.reader(small.train_rows, meta)(slice(0, 7))
    moved = data._moved[meta]
    assert first.shape == (7, *small.shape) and first.device == meta and moved.pixels.dtype == torch.uint8
    data.reader(small.score_rows, meta)
    assert data._moved == {meta: moved}
    data.forget()
    assert not data._moved


class Inverted(Dataset):
    def batch(self, rows):
        return 1 - super().batch(rows)


def test_a_batch_of_ones_own_is_used_and_moved(small):
    data = Inverted(**{name: getattr(small, name) for name in small.__dataclass_fields__})
    rows = np.arange(50)
    assert torch.equal(data.reader(rows, torch.device("cpu"))(slice(10, 20)), 1 - small.batch(rows[10:20]))
    assert data.reader(rows, torch.device("meta"))(slice(10, 20)).device.type == "meta" and not data._moved


def test_images_beyond_what_a_device_is_given_are_moved_batch_by_batch(small, monkeypatch):
    monkeypatch.setattr(_dataset, "MOST", small.images.nbytes - 1)
    data = replace(small)
    assert data.reader(data.train_rows, torch.device("meta"))(slice(5)).device.type == "meta" and not data._moved


def seen(data, steps, **changes):
    """The batches of some steps."""
    one = Step(VAE(data.shape, len(data.train_rows)), data, spec_of("vae", data, **changes), {})
    return [one._batch(step) for step in steps]


def test_an_epoch_sees_every_image_once_and_batches_depend_on_seed_and_step_alone(small):
    rows = small.train_rows
    assert sorted(epoch_rows(rows, 0, 0)) == sorted(rows)
    assert not np.array_equal(epoch_rows(rows, 0, 0), epoch_rows(rows, 0, 1))
    assert not np.array_equal(epoch_rows(rows, 0, 0), epoch_rows(rows, 1, 0))
    per_epoch = len(rows) // 100
    batches = seen(small, range(2 * per_epoch), batch_size=100)
    assert torch.equal(torch.cat(batches[:per_epoch]), small.batch(epoch_rows(rows, 3, 0)[: 100 * per_epoch]))
    assert torch.equal(batches[per_epoch], small.batch(epoch_rows(rows, 3, 1)[:100]))
    assert torch.equal(seen(small, [per_epoch + 2], batch_size=100)[0], batches[per_epoch + 2])


def found_at(model, x, step):
    """Losses of a step and the gradients by each."""
    losses = model.losses(x, step, torch.Generator().manual_seed(0))
    gradients = {}
    for name, optimizer in model.optimizers(1e-3).items():
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients[name] = torch.autograd.grad(losses[name], parameters, retain_graph=True)
    return losses, gradients


@pytest.mark.parametrize("name", CAPTURED)
def test_a_step_as_a_tensor_gives_the_bits_of_the_number(small, name):
    model, x = trainer.build(MODELS[name], spec_of(name, small), small), small.batch(small.train_rows[:8])
    for step in (0, 3, 7, 8, 100):
        losses, gradients = found_at(model, x, step)
        again, others = found_at(model, x, torch.tensor(step, dtype=torch.float64))
        assert losses.keys() == again.keys()
        for key, value in losses.items():
            assert value.dtype == again[key].dtype == torch.float32 and torch.equal(value, again[key]), (step, key)
        for key, parts in gradients.items():
            assert all(torch.equal(a, b) for a, b in zip(parts, others[key], strict=True)), (step, key)


def trained(kind, name, data, precision="fp32", **options):
    """Weights and totals: of three steps, then of two more each time, half of them emptied by a new dictionary."""
    spec = spec_of(name, data, precision=precision)
    model = trainer.build(MODELS[name], spec, data).train()
    one = kind(model, data, spec, model.optimizers(spec.lr), **options)
    rows = []
    for step in range(spec.steps):
        one(step)
        if step % 2 == 0:
            rows.append({key: total.tolist() for key, total in one.totals.items()})
            one.totals = {} if step % 4 else {key: total.clone() for key, total in one.totals.items()}
    return model.state_dict(), rows


@pytest.mark.parametrize("name", CAPTURED)
def test_a_step_through_the_recordings_buffers_has_the_bits_of_a_plain_one(small, name):
    calls = []

    def record(work, rng):
        def replay():
            calls.append(rng.initial_seed())
            work()

        return replay

    precision = "bf16" if name == "jointvae" else "fp32"
    plain, rows = trained(Step, name, small, precision)
    weights, again = trained(Captured, name, small, precision, record=record)
    assert again == rows and all(torch.equal(plain[key], weights[key]) for key in plain)
    assert len(calls) == len(set(calls)) == spec_of(name, small).steps - Captured.FIRST


def test_a_recordings_state_of_optimisers_is_that_of_plain_ones(small, tmp_path):
    """A checkpoint of a captured training goes on as a plain one's, and the other way round."""

    def half(kind, checkpoint, steps, monkeypatch):
        monkeypatch.setattr(trainer, "step_of", lambda *parts: kind(*parts))
        spec = spec_of("factorvae", small, steps=steps)
        model = trainer.build(MODELS["factorvae"], spec, small)
        return trainer.train(model, small, spec, checkpoint=checkpoint), model.state_dict()

    def buffered(*parts):
        return Captured(*parts, record=lambda work, rng: work)

    expected = None
    for i, kinds in enumerate([(Step, Step), (buffered, Step), (Step, buffered), (buffered, buffered)]):
        with pytest.MonkeyPatch.context() as monkeypatch:
            half(kinds[0], tmp_path / str(i), 6, monkeypatch)
            content = (tmp_path / str(i)).read_bytes()
            history, weights = half(kinds[1], tmp_path / str(i), 12, monkeypatch)
        expected = expected or (content, history, weights)
        assert history == expected[1] and content == expected[0]
        assert all(torch.equal(weights[key], value) for key, value in expected[2].items())


def test_only_a_class_that_says_so_itself_is_captured(small):
    class Mine(VAE):
        pass

    class Again(VAE):
        captures = True

    assert not captures(Model) and captures(VAE) and not captures(Mine) and captures(Again)
    assert set(MODELS) - set(CAPTURED) == {"cascadevae"}
    spec = spec_of("vae", small)
    model = trainer.build(VAE, spec, small)
    assert type(step_of(model, small, spec, model.optimizers(1e-3))) is Step  # on a CPU


def test_optimisers_that_count_on_the_host_are_not_captured():
    weights = [torch.nn.Parameter(torch.zeros(2))]
    able = {torch.optim.Adam: True, torch.optim.SGD: True, torch.optim.RMSprop: True, torch.optim.Adagrad: False,
            torch.optim.LBFGS: False}  # fmt: skip
    for cls, expected in able.items():
        assert step_module._capturable(cls(weights, lr=0.1)) is expected, cls


def test_a_step_that_cannot_be_captured_says_which_model_claimed_it(small):
    def record(work, rng):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    spec = spec_of("vae", small)
    model = trainer.build(VAE, spec, small)
    one = Captured(model, small, spec, model.optimizers(1e-3), record=record)
    with pytest.raises(
        UserError, match=r"VAE has captures = True.*: operation not permitted when stream is capturing$"
    ):
        for step in range(Captured.FIRST):
            one(step)


@GPU
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", CAPTURED)
def test_a_cuda_graph_has_the_bits_of_single_steps(small, name, precision, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(trainer, "HISTORY_EVERY", 5)
    torch.use_deterministic_algorithms(True, warn_only=True)
    spec, found = spec_of(name, small, steps=23, precision=precision), []
    try:
        for kind in (step_of, Step):
            monkeypatch.setattr(trainer, "step_of", kind)
            model = trainer.build(MODELS[name], spec, small, "cuda")
            found.append((trainer.train(model, small, spec), model.state_dict()))
    finally:
        torch.use_deterministic_algorithms(False)
    (history, weights), (plain_history, plain) = found
    assert history == plain_history and all(torch.equal(weights[key], plain[key]) for key in plain)


@GPU
def test_images_on_a_gpu_are_those_of_batch():
    for data in sets().values():
        read = data.reader(data.train_rows, torch.device("cuda"))
        assert torch.equal(read(slice(3, 40)).cpu(), data.batch(data.train_rows[3:40]))
