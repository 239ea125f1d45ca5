"""The answer on one screen: a table a data set with the headline scores, and at most three sentences."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.reporting import canvas, conclusions, lengths, tables
from benchmark.reporting.findings import Findings
from benchmark.statistics import stats

WIDTH = 100
NAMES = {"reconstruction": "recon", "kl_total": "KL", "mig": "MIG", "dci_disentanglement": "DCI",
         "dci_hist_disentanglement": "DCI hist", "factorvae_score": "FactorVAE",
         "discrete_accuracy": "class"}  # fmt: skip
INSTEAD = {"discrete_accuracy": "cluster_accuracy"}  # of a model without a class: k-means of its code
LEGEND = (
    "mean ± half its 95 % interval; * shown better than another and worse than none; ° not shown better than the "
    "best floor; ᵏ k-means of the code; runs: live/dead/failed"
)

Key = tuple[str, str, int, str, str]  # data set, protocol, steps, model, config
Labels = Mapping[tuple[str, str, str], str]


@dataclass(frozen=True)
class Cell:
    """A headline score of a model: its mean and 95 % interval (None for one seed).

    best: shown better than another and worse than none; below: the best floor, where it is not shown to beat it;
    instead: whether it is of k-means on the code, as there is no class.
    """

    mean: float
    half: float | None
    best: bool
    below: str
    instead: bool

    @property
    def text(self) -> str:
        half = "" if self.half is None else f" ±{_number(self.half, like=self.mean)}"
        return _number(self.mean, like=self.mean) + half + "ᵏ" * self.instead + "°" * bool(self.below) + "*" * self.best


class Screen:
    """What is shown first of a results folder, in the terminal and on the page: of each model its longest training.

    keys: the headline scores.
    """

    def __init__(
        self, scores: pd.DataFrame, failed: pd.DataFrame, found: Findings, labels: Labels, keys: Sequence[str]
    ) -> None:
        self.found, self.labels, self.keys = found, labels, keys
        self.better = dict(zip(scores["metric"], scores["better"], strict=True))
        self.plugins = dict(zip(scores["metric"], scores["plugin"], strict=True))
        self.seeds = {key: part["value"] for key, part in stats.per_seed(scores).groupby([*GROUP, "metric"])}
        self.several = scores[scores["kind"] == "run"].groupby("dataset")["steps"].nunique() > 1
        self.kinds = dict(zip(scores["model"], scores["kind"], strict=True))
        trained = scores[scores["kind"] == "run"].groupby(["dataset", "protocol"])
        self.main = {group: stats.main_keys(part) for group, part in trained}
        self.strong = tables.bold(found.comparisons)
        self.floors: dict[tuple[str, str, str], dict[str, float]] = {}
        for (dataset, protocol, _, model, _, metric), values in self.seeds.items():
            if self.kinds[model] == "floor":
                self.floors.setdefault((dataset, protocol, metric), {})[model] = float(values.mean())
        self.names = {(d, label): found.names[d, m, c] for (d, m, c), label in labels.items()}
        scored = set(scores["run"])  # of a run that failed in one metric the others count
        self.lost = failed[~failed["run"].isin(scored)].groupby(stats.CONFIG)["seed"].nunique().to_dict()
        self.rates = {(r["dataset"], r["model"], r["config"]): r for r in found.rates.to_dict("records")}

    def text(self, colours: bool) -> str:
        """At most `WIDTH` columns; with colours for a terminal."""
        console = Console(file=io.StringIO(), width=WIDTH, force_terminal=colours, no_color=not colours,
                          highlight=False)  # fmt: skip
        for dataset, protocol in self.groups():
            console.print(self._table(dataset, protocol))
            for line in self.verdict(dataset, protocol):
                console.print(f"  {escape(line)}")
        if not self.groups():
            console.print("No run has scores yet.")
        console.print(f"[dim]{LEGEND}[/]")
        written: io.StringIO = console.file  # type: ignore[assignment]
        return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"

    def groups(self) -> list[tuple[str, str]]:
        """(data set, protocol) of which there are runs."""
        return list(dict.fromkeys(key[:2] for key in self.seeds if self.kinds[key[3]] == "run"))

    def columns(self, dataset: str, protocol: str) -> list[str]:
        """The headline scores that any model has; where none has one, all that stand for their metric."""
        models = self._models(dataset, protocol, "run")
        had = {key for *model, key in self.seeds if tuple(model) in models}
        return [key for key in self.keys if key in had] or [k for k in self.main[dataset, protocol] if k in had]

    def hidden(self, metrics: Sequence[str]) -> dict[str, list[str]]:
        """The metrics of these names that have scores and no column, with the scores that stand for them."""
        shown = {self.plugins[key] for group in self.groups() for key in self.columns(*group)}
        keys = dict.fromkeys(key for main in self.main.values() for key in main)
        found = {name: [key for key in keys if self.plugins[key] == name] for name in metrics if name not in shown}
        return {name: own for name, own in found.items() if own}

    def head(self, key: str) -> str:
        return f"{NAMES.get(key, key)} {stats.ARROW[self.better[key]]}".strip()

    def steps(self, dataset: str, protocol: str) -> list[int]:
        """The lengths of what is shown."""
        return sorted({model[2] for model in self._models(dataset, protocol, "run")})

    def rows(self, dataset: str, protocol: str) -> Iterator[tuple[str, list[Cell | None], str]]:
        """Label, cells and runs (live/dead/failed) of every model."""
        keys = self.columns(dataset, protocol)
        for model in self._models(dataset, protocol, "run"):
            cells = [self._cell(model, key) for key in keys]
            yield self.labels[dataset, model[3], model[4]], cells, self._runs(model)

    def levels(self, dataset: str, protocol: str) -> Iterator[tuple[str, list[str]]]:
        """The best floor and ceiling of every column."""
        for kind in ("floor", "ceiling"):
            if models := self._models(dataset, protocol, kind):
                yield f"best {kind}", [self._level(models, key) for key in self.columns(dataset, protocol)]

    def verdict(self, dataset: str, protocol: str) -> Iterator[str]:
        """Dead models, what is shown, and how far it can be trusted: a sentence each."""
        shown = {label for label, _, _ in self.rows(dataset, protocol)}
        mine = [c for c in self.found.lifeless if c.dataset == dataset and c.label in shown]
        if waiting := [c for c in mine if c.unlearned]:
            names = ", ".join(f"{self.name(dataset, protocol, c.label)} ({c.unlearned} dead)" for c in waiting)
            yield f"Not learned yet at this length: {names}."
        if classless := [c for c in mine if c.classless]:
            names = ", ".join(f"{c.classless} of {self.name(dataset, protocol, c.label)}" for c in classless)
            yield f"Dead though its model lives: {names}."
        if left := [c for c in self.found.lifeless if c.dataset == dataset and self._is_left(c, shown)]:
            yield f"Not all seeds went on from: {', '.join(f'{c.label} ({c.unlearned} dead)' for c in left)}."
        said = [c for c in self.found.conclusions
                if (c.dataset, c.protocol) == (dataset, protocol) and c.metric in self.keys]  # fmt: skip
        for steps in sorted({c.steps for c in said}, reverse=True):
            yield self._best([c for c in said if c.steps == steps])
        yield from self._others(dataset, protocol)
        if said and not any(one.testable for one in said):
            few = min(one.n for one in said)
            yield f"{few} seed{'s' * (few != 1)}: with fewer than 4 no test can show a difference."

    def _is_left(self, one: conclusions.Lifeless, shown: set[str]) -> bool:
        """Whether it is a length most of whose runs are dead, and what is shown instead has fewer seeds."""
        runs = {self.labels[key]: rate["runs"] for key, rate in self.rates.items() if key[0] == one.dataset}
        name = self.names[one.dataset, one.label]
        longer = [runs[label] for label in shown if self.names[one.dataset, label] == name]
        return bool(one.unlearned) and one.label not in shown and bool(longer) and max(longer) < runs[one.label]

    def name(self, dataset: str, protocol: str, label: str) -> str:
        """A model's label, with its length where not all that is shown has the same."""
        if len(self.steps(dataset, protocol)) == 1:
            return self.names[dataset, label]
        return ", ".join([label, *self.untold(dataset, protocol, label)])

    def untold(self, dataset: str, protocol: str, label: str) -> list[str]:
        """`steps=5000` where lengths differ and the label does not say it: its model has one alone."""
        alone = self.names[dataset, label] == label and len(self.steps(dataset, protocol)) > 1
        return [f"steps={model[2]}" for model in self._models(dataset, protocol, "run")
                if alone and self.labels[dataset, model[3], model[4]] == label]  # fmt: skip

    def _best(self, said: Sequence[conclusions.Conclusion]) -> str:
        """What is shown at one length."""
        dataset, steps = said[0].dataset, said[0].steps
        at = f" at {steps:,} steps" if self.several[dataset] else ""
        best: dict[str, list[str]] = {}
        for one in said:
            best.setdefault(one.winner, []).append(NAMES.get(one.metric, one.metric))
        shown = [f"{self.names[dataset, model]} in {', '.join(names)}" for model, names in best.items() if model]
        if not shown:
            return f"No model is shown to be the best{at}."
        open_ones = f" Not told apart: {', '.join(best[''])}." if "" in best else ""
        return f"Shown to be best{at}: {'; '.join(shown)}.{open_ones}"

    def _others(self, dataset: str, protocol: str) -> Iterator[str]:
        """The lengths that are not shown."""
        others = sorted({key[2] for key in self.seeds if key[:2] == (dataset, protocol) and self._is_shorter(key)})
        if others:
            table = lengths.FILE if dataset in set(self.found.lengths["dataset"]) else "summary.csv"
            figure = f"plots/{lengths.figure_name(dataset, protocol)}.png"
            yield f"Also at {conclusions.listed([f'{n:,}' for n in others])} steps: {table}, {figure}."

    def _is_shorter(self, model: Sequence[object]) -> bool:
        return (model[0], model[1], model[3], model[4]) in self.found.shorter

    def _models(self, dataset: str, protocol: str, kind: str) -> list[Key]:
        known = dict.fromkeys(key[:5] for key in self.seeds if not self._is_shorter(key))
        return [key for key in known if key[:2] == (dataset, protocol) and self.kinds[key[3]] == kind]

    def _table(self, dataset: str, protocol: str) -> Table:
        steps = self.steps(dataset, protocol)
        at = f", at {steps[0]:,} steps" if self.several[dataset] and len(steps) == 1 else ""
        table = Table(title=f"{dataset}, protocol {protocol}{at}", title_justify="left", title_style="bold", box=None,
                      pad_edge=False, padding=(0, 1, 0, 0))  # fmt: skip
        table.add_column("", overflow="fold", min_width=12)
        for key in self.columns(dataset, protocol):
            table.add_column(self.head(key), justify="right", no_wrap=True)
        table.add_column("runs", justify="right", no_wrap=True)
        for label, cells, runs in self.rows(dataset, protocol):
            table.add_row(escape(self.name(dataset, protocol, label)), *map(_drawn, cells), runs)
        for name, texts in self.levels(dataset, protocol):
            table.add_row(name, *(text.replace(" ", "\n") for text in texts), "", style="dim")
        return table

    def _cell(self, model: Key, key: str) -> Cell | None:
        instead = (*model, key) not in self.seeds and key in INSTEAD
        key = INSTEAD[key] if instead else key
        values = self.seeds.get((*model, key))
        if values is None:
            return None
        low, high = stats.t_interval(values)
        dataset, protocol, steps, name, config = model
        directed, floors = self.better[key] != "neither", self.floors.get((dataset, protocol, key), {})
        return Cell(
            mean=float(values.mean()),
            half=(high - low) / 2 if low == low else None,
            best=(dataset, key, protocol, steps, name, config) in self.strong,
            below=conclusions.unbeaten(values, floors, self.better[key]) if directed else "",
            instead=instead,
        )

    def _level(self, models: Sequence[Key], key: str) -> str:
        found = {model[3]: float(self.seeds[*model, key].mean()) for model in models if (*model, key) in self.seeds}
        name = stats.best_named(found, self.better[key])
        return f"{_number(found[name], like=found[name])} {name}" if name else ""

    def _runs(self, model: Key) -> str:
        key = (model[0], model[3], model[4])
        rate = self.rates.get(key, {"runs": 0, "dead": 0})
        return f"{rate['runs'] - rate['dead']}/{rate['dead']}/{self.lost.get(key, 0)}"


def _drawn(cell: Cell | None) -> str:
    """A cell in few columns: `0.101±.065`."""
    if cell is None:
        return "–"
    text = cell.text.replace(" ±0.", "±.").replace(" ±", "±")
    return f"[bold]{text}[/]" if cell.best else text


GROUP = ["dataset", "protocol", "steps", "model", "config"]


def _number(value: float, like: float) -> str:
    """With as many places as a number of that size needs; never -0."""
    return canvas.number(value, 3 if abs(like) < 10 else 1)
