"""Tables, figures and pages, rebuilt from the run folders alone: nothing is trained, encoded or scored here."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from matplotlib.figure import Figure

from benchmark import across, encoder, findings, floors, plots, plugins, stats, store, trainer, worker
from benchmark.errors import UserError
from benchmark.plugins import Plugin
from benchmark.spec import PRESETS, Spec
from data import DataError, Dataset
from models import Model

SCORES = ["dataset", "model", "config", "kind", "seed", "metric", "protocol", "draw", "value", "note", "steps", "run"]
RUNS = ["run", "dataset", "model", "config", "seed", "status", "reason", "steps", "device", "threads", "seconds",
        "peak_mb", "commit"]  # fmt: skip
# Files of equal figures are equal: no dates, no versions.
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}
Warn = Callable[[str], None]
COLOURS = ("mig", "dci_disentanglement", "dci_hist_disentanglement", "discrete_accuracy")  # of a rate–distortion figure
DETAILS = ["run", "table", "row", "column", "value"]
NOT_SCIENCE = (
    "The quick preset trains for a few hundred steps and scores with the quick protocol: it shows that everything "
    "works and what the output looks like. It is no scientific result; use --preset standard or paper for one."
)


@dataclass(frozen=True)
class Run:
    """A run's folder with what is in it."""

    folder: Path
    spec: Spec
    kind: str
    status: str
    reason: str
    facts: dict[str, Any]

    @property
    def id(self) -> str:
        return self.folder.name


def read_runs(results: Path, warn: Warn) -> list[Run]:
    """Every run, floor and ceiling below a results folder; a folder that cannot be read is named and left out."""
    runs = []
    for folder in [*store.run_folders(results / "runs"), *store.run_folders(results / "floors")]:
        try:
            spec = Spec.from_json(store.read_json(folder / "spec.json")["spec"])
            if spec.id() != folder.name:
                raise UserError(f"{folder / 'spec.json'}: belongs to {spec.id()}")
            facts = store.read_json(folder / "run.json") if (folder / "run.json").exists() else {}
        except (UserError, KeyError, TypeError, AttributeError) as error:
            warn(f"{folder.name} is left out: {error}")
            continue
        status, reason = _status(folder)
        runs.append(Run(folder, spec, floors.kind(spec.model), status, reason, facts))
    return runs


def _status(folder: Path) -> tuple[str, str]:
    if (folder / "error.txt").exists():
        return "failed", (folder / "error.txt").read_text().partition("\n")[0]
    if _scored(folder):
        return "ok", ""
    return "unfinished", "stopped before its end; the same command goes on with it"


def _scored(folder: Path) -> bool:
    """Whether a run's scores are complete. Codes and history may be absent, as in published results, but not broken."""
    present = [name for name in ("codes.h5", "history.csv") if (folder / name).exists()]
    return store.is_finished(folder, "scores.csv", *present)


def build(results: Path, data_dir: Path, files: Sequence[Path], warn: Warn) -> str:
    """Write every table, figure and page of a results folder; returns the tables as Markdown."""
    runs = read_runs(results, warn)
    if not runs:
        raise UserError(f"{results}: holds no runs")
    with FileLock(results / ".report.lock"):  # two commands may end at once
        return _build(results, runs, data_dir, files, warn)


def _build(results: Path, runs: Sequence[Run], data_dir: Path, files: Sequence[Path], warn: Warn) -> str:
    scores = score_table(runs, files, warn)
    write_tables(results, runs, scores)
    failed = run_table([run for run in runs if run.status == "failed"])
    summary = stats.summarise(scores, failed)
    store.write_csv(results / "summary.csv", summary.to_dict("records"), stats.SUMMARY)
    labels = config_labels(runs)
    found = findings.find(runs, scores, failed, labels, warn)
    directions = dict(zip(scores["metric"], scores["better"], strict=True))
    findings.write(results, found, summary, directions, labels)
    figures = write_figures(results, runs, scores, data_dir, files, warn)
    sections = list(_sections(summary, scores, labels, traps(scores, files)))
    page = _markdown(runs, sections, found)
    store.write_bytes(results / "report.md", page.encode())
    store.write_bytes(results / "report.html", _html(results, runs, sections, figures).encode())
    return page


