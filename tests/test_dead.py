"""Which runs count as dead: real models, scored as runs are, on grey, noisy and binary images."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.running import encoder, floors, trainer
from benchmark.spec import Spec
from benchmark.statistics import stats
from data.mnist_dev import TRAINED
from metrics import metric_rng, run_metric, settings
from metrics.active_units import active_units
from metrics.discrete_accuracy import discrete_accuracy
from metrics.kl import kl
from metrics.reconstruction import reconstruction
from models.autoencoder import Autoencoder
from models.jointvae import JointVAE
from models.vae import VAE

METRICS = (active_units, kl, reconstruction, discrete_accuracy)


def scored(codes, data, model, kind="run"):
    rows = []
    for metric in METRICS:
        found = run_metric(metric, codes, metric_rng(0, metric.__name__), {})
        rows += [{"metric": key, "value": value} for key, value in found.items()]
    same = {"dataset": data.name, "model": model, "config": "c", "kind": kind, "seed": 0, "protocol": "study",
            "draw": 0, "steps": 10, "better": "higher"}  # fmt: skip
    return pd.DataFrame(rows).assign(**same)


def state(model, data):
    """The state of a run with this model, beside the floors of its data set."""
    selection = encoder.select(data, "study")
    levels = {name: {**floors.FLOORS, **floors.CEILINGS}[name](data, selection, 0) for name in ("constant", "factors")}
    parts = [scored(codes, data, name, "floor") for name, codes in levels.items()]
    mine = scored(encoder.encode(model, data, selection), data, "mine")
    return stats.states(pd.concat([*parts, mine])).iloc[0]


def trained(cls, data, steps, **hparams):
    spec = Spec(data.name, "mine", 0, steps, 32, 1e-3, hparams=hparams)
    model = trainer.build(cls, spec, data)
    trainer.train(model, data, spec)
    return model


class Blind:
    """Decodes the mean image, whatever the latents say."""

    def decode(self, z):
        return self.logits.expand(len(z), *self.shape)


class BlindVAE(Blind, VAE):
    pass


class BlindJointVAE(Blind, JointVAE):
    pass


def blind(data, cls=BlindVAE, **hparams):
    model = trainer.build(cls, Spec(data.name, "mine", 0, 1, 32, 1e-3, hparams=hparams), data)
    images = data.batch(data.train_rows).mean(0).clamp(1e-4, 1 - 1e-4)
    model.logits = torch.logit(images)
    with torch.no_grad():  # a code that changes with the image, as a capacity wants it
        for layer in model.encoder:
            for parameter in layer.parameters():
                parameter.mul_(3)
    return model


@pytest.fixture(scope="module", params=["grey", "noisy", "binary"])
def data(request, small):
    if request.param == "grey":
        return small
    rng = np.random.default_rng(0)
    if request.param == "noisy":
        noise = rng.integers(0, 256, small.images.shape)
        return replace(small, name="noisy", images=((small.images.astype(int) + noise) // 2).astype(np.uint8))
    return replace(small, name="binary", images=np.where(small.images > 127, 255, 0).astype(np.uint8))


def test_levels_are_a_constant_image_and_the_entropy_of_the_pixels(data):
    selection = encoder.select(data, "study")
    x = data.batch(data.score_rows).double()
    mean = x.mean(0).clamp(0.5 / len(x), 1 - 0.5 / len(x)).expand_as(x)
    constant, least = (make(data, selection, 0).recon for make in (floors.constant, floors.factors))
    expected = torch.nn.functional.binary_cross_entropy(mean, x, reduction="none").flatten(1).sum(1)
    assert np.allclose(constant, expected, rtol=1e-5)
    own = torch.nn.functional.binary_cross_entropy(x, x, reduction="none").flatten(1).sum(1)
    assert np.allclose(least, own, atol=1e-3) and (least <= constant + 1e-3).all()
    assert (least.max() < 1e-3) == (data.name == "binary")


def test_a_decoder_that_ignores_its_latents_is_dead_whatever_the_kl(data):
    found = state(blind(data), data)
    assert found["state"] == "dead" and found["reason"] == "it reconstructs no better than a constant image"


@pytest.mark.parametrize("data", [pytest.param("grey", marks=pytest.mark.slow),
                                  pytest.param("noisy", marks=pytest.mark.slow), "binary"],
                         indirect=True)  # fmt: skip
def test_a_run_that_learns_is_live_with_and_without_a_kl(data):
    assert state(trained(VAE, data, 300), data)["state"] == "live"
    assert state(trained(Autoencoder, data, 300, latents=4), data)["state"] == "live"


def test_an_autoencoder_whose_code_is_constant_is_dead(data):
    model = trainer.build(Autoencoder, Spec(data.name, "mine", 0, 1, 32, 1e-3), data)
    with torch.no_grad():
        model.encoder[-1].weight.zero_()
    found = state(model, data)
    assert found["state"] == "dead" and found["reason"] == "no latent is in use"


def test_a_jointvae_at_its_capacity_with_a_constant_code_is_dead(small):
    model = blind(small, BlindJointVAE, latents=3, categories=(3,))
    with torch.no_grad():  # N(μ, 1) with μ²/2 = 5 nats, for every image
        model.encoder[-1].weight.zero_()
        model.encoder[-1].bias.zero_()
        model.encoder[-1].bias[0] = math.sqrt(10)
    selection = encoder.select(small, "study")
    assert run_metric(kl, encoder.encode(model, small, selection), None, settings(kl, "study"))["kl_total"] > 4.9
    found = state(model, small)
    assert found["state"] == "dead" and found["class_state"] == "dead"


def test_the_untrained_network_is_dead(data):
    spec = Spec(data.name, "vae", 0, 0, 1, 0.0)
    assert state(trainer.build(VAE, spec, data), data)["state"] == "dead"


def test_mnist_dev_has_none_of_the_test_set(small, monkeypatch):
    from data import mnist_dev

    rows = np.arange(70_000)
    whole = replace(small, name="mnist", train_rows=rows[:60_000], score_rows=rows[60_000:])
    monkeypatch.setattr(mnist_dev, "mnist", lambda root: whole)
    found = mnist_dev.mnist_dev(Path())
    assert found.name == "mnist_dev" and found.like == "mnist" and TRAINED == 50_000
    assert np.array_equal(np.concatenate([found.train_rows, found.score_rows]), rows[:60_000])
