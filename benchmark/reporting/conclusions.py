"""What the comparisons say, in plain words: a sentence per data set and headline metric. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.statistics.differences import ALPHA, SETTING, least_p, least_seeds
from benchmark.statistics.stats import CONFIG, OF_THE_CLASS, best_named, per_seed, t_interval, unlearned

Labels = Mapping[tuple[str, str, str], str]
LISTED = 3  # models that are not told apart, each with its numbers in the sentence
METHOD = (
    "A difference counts as shown where its interval leaves out 0 and the p-value is at most 0.05 after Holm's "
    "correction over its family: all pairs "
    "of models that one metric compares on one data set, under one protocol and number of steps, less those with a "
    "model most of whose runs are dead. The p-value is that "
    "of a permutation test on Welch's t; brackets hold the 95 % interval of the difference (Welch), uncorrected. "
    "Neither metrics nor lengths are corrected for each other: among 20 metrics one such difference is expected where "
    "there is none. "
    "Seeds needed are those of each model for the estimated difference to be shown with 80 % power, in parentheses "
    "for the ends of its interval. Configurations of one model with enough common seeds are compared as pairs (test by "
    "signs, t interval of the differences)."
)

DEAD = (
    "Dead is a run whose latents carry nothing: none is in use, or their KL is below 0.01 nats, or it reconstructs no "
    "better than a constant image; a class is dead where one class alone is used. Dead runs count in every mean, and "
    "nothing is concluded from a model most of whose runs are dead; spread.csv has the means of the live ones. Rates "
    "have exact 95 % intervals (Clopper and Pearson)."
)


@dataclass(frozen=True)
class Conclusion:
    """What one metric says of the models on one data set.

    leader: the model with the best mean; winner: the same where it is shown better than every other, or empty.
    shown: the models that the leader is shown better than; open: those from which it is not told apart.
    floor: the best floor, where the leader is not shown to be better than it. n: the fewest seeds of a model; testable:
    whether the test of any pair could show a difference at all; family: how many pairs the correction is over.
    """

    dataset: str
    protocol: str
    steps: int
    metric: str
    better: str
    leader: str
    winner: str
    shown: tuple[str, ...]
    open: tuple[str, ...]
    floor: str
    n: int
    testable: bool
    family: int
    sentence: str


def conclude(
    scores: pd.DataFrame, comparisons: pd.DataFrame, labels: Labels, named: Labels, keys: list[str]
) -> list[Conclusion]:
    """A conclusion per data set, protocol, number of steps and headline key that has a direction and two models.

    Where all models of a conclusion are compared at a longer length too, only what is found there is said.
    comparisons: the table of `differences.comparisons`; labels: (data set, model, config) -> the name to show; named:
    the same without lengths, for the sentences, which say the length where a data set has several.
    """
    floors = per_seed(scores[scores["kind"] == "floor"]).groupby(["dataset", "metric", "protocol", "model"])["value"]
    levels: dict[tuple[str, str, str], dict[str, float]] = {}
    for (*key, model), value in floors.mean().items():
        levels.setdefault((key[0], key[1], key[2]), {})[model] = value
    values = {key: part["value"] for key, part in per_seed(scores).groupby([*SETTING, "model", "config"])}
    ranked = comparisons["metric"].isin(keys) & (comparisons["better"] != "neither")
    wanted = comparisons[ranked & (comparisons["verdict"] != "not learned")]
    lasting = _lasting(comparisons[ranked], named)
    lengths = scores[scores["kind"] == "run"].groupby("dataset")["steps"].nunique()
    found = []
    for key, pairs in wanted.groupby(["dataset", "protocol", "steps", "metric"], sort=True):
        dataset, protocol, steps, metric = key
        if key not in lasting:
            continue
        leader = _leader(pairs)
        versus = [_seen_from(leader, row) for row in pairs.to_dict("records") if leader in _sides(row)]
        own = values[dataset, metric, protocol, steps, *leader]
        names = {k: named[dataset, *k].replace(", ", " ") for k in _models(pairs)}
        what = f"{metric} at {steps:,} steps" if lengths[dataset] > 1 else metric
        words = _sentence(what, names[leader], versus, names)
        of_floors = levels.get((dataset, metric, protocol), {})
        floor = unbeaten(own, of_floors, str(pairs["better"].iloc[0]))
        if floor:
            words += f" The best mean is not shown to be better than the floor {floor} ({of_floors[floor]:.3f})."
        shown = tuple(labels[dataset, *row["other"]] for row in versus if row["shown"])
        others = tuple(labels[dataset, *row["other"]] for row in versus if not row["shown"])
        found.append(
            Conclusion(
                dataset,
                protocol,
                int(steps),
                metric,
                str(pairs["better"].iloc[0]),
                labels[dataset, *leader],
                "" if others else labels[dataset, *leader],
                shown,
                others,
                floor,
                int(pairs[["n_a", "n_b"]].min().min()),
                any(least_p(row["n_a"], row["n_b"]) <= ALPHA for row in pairs.to_dict("records")),
                len(pairs),
                words,
            )
        )
    return found


def _lasting(comparisons: pd.DataFrame, named: Labels) -> set[tuple[Any, ...]]:
    """(data set, protocol, steps, metric) less those whose models are all compared at a longer length too."""
    lasting = set()
    for key, group in comparisons.groupby(["dataset", "protocol", "metric"]):
        longer: list[set[str]] = []
        for steps, pairs in sorted(group.groupby("steps"), reverse=True):
            models = {named[key[0], *model] for model in _models(pairs)}
            if not any(models <= others for others in longer):
                lasting.add((key[0], key[1], steps, key[2]))
            longer.append(models)
    return lasting


@dataclass(frozen=True)
class Lifeless:
    """A configuration with dead runs on a data set, in words.

    unlearned: `4 of 5 runs` where so many are dead that nothing is concluded, else empty. classless: `the class of 4 of
    5 runs` where the runs live, but so many use one class alone that nothing is concluded from the scores of the class.
    """

    dataset: str
    label: str
    dead: int
    unlearned: str
    classless: str
    sentence: str


def lifeless(rates: pd.DataFrame, states: pd.DataFrame, labels: Labels) -> list[Lifeless]:
    """The configurations with dead runs or classes, those that have not learned yet first.

    rates, states: the tables of `stats.dead_rates` and `stats.states`.
    """
    waiting = unlearned(rates)
    classless = {key: text for key, text in unlearned(rates, OF_THE_CLASS).items() if key not in waiting}
    reasons = states[states["reason"] != ""].set_index(CONFIG).sort_index()
    found = []
    for row in rates[(rates["dead"] > 0) | (rates["dead_classes"] > 0)].to_dict("records"):
        key = (row["dataset"], row["model"], row["config"])
        label = labels[key].replace(", ", " ")
        if key in waiting:
            text = f"{label} has not learned yet at this length ({waiting[key]} dead)"
        elif row["dead"]:
            text = f"{label}: {row['dead']} of {row['runs']} runs are dead"
        else:
            text = f"{label}: the class of {row['dead_classes']} of {row['classes']} runs is dead"
        mine = reasons.loc[[key]].reset_index(drop=True)
        seeds = mine.groupby("reason")["seed"].agg(lambda s: ", ".join(map(str, sorted(s))))
        text += ": " + "; ".join(f"{why} (seed{'s' * (',' in s)} {s})" for why, s in seeds.items())
        if row["dead"]:
            text += f". Rate {row['rate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        dead = waiting.get(key, ""), classless.get(key, "")
        found.append(Lifeless(row["dataset"], labels[key], row["dead"], *dead, text + "."))
    return sorted(found, key=lambda one: (one.dataset, not one.unlearned, one.label))


def warning(conclusions: list[Conclusion]) -> str:
    """What few seeds mean, or nothing."""
    few = min((c.n for c in conclusions), default=5)
    if few >= 5:
        return ""
    none = "" if any(c.testable for c in conclusions) else "; fewer than 4 of each model can show none, however large"
    return f"Fewer than 5 seeds (n = {few}): intervals are wide{none}. Take these numbers as a first look."


def _sides(row: dict[str, Any]) -> tuple[tuple[str, str], tuple[str, str]]:
    return (row["model_a"], row["config_a"]), (row["model_b"], row["config_b"])


def _models(pairs: pd.DataFrame) -> list[tuple[str, str]]:
    return sorted({side for row in pairs.to_dict("records") for side in _sides(row)})


def _leader(pairs: pd.DataFrame) -> tuple[str, str]:
    """The model and configuration with the best mean, of those that are not shown to be worse than another."""
    means, lost = {}, set()
    for row in pairs.to_dict("records"):
        first, second = _sides(row)
        means[first], means[second] = row["mean_a"], row["mean_b"]
        lost |= {second} if row["verdict"] == "a" else {first} if row["verdict"] == "b" else set()
    sign = 1 if pairs["better"].iloc[0] == "higher" else -1
    return max(sorted(means), key=lambda key: (key not in lost, sign * means[key]))


def _seen_from(leader: tuple[str, str], row: dict[str, Any]) -> dict[str, Any]:
    """A comparison as what the leader is better by."""
    first, second = _sides(row)
    is_a = leader == first
    sign = (1 if is_a else -1) * (1 if row["better"] == "higher" else -1)
    ends = sorted((sign * row["ci_low"], sign * row["ci_high"]))
    return {
        **row,
        "other": second if is_a else first,
        "by": sign * row["difference"],
        "low": ends[0],
        "high": ends[1],
        "shown": row["verdict"] == ("a" if is_a else "b"),
        "n": min(row["n_a"], row["n_b"]),
    }


def _sentence(what: str, leader: str, versus: list[dict[str, Any]], names: dict[tuple[str, str], str]) -> str:
    shown = [f"{names[row['other']]} by {_by(row)}" for row in versus if row["shown"]]
    rest = sorted((row for row in versus if not row["shown"]), key=lambda row: row["by"])
    parts = []
    if shown:
        parts.append(f"{leader} is better than {listed(shown)}")
    if rest:
        few = min(row["n"] for row in rest)
        n = f"n = {few}" if few == max(row["n"] for row in rest) else f"n ≥ {few}"
        if len(rest) <= LISTED:
            others = listed([f"{names[row['other']]} ({_open(row)})" for row in rest])
        else:
            span = f"{rest[0]['by']:.3f} to {rest[-1]['by']:.3f}"
            others = f"{listed([names[row['other']] for row in rest])} (differences of {span}, see comparisons.csv)"
        parts.append(f"no difference shown ({n}) between {'it' if shown else leader} and {others}")
    return f"{what}: " + "; ".join(parts) + "." + _hopeless(rest)


def _hopeless(rest: list[dict[str, Any]]) -> str:
    """Says so where the seeds are too few for any test in this family, whatever the scores."""
    for row in rest:
        level = ALPHA / max(row["family"], 1)
        if row["design"] == "independent" and row["n"] > 1 and least_p(row["n_a"], row["n_b"]) > level:
            pairs = "one pair" if row["family"] == 1 else f"{row['family']} pairs"
            return f" No test of {_n(row)} seeds can show one among {pairs}; it takes {least_seeds(level)}."
    return ""


def _by(row: dict[str, Any]) -> str:
    return f"{row['by']:.3f} [{row['low']:.3f}, {row['high']:.3f}] (p = {_p(row['p_holm'])}, n = {_n(row)})"


def _open(row: dict[str, Any]) -> str:
    if row["n"] < 2:
        return f"{row['by']:.3f}; one run tells nothing about the spread between seeds"
    if row["by"] == row["low"] == row["high"] == 0:
        return "all runs are equal"
    text = f"{row['by']:.3f} [{row['low']:.3f}, {row['high']:.3f}], p = {_p(row['p_holm'])}"
    return text + _needed(row)


def _needed(row: dict[str, Any]) -> str:
    needed, low, high = row["seeds_needed"], row["seeds_low"], row["seeds_high"]
    if not row["hedges_g"] == row["hedges_g"]:  # no spread
        return ""
    if not needed == needed:
        return "; no number of seeds would be enough for so small a difference"
    most = "any number" if not high == high else f"{high:.0f}" if high <= 1000 else "over 1000"
    return f"; {needed:.0f} seeds needed ({low:.0f} to {most})"


def _n(row: dict[str, Any]) -> str:
    return f"{row['n_a']}" if row["n_a"] == row["n_b"] else f"{row['n_a']} and {row['n_b']}"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def listed(parts: list[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def unbeaten(own: pd.Series, floors: dict[str, float], better: str) -> str:
    """The best floor where the scores are not told from it: the interval of their mean does not exclude it.

    own: by seed; a single one is taken as it is.
    """
    name = best_named(floors, better)
    if name is None:
        return ""
    sign = 1 if better == "higher" else -1
    low, high = t_interval(own)
    reach = (high if sign < 0 else low) if low == low else float(own.mean())
    return "" if sign * (reach - floors[name]) > 0 else name