def write_tables(results: Path, runs: Sequence[Run], scores: pd.DataFrame) -> None:
    """scores.csv, runs.csv and details.csv."""
    store.write_csv(results / "scores.csv", scores.to_dict("records"), SCORES)
    listed = [run for run in runs if run.kind == "run" or run.status == "failed"]
    store.write_csv(results / "runs.csv", run_table(listed).to_dict("records"), RUNS)
    details = [{"run": run.id, **row} for run in runs for row in details_of(run)]
    store.write_csv(results / "details.csv", details, DETAILS)


def score_table(runs: Sequence[Run], files: Sequence[Path], warn: Warn) -> pd.DataFrame:
    """The long table of scores.csv, with `better`, `plugin` and `source` beside, of every run that was scored.

    Where a metric's file changed between runs, scores by another version than the present one are left out.
    """
    rows: list[dict[str, Any]] = []
    over_runs = _across(runs)
    for run in runs:
        if not _scored(run.folder):
            continue
        for row in [*store.read_csv(run.folder / "scores.csv"), *over_runs.get(run.id, [])]:
            rows.append({**_identity(run), **row, "kind": run.kind, "run": run.id, "draw": int(row["draw"]),
                         "value": float(row["value"]) if row["value"] else math.nan})  # fmt: skip
    return _one_version(pd.DataFrame(rows, columns=[*SCORES, "better", "plugin", "source"]), files, warn)


def _one_version(scores: pd.DataFrame, files: Sequence[Path], warn: Warn) -> pd.DataFrame:
    found = plugins.discover(files)["metric"]
    versions = scores.groupby("plugin")["source"].nunique()
    for name in versions.index[versions > 1].intersection(list(found)):
        stale = (scores["plugin"] == name) & (scores["source"] != worker.source(found[name]))
        warn(f"{stale.sum()} scores by another version of metric {name} are left out; run the command again")
        scores = scores[~stale]
    return scores


def _across(runs: Sequence[Run]) -> dict[str, list[dict[str, str]]]:
    """Run -> its scores by the metrics over runs."""
    found: dict[str, list[dict[str, str]]] = {}
    for results in {run.folder.parent.parent for run in runs}:
        for path in sorted((results / across.FOLDER).glob("*.csv")):
            for row in store.read_csv(path):
                if store.sums(results / "runs" / row["run"]).get("codes.h5") == row["codes"]:
                    found.setdefault(row["run"], []).append(row)
    return found


def run_table(runs: Sequence[Run]) -> pd.DataFrame:
    rows = [{**run.facts, **_identity(run), "run": run.id, "status": run.status, "reason": run.reason} for run in runs]
    return pd.DataFrame(rows, columns=RUNS, dtype=object)


def _identity(run: Run) -> dict[str, Any]:
    spec = run.spec
    return {"dataset": spec.dataset, "model": spec.model, "config": spec.config, "seed": spec.seed, "steps": spec.steps}


def details_of(run: Run) -> list[dict[str, str]]:
    return store.read_csv(run.folder / "details.csv") if store.is_finished(run.folder, "details.csv") else []


def config_labels(runs: Sequence[Run]) -> dict[tuple[str, str, str], str]:
    """(data set, model, config) -> the model's name, with the settings that tell its configurations apart."""
    specs = {(run.spec.dataset, run.spec.model, run.spec.config): run.spec for run in runs}
    labels = {}
    for key, spec in specs.items():
        siblings = [_settings(other) for (d, m, _), other in specs.items() if (d, m) == key[:2]]
        mine = _settings(spec)
        differing = [name for name in mine if len({json.dumps(s.get(name)) for s in siblings}) > 1]
        labels[key] = ", ".join([spec.model, *(f"{name}={mine[name]}" for name in differing)])
    return labels


