"""One contract for every model, on a set with several factors and on one with a single factor."""

import dataclasses
import math
import statistics

import numpy as np
import pytest
import torch

from benchmark import plugins
from benchmark.authoring import contract_model
from benchmark.running import trainer
from benchmark.spec import Overrides, resolve
from models import Posterior, _nets, gumbel_softmax, reconstruction_loss

MODELS = sorted(plugins.discover()["model"])
IMAGES = contract_model.image_sets()
SLOW = pytest.mark.slow


def model_class(name):
    return plugins.discover()["model"][name].load()


def built(name, data, **options):
    overrides = Overrides(steps=60, batch_size=64)
    spec = resolve(data.name, data.shape[1], name, model_class(name), preset="standard", overrides=overrides, **options)
    return trainer.build(model_class(name), spec, data), spec


def one_batch(model, data):
    return data.batch(data.train_rows[:16]), torch.Generator().manual_seed(0)


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("check", contract_model.ON_EVERY_SHAPE)
@pytest.mark.parametrize("name", MODELS)
def test_contract_on_every_shape(name, check, images):
    contract_model.ON_EVERY_SHAPE[check](contract_model.ModelCase(name, model_class(name), IMAGES[images]))


@pytest.mark.parametrize("check", [check for check in contract_model.ONCE if check != "killed and resumed"])
@pytest.mark.parametrize("name", MODELS)
def test_contract(name, check):
    contract_model.ONCE[check](contract_model.ModelCase(name, model_class(name), IMAGES["32x32"]))


# The one with the most state; the others take the same path.
@pytest.mark.parametrize("name", [name if name == "factorvae" else pytest.param(name, marks=SLOW) for name in MODELS])
def test_a_training_that_is_killed_and_resumed_ends_with_the_same_bits(name):
    contract_model.resumes(contract_model.ModelCase(name, model_class(name), IMAGES["32x32"]))


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


@pytest.mark.parametrize("n", [1, 5, 63, 262_147])
def test_the_cross_entropy_has_the_bits_of_its_formula_where_exp_is_no_normal_float(n):
    for logits in (torch.linspace(-200, 200, n), torch.linspace(-95, -88, n)):
        x = torch.linspace(0, 1, n)
        plain = (torch.log(1 + torch.exp(-logits.abs())) + torch.relu(logits) - logits * x).sum()
        assert torch.equal(reconstruction_loss(logits[None], x[None]), plain)
    assert reconstruction_loss(torch.full((1, n), torch.nan), torch.zeros(1, n)).isnan()


def posterior(b=40, c=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return Posterior(torch.randn(b, c, generator=rng), torch.randn(b, c, generator=rng) - 1)


def correlated(n, seed=0):
    """Draws of a Gaussian of three variables with variances 1, and its total correlation in nats."""
    correlation = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 1.0]])
    z = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) @ torch.linalg.cholesky(correlation).T
    return z, -0.5 * torch.logdet(correlation).item()


@pytest.mark.parametrize(("step", "capacity"), [(0, 0.0), (25, 6.25), (100, 25.0), (10**6, 25.0)])
def test_annealedvae_pulls_the_kl_to_a_growing_capacity(small, step, capacity):
    model, _ = built("annealedvae", small, hparams={"capacity_steps": 100, "capacity": 25.0, "gamma": 7.0})
    x, rng = one_batch(model, small)
    losses = model.losses(x, step, rng)
    assert losses["capacity_z"].item() == capacity
    assert torch.allclose(losses["loss"], losses["recon"] + 7 * (losses["kl"] - capacity).abs())


