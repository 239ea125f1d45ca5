"""The tables and figures of RESULTS.md, docs/results/ and README.md, from the published runs: `python -m
benchmark.evidence`.

A page names a table between `<!-- begin NAME -->` and `<!-- end NAME -->`; what lies between is written here, and so
are the figures in docs/results/. Everything is read from the folders of the runs; what needs MNIST's images beside them
(traversals, `attributes`) is drawn or encoded with the published weights. Nothing is trained or scored.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmark import runs, store
from benchmark.errors import UserError, exit_status
from benchmark.evidence import claims, handwriting, seeds
from benchmark.evidence.published import SHOWN, PublishedRuns, at_published_length, grouped
from benchmark.reporting import canvas, lengths, pictures, plots
from benchmark.reporting.gallery import Gallery
from benchmark.running import encoder, floors
from benchmark.runs import Run
from benchmark.statistics import agreement, stats
from data import Dataset
from data._attributes import NAMES, attributes_of
from data._cache import default_root
from metrics import Codes, score

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "RESULTS.md", ROOT / "README.md", *sorted((ROOT / "docs/results").glob("*.md"))]
BLOCK = re.compile(r"(<!-- begin ([a-z0-9 -]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
FIGURES = ROOT / "docs/results"
FIGURE = re.compile(r"\]\(([^:)]+\.png)\)")
Drawing = Callable[[], Figure]
Table = Callable[[], str]
Columns = dict[str, str]
FACTORS_KNOWN: Columns = {
    "factorvae_score": "FactorVAE score",
    "mig": "MIG",
    "dci_disentanglement": "DCI",
    "sap": "SAP",
    "discrete_accuracy": "by the class",
    "elbo_parts_total_correlation": "total correlation",
    "kl_total": "KL",
    "reconstruction": "reconstruction",
}
SCORES: dict[str, Columns] = {
    "dsprites": FACTORS_KNOWN,
    "mnist": {
        "discrete_accuracy": "digit by the class",
        "cluster_accuracy": "digit by k-means",
        "probe_accuracy": "digit by a linear probe",
        "elbo_parts_total_correlation": "total correlation",
        "kl_total": "KL",
        "reconstruction": "reconstruction",
    },
    "digits": FACTORS_KNOWN,
}
KL_COLUMNS: Columns = {
    "elbo_parts_kl": "E[KL]",
    "elbo_parts_information": "I(x; z)",
    "elbo_parts_information_upper": "its upper bound",
    "elbo_parts_marginal_kl": "KL(q(z) ‖ p(z))",
    "elbo_parts_total_correlation": "of it total correlation",
    "elbo_parts_dimension_kl": "of it single latents",
    "elbo_parts_residual": "what is missing",
}
INFOMEC: Columns = {
    "infomec_modularity": "InfoModularity ↑",
    "infomec_compactness": "InfoCompactness ↑",
    "infomec_explicitness": "InfoExplicitness ↑",
}
SWEPT: Columns = {
    "factorvae_score": "FactorVAE score",
    "mig": "MIG",
    "elbo_parts_total_correlation": "total correlation",
    "elbo_parts_information": "I(x; z)",
    "kl_total": "KL",
    "reconstruction": "reconstruction",
}
COMPARED = ("factorvae_score", "betavae_score", "mig", "sap", "dci_disentanglement", "modularity", "irs", "dcimig",
            "jemmig", "infomec_modularity", "infomec_compactness")  # fmt: skip
OPTIMUM = {  # title and decimal places
    "reconstruction": ("reconstruction", 1),
    "kl_total": ("KL", 2),
    "elbo_parts_total_correlation": ("total correlation", 2),
    "active_units": ("latents in use", 0),
    "mig_posX": ("gap of posX", 2),
    "mig_posY": ("gap of posY", 2),
    "mig": ("MIG", 3),
    "dci_disentanglement": ("DCI", 3),
    "factorvae_score": ("FactorVAE score", 3),
}
WRITERS = ("vae", "betavae", "jointvae", "invariantvae")


# --- tables ---------------------------------------------------------------------------------------------------------


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in [heads, *rows]]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]]) + "\n"


def interval(row: pd.Series) -> str:
    """`0.412 [0.373, 0.450]`, from 10,000 on the magnitude; of two seeds, whose interval says nothing, both values."""
    mean = row["mean"]
    if abs(mean) >= 10_000:
        return f"{mean:.0e}"
    digits = 1 if abs(mean) >= 20 else 3 if abs(mean) < 2 else 2
    if row["n"] == 2:
        apart = row["std"] / math.sqrt(2)  # either is from the mean
        return f"{mean - apart:.{digits}f} and {mean + apart:.{digits}f}"
    bounds = f" [{row['ci_low']:.{digits}f}, {row['ci_high']:.{digits}f}]" if row["n"] > 2 else ""
    return f"{mean:.{digits}f}{bounds}"


def score_rows(summary: pd.DataFrame, columns: Columns) -> Iterator[list[str]]:
    """A row a model, then floors and ceiling: its seeds, and a cell a metric."""
    order = {"run": 0, "floor": 1, "ceiling": 2}
    shown = summary[summary["metric"].isin([*columns, "none"])]
    for _, part in sorted(shown.groupby(["kind", "label"]), key=lambda item: (order[item[0][0]], item[0][1])):
        cells = {row["metric"]: interval(row) for _, row in part.iterrows()}
        name, kind = part["label"].iloc[0], part["kind"].iloc[0]
        n = f"{part['n'].max()}" + (f" ({part['failed'].max()} failed)" if part["failed"].max() else "")
        yield [_code(name) if kind == "run" else f"*{name}*", n, *(cells.get(key, "–") for key in columns)]


def _code(name: str) -> str:
    """A configuration's name: the model as code, and what is said of it."""
    model, comma, rest = name.partition(", ")
    return f"`{model}`{comma}{rest}"


