"""The tables and figures of RESULTS.md and README.md, from the published runs: `python -m benchmark.evidence`.

A page names a table between `<!-- begin NAME -->` and `<!-- end NAME -->`; what lies between is written here, and so
are the figures in docs/results/. Everything is read from the folders of the runs: nothing is trained, encoded, scored.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmark import agreement, floors, pictures, plots, plugins, report, runs, spec, stats, store
from benchmark.errors import UserError
from benchmark.runs import Run
from data._cache import default_root
from models import Model

ROOT = Path(__file__).parent.parent
PAGES = ("RESULTS.md", "README.md")
SIDES = {"dsprites": 64, "mnist": 32}
BLOCK = re.compile(r"(<!-- begin ([a-z0-9 -]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
FIGURES = ROOT / "docs/results"
FIGURE = re.compile(r"\]\((docs/[^)]+\.png)\)")
Columns = dict[str, str]
SCORES: dict[str, Columns] = {
    "dsprites": {
        "factorvae_score": "FactorVAE score",
        "mig": "MIG",
        "dci_disentanglement": "DCI",
        "sap": "SAP",
        "discrete_accuracy": "shape by the class",
        "elbo_parts_total_correlation": "total correlation",
        "kl_total": "KL",
        "reconstruction": "reconstruction",
    },
    "mnist": {
        "discrete_accuracy": "digit by the class",
        "cluster_accuracy": "digit by k-means",
        "probe_accuracy": "digit by a linear probe",
        "elbo_parts_total_correlation": "total correlation",
        "kl_total": "KL",
        "reconstruction": "reconstruction",
    },
}
PARTS: Columns = {
    "elbo_parts_kl": "E[KL]",
    "elbo_parts_information": "I(x; z)",
    "elbo_parts_information_upper": "its upper bound",
    "elbo_parts_marginal_kl": "KL(q(z) ‖ p(z))",
    "elbo_parts_total_correlation": "of it total correlation",
    "elbo_parts_dimension_kl": "of it single latents",
    "elbo_parts_residual": "what is missing",
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


@dataclass(frozen=True)
class Published:
    """The runs of a results folder, and their scores."""

    runs: list[Run]
    scores: pd.DataFrame

    @staticmethod
    def read(results: Path) -> Published:
        """The runs on the suite's data sets by its models, scored under `study`. Raises UserError."""
        said: list[str] = []
        found = runs.read_runs(results, said.append)
        if not found:
            raise UserError(f"{results}: holds no runs")
        scores = report.score_table(found, (), said.append)
        known = {*plugins.discover(())["model"], *floors.FLOORS, *floors.CEILINGS}
        strange = [run.id for run in found if run.spec.dataset not in SIDES or run.spec.model not in known]
        if said or strange:
            raise UserError("; ".join(said) or f"{strange[0]}: not one of the suite's models and data sets")
        published = Published(found, scores[scores["protocol"] == "study"])
        places = [(run.spec.dataset, run.spec.model, run.spec.seed) for run in published.standard]
        if twice := sorted({place for place in places if places.count(place) > 1}):
            raise UserError(f"{results}: two runs of {' '.join(map(str, twice[0]))}: of two precisions?")
        return published

    @cached_property
    def labels(self) -> dict[tuple[str, str, str], str]:
        return runs.config_labels(self.runs)

    @cached_property
    def classes(self) -> dict[str, type[Model]]:
        found = plugins.discover(())["model"]
        return {name: found[name].load() for name in {run.spec.model for run in self.trained}}

    @cached_property
    def trained(self) -> list[Run]:
        return [run for run in self.runs if run.kind == "run"]

    @cached_property
    def standard(self) -> list[Run]:
        """The runs with the settings of `--preset standard`; the rest are sweeps."""
        return [run for run in self.trained if self._is_standard(run)]

    def _is_standard(self, run: Run) -> bool:
        s = run.spec
        usual = spec.resolve(s.dataset, SIDES[s.dataset], s.model, self.classes[s.model], preset="standard")
        return (s.hparams, s.steps, s.batch_size, s.lr) == (usual.hparams, usual.steps, usual.batch_size, usual.lr)

    def summary(self, dataset: str, some: Sequence[Run]) -> pd.DataFrame:
        """Rows of summary.csv of these runs, with floors and ceiling, on a data set."""
        ids = {run.id for run in some}
        part = self.scores[self.scores["dataset"] == dataset]
        part = part[part["run"].isin(ids) | (part["kind"] != "run")]
        failed = report.run_table([run for run in some if run.status == "failed" and run.spec.dataset == dataset])
        summary = stats.summarise(part, failed)
        named = [self.labels[dataset, m, c] for m, c in zip(summary["model"], summary["config"], strict=True)]
        return summary.assign(label=np.where(summary["kind"] == "run", named, summary["model"]))

    def history(self, run: Run) -> pd.DataFrame:
        return pd.read_csv(run.folder / "history.csv")

    def value(self, run: Run, metric: str) -> float:
        """A run's score, nan where it has none."""
        found = self.scores[(self.scores["run"] == run.id) & (self.scores["metric"] == metric)]["value"]
        return float(found.mean()) if len(found) else float("nan")