def _settings(spec: Spec) -> dict[str, Any]:
    common = {"steps": spec.steps, "batch_size": spec.batch_size, "lr": spec.lr, "precision": spec.precision}
    return {**common, **spec.hparams}


# --- tables for people ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    """One table: the scores of a data set under one protocol; a row a metric, a column a model or floor."""

    dataset: str
    protocol: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    notes: list[str]
    traps: list[str]


def _sections(
    summary: pd.DataFrame, scores: pd.DataFrame, labels: dict[tuple[str, str, str], str], traps: dict[str, str]
) -> Iterator[Section]:
    arrows = {
        metric: f"{metric} {plots.ARROW[better]}"
        for metric, better in zip(scores["metric"], scores["better"], strict=True)
    }
    summary = summary.merge(stats.draw_errors(scores), on=stats.GROUP, how="left")
    for (dataset, protocol), part in summary.groupby(["dataset", "protocol"]):
        part = part.assign(label=[labels[dataset, m, c] for m, c in zip(part["model"], part["config"], strict=True)])
        order = {"run": 0, "floor": 1, "ceiling": 2}
        columns = sorted(set(zip(part["kind"], part["label"], strict=True)), key=lambda pair: (order[pair[0]], pair[1]))
        rows = []
        for metric, group in part.groupby("metric"):
            cells = {(row.kind, row.label): _cell(row) for row in group.itertuples()}
            rows.append((arrows[metric].strip(), [cells.get(c, "") for c in columns]))
        notes = scores[(scores["dataset"] == dataset) & (scores["kind"] == "run") & scores["value"].isna()]
        used = set(scores.loc[(scores["dataset"] == dataset) & (scores["protocol"] == protocol), "plugin"])
        reasons = sorted({f"{row.metric} ({row.model}): {row.note}" for row in notes.itertuples()})
        names = [label if kind == "run" else f"{label} ({kind})" for kind, label in columns]
        warnings = [f"{plugin}: {text}" for plugin, text in traps.items() if plugin in used]
        yield Section(str(dataset), str(protocol), names, rows, reasons, warnings)


def traps(scores: pd.DataFrame, files: Sequence[Path]) -> dict[str, str]:
    """Metric -> what a reader of its score must know, from its file's `TRAP`; a plugin that is gone says nothing."""
    found = plugins.discover(files)["metric"]
    known = sorted(set(scores["plugin"]) & set(found))
    texts = {name: getattr(found[name].module(), "TRAP", "") for name in known}
    return {name: text for name, text in texts.items() if text}


def _cell(row: Any) -> str:
    """`0.412 ± 0.031 [0.373, 0.450] (draws ±0.004)`: the interval from two seeds on, the noise from two draws on."""
    text = f"{row.mean:.3f}"
    if row.n > 1:
        text += f" ± {row.std:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]"
    if row.error == row.error:
        text += f" (draws ±{row.error:.3f})"
    return text + (f" ({row.failed} failed)" if row.failed else "")


def _markdown(runs: Sequence[Run], sections: Sequence[Section], found: findings.Findings) -> str:
    lines = [*findings.opening(found), "# Scores", "", *_preamble(runs, sections)]
    for section in sections:
        lines += ["", f"## {section.dataset}, protocol {section.protocol}", ""]
        lines.append("| metric | " + " | ".join(section.columns) + " |")
        lines.append("|---" * (len(section.columns) + 1) + "|")
        lines += [f"| {metric} | " + " | ".join(cells) + " |" for metric, cells in section.rows]
        lines += ["", *(f"- how to read {trap}" for trap in section.traps)]
        lines += ["", *(f"- not applicable: {note}" for note in section.notes)]
    lines += findings.closing(found)
    return "\n".join(lines) + "\n"


