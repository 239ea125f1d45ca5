"""Figures of a results folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmark import store
from benchmark.defaults import HEADLINE
from benchmark.reporting import canvas, lengths, plots
from benchmark.reporting.gallery import Gallery
from benchmark.running import encoder
from benchmark.running.watch import COLUMNS
from benchmark.runs import Run, config_labels, tables_of
from benchmark.statistics import stats
from models import Model, Posterior

# What stands for disentanglement beside reconstruction and KL: the first that was computed.
STANDS = ("mig", "dci_disentanglement", "dci_hist_disentanglement", "factorvae_score", "discrete_accuracy")
# Files of equal figures are equal: no dates, no versions.
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}


def shown_runs(
    runs: Sequence[Run], scores: pd.DataFrame, labels: dict[tuple[str, str, str], str]
) -> tuple[dict[str, dict[str, Run]], dict[str, str]]:
    """Data set -> label -> the run whose latents and images stand for a configuration; and run -> its title.

    It is the live run with the median reconstruction (of two medians the worse one), of those whose weights are here if
    any are; where no run lives, the same of the others, and where none was measured the lowest seed. The title says
    which: `jointvae, seed 3 (median of 4 live runs)`.
    """
    state = stats.states(scores).set_index(stats.RUN)["state"]
    recon = scores[scores["metric"] == "reconstruction"].groupby("run")["value"].mean()
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if run.kind == "run" and run.status == "ok":
            groups.setdefault((run.spec.dataset, run.spec.model, run.config), []).append(run)
    found: dict[str, dict[str, Run]] = {}
    named: dict[str, str] = {}
    for key, members in sorted(groups.items()):
        weighed = [run for run in members if store.is_listed(run.folder, "model.safetensors")] or members
        live = [run for run in weighed if state.get((*key, run.spec.seed)) == "live"]
        ranked = sorted(live or weighed, key=lambda run: (recon.get(run.id, math.inf), run.spec.seed))
        measured = [run for run in ranked if run.id in recon.index]
        median = measured[len(measured) // 2] if measured else ranked[0]
        found.setdefault(key[0], {})[labels[key]] = median
        dead = state.get((*key, median.spec.seed)) == "dead"
        which = f" (median of {len(live)} live runs)" if len(live) > 1 else " (dead)" if dead else ""
        named[median.id] = f"{labels[key]}, seed {median.spec.seed}{which}"
    return found, named


def write(
    results: Path, runs: Sequence[Run], scores: pd.DataFrame, gallery: Gallery,
    formats: Sequence[str] = tuple(FORMATS), headline: Sequence[str] = HEADLINE,
) -> None:  # fmt: skip
    """Write plots/*.png, *.svg and *.pdf, or some of them; what lies there of the others is removed, as it is old."""
    folder = results / "plots"
    folder.mkdir(exist_ok=True)
    for old in [path for kind in FORMATS for path in folder.glob(f"*.{kind}")]:
        old.unlink()
    matplotlib.use("agg")
    with canvas.style():
        for name, figure in figures(runs, scores, gallery, headline):
            for kind in formats:
                with store.replacing(folder / f"{name}.{kind}") as temporary:
                    figure.savefig(temporary, format=kind, dpi=150, **FORMATS[kind])
                figure.set_layout_engine("none")  # the places are found once, which is most of the time
            canvas.close(figure)


def figures(
    runs: Sequence[Run], scores: pd.DataFrame, gallery: Gallery, headline: Sequence[str] = HEADLINE
) -> Iterator[tuple[str, Figure]]:
    """(file name, figure) of all figures: of each model its longest training, and one of all lengths.

    headline: the scores that have a panel.
    """
    labels = config_labels(runs)
    names = lengths.names(runs, labels)
    shorter = lengths.shorter(scores, names)
    drawn = set(lengths.without(scores, shorter)["run"])
    found, named = shown_runs([run for run in runs if run.id in drawn], scores, labels)
    for dataset, shown in found.items():
        trained = [r for r in runs if r.kind == "run" and r.spec.dataset == dataset]  # a failed one may have scores
        of = {run.id: labels[lengths.key_of(run)] for run in trained}
        mine = [run for run in trained if run.status == "ok" and run.id in drawn]
        every = stats.with_state(scores[scores["dataset"] == dataset], scores)
        part = lengths.without(every, shorter)
        titles = {label: named[run.id] for label, run in shown.items()}
        yield from lengths_figures(every, dataset, names, headline)
        yield from _number_figures(dataset, mine, of, part, headline)
        yield from _table_figures(dataset, shown, titles, gallery)
        yield from _image_figures(dataset, shown, gallery, titles)


def _number_figures(
    dataset: str, runs: Sequence[Run], of: dict[str, str], scores: pd.DataFrame, headline: Sequence[str]
) -> Iterator[tuple[str, Figure]]:
    measured = scores[(scores["kind"] == "run") & scores["value"].notna()]
    labelled = scores.assign(label=[of.get(row.run, row.model) for row in scores.itertuples()])
    for protocol in sorted(measured["protocol"].unique()):
        part = labelled[(labelled["protocol"] == protocol) & labelled["plugin"].notna()]
        yield f"scores_{dataset}_{protocol}", plots.scores(part, dataset, str(protocol), headline)
        yield from divergences(part, dataset, str(protocol))
        yield from tradeoff(part, dataset, str(protocol))
    history = history_of(runs, of)
    if history:
        yield f"training_{dataset}", plots.training(history, dataset, dead_of(labelled))
    seeds = watched(history)
    if seeds:
        parts = {label: history[label, seed] for label, seed in seeds.items()}
        yield (
            f"elbo_training_{dataset}",
            plots.elbo_training(parts, {label: f"{label}, seed {n}" for label, n in seeds.items()}, dataset),
        )


def lengths_figures(
    scores: pd.DataFrame, dataset: str, names: lengths.Names, headline: Sequence[str]
) -> Iterator[tuple[str, Figure]]:
    """Scores against steps, of the models that have two lengths or more; none where there is no such model.

    scores: long table of one data set with dead.
    """
    labelled = scores.assign(label=[names[key] for key in zip(*(scores[c] for c in stats.CONFIG), strict=True)])
    for protocol, part in labelled[labelled["plugin"].notna() & labelled["value"].notna()].groupby("protocol"):
        runs = part[part["kind"] == "run"]
        several = runs.groupby("label")["steps"].nunique().loc[lambda n: n > 1].index
        if len(several):
            shown = part[(part["kind"] != "run") | part["label"].isin(several)]
            yield lengths.figure_name(dataset, str(protocol)), plots.lengths(shown, dataset, str(protocol), headline)


def _table_figures(
    dataset: str, shown: dict[str, Run], titles: dict[str, str], gallery: Gallery
) -> Iterator[tuple[str, Figure]]:
    tables = {label: tables_of(run) for label, run in shown.items()}
    drawn = [
        ("information", "mutual_information", plots.information),
        ("covariance", "covariance", plots.covariance),
        ("confusion", "confusion", plots.confusion),
    ]
    for name, table, draw in drawn:
        matrices = {label: t for label, found in tables.items() for key, t in found.items() if key.startswith(table)}
        matrices = {label: t for label, t in matrices.items() if t.size}
        if name == "confusion":
            matrices = {label: gallery.with_class_names(dataset, t) for label, t in matrices.items()}
        if matrices:
            yield f"{name}_{dataset}", draw(matrices, titles, dataset)


def dead_of(labelled: pd.DataFrame) -> set[tuple[str, int]]:
    """(label, seed) of the dead runs. labelled: long table with label, kind, metric, seed, dead."""
    whole = labelled[~labelled["metric"].str.startswith(stats.OF_THE_CLASS)]  # there a live run's class may be dead
    return {(str(row.label), int(row.seed)) for row in whole[whole["dead"]].itertuples()}


def divergences(scores: pd.DataFrame, dataset: str, protocol: str) -> Iterator[tuple[str, Figure]]:
    """What the KL is made of: of runs that have it."""
    runs = scores[scores["kind"] == "run"]
    if runs.loc[runs["metric"] == "elbo_parts_information", "value"].notna().any():
        yield f"elbo_parts_{dataset}_{protocol}", plots.elbo_parts(runs, dataset, protocol)


def tradeoff(scores: pd.DataFrame, dataset: str, protocol: str) -> Iterator[tuple[str, Figure]]:
    """What reconstruction costs, where it was measured and the KL or a score of disentanglement too."""
    if found := tradeoff_table(scores):
        yield f"tradeoff_{dataset}_{protocol}", plots.tradeoff(*found, dataset, protocol)


def tradeoff_table(scores: pd.DataFrame) -> tuple[pd.DataFrame, str, pd.Series] | None:
    """A row a run, the name of its score ("": none), and this score's floors and ceiling, as `plots.tradeoff`
    takes them. None where there is no reconstruction, or nothing to compare it with.

    scores: long table of one protocol with model, label, kind, steps, run, metric, value, dead.
    """
    runs = scores[scores["kind"] == "run"]
    by_run = runs.groupby(["model", "label", "steps", "run", "metric"])["value"].mean().unstack()
    known = by_run.dropna(axis=1, how="all").columns
    if "reconstruction" not in known:
        return None
    by_run = by_run.dropna(subset=["reconstruction"])
    known = by_run.dropna(axis=1, how="all").columns
    score = next((name for name in STANDS if name in known), "")
    if not (score or "kl_total" in known):
        return None
    dead = runs[~runs["metric"].str.startswith(stats.OF_THE_CLASS)].groupby("run")["dead"].any()
    table = by_run.reindex(columns=["reconstruction", "kl_total", score]).set_axis(
        ["reconstruction", "kl", "score"], axis=1
    )
    table = table.reset_index()
    levels = scores[(scores["kind"] != "run") & (scores["metric"] == score)].dropna(subset=["value"])
    return table.assign(dead=table["run"].map(dead)), score, levels.groupby(["kind", "model"])["value"].mean()


def history_of(runs: Sequence[Run], of: dict[str, str]) -> dict[tuple[str, int], pd.DataFrame]:
    """(label, seed) -> rows of history.csv, of the runs that have it."""
    return {
        (of[run.id], run.spec.seed): pd.read_csv(run.folder / "history.csv")
        for run in runs
        if store.is_finished(run.folder, "history.csv")
    }


def watched(history: dict[tuple[str, int], pd.DataFrame]) -> dict[str, int]:
    """Label -> its lowest seed whose history has the parts of the KL, measured twice at least: a line needs two."""
    columns = list(COLUMNS)
    known = [key for key, rows in history.items() if set(columns) <= set(rows) and len(rows.dropna(subset=columns)) > 1]
    return {label: min(seed for other, seed in known if other == label) for label, _ in sorted(known)}


def _image_figures(
    dataset: str, shown: dict[str, Run], gallery: Gallery, titles: dict[str, str]
) -> Iterator[tuple[str, Figure]]:
    models = {label: model for label, run in shown.items() if (model := gallery.model(run)) is not None}
    x = gallery.images(dataset) if models else None
    if x is None:
        return
    decoded = {
        titles[label]: encoder.images_of(model, encoder.posterior(model, x).mode()) for label, model in models.items()
    }
    yield f"reconstructions_{dataset}", plots.reconstructions(x.numpy(), decoded, dataset)
    samples = {titles[label]: encoder.images_of(model, prior(model, 36)) for label, model in models.items()}
    yield f"samples_{dataset}", plots.samples(samples, dataset)
    for label, model in models.items():
        spec = shown[label].spec
        yield (
            f"traversals_{dataset}_{spec.model}_{shown[label].config}",
            traversal_figure(shown[label], titles[label], model, x),
        )


def traversal_figure(run: Run, title: str, model: Model, x: Tensor) -> Figure:
    """What every latent changes in the first of the images x."""
    rows = {name: encoder.images_of(model, z) for name, z in traversals(model, x[:1], kl_of(run)).items()}
    span = model.traversal if quantised_values(model, encoder.posterior(model, x[:1])) is None else None
    return plots.traversals(rows, f"{title} on {run.spec.dataset}", span)


def kl_of(run: Run) -> pd.Series | None:
    """KL in nats by latent, where it was measured."""
    tables = tables_of(run)
    return tables["kl"].iloc[:, 0] if "kl" in tables else None


def prior(model: Model, n: int) -> torch.Tensor:
    """(n, c + Σk) draws from the model's prior, the same at every call."""
    return model.prior(n, torch.Generator().manual_seed(0))


def quantised_values(model: Model, q: Posterior) -> list[list[float]] | None:
    """The values of each latent of a quantised code, ascending, as the model's own prior has them; else None."""
    if not q.ordinal or type(model).prior is Model.prior:
        return None
    return [column.unique().tolist() for column in prior(model, 1000)[:, : model.latents].unbind(1)]


def traversals(model: Model, x: torch.Tensor, kl: pd.Series | None, columns: int = 9) -> dict[str, torch.Tensor]:
    """Row label -> latents along one latent's `traversal`, or through the classes; the others stay at x's code.

    A quantised latent goes through the values of the model's own prior, where it has one. Continuous latents come in
    the order of their KL (nats), which is in the label where it is known.
    """
    q = encoder.posterior(model, x)
    start = q.mode()
    values = quantised_values(model, q)
    order = range(model.latents)
    nats = [float(kl.get(f"z{i}", math.nan)) if kl is not None else math.nan for i in order]
    rows = {}
    for i in sorted(order, key=lambda i: -nats[i] if nats[i] == nats[i] else 0):
        z = start.repeat(columns, 1)
        steps = torch.linspace(*model.traversal, columns) if values is None else torch.tensor(values[i])
        z[:, i] = steps[torch.linspace(0, len(steps) - 1, columns).round().long()]
        rows[f"z{i} ({canvas.number(nats[i])} nats)" if nats[i] == nats[i] else f"z{i}"] = z
    offset = model.latents
    for index, k in enumerate(model.categories):
        z = start.repeat(k, 1)
        z[:, offset : offset + k] = torch.eye(k)
        rows[f"c{index} (each class)"] = z
        offset += k
    return rows