# --- tables --------------------------------------------------------------------------------------------------------


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in [heads, *rows]]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]]) + "\n"


def interval(row: pd.Series) -> str:
    """`0.412 [0.373, 0.450]`: the interval from two seeds on."""
    if abs(row["mean"]) >= 10_000:
        return f"{row['mean']:.0e}"
    digits = 1 if abs(row["mean"]) >= 20 else 3 if abs(row["mean"]) < 2 else 2
    text = f"{row['mean']:.{digits}f}"
    return text + (f" [{row['ci_low']:.{digits}f}, {row['ci_high']:.{digits}f}]" if row["n"] > 1 else "")


def score_rows(summary: pd.DataFrame, columns: Columns) -> Iterator[list[str]]:
    """A row a model, then floors and ceiling: its seeds, and a cell a metric."""
    order = {"run": 0, "floor": 1, "ceiling": 2}
    shown = summary[summary["metric"].isin([*columns, "none"])]
    for _, part in sorted(shown.groupby(["kind", "label"]), key=lambda item: (order[item[0][0]], item[0][1])):
        cells = {row["metric"]: interval(row) for _, row in part.iterrows()}
        name, kind = part["label"].iloc[0], part["kind"].iloc[0]
        n = f"{part['n'].max()}" + (f" ({part['failed'].max()} failed)" if part["failed"].max() else "")
        yield [f"`{name}`" if kind == "run" else f"*{name}*", n, *(cells.get(key, "–") for key in columns)]


def scores(published: Published, dataset: str) -> str:
    summary = published.summary(dataset, published.standard)
    columns = SCORES[dataset]
    arrow = published.scores.drop_duplicates("metric").set_index("metric")["better"].map(plots.ARROW)
    heads = [f"{title} {arrow.get(key, '')}".strip() for key, title in columns.items()]
    return markdown(["model", "seeds", *heads], list(score_rows(summary, columns)))


def settings(published: Published) -> str:
    rows = []
    for (dataset, model), members in _grouped(published.standard, lambda r: (r.spec.dataset, r.spec.model)):
        s = members[0].spec
        hparams = ", ".join(f"{name} {value}" for name, value in s.hparams.items())
        rows.append([dataset, f"`{model}`", f"{len(members)}", f"{s.steps:,}", f"{s.batch_size}", f"{s.lr:g}", hparams])
    return markdown(["data set", "model", "seeds", "steps", "batch", "rate", "settings"], rows)


def class_seeds(published: Published) -> str:
    """Accuracy by the class and classes used, a column a seed."""
    categorical = [run for run in published.standard if run.spec.hparams.get("categories")]
    seeds = sorted({run.spec.seed for run in categorical})
    rows = []
    for (dataset, model), members in _grouped(categorical, lambda r: (r.spec.dataset, r.spec.model)):
        of = {run.spec.seed: run for run in members}
        cells = [_class_cell(published, of[seed]) if seed in of else "–" for seed in seeds]
        values = [value for run in members if (value := published.value(run, "discrete_accuracy")) == value]
        rows.append([dataset, f"`{model}`", *cells, _mean(values)])
    return markdown(["data set", "model", *(f"seed {seed}" for seed in seeds), "mean ± sd [95 %]"], rows)


def _mean(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}" if values else "–"
    low, high = stats.t_interval(values)
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} [{low:.3f}, {high:.3f}]"


def _class_cell(published: Published, run: Run) -> str:
    if run.status != "ok":
        return run.status
    return f"{published.value(run, 'discrete_accuracy'):.3f} ({published.value(run, 'discrete_accuracy_used'):.0f})"


def parts(published: Published) -> str:
    rows = []
    for dataset in SIDES:
        summary = published.summary(dataset, published.standard)
        found = list(score_rows(summary[summary["kind"] == "run"], PARTS))
        rows += [[dataset, *row] for row in found]
    return markdown(["data set", "model", "seeds", *PARTS.values()], rows)