@pytest.mark.parametrize("name", ["factorvae", "factordvae"])
def test_a_critics_gradients_are_kept_apart(name, small):
    model, spec = built(name, small, hparams={"critic_width": 50})
    x, rng = one_batch(model, small)
    optimizers = model.optimizers(spec.lr)
    losses = model.losses(x, 0, rng)
    losses["loss"].backward()
    assert all(p.grad is None for p in model.critic.parameters())
    before = [p.grad.clone() for p in model.encoder.parameters()]
    optimizers["loss"].step()
    losses["critic"].backward()
    assert all(p.grad.any() for p in model.critic.parameters())
    assert all(torch.equal(a, p.grad) for a, p in zip(before, model.encoder.parameters(), strict=True))
    groups = {name: optimizer.param_groups[0] for name, optimizer in optimizers.items()}
    assert groups["critic"]["betas"] == (0.5, 0.9) and groups["critic"]["lr"] == 1e-4
    assert groups["loss"]["betas"] == (0.9, 0.999) and groups["loss"]["lr"] == spec.lr


def test_permuted_codes_keep_each_latents_values_and_lose_their_dependence():
    from models.factorvae import permuted

    z, _ = correlated(5000)
    shuffled = permuted(z, torch.Generator().manual_seed(1))  # another seed than that of z
    assert torch.equal(z.sort(0).values, shuffled.sort(0).values)
    assert (torch.corrcoef(shuffled.T) - torch.eye(3)).abs().max() < 0.05


def test_factorvaes_critic_learns_the_total_correlation_of_a_gaussian():
    model = model_class("factorvae")((1, 32, 32), 100, latents=3, critic_width=32, critic_lr=2e-3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in model.critic:
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()
    optimizer, rng = model.optimizers(1e-3)["critic"], torch.Generator().manual_seed(0)
    for step in range(600):
        optimizer.zero_grad()
        model.critic.loss(correlated(256, step)[0], rng).backward()
        optimizer.step()
    z, tc = correlated(20_000, -1)
    assert model.critic.total_correlation(z).item() == pytest.approx(tc, rel=0.15)
    independent = torch.randn(256, 3, generator=rng)
    assert model.critic.loss(z[:256], rng) < 0.6 < model.critic.loss(independent, rng)


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_betatcvae_is_exact_where_the_batch_is_the_whole_data_set(sampling):
    from models.betatcvae import decompose, log_weights

    q = posterior()
    z = q.sample(torch.Generator().manual_seed(1), 1.0)
    densities = torch.distributions.Normal(q.mean.double(), (q.logvar.double() / 2).exp())
    joint, product = [], []
    for code in z.double():
        each = densities.log_prob(code).exp()  # (images, latents)
        joint.append(each.prod(1).mean().log())
        product.append(each.mean(0).log().sum())
    joint, product = torch.stack(joint), torch.stack(product)
    conditional = densities.log_prob(z.double()).sum(1)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z.double()).sum(1)
    expected = [(conditional - joint).mean(), (joint - product).mean(), (product - prior).mean()]
    found = decompose(z, q, log_weights(40, 40, sampling))
    assert torch.allclose(torch.stack(found).double(), torch.stack(expected), atol=1e-5)


def test_betatcvae_finds_the_total_correlation_of_a_gaussian():
    from models.betatcvae import decompose, log_weights

    means, _ = correlated(3000)
    q = Posterior(means, torch.full_like(means, math.log(0.5)))
    tc = -0.5 * torch.logdet(torch.corrcoef((means + math.sqrt(0.5) * torch.randn(
        means.shape, generator=torch.Generator().manual_seed(1))).T)).item()  # fmt: skip
    z = q.sample(torch.Generator().manual_seed(2), 1.0)
    assert decompose(z, q, log_weights(3000, 3000, "stratified"))[1].item() == pytest.approx(tc, abs=0.05)


