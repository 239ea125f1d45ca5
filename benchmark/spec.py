"""One run's settings, resolved to the last default, with an id that depends on nothing else."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import itertools
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, PydanticUserError, TypeAdapter

from benchmark.defaults import PRESETS
from benchmark.errors import UserError, unknown
from models import Model, Published

SCHEDULE = "_steps"
FASTEST = 3  # times that a schedule of a short run may be faster than the published one
RULE = (
    f"schedules: a run is the beginning of the published one, at most {FASTEST} times as fast: a hyper-parameter whose "
    f"name ends in {SCHEDULE} is divided by min({FASTEST}, published steps / steps), never by less than 1"
)
EXACT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

# What is scored beside the trained models: `running.floors` makes their codes.
REFERENCES = {
    **dict.fromkeys(("constant", "noise", "untrained", "pca", "ica", "kmeans"), "floor"),
    "factors": "ceiling",
}


def kind_of(model: str) -> str:
    """`floor`, `ceiling` or `run`."""
    return REFERENCES.get(model, "run")


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _all_frozen(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _frozen(value) for name, value in values.items()}


@dataclass(frozen=True)
class Spec:
    """Everything that decides a run's bits, on one machine with one number of threads.

    content: 8 digits of the sha256 of the file of arrays that the data set is; empty where it is none.
    """

    dataset: str
    model: str
    seed: int
    steps: int
    batch_size: int
    lr: float
    precision: str = "fp32"
    hparams: Annotated[dict[str, Any], AfterValidator(_all_frozen)] = field(default_factory=dict)
    content: str = ""

    __pydantic_config__: ClassVar[ConfigDict] = EXACT

    @cached_property
    def config(self) -> str:
        """8 hexadecimal digits of everything but the seed: runs that differ in it are never averaged."""
        settings = {name: value for name, value in self.to_json().items() if name != "seed"}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]

    def id(self) -> str:
        """For example `dsprites-betavae-s0-1f3a9c2e`."""
        return f"{self.dataset}-{self.model}-s{self.seed}-{self.config}"

    def to_json(self) -> dict[str, Any]:
        """Its fields, without a content that is empty."""
        return {name: value for name, value in asdict(self).items() if name != "content" or value}

    @staticmethod
    def from_json(fields: Any) -> Spec:
        """The spec of `to_json`; lists become tuples, so that both have the same id. Raises ValueError."""
        return TypeAdapter(Spec).validate_json(json.dumps(fields))


@dataclass(frozen=True)
class Overrides:
    """What the command line sets, for all models; None keeps the model's own."""

    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    precision: str = "fp32"


def resolve(
    dataset: str,
    side: int,
    model: str,
    cls: type[Model],
    *,
    preset: str,
    overrides: Overrides = Overrides(),
    hparams: Mapping[str, Any] | None = None,
    like: str = "",
) -> Spec:
    """The spec of seed 0: published settings of this data set, the preset's length, then what the user set.

    side: the images' larger side in pixels. like: as for `settings_of`.
    """
    source = settings_of(dataset, cls, like)
    published = cls.published.get(source, UNPUBLISHED)
    taken = {k: v for k, v in published.hparams.items() if source == dataset or k not in cls.told}
    budget = PRESETS[preset]
    steps = overrides.steps or (published.steps if budget.steps is None else budget.steps[side > 32])
    defaults = {name: parameter.default for name, parameter in hyper_parameters(cls).items()}
    values = _recordable(model, cls, {**defaults, **taken})
    values = scheduled(values, 1 / speed_up(published.steps, steps)) | dict(hparams or {})
    return Spec(
        dataset,
        model,
        0,
        steps,
        overrides.batch_size or published.batch_size,
        overrides.lr or budget.lr[side > 32] or published.lr,
        overrides.precision,
        _all_frozen(dict(sorted(values.items()))),
    )


UNPUBLISHED = Published(steps=28_140)


def _recordable(model: str, cls: type[Model], values: Mapping[str, Any]) -> dict[str, Any]:
    """A model's own settings as `--set` would give them (2 is 2.0 where a float is annotated), and as spec.json gives
    them back. Raises UserError for one that it cannot hold."""
    adapters, found = _adapters(cls), {}
    for name, value in values.items():
        found[name] = _frozen(value)
        with contextlib.suppress(KeyError, ValueError):  # a default need not keep its own annotation, nor have one
            found[name] = adapters[name].validate_python(found[name])
        try:
            same = _frozen(json.loads(json.dumps(found[name], allow_nan=False))) == found[name]
        except (TypeError, ValueError):
            same = False
        if not same:
            raise UserError(
                f"model {model!r}: {name} is {value!r}, which a run's spec.json cannot hold; allowed are finite "
                "numbers, true and false, text, None, and lists of these"
            )
        if name.endswith(SCHEDULE) and not (value is None or type(value) in (int, float)):
            raise UserError(f"model {model!r}: {name} is {value!r}; a schedule is a number of steps, or None")
    return found


@cache
def _adapters(cls: type[Model]) -> dict[str, TypeAdapter[Any]]:
    """What checks the values of the constructor's arguments, of those whose annotation has any."""
    found: dict[str, TypeAdapter[Any]] = {}
    for name, annotation in _annotations(cls).items():
        with contextlib.suppress(PydanticUserError):
            found[name] = TypeAdapter(annotation, config=EXACT)
    return found


def _annotations(cls: type[Model]) -> dict[str, Any]:
    """Of the constructor's arguments; none where they name what the file does not import."""
    try:
        return typing.get_type_hints(cls.__init__)
    except Exception:
        return {}


