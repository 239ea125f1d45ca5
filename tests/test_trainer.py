import dataclasses

import numpy as np
import pytest
import safetensors
import torch

from benchmark import store
from benchmark.running import encoder, trainer, watch
from benchmark.spec import Spec
from metrics import metric_rng
from metrics.elbo_parts import elbo_parts
from models import Model
from models.autoencoder import Autoencoder
from models.cascadevae import CascadeVAE
from models.jointvae import JointVAE
from models.vae import VAE

SPEC = Spec("blobs", "jointvae", 3, 23, 32, 5e-4, hparams={"latents": 4, "categories": (3,), "capacity_steps": 10})
SPEC_OF_AUTOENCODER = Spec("blobs", "autoencoder", 3, 20, 32, 5e-4, hparams={"latents": 4})


@pytest.fixture(autouse=True)
def short_rows(monkeypatch):
    """A history row and a checkpoint per 10 steps instead of 100, so that few steps show all."""
    monkeypatch.setattr(trainer, "HISTORY_EVERY", 10)
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)


class Stop(Exception):
    pass


def stop_at(step):
    def progress(done):
        if done == step:
            raise Stop

    return progress


def trained(data, spec=SPEC, cls=JointVAE, **options):
    model = trainer.build(cls, spec, data)
    return model, trainer.train(model, data, spec, **options)