def test_betatcvaes_stratified_estimate_of_a_density_is_unbiased():
    """Against the mean over every batch, and over which of its images the paper weighs differently."""
    from itertools import combinations

    from models.betatcvae import log_weights

    n, b, own = 6, 4, 0
    density = torch.rand(n, generator=torch.Generator().manual_seed(0))  # q(z | x_j), z drawn from image 0
    batches = [[own, *others] for others in combinations(range(1, n), b - 1)]
    weights = log_weights(b, n, "stratified")[0].exp()
    estimates = torch.stack([(weights * density[batch]).sum() for batch in batches])
    assert torch.allclose(estimates.mean(), density.mean())
    m = b - 1
    papers = [torch.full((b,), 1 / m).index_fill(0, torch.tensor([0]), 1 / n).index_fill(
        0, torch.tensor([odd]), (n - m) / (n * m)) for odd in range(1, b)]  # fmt: skip
    assert torch.allclose(torch.stack(papers).mean(0), weights)


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_betatcvae_adds_to_the_vaes_loss(small, sampling):
    model, _ = built("betatcvae", small, hparams={"beta": 6.0, "sampling": sampling})
    x, rng = one_batch(model, small)
    losses = model.losses(x, 0, rng)
    assert torch.allclose(losses["loss"], losses["recon"] + losses["kl"] + 5 * losses["tc"])
    with pytest.raises(ValueError, match="sampling"):
        built("betatcvae", small, hparams={"sampling": "exact"})


def test_dipvae_penalises_the_covariance(small):
    q = posterior(b=200)
    first, second = (built(name, small)[0].covariance(q).numpy() for name in ("dipvae1", "dipvae2"))
    assert np.allclose(first, np.cov(q.mean.numpy().T, ddof=0), atol=1e-5)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2000, 200, 3)) * np.exp(q.logvar.numpy() / 2)
    assert np.allclose(second, np.cov((q.mean.numpy() + noise).reshape(-1, 3).T, ddof=0), atol=0.02)


@pytest.mark.parametrize(("name", "weights"), [("dipvae1", (10, 100)), ("dipvae2", (10, 10))])
def test_dipvae_loss_is_the_papers(small, name, weights):
    model, _ = built(name, small)
    x, rng = one_batch(model, small)
    losses = {key: value.detach() for key, value in model.losses(x, 0, rng).items()}
    cov = model.covariance(model.encode(x)).detach().numpy()
    off = sum(cov[i, j] ** 2 for i in range(10) for j in range(10) if i != j)
    on = sum((cov[i, i] - 1) ** 2 for i in range(10))
    assert losses["cov_offdiag"].item() == pytest.approx(off, rel=1e-3)
    expected = losses["recon"] + losses["kl"] + weights[0] * off + weights[1] * on
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("b", "k"), [(1, 2), (4, 2), (5, 3), (6, 3)])
@pytest.mark.parametrize("penalty", [0.0, 0.1, 1.0, 50.0])
def test_cascadevaes_assignment_is_the_best_of_all(b, k, penalty):
    from itertools import product

    from models.cascadevae import assign

    def total(costs, classes):
        pairs = sum(m * (m - 1) / 2 for m in np.bincount(classes))
        return costs[np.arange(b), classes].sum() + penalty * pairs

    for seed in range(10):
        costs = np.random.default_rng(seed).exponential(3.0, (b, k))
        best = min(total(costs, np.array(classes)) for classes in product(range(k), repeat=b))
        assert total(costs, assign(costs, penalty)) == pytest.approx(best)


def test_cascadevae_releases_one_latent_at_a_time_and_then_the_class(small):
    schedule = {"release_steps": 20, "discrete_steps": 60, "beta_high": 10.0, "beta_low": 2.0}
    model, _ = built("cascadevae", small, hparams={"latents": 3, "categories": (3,), **schedule})
    x, rng = one_batch(model, small)
    released = {0: 0, 19: 0, 20: 1, 39: 1, 40: 2, 59: 2, 60: 3, 10**6: 3}
    for step, free in released.items():
        losses = model.losses(x, step, rng)
        assert losses["beta_z"].tolist() == [2.0] * free + [10.0] * (3 - free)
        assert torch.allclose(losses["loss"], losses["recon"] + (losses["beta_z"] * losses["kl_z"]).sum())
        assert losses["kl_c"].item() == pytest.approx(math.log(3) if step >= 60 else 0)


