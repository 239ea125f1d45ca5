"""What a metric promises, and the codes that it is tried on."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from benchmark import plugins
from benchmark.authoring.contract import DRAWS, Fault, other_global_state, require
from metrics import Codes, NotApplicable, metric_rng, protocols


@dataclass(frozen=True)
class MetricCase:
    """A metric with its module."""

    name: str
    metric: Callable[..., Any]
    module: ModuleType

    def scores(self, codes: Codes, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the metric returns, by default under its quickest protocol; nothing where it is not applicable."""
        over_runs = getattr(self.module, "ACROSS_RUNS", False)
        named = protocols(self.module)
        fixed = named.get("quick", named.get("study", {})) if settings is None else settings
        if not getattr(self.module, "ATTRIBUTES", False):  # a run gives them to no other metric
            codes = replace(codes, attributes=None, attribute_names=())
        try:
            return self.metric([codes, codes] if over_runs else codes, metric_rng(0, self.name), **fixed)
        except NotApplicable:
            return {}

    def numbers(self, codes: Codes) -> dict[str, float]:
        return {key: float(v) for key, v in self.scores(codes).items() if not isinstance(v, NotApplicable)}


SIZES = (3, 4, 5)


def example(noise: float = 0.3, n: int = 600) -> Codes:
    """Three factors, each in a continuous latent under noise, and the first in a categorical one as well."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(size, size=n) for size in SIZES], axis=1)
    mean = (factors - factors.mean(axis=0)) / factors.std(axis=0) + noise * rng.standard_normal((n, 3))
    sure = np.exp(np.eye(3)[factors[:, 0]] / (0.1 + noise) + rng.standard_normal((n, 3)) * min(noise, 1))
    return Codes(mean, factors, ("kind", "size", "place"), SIZES, np.full((n, 3), -2.0),
                 (sure / sure.sum(axis=1, keepdims=True),), rng.uniform(10, 90, n), "kind",
                 attributes=factors + rng.standard_normal((n, 3)), attribute_names=("a", "b", "c"))  # fmt: skip


def degenerate() -> dict[str, Codes]:
    """Tables that a metric meets sooner or later."""
    plain = example()
    none = np.zeros((plain.n, 0))
    one, no = (
        replace(plain, factors=plain.factors[:, :f], factor_names=plain.factor_names[:f], factor_sizes=SIZES[:f],
                class_factor="kind" if f else None)
        for f in (1, 0)
    )  # fmt: skip
    return {
        "a constant code": replace(plain, mean=0 * plain.mean, probs=(np.full((plain.n, 3), 1 / 3),)),
        "dead latents": replace(plain, mean=plain.mean * [1, 0, 1e-6]),
        "one factor": one,
        "a factor with one value": replace(plain, factors=plain.factors * np.array([1, 1, 0])),
        "no factors": no,
        "no attributes": replace(plain, attributes=None, attribute_names=()),
        "attributes with one value": replace(plain, attributes=np.ones((plain.n, 3))),
        "categorical latents only": replace(plain, mean=none, logvar=none),
        "continuous latents only": replace(plain, probs=()),
        "a deterministic code": replace(plain, logvar=None, recon=None),
        "a quantised code": replace(plain, mean=np.round(plain.mean), logvar=None, ordinal=True),
        "three points": plain.select(slice(3)),
        "one point": plain.select(slice(1)),
    }


def declared(case: MetricCase) -> None:
    """PROTOCOLS, DEFAULT, ATTRIBUTES, LOWER_IS_BETTER and DESCRIPTIVE are of their kinds and fit the function."""
    module, named = case.module, protocols(case.module)
    require(isinstance(named, dict) and all(isinstance(v, dict) for v in named.values()),
            f"PROTOCOLS is {named!r}, needed a dict of dicts", module, "^PROTOCOLS")  # fmt: skip
    require("study" in named, f"PROTOCOLS names {sorted(named)}, needed 'study' among them", module, "^PROTOCOLS")
    for name, fixed in named.items():
        try:
            inspect.signature(case.metric, follow_wrapped=False).bind(None, None, **fixed)
        except ValueError:
            continue  # a compiled function tells no signature
        except TypeError as error:
            how = f"{case.name}(codes, rng{''.join(f', {key}=…' for key in fixed)})"
            raise Fault(f"protocol {name!r} cannot call {how}: {error}", case.metric, "def ") from None
    for flag in ("DEFAULT", "ACROSS_RUNS", "ATTRIBUTES"):
        value = getattr(module, flag, False)
        require(isinstance(value, bool), f"{flag} is {value!r}, needed True or False", module, f"^{flag}")
    sets = {name: getattr(module, name, ()) for name in ("LOWER_IS_BETTER", "DESCRIPTIVE")}
    for name, keys in sets.items():
        listed = isinstance(keys, set | frozenset | list | tuple)
        good = listed and all(isinstance(k, str) and k.startswith(case.name) for k in keys)
        require(good, f"{name} is {keys!r}, needed a set of keys that start with {case.name!r}", module, f"^{name}")
    both = sorted(set.intersection(*map(set, sets.values())))
    require(not both, f"{both} are in LOWER_IS_BETTER and in DESCRIPTIVE", module, "^DESCRIPTIVE")


def require_keys(case: MetricCase, found: Any, what: str) -> None:
    """A dict of numbers whose keys are the metric's own."""
    needed = f"needed {case.name!r} or a name that starts with '{case.name}_'"
    text = f"on {what}: {case.name}() gave {type(found).__name__}, needed a dict"
    require(isinstance(found, dict), text, case.metric, "return")
    for key in found:
        named = isinstance(key, str) and plugins.is_key_of(case.name, key)
        require(named, f"on {what}: key {key!r}, {needed}", case.metric, "return")
    for key, value in found.items():
        text = f"on {what}: {key} is a {type(value).__name__}, needed a number or NotApplicable(reason)"
        require(isinstance(value, NotApplicable) or _is_number(value), text, case.metric, "return")