def _preamble(runs: Sequence[Run], sections: Sequence[Section]) -> list[str]:
    trained = [run for run in runs if run.kind == "run"]
    failed = [run for run in runs if run.status != "ok"]
    lines = [
        f"{len(trained)} runs, {len(failed)} of them failed or unfinished. "
        "Mean ± standard deviation over seeds, in brackets the 95 % interval of the mean (Student's t). "
        "↑ higher is better, ↓ lower is better. Floors (noise, an untrained network, PCA, ICA, k-means) and "
        "the ceiling (the true factors) say what a number means: chance is not 0 for every metric."
    ]
    if _is_quick(runs, sections):
        lines += ["", f"**{NOT_SCIENCE}**"]
    lines += [f"- {run.status}: {run.id}: {run.reason}" for run in failed]
    return lines


def _is_quick(runs: Sequence[Run], sections: Sequence[Section]) -> bool:
    """Whether anything shown was trained or scored too shortly to mean much."""
    short = max(PRESETS["quick"] or ())
    return any(s.protocol == "quick" for s in sections) or any(r.kind == "run" and r.spec.steps <= short for r in runs)


def _html(results: Path, runs: Sequence[Run], sections: Sequence[Section], figures: dict[str, str]) -> str:
    pictures = [
        {"title": title, "name": name, "data": base64.b64encode((results / "plots" / name).read_bytes()).decode()}
        for name, title in figures.items()
    ]
    environment = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(Path(__file__).parent))
    template = environment.get_template("report.html.j2")
    return template.render(
        runs=run_table(runs).fillna("").to_dict("records"),
        sections=sections,
        pictures=pictures,
        warning=NOT_SCIENCE if _is_quick(runs, sections) else "",
    )


# --- figures -------------------------------------------------------------------------------------------------------


def write_figures(
    results: Path, runs: Sequence[Run], scores: pd.DataFrame, data_dir: Path, files: Sequence[Path],
    warn: Callable[[str], None],
) -> dict[str, str]:  # fmt: skip
    """Write plots/*.png, *.svg and *.pdf; returns the png's name -> the question that the figure answers."""
    folder = results / "plots"
    folder.mkdir(exist_ok=True)
    for old in [path for kind in FORMATS for path in folder.glob(f"*.{kind}")]:
        old.unlink()
    titles = {}
    matplotlib.use("agg")
    with plots.style():
        for name, title, figure in figures(runs, scores, data_dir, files, warn):
            for kind, options in FORMATS.items():
                with store.replacing(folder / f"{name}.{kind}") as temporary:
                    figure.savefig(temporary, format=kind, dpi=150, **options)
                figure.set_layout_engine("none")  # the places are found once, which is most of the time
            plots.close(figure)
            titles[f"{name}.png"] = title
    return titles


def figures(
    runs: Sequence[Run], scores: pd.DataFrame, data_dir: Path, files: Sequence[Path], warn: Callable[[str], None]
) -> Iterator[tuple[str, str, Figure]]:
    """(file name, question, figure) of all figures."""
    found = plugins.discover(files)
    labels = config_labels(runs)
    trained = [run for run in runs if run.kind == "run" and run.status == "ok"]
    for dataset in sorted({run.spec.dataset for run in trained}):
        mine = [run for run in trained if run.spec.dataset == dataset]
        of = {run.id: labels[dataset, run.spec.model, run.spec.config] for run in mine}
        yield from _number_figures(dataset, mine, of, scores[scores["dataset"] == dataset])
        firsts = list({label: run for run in reversed(mine) if (label := of[run.id])}.values())[::-1]
        yield from _image_figures(dataset, firsts, of, found, data_dir, warn)