def scores(published: PublishedRuns, dataset: str) -> str:
    summary = published.summary(dataset, published.standard)
    columns = SCORES[dataset]
    arrow = published.scores.drop_duplicates("metric").set_index("metric")["better"].map(stats.ARROW)
    heads = [f"{title} {arrow.get(key, '')}".strip() for key, title in columns.items()]
    return markdown(["model", "seeds", *heads], list(score_rows(summary, columns)))


def settings_table(published: PublishedRuns) -> str:
    rows = []
    for (dataset, model), members in grouped(published.standard, lambda r: (r.spec.dataset, published.name(r))):
        s = members[0].spec
        hparams = ", ".join(f"{name} {value}" for name, value in s.hparams.items())
        rows.append([dataset, _code(model), f"{len(members)}", f"{s.steps:,}", f"{s.batch_size}", f"{s.lr:g}", hparams])
    return markdown(["data set", "model", "seeds", "steps", "batch", "rate", "settings"], rows)


def class_seeds(published: PublishedRuns) -> str:
    """Accuracy by the class and classes used, a column a seed."""
    categorical = [run for run in published.standard if run.spec.hparams.get("categories")]
    columns = sorted({run.spec.seed for run in categorical})
    rows = []
    for (dataset, model), members in grouped(categorical, lambda r: (r.spec.dataset, published.name(r))):
        of = {run.spec.seed: run for run in members}
        cells = [_class_cell(published, of[seed]) if seed in of else "–" for seed in columns]
        values = [value for run in members if (value := published.value(run, "discrete_accuracy")) == value]
        if set(cells) != {"–"}:  # else its class begins after these runs
            rows.append([dataset, _code(model), *cells, _mean(values)])
    return markdown(["data set", "model", *(f"seed {seed}" for seed in columns), "mean ± sd [95 %]"], rows)


def _mean(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}" if values else "–"
    low, high = stats.t_interval(values)
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} [{low:.3f}, {high:.3f}]"


def _class_cell(published: PublishedRuns, run: Run) -> str:
    if run.status != "ok":
        return run.status
    accuracy, used = (published.value(run, f"discrete_accuracy{part}") for part in ("", "_used"))
    return f"{accuracy:.3f} ({used:.0f})" if accuracy == accuracy else "–"


