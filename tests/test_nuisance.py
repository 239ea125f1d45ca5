"""Images with a nuisance: a pure function of visit and row, redrawn in training, fixed for scored rows."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy import stats

from benchmark.authoring import contract_data
from benchmark.authoring.contract import Fault
from benchmark.running import encoder, floors, trainer
from benchmark.running.step import Captured, Step, epoch_rows
from benchmark.spec import Spec
from data import Dataset, colordsprites, dsprites, noisydsprites
from data._dataset import factor_grid
from data._nuisance import FIXED, in_colour, uniform
from models.vae import VAE

SIZES = (3, 8, 8)
KINDS = {"colordsprites": colordsprites.ColorDSprites, "noisydsprites": noisydsprites.NoisyDSprites}
KNOWN = (  # of rows 0 and 737,279: the fixed draw, and that of visit 1
    ((0.4660235047, 0.7475737333, 0.4830855131), (0.6532177925, 0.3385791183, 0.7636845112)),
    ((0.5221570730, 0.8897387385, 0.9929482341), (0.1096496582, 0.3004432917, 0.6614429355)),
)
SPEC = Spec("", "vae", 3, 23, 16, 1e-3, hparams={"latents": 4})


@pytest.fixture(scope="module")
def plain():
    """Some of dSprites: three shapes at 8 x 8 positions."""
    blocks = [dsprites._draw_positions(outline, 0.75, 0.5) for outline in dsprites._outlines()]
    images = np.concatenate([block.reshape(32, 32, 512)[::4, ::4].reshape(64, 512) for block in blocks])
    rows = np.arange(len(images))
    names = ("shape", "posX", "posY")
    return Dataset("dsprites", (1, 64, 64), images, factor_grid(SIZES), names, SIZES, "shape", rows, rows, True,
                   origin="archive")  # fmt: skip


@pytest.fixture(params=KINDS)
def data(request, plain):
    return in_colour(KINDS[request.param], request.param, plain)


def colours(data, visits):
    """(visits * n, 3), and that every image is its sprite in that colour."""
    found = []
    for visit in visits:
        x = data.batch(data.train_rows, visit)
        sprites = of_kind(data).batch(data.train_rows)
        colour = x.amax((2, 3))
        assert torch.equal(x, sprites * colour[:, :, None, None])
        found.append(colour)
    return torch.cat(found).numpy()


def of_kind(data, kind=Dataset):
    """The stored sprites themselves, in one channel."""
    kept = {field.name: getattr(data, field.name) for field in fields(data)}
    return kind(**kept | {"shape": (1, 64, 64)})


def test_what_is_kept_is_dsprites_own(data, plain):
    assert data.images is plain.images and data.shape == (3, 64, 64)
    assert data.factors is plain.factors and data.factor_names == plain.factor_names and data.grid
    assert (data.class_factor, data.like, data.origin) == ("shape", "dsprites", "archive")
    assert colordsprites.CLASS_NAMES == noisydsprites.CLASS_NAMES == dsprites.CLASS_NAMES


def test_a_sprite_has_one_colour_between_half_and_one(plain):
    found = colours(in_colour(KINDS["colordsprites"], "colordsprites", plain), [None, *range(20)])
    assert found.shape == (21 * 192, 3) and found.min() >= 0.5 and found.max() < 1
    for channel in found.T:
        assert stats.kstest(channel, stats.uniform(0.5, 0.5).cdf).pvalue > 0.001
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 0.06
    assert np.abs(np.corrcoef(found[:-1, 0], found[1:, 0])[0, 1]) < 0.06  # neighbouring rows
    assert np.abs(np.corrcoef(found[:-192, 0], found[192:, 0])[0, 1]) < 0.06  # one row at neighbouring visits


def test_noise_is_added_to_each_pixel_and_channel_and_cut_at_one(plain):
    data = in_colour(KINDS["noisydsprites"], "noisydsprites", plain)
    x, white = data.batch(data.train_rows, 5), plain.batch(plain.train_rows).expand(-1, 3, -1, -1).bool()
    assert (x[white] == 1).all() and x.min() >= 0 and x[~white].max() < 1
    noise = uniform(data.train_rows, 5, 3 * 64 * 64).view_as(x)
    assert torch.equal(x[~white], noise[~white])
    assert stats.kstest(noise[:20].flatten().numpy(), stats.uniform.cdf).pvalue > 0.001
    for shifted in (noise.roll(1, 0), noise.roll(1, 1), noise.roll(1, 2), noise.roll(1, 3)):
        assert abs(np.corrcoef(noise.flatten(), shifted.flatten())[0, 1]) < 0.003
    other = uniform(data.train_rows, 6, 3 * 64 * 64)
    assert abs(np.corrcoef(noise.flatten(), other.flatten())[0, 1]) < 0.003


@pytest.mark.parametrize("visit", [None, 0, 7, 2**63 - 1])
def test_a_row_has_the_same_image_in_whatever_batch_it_stands(data, visit):
    rows = np.random.default_rng(0).permutation(data.train_rows)
    together = data.batch(rows, visit)
    assert torch.equal(torch.cat([data.batch(part, visit) for part in np.array_split(rows, 7)]), together)
    assert torch.equal(data.batch(rows[::-1], visit).flip(0), together)
    assert torch.equal(data.batch(rows[[5, 5]], visit), together[[5, 5]])


def test_visits_differ_and_scored_rows_have_one_fixed_draw(data):
    rows = data.score_rows
    fixed, again = data.batch(rows), replace(data).batch(rows, None)
    assert torch.equal(fixed, again)
    drawn = [fixed, *(data.batch(rows, visit) for visit in (0, 1, 2**32, 2**62, 2**63 - 1))]
    for i, first in enumerate(drawn):
        assert not any(torch.equal(a, b) for second in drawn[:i] for a, b in zip(first, second, strict=True))
    assert torch.equal(uniform(rows, None, 3), uniform(rows, FIXED, 3))


def test_numbers_are_the_known_ones():
    found = [uniform(np.array([0, 737_279]), visit, 3).numpy() for visit in (None, 1)]
    assert np.array_equal(found, np.array(KNOWN, dtype=np.float32))


def test_global_random_states_are_neither_read_nor_changed(data):
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    first = data.batch(data.train_rows, 3)
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    torch.manual_seed(99)
    assert torch.equal(data.batch(data.train_rows, 3), first)
    torch.set_rng_state(before[0])


# Training


def seen(data, steps, kind=Step, **changes):
    spec = replace(SPEC, dataset=data.name, **changes)
    model = VAE(data.shape, len(data.train_rows), latents=4)
    one = kind(model, data, spec, {})
    return [one._batch(step) for step in steps]


@pytest.mark.parametrize("kind", [Step, Captured])
def test_training_draws_anew_in_every_epoch_as_seed_and_step_say(data, kind):
    per_epoch = len(data.train_rows) // 16
    batches = seen(data, range(2 * per_epoch), kind)
    assert torch.equal(seen(data, [per_epoch + 3], kind)[0], batches[per_epoch + 3])
    rows = [epoch_rows(data.train_rows, 3, epoch) for epoch in (0, 1)]
    first, second = (torch.cat(batches[i * per_epoch : (i + 1) * per_epoch])[np.argsort(rows[i])] for i in (0, 1))
    scored = data.batch(data.train_rows)
    for a, b in ((first, second), (first, scored), (second, scored)):
        assert not any(torch.equal(one, other) for one, other in zip(a, b, strict=True))
    other = seen(data, range(per_epoch), kind, seed=4)
    other = torch.cat(other)[np.argsort(epoch_rows(data.train_rows, 4, 0))]
    assert not any(torch.equal(one, another) for one, another in zip(first, other, strict=True))


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [3, 5])  # within the first epoch and the second: checkpoints at steps 2 and 4
def test_a_resumed_training_ends_with_the_same_bits(data, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(trainer, "HISTORY_EVERY", 2)
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    data, spec = replace(data, train_rows=data.train_rows[:24]), replace(SPEC, dataset=data.name, steps=7, batch_size=8)

    def halt(step):
        if step == stop:
            raise Stop

    def trained(**options):
        model = trainer.build(VAE, spec, data)
        return model, trainer.train(model, data, spec, **options)

    expected, history = trained()
    with pytest.raises(Stop):
        trained(checkpoint=tmp_path / "checkpoint.safetensors", progress=halt)
    model, again = trained(checkpoint=tmp_path / "checkpoint.safetensors")
    assert again == history
    assert all(map(torch.equal, model.state_dict().values(), expected.state_dict().values()))


def test_scored_images_are_encoded_alike_whatever_else_is(data):
    model = VAE(data.shape, len(data.train_rows), latents=4)
    everything, thin = encoder.select(data, "study"), replace(encoder.select(data, "study"), rows=data.score_rows[::3])
    all_codes = encoder.encode(model, data, everything)
    thin = replace(thin, factors=everything.factors[::3], reconstructed=everything.reconstructed[::3], grid=False)
    codes = encoder.encode(model, data, thin)
    assert np.allclose(codes.mean, all_codes.mean[::3], atol=1e-5)
    assert np.allclose(codes.recon, all_codes.recon[::3], rtol=1e-5)


@pytest.mark.parametrize("name", [*floors.FLOORS, *floors.CEILINGS])
def test_floors_and_the_ceiling(data, name):
    codes = {**floors.FLOORS, **floors.CEILINGS}[name](data, encoder.select(data, "quick"), 0)
    assert len(codes.factors) == 192 and codes.grid and np.isfinite(codes.mean).all()


# Who takes a visit


class Seen(Dataset):
    """Notes the visits that it is told."""

    def batch(self, rows, visit=None):
        told.append(visit)
        return super().batch(rows)


class Inverted(Dataset):
    def batch(self, rows):
        return 1 - super().batch(rows)


told: list[int | None] = []


def test_a_batch_is_told_the_visit_of_its_epoch(plain):
    told.clear()
    seen(of_kind(plain, Seen), range(24))
    assert len(set(told)) == 2 and None not in told and told == [told[0]] * 12 + [told[12]] * 12
    encoder.encode(VAE(plain.shape, 192, latents=4), of_kind(plain, Seen), encoder.select(plain, "quick"))
    assert told[24:] == [None]


def test_a_batch_that_takes_no_visit_is_asked_without(plain):
    data = of_kind(plain, Inverted)
    expected = 1 - plain.batch(epoch_rows(plain.train_rows, 3, 0)[:16])
    assert torch.equal(seen(data, [0])[0], expected)


def test_batches_are_moved_one_by_one(data):
    x = data.reader(data.train_rows, torch.device("meta"), 5)(slice(5))
    assert x.device.type == "meta" and x.shape == (5, 3, 64, 64) and not data._moved


@pytest.mark.parametrize("check", contract_data.DATA)
def test_contract(data, check, tmp_path):
    contract_data.DATA[check](contract_data.DataCase(data.name, lambda root: data, tmp_path))


class Careless(Dataset):
    def batch(self, rows, visit=None):
        return super().batch(rows) * torch.rand(len(rows), 1, 1, 1)


class Positional(Dataset):
    def batch(self, rows, visit=None):
        return super().batch(rows) * torch.linspace(0, 1, len(rows))[:, None, None, None]


@pytest.mark.parametrize("kind", [Careless, Positional])
def test_the_contract_finds_a_nuisance_that_is_no_function_of_visit_and_row(plain, kind, tmp_path):
    case = contract_data.DataCase("dsprites", lambda root: of_kind(plain, kind), tmp_path)
    with pytest.raises(Fault, match=r"batch\(rows, visit=None\) gave other images in another order"):
        contract_data.visits(case)


def test_the_contract_says_where_no_visit_is_taken(plain, tmp_path):
    case = contract_data.DataCase("dsprites", lambda root: of_kind(plain, Inverted), tmp_path)
    assert contract_data.visits(case) == "its batch() takes no visit"