def _number_figures(
    dataset: str, runs: Sequence[Run], of: dict[str, str], scores: pd.DataFrame
) -> Iterator[tuple[str, str, Figure]]:
    measured = scores[(scores["kind"] == "run") & scores["value"].notna()]
    for protocol in sorted(measured["protocol"].unique()):
        part = scores[scores["protocol"] == protocol]
        labelled = part.assign(label=[of.get(row.run, row.model) for row in part.itertuples()])
        yield (f"scores_{dataset}_{protocol}", f"{dataset}: which model scores what, and how much do seeds differ?",
               plots.scores(labelled[labelled["plugin"].notna()], dataset, str(protocol)))  # fmt: skip
        yield from _divergence_figures(labelled[labelled["kind"] == "run"], dataset, str(protocol))
    history = {
        (of[run.id], run.spec.seed): pd.read_csv(run.folder / "history.csv")
        for run in runs
        if store.is_finished(run.folder, "history.csv")
    }
    yield f"training_{dataset}", f"{dataset}: has training settled?", plots.training(history, dataset)
    firsts = {of[run.id]: run for run in reversed(runs)}
    tables = {label: _tables(run) for label, run in sorted(firsts.items())}
    named = [
        ("information", "mutual_information", "which latent knows which factor?", plots.information),
        ("covariance", "covariance", "are the latents correlated?", plots.covariance),
        ("confusion", "confusion", "which classes does the categorical latent find?", plots.confusion),
    ]
    for name, table, question, draw in named:
        matrices = {label: t for label, found in tables.items() for key, t in found.items() if key.startswith(table)}
        matrices = {label: t for label, t in matrices.items() if t.size}
        if matrices:
            seeds = {label: firsts[label].spec.seed for label in matrices}
            yield f"{name}_{dataset}", f"{dataset}: {question}", draw(matrices, seeds, dataset)


def _divergence_figures(scores: pd.DataFrame, dataset: str, protocol: str) -> Iterator[tuple[str, str, Figure]]:
    """What the KL is made of, and what it buys: of runs that have it."""
    if scores.loc[scores["metric"] == "elbo_parts_information", "value"].notna().any():
        yield (f"elbo_parts_{dataset}_{protocol}", f"{dataset}: what is the KL spent on?",
               plots.elbo_parts(scores, dataset, protocol))  # fmt: skip
    by_run = scores.groupby(["model", "label", "run", "metric"])["value"].mean().unstack()
    score = next((name for name in COLOURS if name in by_run and by_run[name].notna().any()), None)
    if score is None or not {"kl_total", "reconstruction"} <= set(by_run):
        return
    table = (
        by_run.rename(columns={"kl_total": "kl"}).assign(score=by_run[score]).dropna(subset=["kl", "reconstruction"])
    )
    table = table.reset_index()[["model", "label", "kl", "reconstruction", "score"]]
    if table["label"].nunique() > 1:
        yield (f"rate_distortion_{dataset}_{protocol}", f"{dataset}: what does reconstruction cost in nats of KL?",
               plots.rate_distortion(table, score, dataset, protocol))  # fmt: skip


def _tables(run: Run) -> dict[str, pd.DataFrame]:
    rows = pd.DataFrame(details_of(run), columns=["table", "row", "column", "value"]).astype({"value": float})
    return {
        str(name): part.pivot(index="row", columns="column", values="value").reindex(
            index=part["row"].unique(), columns=part["column"].unique()
        )
        for name, part in rows.groupby("table")
    }


def kl_of(run: Run) -> pd.Series | None:
    """KL of every latent in nats, where it is known."""
    found = _tables(run)
    return found["kl"].iloc[:, 0] if "kl" in found else None