def test_cascadevaes_class_is_the_one_that_reconstructs_best(small):
    model, _ = built("cascadevae", small, hparams={"categories": (3,)})
    x, _ = one_batch(model, small)
    q = model.encode(x)
    for i in range(4):
        errors = [reconstruction_loss(model.decode(torch.cat([q.mean[i], one_hot])[None]), x[i : i + 1]).item()
                  for one_hot in torch.eye(3)]  # fmt: skip
        expected = torch.softmax(-torch.tensor(errors, dtype=torch.float64), 0)
        assert torch.allclose(q.probs[0][i].double(), expected, atol=1e-3)


def test_mmd_is_symmetric_zero_for_equal_distributions_and_known_for_gaussians():
    from models.infovae import mmd

    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(500, 2, generator=rng), 1.5 + torch.randn(500, 2, generator=rng)
    assert mmd(a, b).item() == pytest.approx(mmd(b, a).item(), abs=1e-6)
    same = [mmd(*torch.randn(2, 64, 2, generator=rng)).item() for _ in range(300)]
    assert abs(np.mean(same)) < 4 * np.std(same) / math.sqrt(300) and min(same) < 0 < max(same)
    # E exp(-|d|²/c) of d ~ N(m, 2I) in c dimensions is (1 + 4/c)^(-c/2) · exp(-|m|²/(c + 4)); here c = 2, |m|² = 4.5
    expected = 2 * (1 - math.exp(-4.5 / 6)) / 3
    assert mmd(a, b).item() == pytest.approx(expected, rel=0.1)


def test_infovae_weighs_kl_and_discrepancy(small):
    model, _ = built("infovae", small, hparams={"alpha": 0.25, "lam": 10.0})
    x, rng = one_batch(model, small)
    losses = model.losses(x, 0, rng)
    assert torch.allclose(losses["loss"], losses["recon"] + 0.75 * losses["kl"] + 9.25 * losses["mmd"])


def test_the_autoencoders_code_is_deterministic(small):
    model, _ = built("autoencoder", small)
    x, rng = one_batch(model, small)
    assert model.encode(x).logvar is None and set(model.losses(x, 0, rng)) == {"loss", "recon"}
    assert torch.equal(model.losses(x, 0, rng)["loss"], model.losses(x, 1, rng)["loss"])


@pytest.mark.parametrize(("name", "hparams"), [
    ("annealedvae", {"gamma": -1.0}), ("annealedvae", {"capacity": -1.0}), ("annealedvae", {"capacity_steps": -1}),
    ("factorvae", {"latents": 1}), ("factorvae", {"critic_lr": 0.0}), ("factorvae", {"critic_width": 0}),
    ("betatcvae", {"beta": -1.0}), ("dipvae1", {"lambda_od": -1.0}), ("dipvae2", {"lambda_d": -1.0}),
    ("cascadevae", {"latents": 0}), ("cascadevae", {"categories": (3, 4)}), ("cascadevae", {"release_steps": -1}),
    ("dvae", {"values": 1}), ("dvae", {"noise_last": -1.0}), ("factordvae", {"gamma": -1.0}), ("qlae", {"values": 300}),
    ("qlae", {"decay": -0.1}), ("invariantvae", {"categories": ()}), ("invariantvae", {"warmup_steps": -1}),
    ("invariantvae", {"rotation": -1.0}), ("infovae", {"alpha": 2.0}), ("infovae", {"alpha": 0.0, "lam": 0.5}),
    ("meanstartjointvae", {"brightness": 0.0}), ("meanstartjointvae", {"brightness": 1.0}),
])  # fmt: skip
def test_hyper_parameters_out_of_range_are_named(name, hparams):
    with pytest.raises(ValueError, match=f"{list(hparams)[-1]}="):
        model_class(name)((1, 32, 32), 100, **hparams)


