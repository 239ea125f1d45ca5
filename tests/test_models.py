"""One contract for every model, on a set with several factors and on one with a single factor."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from benchmark import plugins, trainer
from benchmark.spec import Overrides, Spec, resolve
from models import Posterior, _nets, gumbel_softmax, reconstruction_loss

MODELS = sorted(plugins.discover()["model"])
SIDES = (32, 64)


def one_factor(data):
    return dataclasses.replace(
        data, factors=data.factors[:, :1], factor_names=data.factor_names[:1], factor_sizes=data.factor_sizes[:1],
        class_factor=data.factor_names[0], grid=False,
    )  # fmt: skip


@pytest.fixture(params=["blobs", "one factor"])
def data(request, small):
    return small if request.param == "blobs" else one_factor(small)


def model_class(name):
    return plugins.discover()["model"][name].load()


def spec_of(name, data, steps=60, **options) -> Spec:
    return resolve(data.name, data.shape[1], name, model_class(name), preset="quick",
                   overrides=Overrides(steps=steps, batch_size=64), **options)  # fmt: skip


def built(name, data, **options):
    spec = spec_of(name, data, **options)
    return trainer.build(model_class(name), spec, data), spec


def one_batch(model, data):
    return data.batch(data.train_rows[:16]), torch.Generator().manual_seed(0)


@pytest.mark.parametrize("name", MODELS)
def test_losses_are_finite_and_every_parameter_gets_a_gradient_from_its_own_loss(name, data):
    model, spec = built(name, data)
    x, rng = one_batch(model, data)
    losses = model.losses(x, 1, rng)
    assert all(torch.isfinite(value).all() for value in losses.values())
    optimizers = model.optimizers(spec.lr)
    owned = {id(p) for o in optimizers.values() for group in o.param_groups for p in group["params"]}
    assert owned == {id(p) for p in model.parameters()}
    for loss, optimizer in optimizers.items():
        optimizer.zero_grad()
        losses[loss].backward()
        for group in optimizer.param_groups:
            assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in group["params"])


@pytest.mark.parametrize("name", MODELS)
def test_codes_have_the_promised_shapes(name, data):
    model, _ = built(name, data)
    model.eval()
    x, _ = one_batch(model, data)
    q = model.encode(x)
    assert q.mean.shape == (16, model.latents)
    assert q.logvar is None or q.logvar.shape == q.mean.shape
    assert [p.shape for p in q.probs] == [(16, k) for k in model.categories]
    for p in q.probs:
        assert torch.allclose(p.sum(1), torch.ones(16), atol=1e-5)
    assert model.decode(q.mode()).shape == x.shape
    assert torch.equal(model.encode(x).mean, q.mean)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_both_image_sizes(name, side):
    model = model_class(name)((1, side, side), 100)
    x = torch.rand(2, 1, side, side)
    assert model.decode(model.encode(x).mode()).shape == x.shape


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_falls(name, small):
    model, spec = built(name, small)
    history = trainer.train(model, small, dataclasses.replace(spec, steps=1))
    more = trainer.train(model, small, dataclasses.replace(spec, steps=60))
    assert more[-1]["recon"] < history[0]["recon"]


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_same_bits_whatever_the_global_state(name, small):
    results = []
    for scramble in (1, 2):
        torch.manual_seed(scramble)
        np.random.seed(scramble)  # noqa: NPY002 - the point is that nothing reads it
        model, spec = built(name, small, steps=5)
        history = trainer.train(model, small, spec)
        results.append((history, model.state_dict()))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1].values(), results[1][1].values(), strict=True))


def test_seeds_differ(small):
    spec = spec_of("vae", small)
    first, second = (trainer.build(model_class("vae"), dataclasses.replace(spec, seed=s), small) for s in (0, 1))
    assert not torch.equal(first.encoder[0].weight, second.encoder[0].weight)


def test_kl_terms_against_torch_distributions():
    rng = torch.Generator().manual_seed(0)
    mean, logvar = torch.randn(50, 3, generator=rng), torch.randn(50, 3, generator=rng)
    probs = torch.softmax(torch.randn(50, 4, generator=rng), 1)
    q = Posterior(mean, logvar, (probs,))
    normal = torch.distributions.Normal(mean, (logvar / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean(0)
    assert torch.allclose(q.kl_normal(), expected, atol=1e-5)
    uniform = torch.distributions.Categorical(torch.full((50, 4), 0.25))
    expected = torch.distributions.kl_divergence(torch.distributions.Categorical(probs), uniform).mean()
    assert torch.allclose(q.kl_uniform(), expected[None], atol=1e-5)


def test_reconstruction_is_nats_per_image():
    x = torch.full((8, 1, 32, 32), 0.5)
    assert reconstruction_loss(torch.zeros_like(x), x).item() == pytest.approx(1024 * math.log(2))


def test_gumbel_softmax_draws_the_classes_with_their_probabilities():
    probs = torch.tensor([[0.7, 0.2, 0.1]]).repeat(20_000, 1)
    draws = gumbel_softmax(probs, torch.Generator().manual_seed(0), 0.67)
    assert torch.allclose(draws.sum(1), torch.ones(len(draws)), atol=1e-5)
    shares = torch.bincount(draws.argmax(1), minlength=3) / len(draws)
    assert torch.allclose(shares, probs[0], atol=0.015)
    sharper = gumbel_softmax(probs, torch.Generator().manual_seed(0), 0.1)
    assert sharper.max(1).values.mean() > draws.max(1).values.mean()


def test_jointvae_loss_is_the_papers(small):
    model, _ = built("jointvae", small, hparams={"capacity_steps": 100, "capacity_c": 5.0, "gamma": 30.0})
    x, rng = one_batch(model, small)
    losses = {name: value.detach() for name, value in model.losses(x, 25, rng).items()}
    assert losses["capacity_z"].item() == pytest.approx(5 * 0.25)
    pressure = (losses["kl_z"].sum() - 1.25).abs() + (losses["kl_c"].sum() - 1.25).abs()
    assert torch.allclose(losses["loss"], losses["recon"] + 30 * pressure)
    late = model.losses(x, 10**6, rng)
    assert late["capacity_c"].item() == pytest.approx(math.log(10))
    assert late["capacity_z"].item() == 5.0


def test_betavae_weighs_the_kl(small):
    model, _ = built("betavae", small, hparams={"beta": 7.0})
    x, rng = one_batch(model, small)
    losses = model.losses(x, 0, rng)
    assert torch.allclose(losses["loss"], losses["recon"] + 7 * losses["kl"])


@pytest.mark.parametrize("outputs", [1, 3, 32])
def test_upsampling_agrees_with_the_plain_transposed_convolution(outputs):
    torch.manual_seed(0)
    ours, x = _nets.Upsample(32, outputs), torch.randn(8, 32, 16, 16).to(memory_format=torch.channels_last)
    plain = torch.nn.ConvTranspose2d(32, outputs, 4, stride=2, padding=1)
    plain.load_state_dict(ours.state_dict())
    x.requires_grad_()
    values = [layer(x) for layer in (ours, plain)]
    assert torch.allclose(*values, atol=1e-5)
    weights = torch.randn_like(values[0])
    gradients = [torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])
                 for y, layer in zip(values, (ours, plain), strict=True)]  # fmt: skip
    for mine, theirs in zip(*gradients, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-3)


def test_reconstruction_loss_agrees_with_the_plain_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits = 20 * torch.randn(64, 1, 64, 64, generator=generator)
    logits[0, 0, 0, :4] = torch.tensor([0.0, -0.0, 200.0, -200.0])
    logits.requires_grad_()
    x = torch.rand(64, 1, 64, 64, generator=generator).round(decimals=1)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / 64
    ours = reconstruction_loss(logits, x)
    assert torch.isclose(ours, plain, rtol=1e-6)
    assert torch.allclose(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, plain)), atol=1e-8)
