import math

import pytest

from benchmark import spec
from benchmark.errors import UserError
from benchmark.plan import parse_seeds
from models import Model
from models.betavae import BetaVAE
from models.cascadevae import CascadeVAE
from models.invariantvae import InvariantVAE
from models.jointvae import JointVAE
from models.vae import VAE

CLASSES = {"vae": VAE, "betavae": BetaVAE, "jointvae": JointVAE, "cascadevae": CascadeVAE,
           "invariantvae": InvariantVAE}  # fmt: skip


def resolve(dataset="mnist", side=32, model="jointvae", **options):
    return spec.resolve(dataset, side, model, CLASSES[model], **{"preset": "paper", **options})


def test_published_settings():
    mnist, dsprites = resolve(), resolve("dsprites", 64)
    assert (mnist.steps, mnist.lr, mnist.batch_size) == (93_800, 5e-4, 64)
    assert mnist.hparams == {"latents": 10, "categories": (10,), "gamma": 30.0, "capacity_z": 5.0, "capacity_c": 5.0,
                             "capacity_steps": 25_000, "temperature": 0.67}  # fmt: skip
    assert dsprites.steps == 345_600
    assert dsprites.hparams == {"latents": 6, "categories": (3,), "gamma": 150.0, "capacity_z": 40.0,
                                "capacity_c": 1.1, "capacity_steps": 300_000, "temperature": 0.67}  # fmt: skip
    assert resolve("dsprites", 64, "betavae").hparams == {"latents": 10, "beta": 4.0}
    assert resolve("dsprites", 64, "vae").steps == 300_000


LENGTHS = [
    (93_800, 25_000),
    (200_000, 25_000),
    (46_900, 12_500),
    (31_267, 8_333),
    (28_140, 8_333),
    (938, 8_333),
    (1, 8_333),
]


@pytest.mark.parametrize(("steps", "expected"), LENGTHS)
def test_a_run_is_the_beginning_of_the_published_one_at_most_three_times_as_fast(steps, expected):
    assert resolve(overrides=spec.Overrides(steps=steps)).hparams["capacity_steps"] == expected


def test_a_schedule_never_vanishes_and_one_of_no_steps_stays():
    assert spec.scheduled({"a_steps": 1, "b_steps": 0, "c": 4}, 1 / 3) == {"a_steps": 1, "b_steps": 0, "c": 4}


def test_settings_are_borrowed_from_the_data_set_that_it_is_like_else_from_the_models_first():
    assert spec.settings_of("blobs", CLASSES["vae"]) == "dsprites"
    assert spec.settings_of("mnist_dev", CLASSES["vae"], "mnist") == "mnist"
    assert resolve("mnist_dev", like="mnist").hparams == resolve("mnist").hparams
    assert resolve("mnist_dev", like="mnist").config != resolve("mnist").config
    told = ("rotation", "deformation", "aligned")
    own, like = (resolve(name, 64, "invariantvae", like="dsprites").hparams for name in ("dsprites", "mine"))
    assert [own[name] for name in told] == [180.0, 0.0, True] and [like[name] for name in told] == [15.0, 1.0, False]
    assert own["capacity_z"] == like["capacity_z"] == 12.0


def test_what_a_run_is_too_short_for_is_told():
    short = resolve("dsprites", 64, "cascadevae", overrides=spec.Overrides(steps=2_000))
    assert spec.within(short) == ["at 6 % of discrete_steps (33,333)", "at 30 % of release_steps (6,667)"]
    assert spec.not_begun(short, CLASSES["cascadevae"]) == {"class": "discrete_steps"}
    for steps, begun in ((33_333, False), (33_334, True)):
        longer = resolve("dsprites", 64, "cascadevae", overrides=spec.Overrides(steps=steps))
        assert (spec.not_begun(longer, CLASSES["cascadevae"]) == {}) == begun
    assert not spec.not_begun(
        resolve("mnist", 32, "cascadevae", overrides=spec.Overrides(steps=1)), CLASSES["cascadevae"]
    )