@pytest.mark.parametrize("name", ["factorvae", "betatcvae", "dipvae1", "cascadevae", "infovae", "autoencoder", "dvae",
                                  "factordvae", "qlae", "invariantvae"])  # fmt: skip
def test_bfloat16_moves_the_losses_little(name, small):
    model, _ = built(name, small, hparams={"discrete_steps": 0} if name == "cascadevae" else {})
    x, rng = one_batch(model, small)
    plain = model.losses(x, 1, rng.manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        fast = model.losses(x, 1, rng.manual_seed(0))
    assert fast["loss"].dtype == torch.float32
    assert fast["loss"].item() == pytest.approx(plain["loss"].item(), rel=0.01)


@pytest.mark.parametrize("brightness", [0.0425, 0.8])
def test_meanstartjointvae_is_a_jointvae_that_begins_as_bright_as_its_data(brightness, small):
    model, _ = built("meanstartjointvae", small, hparams={"brightness": brightness})
    images = torch.sigmoid(model.decode(model.prior(64, torch.Generator().manual_seed(0))))
    assert images.mean().item() == pytest.approx(brightness, rel=0.1)
    mine, plain = model.state_dict(), built("jointvae", small)[0].state_dict()
    assert [name for name in mine.keys() | plain.keys() if not torch.equal(mine[name], plain[name])] == [
        "decoder.9.bias"
    ]


def test_meanstartjointvae_is_not_told_of_data_that_is_only_like_mnist():
    cls = model_class("meanstartjointvae")
    own, other = (
        resolve(name, 32, "meanstartjointvae", cls, preset="paper", like="mnist") for name in ("mnist", "mine")
    )
    assert own.hparams == {**other.hparams, "brightness": 0.131} and other.hparams["brightness"] == 0.5
    assert other.hparams["gamma"] == 30.0


def test_invariantvaes_class_terms_are_those_of_the_tables():
    from models.invariantvae import disagreement, unevenness

    rng = torch.Generator().manual_seed(0)
    p, r = (torch.softmax(3 * torch.randn(500, 4, generator=rng), 1) for _ in range(2))
    alike = [sum(a * b for a, b in zip(u, v, strict=True)) for u, v in zip(p.tolist(), r.tolist(), strict=True)]
    assert disagreement(p, r).item() == pytest.approx(-statistics.fmean(map(math.log, alike)), abs=1e-5)
    share = torch.distributions.Categorical(torch.cat([p, r]).mean(0))
    expected = torch.distributions.kl_divergence(share, torch.distributions.Categorical(torch.full((4,), 0.25)))
    assert unevenness(p, r).item() == pytest.approx(expected.item(), abs=1e-5)
    sure = torch.eye(4)[torch.arange(40) % 4]
    assert disagreement(sure, sure).item() == pytest.approx(0, abs=1e-5)
    assert unevenness(sure, sure).item() == pytest.approx(0, abs=1e-5)
    assert unevenness(sure[:1], sure[:1]).item() == pytest.approx(math.log(4), abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 10, 11])
def test_invariantvaes_class_pays_only_where_it_tells_images_apart(classes):
    from models.invariantvae import EVENNESS, disagreement, unevenness

    def term(chosen, lean):
        p = (1 - lean) / classes + lean * torch.eye(classes, dtype=torch.float64)[chosen]
        return (disagreement(p, p) + EVENNESS * unevenness(p, p)).item()

    one, apart = torch.zeros(40 * classes, dtype=torch.long), torch.arange(40 * classes) % classes
    leans = [0.01, *np.linspace(0.05, 0.99, 95)]
    assert min(term(one, lean) for lean in leans) > term(one, 0)
    assert max(term(apart, lean) for lean in leans) < term(apart, 0)