def parts(published: PublishedRuns) -> str:
    rows = []
    for dataset in published.datasets:
        summary = published.summary(dataset, published.standard)
        found = list(score_rows(summary[summary["kind"] == "run"], KL_COLUMNS))
        rows += [[dataset, *row] for row in found]
    return markdown(["data set", "model", "seeds", *KL_COLUMNS.values()], rows)


def infomec(published: PublishedRuns) -> str:
    """Where it was scored: it is not one of the usual metrics."""
    rows = []
    for dataset in published.datasets:
        found = score_rows(published.summary(dataset, published.standard), INFOMEC)
        rows += [[dataset, *row] for row in found if row[2:] != ["–"] * len(INFOMEC)]
    return markdown(["data set", "model", "seeds", *INFOMEC.values()], rows)


def sweeps(published: PublishedRuns) -> str:
    """Every configuration of the models that were swept, and of the plain VAE: a β-VAE of β 1."""
    rows = []
    for dataset in published.datasets:
        some = _swept(published, dataset)
        if some:
            summary = published.summary(dataset, some)
            found = score_rows(summary[summary["kind"] == "run"], SWEPT)
            rows += [[dataset, *row] for row in sorted(found, key=lambda row: plots.numbers_in_order(row[0]))]
    return markdown(["data set", "model", "seeds", *SWEPT.values()], rows)


def length_table(published: PublishedRuns) -> str:
    """Every model that was scored at several lengths, at each of them."""
    named = _without_length(published)
    series = grouped(published.trained, lambda run: (run.spec.dataset, named[run.id]))
    rows = []
    for (dataset, name), members in series:
        ends = sorted({run.spec.steps for run in members})
        for steps in ends if len(ends) > 1 else ():
            summary = published.summary(dataset, [run for run in members if run.spec.steps == steps])
            [row] = score_rows(summary[summary["kind"] == "run"], FACTORS_KNOWN)
            rows.append([dataset, _code(name), f"{steps:,}", *row[1:]])
    return markdown(["data set", "model", "steps", "seeds", *FACTORS_KNOWN.values()], rows)


def optima_table(published: PublishedRuns) -> str:
    """Every β-VAE on dSprites: its loss over the last thousand steps, and what it came to; by β, length and loss."""
    rows = []
    for run in published.trained:
        if (run.spec.dataset, run.spec.model) == ("dsprites", "betavae"):
            values, beta = {key: published.value(run, key) for key in OPTIMUM}, float(run.spec.hparams["beta"])
            loss = published.history(run).query("step > step.max() - 1000")["loss"].mean()
            cells = [f"{values[key]:.{digits}f}" if values[key] == values[key] else "–"
                     for key, (_, digits) in OPTIMUM.items()]  # fmt: skip
            rows.append((beta, run.spec.steps, loss, run.spec.seed, cells))
    lines = [[f"{beta:g}", f"{steps:,}", f"{seed}", f"{loss:.1f}", *cells]
             for beta, steps, loss, seed, cells in sorted(rows)]  # fmt: skip
    return markdown(["β", "steps", "seed", "loss", *(title for title, _ in OPTIMUM.values())], lines)


def _without_length(published: PublishedRuns) -> dict[str, str]:
    """Run -> its model with the settings that tell it apart, but for its length."""
    named = lengths.names(published.trained, runs.config_labels(published.trained, longest=200), longest=200)
    return {run.id: named[lengths.key_of(run)] for run in published.trained}


def _swept(published: PublishedRuns, dataset: str) -> list[Run]:
    """The runs of the models that have other settings than the standard ones, apart from their length, and of `vae`."""
    here = [run for run in published.trained if run.spec.dataset == dataset]
    named = _without_length(published)
    usual = {named[run.id] for run in here if run in published.standard}
    models = {run.spec.model for run in here if named[run.id] not in usual}
    return [run for run in here if run.spec.model in models | {"vae"}] if models else []