def test_the_users_schedule_is_not_scaled():
    chosen = resolve(overrides=spec.Overrides(steps=938), hparams={"capacity_steps": 123})
    assert chosen.hparams["capacity_steps"] == 123


def test_presets_give_lengths_by_image_size():
    assert resolve(preset="standard").steps == 28_140
    assert resolve("dsprites", 64, preset="standard").steps == 15_000


def test_ids_name_the_run_and_change_with_every_setting_but_share_a_config_over_seeds():
    first, second = spec.with_seeds([resolve()], [0, 1])
    assert first.config == second.config and first.id() != second.id()
    assert first.id() == f"mnist-jointvae-s0-{first.config}" and len(first.config) == 8
    others = [
        resolve(overrides=spec.Overrides(lr=1e-3)),
        resolve(overrides=spec.Overrides(batch_size=32)),
        resolve(overrides=spec.Overrides(precision="bf16")),
        resolve(hparams={"gamma": 31.0}),
    ]
    assert len({first.config, *(other.config for other in others)}) == 5


def test_specs_survive_json():
    chosen = resolve()
    again = spec.Spec.from_json(chosen.to_json())
    assert again == chosen and again.id() == chosen.id()


def test_the_grid_runs_seed_by_seed():
    configurations = [resolve(), resolve("dsprites", 64)]
    assert [(s.seed, s.dataset) for s in spec.with_seeds(configurations, [3, 5])] == [
        (3, "mnist"), (3, "dsprites"), (5, "mnist"), (5, "dsprites")]  # fmt: skip