def sweeps(published: Published) -> str:
    """Every configuration of the models that were swept, and of the plain VAE: a β-VAE of β 1."""
    rows = []
    for dataset in SIDES:
        some = _swept(published, dataset)
        if some:
            summary = published.summary(dataset, some)
            found = score_rows(summary[summary["kind"] == "run"], SWEPT)
            rows += [[dataset, *row] for row in sorted(found, key=lambda row: plots.numbers_in_order(row[0]))]
    return markdown(["data set", "model", "seeds", *SWEPT.values()], rows)


def _swept(published: Published, dataset: str) -> list[Run]:
    here = [run for run in published.trained if run.spec.dataset == dataset]
    models = {run.spec.model for run in here if run not in published.standard}
    return [run for run in here if run.spec.model in models | {"vae"}] if models else []


def metrics_agree(published: Published) -> str:
    """Spearman's rank correlations over all runs of dSprites."""
    table = agreement.metric_agreement(published.scores, list(COMPARED))
    table = table[table["dataset"] == "dsprites"]
    names = [key for key in COMPARED if key in {*table["a"], *table["b"]}]
    value = {frozenset((row.a, row.b)): row.value for row in table.itertuples()}
    rows = [[a, *(f"{value[frozenset((a, b))]:.2f}" if a != b else "" for b in names)] for a in names]
    return markdown(["", *names], rows)


def seed_share(published: Published) -> str:
    """How much of a score's variance over the runs lies between seeds of one model, and how much between models."""
    rows = []
    ids = {run.id for run in published.standard}
    table = stats.per_seed(published.scores[published.scores["run"].isin(ids)])
    for dataset, columns in SCORES.items():
        for key, title in columns.items():
            groups = [
                g["value"].to_numpy()
                for _, g in table[(table["dataset"] == dataset) & (table["metric"] == key)].groupby("model")
            ]
            groups = [values for values in groups if len(values) > 1]
            if len(groups) > 1:
                within = sum(((v - v.mean()) ** 2).sum() for v in groups)
                everything = np.concatenate(groups)
                total = ((everything - everything.mean()) ** 2).sum()
                deviation = np.sqrt(within / (len(everything) - len(groups)))
                rows.append(
                    [
                        dataset,
                        title,
                        f"{len(groups)}",
                        f"{len(everything)}",
                        f"{deviation:.3g}",
                        f"{100 * within / total:.0f} %",
                    ]
                )
    return markdown(["data set", "score", "models", "runs", "sd between seeds", "share of the variance"], rows)


def costs(published: Published) -> str:
    """Core-hours as measured, and at the published lengths (training and scoring in proportion to the steps)."""
    rows, totals = [], np.zeros(3)
    for (dataset, model), members in _grouped(published.trained, lambda r: (r.spec.dataset, r.spec.model)):
        cls = published.classes[model]
        hours = [float(r.facts.get("seconds", 0)) * float(r.facts.get("threads", 1)) / 3600 for r in members]
        full = spec.resolve(dataset, SIDES[dataset], model, cls, preset="paper").steps
        longer = sum(h * full / r.spec.steps for h, r in zip(hours, members, strict=True))
        totals += np.array([len(members), sum(hours), longer])
        rows.append([dataset, f"`{model}`", f"{len(members)}", f"{sum(hours):.2f}", f"{full:,}", f"{longer:.1f}"])
    rows.append(["all", "", f"{totals[0]:.0f}", f"{totals[1]:.1f}", "", f"{totals[2]:.0f}"])
    return markdown(["data set", "model", "runs", "core-hours", "published steps", "core-hours at that length"], rows)


def _grouped(some: Sequence[Run], key: Callable[[Run], tuple[str, ...]]) -> Iterator[tuple[tuple[str, ...], list[Run]]]:
    for name in sorted({key(run) for run in some}):
        yield name, sorted((run for run in some if key(run) == name), key=lambda run: (run.spec.config, run.spec.seed))


def model_claims(published: Published) -> str:
    """What each model's paper says that it does, beside what it did, on each data set at the first seed."""
    rows = []
    for dataset in SIDES:
        first = {run.spec.model: run for run in reversed(_sorted(published.standard)) if run.spec.dataset == dataset}
        for model, (claim, measure) in CLAIMS.items():
            needed = [model, *AGAINST.get(model, ())]
            if all(name in first and first[name].status == "ok" for name in needed):
                rows.append([f"`{model}`", dataset, claim, measure(published, *(first[name] for name in needed))])
    return markdown(["model", "data set", "its paper's claim", "measured"], sorted(rows, key=lambda row: row[0]))