@pytest.mark.parametrize("aligned", [False, True])
def test_invariantvaes_loss_is_its_formula(small, aligned):
    from models.invariantvae import deformed, framed

    settings = {"categories": (3, 4), "capacity_steps": 100, "warmup_steps": 200, "gamma": 7.0, "aligned": aligned}
    model, _ = built("invariantvae", small, hparams=settings)
    torch.nn.init.normal_(model.encoder[-1].weight, generator=torch.Generator().manual_seed(1))
    x, rng = one_batch(model, small)
    with torch.no_grad():
        logits = model.encoder(framed(x) if aligned else x)[:, 20:]
        for step in (0, 50, 1000):
            losses = model.losses(x, step, rng.manual_seed(step))
            copies = deformed(framed(x) if aligned else x, rng.manual_seed(step), 15.0, 1.0)
            terms = 0.0
            for block, its in zip(logits.split([3, 4], 1), model.encoder(copies)[:, 20:].split([3, 4], 1), strict=True):
                p, r = torch.softmax(3 * block, 1), torch.softmax(3 * its, 1)
                share = torch.cat([p, r]).mean(0)
                terms += -torch.log((p * r).sum(1)).mean() + 2.5 * (share * torch.log(share * share.numel())).sum()
            code = losses["recon"] + 7 * (losses["kl_z"].sum() - 5 * min(step / 100, 1)).abs()
            assert torch.allclose(losses["loss"], min(step / 200, 1) * code + 7 * terms, rtol=1e-4)
    at_once, _ = built("invariantvae", small, hparams={**settings, "warmup_steps": 0})
    first = at_once.losses(x, 0, rng)
    terms = first["kl_z"].sum() + first["disagreement"] + 2.5 * first["unevenness"]
    assert torch.allclose(first["loss"], first["recon"] + 7 * terms)


def test_invariantvae_reads_an_aligned_class_wherever_the_image_is():
    from models.invariantvae import InvariantVAE

    torch.manual_seed(0)
    model = InvariantVAE((1, 64, 64), 10, latents=2, categories=(3,), aligned=True)
    torch.nn.init.normal_(model.encoder[-1].weight)
    torch.nn.init.normal_(model.encoder[0].weight, std=1)
    x = torch.zeros(2, 1, 64, 64)
    x[0, :, 10:20, 40:60] = 1
    x[1, :, 30:50, 5:45] = 1
    (mean, other), (p, r) = model.encode(x).mean, model.encode(x).probs[0]
    plain, its = model.posterior(x).probs[0]
    assert (p - r).abs().max() < 0.02 and (mean - other).abs().max() > 0.02
    assert (plain - its).abs().max() > 5 * (p - r).abs().max()


def test_invariantvaes_latents_may_be_classes_alone(small):
    settings = {"latents": 0, "categories": (3, 4), "aligned": True, "rotation": 180.0, "deformation": 0.0}
    model, _ = built("invariantvae", small, hparams=settings)
    x, rng = one_batch(model, small)
    model.losses(torch.cat([x, torch.zeros_like(x[:1])]), 10**6, rng)["loss"].backward()  # one image is empty
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_invariantvaes_deformation_is_scale_times_turn_times_shear():
    from models.invariantvae import deformed

    rng = torch.Generator().manual_seed(3)
    x = torch.rand(16, 2, 32, 32, generator=rng)
    assert torch.allclose(deformed(x, rng, 0.0, 0.0), x, atol=1e-5)
    moved = deformed(x, rng.manual_seed(5), 40.0, 0.5)
    for image, found, draw in zip(x, moved, (2 * torch.rand(6, 16, generator=rng.manual_seed(5)) - 1).t(), strict=True):
        turn, shear, wide, high, right, down = draw.tolist()
        turn = math.radians(40 * turn)
        scale = torch.diag(torch.tensor([math.exp(0.075 * wide), math.exp(0.075 * high)]))
        turned = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        sheared = torch.tensor([[1, 0.1 * shear], [0, 1]])
        affine = torch.cat([scale @ turned @ sheared, torch.tensor([[0.06 * right], [0.06 * down]])], 1)
        grid = torch.nn.functional.affine_grid(affine[None], [1, 2, 32, 32], align_corners=False)
        expected = torch.nn.functional.grid_sample(image[None], grid, align_corners=False)
        assert torch.allclose(found, expected[0], atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (2, 20), (24, 6)])