def _image_figures(
    dataset: str, runs: Sequence[Run], of: dict[str, str], found: dict[str, dict[str, Plugin]], data_dir: Path,
    warn: Callable[[str], None],
) -> Iterator[tuple[str, str, Figure]]:  # fmt: skip
    bare = [run for run in runs if not (run.folder / "model.safetensors").exists()]
    if bare:
        warn(f"{dataset}: {len(bare)} of {len(runs)} models are without pictures: their weights are not here")
    runs = [run for run in runs if run not in bare]
    if not runs:
        return
    try:
        data: Dataset = plugins.pick("data set", dataset, found).load()(data_dir)
    except (UserError, DataError) as error:
        warn(f"{dataset}: no pictures: {error}")
        return
    loaded: dict[str, Model] = {}
    for run in runs:
        try:
            loaded[of[run.id]] = load_model(run, data, found)
        except (UserError, store.CorruptFile) as error:
            warn(f"{run.id}: no pictures: {error}")
    if not loaded:
        return
    rng = np.random.default_rng(0)
    x = data.batch(np.sort(rng.choice(data.score_rows, min(10, len(data.score_rows)), replace=False)))
    shown = {label: encoder.images_of(model, encoder.posterior(model, x).mode()) for label, model in loaded.items()}
    yield (f"reconstructions_{dataset}", f"{dataset}: what survives encoding and decoding?",
           plots.reconstructions(x.numpy(), shown, dataset))  # fmt: skip
    samples = {label: encoder.images_of(model, prior(model, 36)) for label, model in loaded.items()}
    yield f"samples_{dataset}", f"{dataset}: what does the prior generate?", plots.samples(samples, dataset)
    by_label = {of[run.id]: run for run in runs}
    for label, model in loaded.items():
        run = by_label[label]
        rows = {name: encoder.images_of(model, z) for name, z in traversals(model, x[:1], kl_of(run)).items()}
        name = f"traversals_{dataset}_{run.spec.model}_{run.spec.config}"
        figure = plots.traversals(rows, f"{label} on {dataset}, seed {run.spec.seed}")
        yield name, f"{dataset}: what does each latent of {label} mean?", figure


def load_model(run: Run, data: Dataset, found: dict[str, dict[str, Plugin]]) -> Model:
    """A run's trained model; raises UserError or CorruptFile where its weights or its code cannot be had."""
    path = run.folder / "model.safetensors"
    if not path.exists():
        raise UserError("its weights are not here")
    plugin = plugins.pick("model", run.spec.model, found)
    if plugins.fingerprint(plugin) != store.read_json(run.folder / "spec.json")["sources"]:
        raise UserError("its model's file has changed since")
    model = trainer.build(plugin.load(), run.spec, data)
    model.load_state_dict(store.load_tensors(path)[0])
    return model


def prior(model: Model, n: int) -> torch.Tensor:
    """(n, c + Σk) draws from the prior: N(0, 1), and uniform one-hot classes."""
    rng = torch.Generator().manual_seed(0)
    blocks = [torch.randn(n, model.latents, generator=rng)]
    for k in model.categories:
        blocks.append(torch.nn.functional.one_hot(torch.randint(k, (n,), generator=rng), k).float())
    return torch.cat(blocks, dim=1)


def traversals(model: Model, x: torch.Tensor, kl: pd.Series | None, columns: int = 9) -> dict[str, torch.Tensor]:
    """Row label -> latents along one latent from -2 to 2, or through the classes; the others stay at x's code.

    Continuous latents come in the order of their KL (nats), which is in the label.
    """
    start = encoder.posterior(model, x).mode()
    order = range(model.latents)
    nats = [float(kl.get(f"z{i}", math.nan)) if kl is not None else math.nan for i in order]
    rows = {}
    for i in sorted(order, key=lambda i: -nats[i] if nats[i] == nats[i] else 0):
        z = start.repeat(columns, 1)
        z[:, i] = torch.linspace(-2, 2, columns)
        rows[f"z{i} ({nats[i]:.2f} nats)"] = z
    offset = model.latents
    for index, k in enumerate(model.categories):
        z = start.repeat(k, 1)
        z[:, offset : offset + k] = torch.eye(k)
        rows[f"c{index} (each class)"] = z
        offset += k
    return rows