def settings_of(dataset: str, cls: type[Model], like: str = "") -> str:
    """The data set whose published settings a model takes: this one, or the one that it is `like`, or the model's
    first; empty for a model without any."""
    return next((name for name in (dataset, like, *cls.published) if name in cls.published), "")


def speed_up(published: int, steps: int) -> float:
    """How many times faster than published the schedules of a run are.

    A run is the beginning of the published one, at most three times as fast: so every run of up to a third of the
    published length has the same schedules, and one of the published length or more has the published ones.
    """
    return min(FASTEST, max(1.0, published / steps))


def scheduled(hparams: Mapping[str, Any], share: float) -> dict[str, Any]:
    """These settings with every schedule cut to a share of its steps; none vanishes."""
    return {
        name: max(round(value * share), min(value, 1)) if is_schedule(name, value) else value
        for name, value in hparams.items()
    }


def is_schedule(name: str, value: object) -> bool:
    """Whether a setting is a number of steps that shrinks with a run; None is no schedule."""
    return name.endswith(SCHEDULE) and value is not None


def within(spec: Spec) -> list[str]:
    """The schedules that a run ends within: `at 2 % of capacity_steps (100,000)`."""
    return [
        f"at {100 * spec.steps / value:.2g} % of {name} ({value:,})"
        for name, value in spec.hparams.items()
        if is_schedule(name, value) and value > spec.steps
    ]


def not_begun(spec: Spec, cls: type[Model]) -> dict[str, str]:
    """Part of the model that a run is too short for -> the setting that says from which step on it takes part."""
    return {part: name for name, part in cls.begins.items() if spec.steps <= (spec.hparams.get(name) or 0)}


def with_seeds(configurations: Sequence[Spec], seeds: Sequence[int]) -> list[Spec]:
    """The grid, seed by seed, so that any stop leaves a balanced table."""
    return [replace(spec, seed=seed) for seed in seeds for spec in configurations]


def hyper_parameters(cls: type[Model]) -> dict[str, inspect.Parameter]:
    """What a model can be told: the keyword arguments of its constructor, beside shape and n_images.

    Raises UserError for one without a default, and for the name of a run's own setting: tables name both alike.
    """
    own = {one.name for one in fields(Spec)}
    parameters = inspect.signature(cls).parameters
    named = {name: p for name, p in parameters.items() if name not in ("shape", "n_images")}
    for name, parameter in named.items():
        if parameter.default is inspect.Parameter.empty:
            raise UserError(f"model {cls.__name__}: hyper-parameter {name!r} needs a default")
        if name in own:
            raise UserError(f"model {cls.__name__}: a hyper-parameter cannot be called {name!r}, as every run has a "
                            f"setting of that name; those are {', '.join(sorted(own))}")  # fmt: skip
    return named


def parse_settings(texts: Sequence[str], classes: Mapping[str, type[Model]]) -> dict[str, list[dict[str, Any]]]:
    """`betavae.beta=1,2` -> {"betavae": [{"beta": 1.0}, {"beta": 2.0}]}: one dictionary a configuration.

    Values are checked against the annotations of the model's constructor. Several settings of a model multiply.
    """
    choices: dict[str, dict[str, list[Any]]] = {name: {} for name in classes}
    for text in texts:
        target, equals, values = text.partition("=")
        model, dot, name = target.partition(".")
        if not (equals and dot and model and name and values):
            raise UserError(f"--set {text!r}: write MODEL.NAME=VALUE, like betavae.beta=4")
        if model not in classes:
            raise unknown("model in --set (it must be among --models)", model, classes)
        parameters = hyper_parameters(classes[model])
        if name not in parameters:
            raise unknown(f"setting of {model}", name, parameters)
        if name in choices[model]:
            raise UserError(f"--set {model}.{name} is given twice; a sweep is {model}.{name}=1,2,4")
        annotation = _annotations(classes[model]).get(name)
        if annotation is None:
            raise UserError(
                f"--set {model}.{name}: annotate it in the model's __init__ with a type that the file imports, so that "
                "values can be checked"
            )
        typed = [_typed(value, annotation, f"{model}.{name}") for value in _split(values)]
        choices[model][name] = [value for i, value in enumerate(typed) if value not in typed[:i]]  # twice is one run
    return {
        model: [dict(zip(named, values, strict=True)) for values in itertools.product(*named.values())]
        for model, named in choices.items()
    }


def _split(values: str) -> list[str]:
    """At commas outside brackets."""
    parts, depth = [""], 0
    for character in values:
        depth += (character in "[(") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _typed(text: str, annotation: Any, name: str) -> Any:
    """The value of a setting, of the type that its annotation says."""
    error = UserError(f"--set {name}={text!r}: must be {_in_words(annotation)}")
    if annotation is str:
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text.strip().lower(), text.strip()))
        if typing.get_origin(annotation) is tuple:
            value = tuple(value) if isinstance(value, list | tuple) else (value,)
        return TypeAdapter(annotation, config=EXACT).validate_python(value)
    except PydanticUserError:
        raise UserError(f"--set {name}: its annotation {annotation} in the model's __init__ has no values") from None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise error from None


def _in_words(annotation: Any) -> str:
    names = {int: "an integer", float: "a finite number", bool: "true or false", str: "text"}
    if typing.get_origin(annotation) is tuple:
        return f"a list such as [10,4] of {names.get(typing.get_args(annotation)[0], 'values')} each"
    return names.get(annotation, str(annotation))
