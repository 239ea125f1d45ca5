"""One contract for every model, on a set with several factors and on one with a single factor."""

import dataclasses
import math

import pytest
import torch

from benchmark import contract, plugins, trainer
from benchmark.spec import Overrides, resolve
from models import Posterior, _nets, gumbel_softmax, reconstruction_loss

MODELS = sorted(plugins.discover()["model"])
IMAGES = contract.image_sets()


def model_class(name):
    return plugins.discover()["model"][name].load()


def built(name, data, **options):
    overrides = Overrides(steps=60, batch_size=64)
    spec = resolve(data.name, data.shape[1], name, model_class(name), preset="quick", overrides=overrides, **options)
    return trainer.build(model_class(name), spec, data), spec


def one_batch(model, data):
    return data.batch(data.train_rows[:16]), torch.Generator().manual_seed(0)


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("check", contract.ON_EVERY_SHAPE)
@pytest.mark.parametrize("name", MODELS)
def test_contract_on_every_shape(name, check, images):
    contract.ON_EVERY_SHAPE[check](contract.ModelCase(name, model_class(name), IMAGES[images]))


@pytest.mark.parametrize("check", contract.ONCE)
@pytest.mark.parametrize("name", MODELS)
def test_contract(name, check):
    contract.ONCE[check](contract.ModelCase(name, model_class(name), IMAGES["32x32"]))


def test_seeds_differ(small):
    _, spec = built("vae", small)
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