def test_invariantvaes_framed_image_is_whole_and_of_one_spread(height, width):
    from models.invariantvae import ROOM, framed

    x = torch.zeros(4, 3, 64, 64)
    x[0, :, 30 : 30 + height, 30 : 30 + width] = 1
    x[1, :, 5 : 5 + height, 38 : 38 + width] = 0.3  # elsewhere, and less bright
    x[2, :1] = x[0, :1]  # in another colour
    image = framed(x)
    assert (image[0] - image[1] / 0.3).abs().max() < 1e-3 and (image[0] - image[2])[:1].abs().max() < 1e-5
    assert image[3].sum() == 0  # nothing to frame
    side = ROOM * math.sqrt((height**2 + width**2 - 2) / 12) / 32  # pixels are points
    assert (image[0, 0].sum() * side**2).item() == pytest.approx(height * width, rel=0.05)
    place = torch.arange(64) - 31.5
    assert abs((image[0, 0].sum(0) @ place).item()) < 0.05 * image[0, 0].sum().item()


def test_dvaes_terms_are_the_papers(small):
    from models.dvae import kl_uniform

    model, _ = built("dvae", small, hparams={"noise_steps": 100, "latents": 3, "values": 5})
    logits = torch.randn(40, 3, 5, generator=torch.Generator().manual_seed(0))
    q, uniform = torch.distributions.Categorical(logits=logits), torch.distributions.Categorical(torch.full((5,), 0.2))
    assert torch.allclose(kl_uniform(logits), torch.distributions.kl_divergence(q, uniform).mean(0), atol=1e-6)
    expected = (q.probs * torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])).sum(2)
    assert torch.allclose(model.expectation(logits), expected, atol=1e-6)
    scales = [model.noise(step, like=logits).item() for step in (0, 50, 100, 1000)]
    assert scales == pytest.approx([0.5, 1.25, 2.0, 2.0])
    assert model.noise(torch.tensor(25.0, dtype=torch.float64), like=logits).item() == pytest.approx(
        1.25 - 0.75 * math.cos(math.pi / 4)
    )
    x, rng = one_batch(model, small)
    losses = model.losses(x, 0, rng)
    assert torch.allclose(losses["loss"], losses["recon"] + kl_uniform(model.logits(x)).sum(), atol=1e-3)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_dvaes_noise_is_gumbels_times_its_scale(scale, small):
    model, _ = built("dvae", small, hparams={"noise_first": scale, "values": 2, "latents": 1})
    logits = torch.tensor([0.0, 1.0]).repeat(40_000, 1, 1)
    z = model.noisy(logits, 0, torch.Generator().manual_seed(0))
    # the difference of two Gumbel draws is logistic, and z is above 0 where the larger number has the larger sum
    assert (z > 0).float().mean().item() == pytest.approx(1 / (1 + math.exp(-1 / scale)), abs=0.01)
    assert (model.encode(one_batch(model, small)[0]).mean.abs() <= 1).all()


def test_factordvae_adds_the_critics_estimate_to_dvaes_loss(small):
    model, _ = built("factordvae", small, hparams={"gamma": 7.0, "critic_width": 50})
    x, rng = one_batch(model, small)
    losses = model.losses(x, 0, rng)
    assert torch.allclose(losses["loss"], losses["recon"] + losses["kl"] + 7 * losses["tc"])
    z = model.noisy(model.logits(x), 0, rng.manual_seed(0))
    logits = model.critic(z)
    assert losses["tc"].item() == pytest.approx((logits[:, 0] - logits[:, 1]).mean().item(), abs=1e-5)