def metrics_agree(published: PublishedRuns) -> str:
    """Spearman's rank correlations on dSprites: above the diagonal over all runs, below it without dead ones."""
    scores = published.scores[published.scores["dataset"] == "dsprites"]
    marked = stats.with_state(scores, scores)
    above, below = (_ranked(part) for part in (scores, marked[~marked["dead"]]))
    trained = scores[scores["kind"] == "run"].dropna(subset=["value"])
    scored = trained.groupby("metric")["run"].nunique()
    names = [key for key in COMPARED if 2 * scored.get(key, 0) > trained["run"].nunique()]  # of few runs it says little
    rows = [
        [a, *((below if i > j else above).get(frozenset((a, b)), "") for j, b in enumerate(names))]
        for i, a in enumerate(names)
    ]
    return markdown(["", *names], rows)


def _ranked(scores: pd.DataFrame) -> dict[frozenset[str], str]:
    table = agreement.metric_agreement(scores, list(COMPARED))
    return {
        frozenset((row.a, row.b)): f"{row.value:.2f}" if row.value == row.value else "–" for row in table.itertuples()
    }


def seed_table(published: PublishedRuns) -> str:
    heads = ["data set", "score", "models", "sd between seeds", "share of the variance", f"{seeds.MANY} seeds show",
             "pairs told apart, each alone", "corrected", "seeds for the others"]  # fmt: skip
    return markdown(heads, seeds.told_apart_rows(published, SCORES))


def dead_table(published: PublishedRuns) -> str:
    heads = ["data set", "model", "steps", "dead", "rate [95 %]", "the living began at step"]
    return markdown(heads, [[row[0], _code(row[1]), *row[2:]] for row in seeds.dead_rows(published)])


def living_table(published: PublishedRuns) -> str:
    """Where some runs of a configuration are dead, the scores of the others."""
    rows = []
    for name, members in seeds.living(published):
        dataset = members[0].spec.dataset
        summary = published.summary(dataset, members)
        [row] = score_rows(summary[summary["kind"] == "run"], FACTORS_KNOWN)
        rows.append([dataset, _code(name), ", ".join(str(run.spec.seed) for run in members), *row[2:]])
    return markdown(["data set", "model", "living seeds", *FACTORS_KNOWN.values()], rows)


def costs(published: PublishedRuns) -> str:
    """Core-hours as measured, and at the published lengths (training and scoring in proportion to the steps)."""
    rows, totals = [], np.zeros(3)
    for (dataset, model), members in grouped(published.trained, lambda r: (r.spec.dataset, r.spec.model)):
        cls = published.classes[model]
        hours = [float(r.facts.get("seconds", 0)) * float(r.facts.get("threads", 1)) / 3600 for r in members]
        full = at_published_length(members[0].spec, cls).steps
        longer = sum(h * full / r.trained_steps for h, r in zip(hours, members, strict=True))
        totals += np.array([len(members), sum(hours), longer])
        rows.append([dataset, f"`{model}`", f"{len(members)}", f"{sum(hours):.2f}", f"{full:,}", f"{longer:.1f}"])
    rows.append(["all", "", f"{totals[0]:.0f}", f"{totals[1]:.1f}", "", f"{totals[2]:.0f}"])
    return markdown(["data set", "model", "runs", "core-hours", "published steps", "core-hours at that length"], rows)


def model_claims(published: PublishedRuns) -> str:
    heads = ["model", "data set", "seeds", "its paper's claim", "measured"]
    return markdown(heads, claims.rows(published))