def _is_number(value: Any) -> bool:
    try:
        math.isfinite(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # one of torch's with more than one number
        return False
    return True


def _well_formed(case: MetricCase, found: Any, what: str) -> None:
    def need(holds: Any, text: str) -> None:
        require(holds, f"on {what}: {text}", case.metric, "return")

    require_keys(case, found, what)
    for key, value in found.items():
        if not isinstance(value, NotApplicable):
            need(isinstance(value, float), f"{key} is a {type(value).__name__}, needed a float")
            need(np.isfinite(value), f"{key} is {value}, needed a number or NotApplicable(reason)")


def values(case: MetricCase) -> str:
    """A dict of finite floats, by keys that start with the metric's name, under every protocol."""
    keys: dict[str, None] = {}
    for name, fixed in protocols(case.module).items():
        if name in ("study", "quick") or len(protocols(case.module)) == 1:
            found = case.scores(example(), fixed)
            _well_formed(case, found, f"an ordinary code, protocol {name}")
            keys |= dict.fromkeys(found)
    return ", ".join(keys) or "not applicable"


def drawn(case: MetricCase) -> None:
    """The same generator gives the same scores, and the global random state is neither read nor changed."""
    found = []
    for seed in (1, 2):
        with other_global_state(seed):
            before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
            found.append(case.numbers(example()))
            after = np.random.get_state()[1]  # type: ignore[index]  # noqa: NPY002
            require(np.array_equal(before, after), "numpy's global random state was used, needed the rng handed in",
                    case.metric, DRAWS)  # fmt: skip
    differ = [key for key in found[0] if found[0][key] != found[1].get(key)]
    require(not differ, f"the same rng gave two values of {differ}: draw from rng, nowhere else", case.metric, DRAWS)


def untouched(case: MetricCase) -> None:
    """The codes are as they were."""
    given, kept = example(), example()
    case.scores(given)
    for name in ("mean", "logvar", "recon", "factors", "attributes"):
        require(np.array_equal(getattr(given, name), getattr(kept, name)),
                f"codes.{name} was changed, needed a copy: other metrics see the same table", case.metric,
                rf"\b{name}\b.*[^=!<>]=[^=]")  # fmt: skip
    require(
        np.array_equal(given.probs[0], kept.probs[0]), "codes.probs was changed, needed a copy", case.metric, "probs"
    )


def survives(case: MetricCase) -> str:
    """Degenerate tables give finite floats or NotApplicable, and raise nothing else."""
    none = []
    for what, table in degenerate().items():
        try:
            found = case.scores(table)
        except Exception as error:
            error.add_note(f"on {what}")
            raise
        _well_formed(case, found, what)
        if all(isinstance(value, NotApplicable) for value in found.values()):
            none.append(what)
    return f"not applicable to {', '.join(none)}" if none else ""


def rewritings() -> dict[str, Codes]:
    """The example written otherwise."""
    plain = example()
    assert plain.logvar is not None
    return {
        "order of rows": plain.select(np.random.default_rng(1).permutation(plain.n)),
        "order of latents": replace(plain, mean=plain.mean[:, ::-1].copy(), logvar=plain.logvar[:, ::-1].copy()),
        "sign of latents": replace(plain, mean=plain.mean * [-1, 1, -1]),
        "scale of the code": replace(plain, mean=10 * plain.mean, logvar=plain.logvar + 2 * np.log(10)),
        "numbering of classes": replace(plain, probs=(plain.probs[0][:, [2, 0, 1]],)),
    }


def described(case: MetricCase) -> dict[str, str]:
    """What is neither right nor wrong: how far scores change with the way the code is written, and with noise."""
    plain = case.numbers(example())
    found = {}
    for what, table in rewritings().items():
        other = case.numbers(table)
        change = max((abs(other.get(key, np.nan) - value) for key, value in plain.items()), default=0.0)
        found[what] = "does not matter" if change < 1e-9 else f"changes scores by up to {change:.2g}"
    noisier = case.numbers(example(noise=3.0))
    sides = {"falls": [k for k in plain if noisier.get(k, plain[k]) < plain[k]],
             "rises": [k for k in plain if noisier.get(k, plain[k]) > plain[k]]}  # fmt: skip
    text = "; ".join(
        f"{', '.join(keys)} {side if len(keys) == 1 else side[:-1]}" for side, keys in sides.items() if keys
    )
    return {**found, "as noise grows": text or "nothing changes"}


METRIC: dict[str, Callable[[MetricCase], str | None]] = {
    "declarations": declared, "values": values, "same rng, same scores": drawn, "codes untouched": untouched,
    "degenerate codes": survives,
}  # fmt: skip