def equal(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_history_has_a_row_per_interval_and_one_at_the_end(small):
    _, history = trained(small)
    assert [row["step"] for row in history] == [10, 20, 23]
    assert {"loss", "recon", "kl", "kl_z0", "kl_z3", "kl_c0", "capacity_z"} <= set(history[0])


def test_gradients_are_clipped_where_a_model_asks_for_it(small):
    class Clipped(VAE):
        clip_norm = 0.5

    def norm(model):
        return torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()

    spec = dataclasses.replace(SPEC, model="vae", steps=1, hparams={"latents": 4})
    (free, _), (clipped, _) = trained(small, spec, VAE), trained(small, spec, Clipped)
    assert norm(free) > 1 and norm(clipped) == pytest.approx(0.5, rel=1e-4)
    assert torch.allclose(free.encoder[0].weight.grad * 0.5 / norm(free), clipped.encoder[0].weight.grad, rtol=1e-3)


def test_history_is_the_mean_over_the_steps(small):
    seen = []

    class Spy(JointVAE):
        def losses(self, x, step, rng):
            losses = super().losses(x, step, rng)
            seen.append(losses["recon"].item())
            return losses

    _, history = trained(small, cls=Spy)
    assert history[0]["recon"] == pytest.approx(np.mean(seen[:10]), rel=1e-6)
    assert history[-1]["recon"] == pytest.approx(np.mean(seen[20:]), rel=1e-6)


@pytest.mark.parametrize("stops", [[15], [20, 22], [5, 11]])
def test_resumed_training_ends_with_the_same_bits(small, tmp_path, stops):
    expected, history = trained(small)
    path = tmp_path / "checkpoint.safetensors"
    for step in stops:
        with pytest.raises(Stop):
            trained(small, checkpoint=path, progress=stop_at(step))
    seen = []
    model, again = trained(small, checkpoint=path, progress=seen.append)
    assert again == history
    assert equal(model, expected)
    assert seen[0] == 10 * (stops[-1] // 10) + 1


def another_heap():
    blocks = [np.empty(size, np.uint8) for size in np.random.default_rng(0).integers(1, 200_000, 300)]
    del blocks[::2]
    HELD.extend(blocks)


def other_shapes():
    for size in range(5, 40):
        torch.nn.Conv2d(size % 7 + 1, size % 5 + 1, 3)(torch.randn(2, size % 7 + 1, size, size))


def more_threads():
    torch.set_num_threads(2)
    torch.randn(600, 600) @ torch.randn(600, 600)
    torch.set_num_threads(1)


def bfloat16(data):
    trained(data, dataclasses.replace(SPEC, precision="bf16", steps=3))


HELD: list[np.ndarray] = []


@pytest.mark.slow
def test_one_long_process_gives_the_same_bits_whatever_was_done_in_it_before(small, tmp_path):
    first, _ = trained(small)
    for number, disturb in enumerate([another_heap, other_shapes, more_threads, lambda: bfloat16(small)] * 3):
        disturb()
        again, _ = trained(small)
        assert equal(first, again), disturb
        checkpoint = tmp_path / f"{number}.safetensors"
        with pytest.raises(Stop):
            trained(small, checkpoint=checkpoint, progress=stop_at(13))
        disturb()
        resumed, _ = trained(small, checkpoint=checkpoint)
        assert equal(first, resumed), disturb


def test_a_corrupt_checkpoint_is_named_and_training_starts_anew(small, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    expected, _ = trained(small)
    with pytest.raises(Stop):
        trained(small, checkpoint=path, progress=stop_at(15))
    intact = path.read_bytes()
    for broken in (intact[: len(intact) // 2], flipped(intact, len(intact) // 2), b"", b"\0" * 100):
        path.write_bytes(broken)
        warnings: list[str] = []
        model, _ = trained(small, checkpoint=path, warn=warnings.append)
        assert len(warnings) == 1 and str(path) in warnings[0]
        assert equal(model, expected)


def flipped(content: bytes, index: int) -> bytes:
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


class Diverging(VAE):
    def losses(self, x, step, rng):
        losses = super().losses(x, step, rng)
        losses["loss"] = losses["loss"] * (float("inf") if step == 11 else 1.0)
        return losses


def test_divergence_stops_the_run_and_says_what_was_not_finite(small):
    spec = dataclasses.replace(SPEC, model="vae", hparams={})
    with pytest.raises(trainer.Diverged, match=r"diverged by step 20: .*loss=(inf|nan)"):
        trained(small, spec, Diverging)


class Two(VAE):
    """A second optimiser on detached codes, as FactorVAE's critic."""

    def __init__(self, shape, n_images, latents=4):
        super().__init__(shape, n_images, latents)
        self.critic = torch.nn.Linear(latents, 1)

    def losses(self, x, step, rng):
        losses = super().losses(x, step, rng)
        z = self.encode(x).mean
        losses["loss"] = losses["loss"] + 0.1 * self.critic(z).square().mean()
        losses["critic"] = (self.critic(z.detach()) - 1).square().mean()
        return losses

    def optimizers(self, lr):
        own = [p for name, p in self.named_parameters() if not name.startswith("critic")]
        return {"loss": torch.optim.Adam(own, lr), "critic": torch.optim.SGD(self.critic.parameters(), 0.05, 0.9)}


def test_two_optimisers_each_move_their_own_parameters_and_resume(small, tmp_path):
    spec = dataclasses.replace(SPEC, model="two", hparams={})
    expected, history = trained(small, spec, Two)
    assert history[-1]["critic"] < history[0]["critic"]
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        trained(small, spec, Two, checkpoint=path, progress=stop_at(15))
    model, _ = trained(small, spec, Two, checkpoint=path)
    assert equal(model, expected)


def test_bf16_keeps_weights_and_losses_in_float32(small):
    spec = dataclasses.replace(SPEC, steps=5, precision="bf16")
    model, history = trained(small, spec)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert isinstance(model, Model) and np.isfinite(history[-1]["loss"])


def test_checkpoints_hold_no_code(small, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    trained(small, dataclasses.replace(SPEC, steps=5), checkpoint=path)
    assert int(store.load_tensors(path)["step"]) == 5
    with safetensors.safe_open(path, framework="pt") as file:
        assert set(file.metadata()) == {"sha256"}
    content = path.read_bytes()
    trained(small, dataclasses.replace(SPEC, steps=5), checkpoint=path.with_name("again"))
    assert content == path.with_name("again").read_bytes()


class Dropping(JointVAE):
    """Trains otherwise than it encodes, so that a spectator who leaves it in evaluation is found out."""

    def losses(self, x, step, rng):
        return super().losses(x * 0.5 if self.training else x, step, rng)


def test_the_parts_of_the_kl_are_watched_and_change_no_bit(small, monkeypatch):
    monkeypatch.setattr(watch, "due", lambda step: step % 10 == 0)
    plain, _ = trained(small, cls=Dropping)
    model, history = trained(small, cls=Dropping, watch=watch.watch(small, SPEC))
    assert equal(plain, model) and not np.isnan([row["elbo_information"] for row in history]).any()
    codes = encoder.encode(model, small, encoder.select(small, "study"))
    full = elbo_parts(codes, np.random.default_rng(0))
    for part in watch.PARTS:
        error = full[f"elbo_parts_{part}_se"]  # of four times as many draws
        assert history[-1][f"elbo_{part}"] == pytest.approx(full[f"elbo_parts_{part}"], abs=8 * error)


def test_a_class_that_has_not_begun_is_not_watched(small):
    hparams = {"latents": 2, "categories": (3,), "release_steps": 5, "discrete_steps": 15}
    spec = Spec("blobs", "cascadevae", 3, 20, 32, 5e-4, hparams=hparams)
    model = trainer.build(CascadeVAE, spec, small)
    codes = encoder.encode(model, small, encoder.select(small, "study"))
    latents = dataclasses.replace(codes, probs=())
    for step, one, other in ((15, latents, codes), (16, codes, latents)):
        expected, not_expected = (
            elbo_parts(table, metric_rng(3, "watch", step), n_train=codes.n, draws=watch.DRAWS)
            for table in (one, other)
        )
        found = watch.watch(small, spec).note(model, step)["elbo_information"]
        assert found == expected["elbo_parts_information"] != not_expected["elbo_parts_information"]


def test_a_run_resumed_between_two_measurements_has_the_same_parts(small, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "due", lambda step: step % 20 == 0)
    whole = trained(small, watch=watch.watch(small, SPEC))[1]
    with pytest.raises(Stop):
        trained(small, watch=watch.watch(small, SPEC), checkpoint=tmp_path / "c", progress=stop_at(13))
    resumed = trained(small, watch=watch.watch(small, SPEC), checkpoint=tmp_path / "c")[1]
    assert str(resumed) == str(whole)
    assert [bool(np.isnan(row["elbo_information"])) for row in whole] == [True, False, False]


def test_a_code_that_is_not_finite_is_not_the_spectators_to_judge(small):
    class Wild(JointVAE):
        def encode(self, x):
            q = super().encode(x)
            return q if self.training else dataclasses.replace(q, mean=q.mean * float("inf"))

    _, history = trained(small, cls=Wild, watch=watch.watch(small, SPEC))
    assert np.isnan(history[-1]["elbo_information"]) and np.isfinite(history[-1]["loss"])


def test_a_deterministic_code_has_no_parts(small):
    _, history = trained(small, SPEC_OF_AUTOENCODER, Autoencoder, watch=watch.watch(small, SPEC_OF_AUTOENCODER))
    assert np.isnan([row["elbo_information"] for row in history]).all()


def test_a_run_that_goes_on_from_shorter_ones_has_the_bits_of_a_single_one(small, tmp_path, monkeypatch):
    """Lengths on and off the multiples of 10 that have rows here, and of 20 where the KL's parts are due."""
    monkeypatch.setattr(watch, "due", lambda step: step % 20 == 0)
    for steps in (7, 10, 20, 23, 40):
        spec = dataclasses.replace(SPEC, steps=steps)
        grown, history = trained(small, spec, watch=watch.watch(small, spec), checkpoint=tmp_path / "c")
        single, expected = trained(small, spec, watch=watch.watch(small, spec))
        assert equal(grown, single) and str(history) == str(expected)
        assert [row["step"] for row in history] == [*range(10, steps, 10), steps]
        assert np.isfinite(history[-1]["elbo_information"])


def test_loggers_are_told_every_row_of_the_history_once(small, tmp_path):
    for steps in (20, 23, 40):
        told = []
        spec = dataclasses.replace(SPEC, steps=steps)
        _, history = trained(small, spec, checkpoint=tmp_path / "c", log=told.append)
        assert told == history