def attribute_table(published: PublishedRuns) -> str:
    """What latents tell of the writing and of the digit, on MNIST's test images, for a seed of four models."""
    gallery = _gallery()
    first = published.firsts("mnist")
    models = {name: gallery.model(first[name]) for name in WRITERS if name in first}
    if not models:
        raise UserError(f"no published run of {', '.join(WRITERS)} on MNIST: there is no table of attributes")
    data = gallery.data("mnist")
    if data is None or gallery.notes:
        raise UserError("; ".join(gallery.notes.values()))
    selection = encoder.select(data, "study")
    selection = replace(selection, reconstructed=np.zeros_like(selection.reconstructed))
    table, names = attributes_of(data, selection.rows, default_root())
    found = {"*pca*": floors.pca(data, selection, 0)}
    for name, model in models.items():
        assert model is not None  # or the gallery had said so
        found[f"`{name}`"] = encoder.encode(model, data, selection)
    rows = []
    for name, codes in sorted(found.items(), key=lambda item: item[0].startswith("*")):
        scores = score("attributes", replace(codes, attributes=table, attribute_names=names))
        for where, key in (("all digits", ""), ("within digits", "_within")):
            told = [[scores[f"attributes_{trait}{key}_{kind}"] for kind in ("one", "all")] for trait in names]
            digit = f"{_digit_told(codes):.2f}" if not key else ""
            rows.append([name, where, *(f"{one:.2f}, {every:.2f}" for one, every in told), digit])
    return markdown(["model", "among", *NAMES, "digit by one latent"], rows)


def _digit_told(codes: Codes) -> float:
    """The largest share, in [0, 1], of a latent's variance that lies between digits: Pearson's correlation ratio."""
    groups = pd.DataFrame(codes.mean).groupby(codes.factors[:, 0])
    between = (groups.transform("mean") - codes.mean.mean(0)).to_numpy().var(0)
    return float((between / codes.mean.var(0)).max())