def _capacity_met(published: Published, run: Run) -> str:
    """How far the KL is from its capacity once that is a few nats, so that a per cent means something."""
    rows = published.history(run)
    late = rows[rows["capacity"] >= 5]
    off = (late["kl"] / late["capacity"] - 1).abs()
    median, end, most = (f"{100 * value:.1f} %" for value in (off.median(), off.iloc[-1], off.max()))
    return f"off by {median} in the median, {end} at the end, {most} at most, from 5 nats on"


def _critic_tc(published: Published, run: Run) -> str:
    tc = published.history(run)["tc"]
    end = tc.tail(max(1, len(tc) // 10)).mean()
    return f"from {tc.max():.2f} (largest) to {end:.2f} nats (last tenth)"


def _less_tc(published: Published, run: Run, other: Run) -> str:
    def say(r: Run) -> str:
        tc, recon = (published.value(r, key) for key in ("elbo_parts_total_correlation", "reconstruction"))
        return f"TC {tc:.2f} at reconstruction {recon:.1f}"

    return f"{say(run)}; `{other.spec.model}`: {say(other)}"


def _near_identity(published: Published, run: Run) -> str:
    """Root mean squares, from the logged sums of squares, of the covariance that the model itself pulls."""
    end = published.history(run).iloc[-1]
    c = run.spec.hparams["latents"]
    off, on = np.sqrt(end["cov_offdiag"] / (c * (c - 1))), np.sqrt(end["cov_diag"] / c)
    return f"off-diagonal {off:.3f}, diagonal 1 ± {on:.3f} (root mean squares)"


def _better_class(published: Published, run: Run, other: Run) -> str:
    mine, its = (published.value(r, "discrete_accuracy") for r in (run, other))
    return f"{mine:.3f} against {its:.3f} of `{other.spec.model}`"


def _more_information(published: Published, run: Run, other: Run) -> str:
    def say(r: Run) -> str:
        known = (published.value(r, key) for key in ("elbo_parts_information", "elbo_parts_information_upper"))
        return " to ".join(f"{value:.1f}" for value in known)

    table = runs.tables_of(run)["covariance"].to_numpy().diagonal()
    spread = f"variances of q(z) {table.min():.2f} to {table.max():.2f}"
    return f"I(x; z) {say(run)} nats, `{other.spec.model}`: {say(other)}; {spread}"


def _best_reconstruction(published: Published, run: Run, other: Run) -> str:
    mine, its = (published.value(r, "reconstruction") for r in (run, other))
    return f"{mine:.1f} nats, `{other.spec.model}`: {its:.1f}"


AGAINST = {"betatcvae": ("betavae",), "betavae": ("vae",), "cascadevae": ("jointvae",), "consistentvae": ("jointvae",),
           "infovae": ("vae",), "autoencoder": ("vae",)}  # fmt: skip
CLAIMS: dict[str, tuple[str, Callable[..., str]]] = {
    "annealedvae": ("the KL follows its capacity", _capacity_met),
    "autoencoder": ("reconstructs better than a VAE", _best_reconstruction),
    "betatcvae": ("less total correlation than β-VAE at equal reconstruction", _less_tc),
    "betavae": ("less total correlation than a VAE, at a worse reconstruction", _less_tc),
    "cascadevae": ("its class tells more than JointVAE's", _better_class),
    "consistentvae": ("its class tells more than JointVAE's", _better_class),
    "dipvae1": ("the covariance is near the identity", _near_identity),
    "dipvae2": ("the covariance is near the identity", _near_identity),
    "factorvae": ("the critic's estimate of the total correlation falls", _critic_tc),
    "infovae": ("more information than a VAE, and q(z) near the prior", _more_information),
}


def _sorted(some: Sequence[Run]) -> list[Run]:
    return sorted(some, key=lambda run: (run.spec.dataset, run.spec.model, run.spec.seed))


def blocks(published: Published) -> dict[str, str]:
    """Name -> Markdown table."""
    return {
        "settings": settings(published),
        **{f"scores {dataset}": scores(published, dataset) for dataset in SIDES},
        "classes": class_seeds(published),
        "claims of the models": model_claims(published),
        "parts": parts(published),
        "sweeps": sweeps(published),
        "metrics": metrics_agree(published),
        "seeds": seed_share(published),
        "costs": costs(published),
    }


def fill(text: str, tables: dict[str, str]) -> str:
    """A page with its tables put between their marks. Raises UserError for a table that there is not."""

    def put(found: re.Match[str]) -> str:
        if found[2] not in tables:
            raise UserError(f"there is no table {found[2]!r}; there are: {', '.join(tables)}")
        return f"{found[1]}{tables[found[2]]}{found[3]}"

    return BLOCK.sub(put, text)


# --- figures -------------------------------------------------------------------------------------------------------


def figures(published: Published) -> Iterator[tuple[str, Figure]]:
    """(file name, figure) of every figure of RESULTS.md."""
    for dataset in SIDES:
        some = [run for run in published.standard if run.spec.dataset == dataset and run.status == "ok"]
        if not some:
            continue
        ids = {run.id for run in some}
        part = published.scores[published.scores["dataset"] == dataset]
        shown = part[(part["run"].isin(ids) | (part["kind"] != "run")) & part["metric"].isin(list(SCORES[dataset]))]
        yield f"scores_{dataset}", plots.scores(shown.assign(label=shown["model"]), dataset, "study")
        runs_of = part[part["run"].isin(ids)]
        yield f"elbo_parts_{dataset}", plots.elbo_parts(runs_of.assign(label=runs_of["model"]), dataset, "study")
        of = {run.id: run.spec.model for run in some}
        history = pictures.history_of(some, of)
        watched = pictures.watched(history)
        if watched:
            chosen = {label: history[label, seed] for label, seed in watched.items()}
            yield f"elbo_training_{dataset}", plots.elbo_training(chosen, watched, dataset)
        firsts = {run.spec.model: run for run in reversed(_sorted(some))}
        tables = {name: runs.tables_of(run) for name, run in sorted(firsts.items())}
        seeds = {name: run.spec.seed for name, run in firsts.items()}
        pair = {name: found["covariance"] for name, found in tables.items() if name in ("vae", "betavae")}
        if pair:
            yield f"covariance_{dataset}", plots.covariance(pair, seeds, dataset)
        classes = {name: found["confusion_c0"] for name, found in tables.items() if "confusion_c0" in found}
        if classes:
            yield f"confusion_{dataset}", plots.confusion(classes, seeds, dataset)
        yield from _curves(published, dataset)
        yield from _traversals(dataset, firsts)


def _traversals(dataset: str, firsts: dict[str, Run]) -> Iterator[tuple[str, Figure]]:
    """Of the models whose weights are published; needs the data set's images."""
    gallery = pictures.Gallery(default_root(), (), lambda text: print(f"warning: {text}", file=sys.stderr))
    for name in ("jointvae", "consistentvae", "betavae"):
        run = firsts.get(name)
        model = gallery.model(run) if run else None
        x = gallery.images(dataset) if model else None
        if run and model and x is not None:
            yield f"traversals_{dataset}_{name}", pictures.traversal_figure(run, name, model, x)


def _curves(published: Published, dataset: str) -> Iterator[tuple[str, Figure]]:
    """Rate and distortion of the models that were swept."""
    of = {run.id: published.labels[dataset, run.spec.model, run.spec.config] for run in _swept(published, dataset)}
    part = published.scores[published.scores["run"].isin(of)]
    for name, figure in pictures.divergences(part.assign(label=part["run"].map(of)), dataset, "study"):
        if name.startswith("rate_distortion"):
            yield f"rate_distortion_{dataset}", figure


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=ROOT / "results/published", metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        write(Published.read(options.results))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def write(published: Published) -> None:
    """The pages' tables, and the figures that the pages show. Raises UserError for one that there is not."""
    tables = blocks(published)
    pages = {ROOT / name: fill((ROOT / name).read_text(), tables) for name in PAGES}
    wanted = {path.stem: path for text in pages.values() for path in map(ROOT.joinpath, FIGURE.findall(text))}
    wanted = {name: path for name, path in wanted.items() if path.parent == FIGURES}
    FIGURES.mkdir(parents=True, exist_ok=True)
    matplotlib.use("agg")
    drawn = set()
    with plots.style():
        for name, figure in figures(published):
            if name in wanted:
                figure.savefig(wanted[name], dpi=110, metadata={"Software": None})
                drawn.add(name)
            plots.close(figure)
    if missing := sorted(set(wanted) - drawn):
        raise UserError(f"there is no figure {', '.join(missing)}")
    for path in set(FIGURES.glob("*.png")) - set(wanted.values()):
        path.unlink()
    for path, text in pages.items():
        store.write_bytes(path, text.encode())


if __name__ == "__main__":
    sys.exit(main())