def test_qlae_takes_the_nearest_number_and_passes_the_gradient_straight_through(small):
    model, _ = built("qlae", small, hparams={"values": 4, "latents": 3})
    with torch.no_grad():
        model.points.copy_(torch.tensor([[-1.0, 0.1, 0.2, 3.0], [5.0, 4.0, -4.0, 0.0], [0.0, 1.0, 2.0, 3.0]]))
    z = 3 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    found, points = model.quantised(z), model.points.detach().numpy()
    nearest = [[min(points[j], key=lambda value: abs(value - row[j])) for j in range(3)] for row in z.tolist()]
    assert np.array_equal(found.detach().numpy(), np.array(nearest, dtype=np.float32))
    x, rng = one_batch(model, small)
    q = model.encode(x)
    assert q.ordinal and q.logvar is None and torch.equal(q.mean, model.quantised(model.encoder(x)))
    seen = {}
    outputs = model.encoder.register_forward_hook(lambda module, args, out: (out.retain_grad(), seen.update(z=out))[0])
    inputs = model.decoder.register_forward_pre_hook(
        lambda module, args: (args[0].retain_grad(), seen.update(d=args[0]))[0]
    )
    losses = model.losses(x, 0, rng)
    losses["recon"].backward()
    outputs.remove(), inputs.remove()
    assert torch.allclose(seen["d"], q.mean, atol=1e-6) and torch.equal(seen["z"].grad, seen["d"].grad)
    assert model.points.grad is None or not model.points.grad.any()  # no gradient of the image reaches the numbers


def test_qlaes_loss_is_the_papers_times_the_pixels(small):
    model, _ = built("qlae", small, hparams={"weight": 0.02})
    x, rng = one_batch(model, small)
    z = model.encoder(x).detach()
    q = model.quantised(z).detach()
    mean = torch.nn.functional.binary_cross_entropy_with_logits(model.decode(q), x)
    paper = mean + 0.02 * ((q - z) ** 2).mean() + 0.02 * ((z - q) ** 2).mean()
    seen = []
    hook = model.encoder.register_forward_hook(lambda module, args, out: seen.append(out))
    losses = model.losses(x, 0, rng)
    hook.remove()
    loss = losses["loss"]
    assert loss.item() == pytest.approx(paper.item() * x[0].numel(), rel=1e-5)
    (committed,) = torch.autograd.grad(loss - losses["recon"], seen, retain_graph=True)
    assert torch.allclose(committed, 2 * 0.02 * x[0].numel() * (z - q) / z.numel(), rtol=1e-3, atol=1e-3)
    loss.backward()
    one_hot = (q[:, :, None] == model.points).float()
    expected = 2 * 0.02 * x[0].numel() * (one_hot * (q - z)[:, :, None]).sum(0) / z.numel()
    assert torch.allclose(model.points.grad, expected, rtol=1e-3, atol=1e-5)


def test_qlaes_weights_alone_decay_and_are_cut(small):
    model, _ = built("qlae", small)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = model.optimizers(1e-3)["loss"]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        assert torch.allclose(p, before[name] * (1 - 1e-4 if name.endswith("weight") else 1), atol=1e-8), name
    for p in model.parameters():
        p.grad = torch.full_like(p, 1e9)
    optimizer.step()
    for p in model.parameters():
        p.grad = torch.full_like(p, -1e9)
    optimizer.step()
    most = {name: -p.grad.min().item() for name, p in model.named_parameters()}
    assert {most[name] for name in most if name.endswith("weight")} == {float(np.prod(small.shape))}
    assert {most[name] for name in most if not name.endswith("weight")} == {1e9}