def handwriting_table(make: Callable[[Dataset], pd.DataFrame]) -> str:
    """A table of `handwriting`, made of the images of `digits`."""
    table = make(_digits())
    rows = [[str(name), *map(_number, row)] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    return markdown(["", *map(str, table.columns)], rows)


def _number(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return ", ".join(f"{level:.2f}" for level in value)
    return f"{round(value, 2) + 0:.2f}" if value == value else "–"  # 0 is added, as there is a -0


def _digits() -> Dataset:
    gallery = _gallery()
    data = gallery.data("digits")
    if data is None:
        raise UserError("; ".join(gallery.notes.values()))
    return data


def blocks(published: PublishedRuns) -> dict[str, Table]:
    """Name -> what makes a Markdown table."""
    makers: dict[str, Callable[[PublishedRuns], str]] = {
        "settings": settings_table,
        **{f"scores {dataset}": partial(scores, dataset=dataset) for dataset in SHOWN},
        "classes": class_seeds,
        "claims of the models": model_claims,
        "parts": parts,
        "attributes": attribute_table,
        "handwriting leakage": lambda published: handwriting_table(handwriting.leakage),
        "handwriting ceiling": lambda published: handwriting_table(handwriting.ceiling),
        "infomec": infomec,
        "sweeps": sweeps,
        "lengths": length_table,
        "optima": optima_table,
        "metrics": metrics_agree,
        "seeds": seed_table,
        "dead runs": dead_table,
        "living": living_table,
        "costs": costs,
    }
    return {name: partial(make, published) for name, make in makers.items()}


def fill(text: str, tables: Mapping[str, Table]) -> str:
    """A page with its tables made and put between their marks. Raises UserError for a table that there is not."""

    def put(found: re.Match[str]) -> str:
        if found[2] not in tables:
            raise UserError(f"there is no table {found[2]!r}; there are: {', '.join(tables)}")
        return f"{found[1]}{tables[found[2]]()}{found[3]}"

    return BLOCK.sub(put, text)


# --- figures --------------------------------------------------------------------------------------------------------


def figures(published: PublishedRuns) -> Iterator[tuple[str, Drawing]]:
    """(file name, what draws it) of every figure that a page can show."""
    yield "handwriting", lambda: handwriting.grid(_digits())
    for dataset in published.datasets:
        firsts = published.firsts(dataset)
        if not firsts:
            continue
        some = [run for run in published.standard if run.spec.dataset == dataset and run.status == "ok"]
        of = {run.id: published.name(run) for run in some}
        part = stats.with_state(published.scores[published.scores["dataset"] == dataset], published.scores)
        part = part[part["run"].isin(of) | (part["kind"] != "run")]
        part = part.assign(label=part["run"].map(of).fillna(part["model"]))
        shown = part[part["metric"].isin(list(SCORES[dataset]))]
        yield f"scores_{dataset}", partial(plots.scores, shown, dataset, "study")
        yield f"elbo_parts_{dataset}", partial(plots.elbo_parts, part[part["kind"] == "run"], dataset, "study")
        history = pictures.history_of(some, of)
        if watched := pictures.watched(history):
            chosen = {label: history[label, seed] for label, seed in watched.items()}
            said = {label: f"{label}, seed {seed}" for label, seed in watched.items()}
            yield f"elbo_training_{dataset}", partial(plots.elbo_training, chosen, said, dataset)
        tables = {name: runs.tables_of(run) for name, run in firsts.items()}
        titles = {name: f"{name}, seed {run.spec.seed}" for name, run in firsts.items()}
        pair: dict[str, pd.DataFrame] = {
            name: tables[name]["covariance"] for name in ("vae", "betavae") if name in tables
        }
        if pair:
            yield f"covariance_{dataset}", partial(plots.covariance, pair, titles, dataset)
        classes = {name: found["confusion_c0"] for name, found in tables.items() if "confusion_c0" in found}
        if classes:
            yield f"confusion_{dataset}", partial(plots.confusion, classes, titles, dataset)
        if swept := _swept(published, dataset):
            yield f"tradeoff_{dataset}", partial(_tradeoff, published, swept, dataset)
        for name, run in firsts.items():
            if (run.folder / "model.safetensors").exists():
                yield f"traversals_{dataset}_{name}", partial(_traversals, run)


def _gallery() -> Gallery:
    return Gallery(default_root(), (), lambda text: None)


def _traversals(run: Run) -> Figure:
    """Needs the data set's images, for the one whose code is changed."""
    gallery = _gallery()
    model = gallery.model(run)
    x = gallery.images(run.spec.dataset)
    if model is None or x is None:
        raise UserError("; ".join(gallery.notes.values()))
    return pictures.traversal_figure(run, f"{run.spec.model}, seed {run.spec.seed}", model, x)


def _tradeoff(published: PublishedRuns, swept: Sequence[Run], dataset: str) -> Figure:
    """Of the runs of the standard length alone: the length changes both."""
    usual = {run.spec.steps for run in published.standard if run.spec.dataset == dataset}
    swept = [run for run in swept if run.spec.steps in usual]
    labels = runs.config_labels(swept, longest=60)  # the legend has room for the settings
    of = {run.id: labels[dataset, run.spec.model, run.config] for run in swept}
    part = stats.with_state(published.scores, published.scores)
    part = part[part["run"].isin(of)]
    found = pictures.tradeoff_table(part.assign(label=part["run"].map(of)))
    if found is None:
        raise UserError(f"the sweeps on {dataset} are not scored: there is no figure of the trade-off")
    return plots.tradeoff(*found, dataset, "study")


def figures_shown() -> set[Path]:
    """The files of the figures that the pages show."""
    return {page.parent / path for page in PAGES for path in FIGURE.findall(page.read_text())}


def write(published: PublishedRuns) -> None:
    """The pages' tables, and the figures that the pages show. Raises UserError for one that there is not."""
    tables = blocks(published)
    pages = {page: fill(page.read_text(), tables) for page in PAGES}
    wanted = {path.stem: path for path in figures_shown() if path.parent == FIGURES}
    known = dict(figures(published))
    if missing := sorted(wanted.keys() - known.keys()):
        raise UserError(f"there is no figure {', '.join(missing)}; there are: {', '.join(known)}")
    for path, text in pages.items():
        store.write_bytes(path, text.encode())
    FIGURES.mkdir(parents=True, exist_ok=True)
    matplotlib.use("agg")
    with canvas.style():
        for name, path in wanted.items():
            figure = known[name]()
            figure.savefig(path, dpi=110, metadata={"Software": None})
            canvas.close(figure)
    for path in set(FIGURES.glob("*.png")) - set(wanted.values()):
        path.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=ROOT / "results/published", metavar="DIR")
    options = parser.parse_args(arguments)
    return exit_status(lambda: write(PublishedRuns.read(options.results)))


if __name__ == "__main__":
    sys.exit(main())