def test_settings_are_typed_and_a_comma_list_is_a_sweep():
    settings = spec.parse_settings(
        ["betavae.beta=1,2.5", "betavae.latents=5", "jointvae.categories=[10,4],[2]"], CLASSES
    )
    assert settings["betavae"] == [{"beta": 1.0, "latents": 5}, {"beta": 2.5, "latents": 5}]
    assert settings["jointvae"] == [{"categories": (10, 4)}, {"categories": (2,)}]
    assert settings["vae"] == [{}]
    assert isinstance(settings["betavae"][0]["beta"], float)
    twice = spec.parse_settings(["betavae.beta=1,4,1.0", "jointvae.categories=[2],2"], CLASSES)  # one run each
    assert twice["betavae"] == [{"beta": 1.0}, {"beta": 4.0}] and twice["jointvae"] == [{"categories": (2,)}]

    class Listed(Model):
        def __init__(self, shape, n_images, widths: list[int] = [4]):  # noqa: B006 - a plugin may
            super().__init__(shape, n_images, 2)

    assert spec.parse_settings(["own.widths=[4],[8],[4]"], {"own": Listed})["own"] == [{"widths": [4]}, {"widths": [8]}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("betavae.beta=high", "must be a finite number"),
        ("betavae.beta=nan", "must be a finite number"),
        ("betavae.beta=1e999", "must be a finite number"),
        ("betavae.latents=2.5", "must be an integer"),
        ("betavae.latents=True", "must be an integer"),
        ("jointvae.categories=ten", "must be a list such as"),
        ("betavae.bta=4", "did you mean 'beta'"),
        ("betavea.beta=4", "did you mean 'betavae'"),
        ("betavae.beta", "write MODEL.NAME=VALUE"),
        ("betavae.beta=__import__('os').getcwd()", "must be a finite number"),
    ],
)
def test_bad_settings_are_refused_with_what_is_allowed(text, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        spec.parse_settings([text], CLASSES)


class Whole(Model):
    """Its default of `weight` is an integer where a float is annotated, and it has a schedule that may be absent."""

    def __init__(self, shape, n_images, weight: float = 2, warm_steps: int | None = None, widths=((4, 8), (2,))):
        super().__init__(shape, n_images, 2)


def test_a_default_is_what_the_same_value_in_set_is_and_comes_back_from_json_as_it_was():
    plain = spec.resolve("mnist", 32, "whole", Whole, preset="quick")
    hparams = spec.parse_settings(["whole.weight=2"], {"whole": Whole})["whole"][0]
    assert spec.resolve("mnist", 32, "whole", Whole, preset="quick", hparams=hparams).id() == plain.id()
    assert spec.Spec.from_json(plain.to_json()) == plain
    assert spec.within(plain) == []


@pytest.mark.parametrize(
    ("default", "message"),
    [(math.inf, "limit is inf.*finite"), (math.nan, "limit is nan"), (object, "limit is <class"),
     ({1: 2}, "limit is {1: 2}"), (b"x", "limit is b'x'")],
)  # fmt: skip
def test_a_default_that_no_record_can_hold_is_refused_before_a_run(default, message):
    class Mine(Model):
        def __init__(self, shape, n_images, limit=default):
            super().__init__(shape, n_images, 2)

    with pytest.raises(UserError, match=message):
        spec.resolve("mnist", 32, "mine", Mine, preset="quick")


@pytest.mark.parametrize("default", [(100, 200), "soon", True])
def test_a_schedule_is_a_number_of_steps(default):
    class Mine(Model):
        def __init__(self, shape, n_images, warm_steps=default):
            super().__init__(shape, n_images, 2)

    with pytest.raises(UserError, match=r"warm_steps is .*a number of steps"):
        spec.resolve("mnist", 32, "mine", Mine, preset="quick")


@pytest.mark.parametrize("name", ["steps", "seed", "lr", "precision"])
def test_a_setting_of_every_run_is_no_hyper_parameter(name):
    """Both would stand in one column of every table."""
    scope = {"Model": Model}
    exec(f"class Own(Model):\n    def __init__(self, shape, n_images, {name}: int = 1): ...", scope)
    with pytest.raises(UserError, match=f"cannot be called '{name}'.*those are batch_size, .*, steps"):
        spec.hyper_parameters(scope["Own"])


def test_an_annotation_that_cannot_be_read_is_no_traceback():
    class Mine(Model):
        def __init__(self, shape, n_images, weight: "Unknown" = 1.0):  # noqa: F821 - as below TYPE_CHECKING
            super().__init__(shape, n_images, 2)

    assert spec.resolve("mnist", 32, "mine", Mine, preset="quick").hparams == {"weight": 1.0}
    with pytest.raises(UserError, match="a type that the file imports"):
        spec.parse_settings(["mine.weight=2"], {"mine": Mine})


@pytest.mark.parametrize(
    ("texts", "seeds"),
    [(["3"], [0, 1, 2]), (["3", "4", "7"], [3, 4, 7]), (["7:9"], [7, 8]), (["0:2", "5"], [0, 1, 5]), (["3", "3"], [3])],
)
def test_seeds(texts, seeds):
    assert parse_seeds(texts) == seeds


@pytest.mark.parametrize("texts", [["0"], ["-1"], ["x"], ["9:7"], ["1.5"], ["99999999"], ["0:99999999"], [""]])
def test_bad_seeds_are_refused(texts):
    with pytest.raises(UserError, match="--seeds"):
        parse_seeds(texts)


@pytest.mark.parametrize(
    ("model", "hparams"),
    [("betavae", {"beta": -1.0}), ("vae", {"latents": 0}), ("jointvae", {"categories": (1,)}),
     ("jointvae", {"temperature": 0.0}), ("jointvae", {"capacity_steps": -1})],
)  # fmt: skip
def test_models_refuse_settings_out_of_range_and_name_them(model, hparams):
    name = next(iter(hparams))
    with pytest.raises(ValueError, match=name):
        CLASSES[model]((1, 32, 32), 100, **hparams)


def test_the_discrete_capacity_never_exceeds_what_the_classes_can_hold():
    model = JointVAE((1, 32, 32), 100, categories=(10,), capacity_c=5.0)
    assert model.most_c == pytest.approx(math.log(10))
