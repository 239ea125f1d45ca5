"""The answer on one screen: a table a data set with the headline scores, and at most three sentences."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.reporting import conclusions, tables
from benchmark.reporting.findings import Findings
from benchmark.statistics import stats

WIDTH = 100
NAMES = {"reconstruction": "recon", "kl_total": "KL", "mig": "MIG", "dci_disentanglement": "DCI",
         "factorvae_score": "FactorVAE", "discrete_accuracy": "class"}  # fmt: skip
INSTEAD = {"discrete_accuracy": "cluster_accuracy"}  # of a model without a class: k-means of its code
LEGEND = (
    "mean ± half its 95 % interval; * better than another and worse than none by test; ° not shown better than the "
    "best floor; ᵏ k-means of the code; runs: live/dead/failed"
)

Key = tuple[str, str, int, str, str]  # data set, protocol, steps, model, config
Labels = Mapping[tuple[str, str, str], str]


class Screen:
    """What is shown of a results folder. keys: the headline scores."""

    def __init__(
        self, scores: pd.DataFrame, failed: pd.DataFrame, found: Findings, labels: Labels, keys: Sequence[str]
    ) -> None:
        self.found, self.labels, self.keys = found, labels, keys
        self.better = dict(zip(scores["metric"], scores["better"], strict=True))
        self.seeds = {key: part["value"] for key, part in stats.per_seed(scores).groupby([*GROUP, "metric"])}
        self.kinds = dict(zip(scores["model"], scores["kind"], strict=True))
        self.strong = tables.bold(found.comparisons)
        self.lost = failed.groupby(["dataset", "model", "config"])["seed"].nunique().to_dict()
        self.rates = {(r["dataset"], r["model"], r["config"]): r for r in found.rates.to_dict("records")}

    def text(self, colours: bool) -> str:
        """At most `WIDTH` columns; with colours for a terminal."""
        console = Console(file=io.StringIO(), width=WIDTH, force_terminal=colours, no_color=not colours,
                          highlight=False)  # fmt: skip
        for part in self._parts():
            console.print(part)
        written: io.StringIO = console.file  # type: ignore[assignment]
        return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"

    def _parts(self) -> Iterator[Table | str]:
        groups = dict.fromkeys(key[:2] for key in self.seeds if self.kinds[key[3]] == "run")
        for dataset, protocol in groups:
            models = [key for key in dict.fromkeys(k[:5] for k in self.seeds) if key[:2] == (dataset, protocol)]
            yield self._table(dataset, protocol, models)
            yield from (f"  {escape(line)}" for line in self._verdict(dataset, protocol))
        yield f"[dim]{LEGEND}[/]"

    def _table(self, dataset: str, protocol: str, models: Sequence[Key]) -> Table:
        runs = [key for key in models if self.kinds[key[3]] == "run"]
        keys = [key for key in self.keys if any(self._values(model, key) is not None for model in runs)]
        table = Table(title=f"{dataset}, protocol {protocol}", title_justify="left", title_style="bold", box=None,
                      pad_edge=False, padding=(0, 2, 0, 0))  # fmt: skip
        table.add_column("", overflow="fold")
        for key in keys:
            table.add_column(
                f"{NAMES.get(key, key)} {stats.ARROW[self.better[key]]}".strip(), justify="right", no_wrap=True
            )
        table.add_column("runs", justify="right", no_wrap=True)
        for model in runs:
            label = self.labels[dataset, model[3], model[4]]
            table.add_row(escape(label), *(self._cell(model, key) for key in keys), self._runs(model))
        for kind in ("floor", "ceiling"):
            of_kind = [key for key in models if self.kinds[key[3]] == kind]
            if of_kind:
                table.add_row(f"best {kind}", *(self._level(of_kind, key) for key in keys), "", style="dim")
        return table

    def _values(self, model: Key, key: str) -> pd.Series | None:
        return self.seeds.get((*model, key))

    def _cell(self, model: Key, key: str) -> str:
        mark, values = "", self._values(model, key)
        if values is None and key in INSTEAD:
            mark, key = "ᵏ", INSTEAD[key]
            values = self._values(model, key)
        if values is None:
            return "–"
        low, high = stats.t_interval(values)
        places = 3 if abs(values.mean()) < 10 else 1
        text = _number(values.mean(), places) + (f" ±{_number((high - low) / 2, places)}" if low == low else "") + mark
        dataset, protocol, steps, name, config = model
        if self.better[key] != "neither" and conclusions.unbeaten(values, self._floors(model, key), self.better[key]):
            text += "°"
        best = (dataset, key, protocol, steps, name, config) in self.strong
        return f"[bold]{text}*[/]" if best else text

    def _floors(self, model: Key, key: str) -> dict[str, float]:
        return {k[3]: float(v.mean()) for k, v in self.seeds.items()
                if k[:2] == model[:2] and k[5] == key and self.kinds[k[3]] == "floor"}  # fmt: skip

    def _level(self, floors: Sequence[Key], key: str) -> str:
        found = {model[3]: float(v.mean()) for model in floors if (v := self._values(model, key)) is not None}
        if not found or self.better[key] == "neither":
            return ""
        name = (min if self.better[key] == "lower" else max)(sorted(found), key=lambda one: found[one])
        return f"{_number(found[name], 3 if abs(found[name]) < 10 else 1)} {name}"

    def _runs(self, model: Key) -> str:
        rate = self.rates.get((model[0], model[3], model[4]), {"runs": 0, "dead": 0})
        return f"{rate['runs'] - rate['dead']}/{rate['dead']}/{self.lost.get((model[0], model[3], model[4]), 0)}"

    def _verdict(self, dataset: str, protocol: str) -> Iterator[str]:
        """Dead models, what is shown, and how far it can be trusted: a line each."""
        waiting = [one for one in self.found.lifeless if one.dataset == dataset and one.unlearned]
        if waiting:
            names = ", ".join(f"{one.label} ({one.dead} of {one.runs} runs dead)" for one in waiting)
            yield f"Not learned yet at this length: {names}."
        said = [c for c in self.found.conclusions
                if (c.dataset, c.protocol) == (dataset, protocol) and c.metric in self.keys]  # fmt: skip
        best: dict[str, list[str]] = {}
        for one in said:
            best.setdefault(one.winner, []).append(NAMES.get(one.metric, one.metric))
        shown = [f"{model} in {', '.join(metrics)}" for model, metrics in best.items() if model]
        if said:
            text = f"Shown to be best: {'; '.join(shown)}." if shown else "No model is shown to be the best."
            yield text + (f" Not told apart: {', '.join(best[''])}." if shown and "" in best else "")
        few = min((one.n for one in said), default=5)
        if few < 4:
            yield f"{few} seed{'s' * (few != 1)}: with fewer than 4 no test can show a difference."


GROUP = ["dataset", "protocol", "steps", "model", "config"]


def _number(value: float, places: int) -> str:
    """Never -0."""
    return f"{round(value, places) + 0.0:.{places}f}"
