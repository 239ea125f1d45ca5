"""report.html: one page to read, with all that it shows inside; only further seeds of the explorer lie beside it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmark import store
from benchmark.reporting import canvas, explorer, lengths, pictures, plots
from benchmark.reporting.conclusions import DEAD, Conclusion, Lifeless, listed, unbeaten
from benchmark.reporting.gallery import Gallery, varied
from benchmark.reporting.repeat import commands, setting_rows
from benchmark.reporting.screen import LEGEND, Screen
from benchmark.running import encoder
from benchmark.runs import Run, config_labels, tables_of
from benchmark.statistics import stats
from data import Dataset
from models import Model

PAGE = Path(__file__).parent / "page"
FOLDER = "explorer"  # beside the page: decoders of further seeds
EMBEDDED = 8_000_000  # characters of decoders inside the page
MANY = 6  # models of a data set that are shown side by side; where there are more, each folds
KINDS = ("run", "floor", "ceiling")
WIDTH, MARGIN = 160, 5  # of the little drawing in a cell
INK = {"#ffffff": "--card", "#262626": "--ink", "#000000": "--ink", "#cccccc": "--line", "#595959": "--muted",
       "#999999": "--muted"}  # fmt: skip
Row = dict[str, Any]
Tables = dict[str, pd.DataFrame]


def write(
    results: Path, runs: Sequence[Run], scores: pd.DataFrame, gallery: Gallery, *,
    conclusions: Sequence[Conclusion], lifeless: Sequence[Lifeless], method: str, traps: Mapping[str, str],
    warning: str, screen: Screen,
) -> None:  # fmt: skip
    """Write report.html, and explorer/*.js for the runs that do not fit into it.

    conclusions: what can be said with statistics; lifeless: which runs are dead; method: how it was found.
    traps: metric -> how to read its score; screen: what comes first. The same folder gives the same bytes.
    """
    labels = config_labels(runs)
    scores = stats.with_state(scores, scores)
    longest = set(lengths.without(scores, screen.found.shorter)["run"])
    chosen, titles = pictures.shown_runs([run for run in runs if run.id in longest], scores, labels)
    unlearned = {(one.dataset, one.label) for one in lifeless if one.unlearned}
    first = {run.id for shown in chosen.values() for run in shown.values()}
    catalog, records = _explorers(results, runs, labels, gallery, first)
    ranked = {
        group["name"]: _ranked(
            group,
            conclusions,
            {label for name, label in unlearned if name == group["name"]},
            chosen.get(group["name"], {}),
        )
        for group in catalog
    }
    for group in catalog:
        group["start"] = ranked[group["name"]][0]
    inside = _inside(results, catalog, records, ranked)
    with canvas.style():
        datasets = [
            _dataset(name, shown, runs, scores, gallery, labels, titles, {x for d, x in unlearned if d == name},
                     [one for one in conclusions if one.dataset == name], screen, ranked[name])
            for name, shown in chosen.items()
        ]  # fmt: skip
    _render(
        results / "report.html",
        {
            "warning": warning,
            "conclusions": conclusions,
            "lifeless": lifeless,
            "dead": sum(one.dead for one in lifeless),
            "dead_means": DEAD,
            "method": method,
            "legend": LEGEND,
            "datasets": datasets,
            "traps": {name: text for name, text in traps.items() if name in set(scores["plugin"])},
            "catalog": catalog,
            "inside": inside,
            "notes": gallery.notes,
            "runs": [run for run in runs if run.kind == "run"],
            "failed": [run for run in runs if run.kind == "run" and run.status != "ok"],
            "failed_floors": [run for run in runs if run.kind != "run" and run.status != "ok"],
            "inapplicable": [gallery.public(text) for text in _inapplicable(scores)],
            "public": gallery.public,
            "settings": setting_rows(runs, labels),
            "commands": commands(runs, scores, gallery),
        },
    )


def _render(path: Path, context: Row) -> None:
    """The page of this context, with its style and scripts inside."""
    scripts = [Markup((PAGE / name).read_text()) for name in ("tables.js", "explorer.js")]
    own = {"style": Markup((PAGE / "style.css").read_text()), "scripts": scripts, "policy": _policy(scripts)}
    environment = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader(PAGE), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["listed"] = listed
    environment.filters["breakable"] = lambda text: escape(text).replace("_", Markup("_<wbr>"))
    page = environment.get_template("report.html.j2").render({**context, **own})
    store.write_bytes(path, page.encode())


def _policy(scripts: Sequence[str]) -> str:
    """What the page may load: nothing from a network, and no script but its own and those beside it."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    own = " ".join(f"'sha256-{value}'" for value in hashes)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {own} 'self' file:"


def _inapplicable(scores: pd.DataFrame) -> list[str]:
    empty = scores[(scores["kind"] == "run") & scores["value"].isna()]
    return sorted({f"{row.metric} ({row.model} on {row.dataset}): {row.note}" for row in empty.itertuples()})


# --- scores --------------------------------------------------------------------------------------------------------


def _dataset(
    name: str, shown: dict[str, Run], runs: Sequence[Run], scores: pd.DataFrame, gallery: Gallery,
    labels: dict[tuple[str, str, str], str], titles: Mapping[str, str], unlearned: set[str],
    concluded: Sequence[Conclusion], screen: Screen, ranked: Sequence[str],
) -> Row:  # fmt: skip
    """All that the page says of a data set. shown: label -> the run whose latents and images stand for it.

    titles: run -> what it is called; unlearned: the labels of which nothing is concluded; ranked: labels, best first.
    """
    part = scores[(scores["dataset"] == name) & scores["value"].notna()]
    part = part.assign(label=[labels[name, row.model, row.config] for row in part.itertuples()])
    longest = lengths.without(part, screen.found.shorter)
    drawn = set(longest["run"])
    mine = [run for run in runs if run.spec.dataset == name and run.kind == "run" and run.status == "ok"]
    named = _named(name, runs, labels)
    return {
        "name": name,
        "first": (first := [_first(screen, name, protocol, named) for one, protocol in screen.groups() if one == name]),
        "rows": (rows := list(_rows(part, [run for run in runs if run.spec.dataset == name], screen.keys))),
        "winners": (winners := list(_winners(_answering(rows, longest, concluded), unlearned, concluded))),
        "tally": _tally(winners) if len(shown) > 1 else [],
        "below": [w["first"]["metric"] for w in winners if w["below"]],
        "seeds": sorted({run.spec.seed for run in mine}),
        "several": len(shown) > 1,
        "many": len(shown) > MANY,
        "lengths": [
            svg(figure, f"{' '.join(figure.get_suptitle().split())}; the numbers are in summary.csv")
            for _, figure in pictures.lengths_figures(part, name, screen.found.names, screen.keys)
        ],
        "compared": name in set(screen.found.lengths["dataset"]),
        **_charts(
            name,
            longest,
            [run for run in mine if run.id in drawn],
            shown,
            labels,
            titles,
        ),
        **_models(name, shown, gallery, {label: titles[run.id] for label, run in shown.items()}, named, ranked, first),
    }


def _named(name: str, runs: Sequence[Run], labels: dict[tuple[str, str, str], str]) -> dict[str, Row]:
    """Label -> its model, its configuration, and the settings that tell it apart, uncut."""
    found = {}
    for (dataset, model, config), whole in config_labels(runs, longest=sys.maxsize).items():
        if dataset == name:
            label = labels[dataset, model, config]
            settings = whole.removeprefix(model).removeprefix(", ") + (f" ({config})" if label != whole else "")
            found[label] = {"label": label, "model": model, "config": config, "settings": settings}
    return found


def _first(screen: Screen, dataset: str, protocol: str, named: Mapping[str, Row]) -> Row:
    """The headline scores: sentences, and by model the rows of its configurations with their intervals."""
    keys = screen.columns(dataset, protocol)
    models: dict[str, list[Row]] = {}
    for label, cells, runs in screen.rows(dataset, protocol):
        rate = screen.rates.get((dataset, named[label]["model"], named[label]["config"]))
        share = [f"{100 * rate[name]:.0f}" for name in ("rate", "low", "high")] if rate and rate["dead"] else []
        dead = f"{share[0]} % dead [{share[1]}, {share[2]}]" if share else ""
        told = screen.untold(dataset, protocol, label)
        names = {key: ", ".join(filter(None, [named[label][key], *told])) for key in ("label", "settings")}
        row = {**named[label], "names": names, "cells": cells, "runs": runs, "dead": dead}
        models.setdefault(named[label]["model"], []).append(row)
    return {
        "protocol": protocol,
        "said": list(screen.verdict(dataset, protocol)),
        "heads": [screen.head(key) for key in keys],
        "told": [i for i, key in enumerate(keys) if screen.better[key] == "higher"],
        "models": models,
        "levels": list(screen.levels(dataset, protocol)),
    }


def _numbers(first: Sequence[Row], label: str) -> str:
    """What a model's fold says in its summary: the first and the last headline score of which more is better."""
    for table in first:
        rows = [row for rows in table["models"].values() for row in rows if row["label"] == label]
        told = [i for i in table["told"] if rows and rows[0]["cells"][i]]
        if told:
            ends = dict.fromkeys((told[0], told[-1]))
            return ", ".join(f"{table['heads'][i]} {rows[0]['cells'][i].text}" for i in ends)
    return ""


def _ranked(group: Row, concluded: Sequence[Conclusion], unlearned: set[str], shown: Container[str]) -> list[str]:
    """Every label, the explorer's first in front: the leaders in their class, then in any score; what cannot be
    explored comes last, and before it what is not `shown` (it was trained for longer too) and has not learned."""
    leaders = [one for one in concluded if one.dataset == group["name"]]
    leaders.sort(key=lambda one: not one.metric.startswith(stats.OF_THE_CLASS))
    known = [run["label"] for run in sorted(group["runs"], key=lambda run: not run["classes"])]
    explored = {run["label"] for run in group["runs"] if run["where"] != "none"}
    labels = dict.fromkeys([*(one.leader for one in leaders if one.leader in known), *known])
    return sorted(labels, key=lambda label: (label not in explored, label not in shown, label in unlearned))


def _rows(part: pd.DataFrame, runs: Sequence[Run], chosen: Sequence[str]) -> Iterator[Row]:
    """A row per metric and model or floor: by metric, the best first."""
    headline = set(stats.headline(part[part["kind"] == "run"], chosen))
    lost = {(r.spec.model, r.config, r.spec.seed) for r in runs if r.status == "failed"}

    def failed(seeds: pd.DataFrame) -> int:
        same = {s for m, c, s in lost if (m, c) == (seeds["model"].iloc[0], seeds["config"].iloc[0])}
        return len(same - set(seeds["seed"]))

    for (_, metric, protocol), group in part.assign(last=part["better"] == "neither").groupby(
        ["last", "metric", "protocol"]
    ):
        better = str(group["better"].iloc[0])
        axis = _axis(group)
        marks = _marks(group, axis)
        found = [
            _row(seeds, axis, marks)
            | {"metric": metric, "protocol": protocol, "plugin": group["plugin"].iloc[0], "better": better,
               "arrow": stats.ARROW[better], "headline": metric in headline, "kind": kind, "label": label,
               "failed": failed(seeds)}
            for (kind, label), seeds in group.groupby(["kind", "label"])
        ]  # fmt: skip
        yield from sorted(found, key=lambda row: row["mean"] if better == "lower" else -row["mean"])


def _row(part: pd.DataFrame, axis: tuple[float, float], marks: Row) -> Row:
    seeds, dead = part.groupby("seed")["value"].mean(), part.groupby("seed")["dead"].any()
    low, high = stats.t_interval(seeds)
    mean = float(seeds.mean())
    spoken = f"mean {mean:.3f}" + (f", 95 % interval {low:.3f} to {high:.3f}" if len(seeds) > 1 else "")
    spoken += "; seeds " + ", ".join(f"{value:.3f}" for value in seeds) if len(seeds) > 1 else ""
    spoken += f"; {dead.sum()} dead" if dead.any() else ""
    return {
        "mean": mean,
        "steps": int(part["steps"].iloc[0]),
        "low": low if len(seeds) > 1 else None,
        "high": high if len(seeds) > 1 else None,
        "std": float(seeds.std()) if len(seeds) > 1 else None,
        "n": len(seeds),
        "dead": int(dead.sum()),
        "seeds": {int(seed): float(value) for seed, value in seeds.items()},
        "strip": marks
        | {
            "alt": f"{spoken}; {marks['alt']}",
            "dots": [_place(value, axis) for value in seeds[~dead]],
            "dead": [_place(value, axis) for value in seeds[dead]],
            "mean": _place(mean, axis),
            "ci": [_place(low, axis), _place(high, axis)] if len(seeds) > 1 else None,
        },
    }


def _axis(group: pd.DataFrame) -> tuple[float, float]:
    """From the least to the greatest value; where there is no ceiling, floors may be far away and do not count."""
    near = group[group["kind"] == "run"] if "ceiling" not in set(group["kind"]) else group
    values = (near if len(near) else group)["value"]
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _place(value: float, axis: tuple[float, float]) -> float:
    """Where a value is drawn; an interval may run to the edge and no farther."""
    share = (value - axis[0]) / (axis[1] - axis[0])
    return round(min(max(MARGIN + share * (WIDTH - 2 * MARGIN), 0), WIDTH), 1)


def _marks(group: pd.DataFrame, axis: tuple[float, float]) -> Row:
    """Floors and ceiling of a metric: the same in every row, so that a reader sees what a number means."""
    means = group[group["kind"] != "run"].groupby(["kind", "label"])["value"].mean()
    text = ", ".join(f"{kind} {label} {value:.3f}" for (kind, label), value in means.items())
    places: dict[str, list[float]] = {"floor": [], "ceiling": []}
    for (kind, _), value in means.items():
        places[kind].append(_place(value, axis))
    return {"alt": text or "no floors", "floors": places["floor"], "ceilings": places["ceiling"], "width": WIDTH}


def _answering(rows: Sequence[Row], longest: pd.DataFrame, concluded: Sequence[Conclusion]) -> list[Row]:
    """The rows less those of a model at a shorter length that nothing is concluded from. longest: the other scores."""
    shown = set(zip(longest["protocol"], longest["label"], strict=True))
    leaders = {(one.metric, one.protocol, one.leader) for one in concluded}
    return [row for row in rows if row["kind"] != "run" or (row["protocol"], row["label"]) in shown
            or (row["metric"], row["protocol"], row["label"]) in leaders]  # fmt: skip


def _winners(rows: Sequence[Row], unlearned: set[str], concluded: Sequence[Conclusion]) -> Iterator[Row]:
    """The leader of every headline score, which others it is shown better than, and what floor and ceiling have.

    It is the conclusions' leader; where there are none (one model, or one alone that has learned), the only one.
    """
    ranked = [
        row for row in rows
        if row["headline"] and row["better"] != "neither"
        and not (row["kind"] == "run" and (row["label"] in unlearned or 2 * row["dead"] > row["n"]))
    ]  # fmt: skip
    found = {(one.metric, one.protocol): one for one in concluded}
    for key in dict.fromkeys((row["metric"], row["protocol"]) for row in ranked):
        group = {kind: [r for r in ranked if (r["metric"], r["protocol"], r["kind"]) == (*key, kind)] for kind in KINDS}
        said = found.get(key)
        candidates = [row for row in group["run"] if said is None or row["label"] == said.leader]
        if not candidates or len({row["steps"] for row in candidates}) > 1:  # lengths are never mixed
            continue
        first = candidates[0]
        levels = {row["label"]: row["mean"] for row in group["floor"]}
        yield {
            "first": first,
            "shown": said.shown if said else (),
            "open": said.open if said else (),
            "floor": next(iter(group["floor"]), None),
            "below": said.floor if said else unbeaten(pd.Series(first["seeds"]), levels, first["better"]),
            "ceiling": next(iter(group["ceiling"]), None),
        }


def _tally(winners: Sequence[Row]) -> list[Row]:
    """Model -> the scores in which it is shown to be better than every other."""
    won: dict[str, list[str]] = {}
    for winner in winners:
        if winner["shown"] and not winner["open"]:
            won.setdefault(winner["first"]["label"], []).append(winner["first"]["metric"])
    ranked = sorted(won.items(), key=lambda item: (-len(item[1]), item[0]))
    return [{"label": label, "metrics": metrics} for label, metrics in ranked]


# --- figures -------------------------------------------------------------------------------------------------------


def _charts(
    name: str, part: pd.DataFrame, runs: Sequence[Run], shown: dict[str, Run],
    labels: dict[tuple[str, str, str], str], titles: Mapping[str, str],
) -> Row:  # fmt: skip
    of = {run.id: labels[name, run.spec.model, run.config] for run in runs}
    history, dead = pictures.history_of(runs, of), pictures.dead_of(part)
    own = plots.own_losses(history)
    training = [
        svg(
            plots.curve(history, column, f"{name}: {title}", dead),
            f"{title} on {name} by step: {_ends(history, column)}",
        )
        for column, title in (plots.TRAINED | {column: column for column in own[: plots.OWN]}).items()
        if any(column in rows for rows in history.values())
    ]
    units = []
    for label, run in shown.items():
        rows = history.get((label, run.spec.seed))
        if rows is not None and len(rows) and any(plots.LATENT.fullmatch(str(c)) for c in rows):
            text = f"KL of each latent of {titles[run.id]} on {name} against training steps"
            units.append(svg(plots.units(rows, titles[run.id]), text))
    measured = part[part["plugin"].notna()]
    costs = [
        svg(figure, f"{' '.join(figure.get_suptitle().split())}; the numbers are in the table of scores")
        for draw in (pictures.tradeoff, pictures.divergences)
        for protocol in sorted(measured.loc[measured["kind"] == "run", "protocol"].unique())
        for _, figure in draw(measured[measured["protocol"] == protocol], name, str(protocol))
    ]
    return {"costs": costs, "training": training, "units": units}


def _ends(history: Mapping[tuple[str, int], pd.DataFrame], column: str) -> str:
    ends: dict[str, list[float]] = {}
    for (label, _), rows in sorted(history.items()):
        if column in rows and len(rows):
            ends.setdefault(label, []).append(float(rows[column].iloc[-1]))
    unit = " nats" if column in plots.TRAINED else ""
    return "; ".join(
        f"{label} ends at {canvas.number(float(np.mean(values)), 1)}{unit}" for label, values in ends.items()
    )


def svg(figure: Figure, alt: str) -> Row:
    """A figure as inline SVG in the page's colours, its text as text; ids get a prefix, since a page has many."""
    content = io.StringIO()
    figure.savefig(content, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    canvas.close(figure)
    text = content.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'\bd="[^"]*"', _rounded, text)
    text = re.sub(
        r'font-family: [^;"]*;? ?| transform="rotate\(-0 [^"]*"|(?<=\n)\s+', "", text
    )  # the style has the font
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text).replace("<svg ", '<svg aria-hidden="true" ', 1)
    prefix = hashlib.sha256(alt.encode()).hexdigest()[:8]
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
    for colour, name in INK.items():
        text = text.replace(colour, f"var({name})")
    return {"svg": Markup(text), "alt": alt}


def _rounded(path: re.Match[str]) -> str:
    """A path's places to a tenth of a point: they are half of a page of many models."""
    short = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), path[0])
    return re.sub(r"\s*([MLCQzZ])\s*", r"\1", short).replace("\n", "")


def _heat(title: str, table: pd.DataFrame, top: float, digits: int = 2) -> Row:
    """A table whose cells are shaded by size: `top` is the darkest."""
    rows = [
        (str(name), [(canvas.number(value, digits), round(100 * min(abs(value) / (top or 1), 1))) for value in line])
        for name, line in zip(table.index, table.to_numpy(), strict=True)
    ]
    return {"title": title, "columns": [str(c) for c in table.columns], "rows": rows}


def _information(tables: Mapping[str, Tables], titles: Mapping[str, str]) -> dict[str, Row]:
    found = {label: t["mutual_information"] for label, t in tables.items() if "mutual_information" in t}
    top = max((float(table.to_numpy().max()) for table in found.values() if table.size), default=1.0)
    return {label: _heat(titles[label], table, top) for label, table in found.items() if table.size}


def _covariances(tables: Mapping[str, Tables], titles: Mapping[str, str]) -> dict[str, Row]:
    found = {label: t["covariance"] for label, t in tables.items() if "covariance" in t}
    return {label: _heat(titles[label], table, 1.0) for label, table in found.items() if table.size}


def _confusions(title: str, tables: Tables, gallery: Gallery, dataset: str) -> list[Row]:
    """Share of every true class that a latent class holds, and how many images the latent class holds in all."""
    found = []
    for name, table in tables.items():
        if name.startswith("confusion") and table.size and table.to_numpy().sum():
            share = gallery.with_class_names(dataset, table / np.maximum(table.sum(axis=0), 1))
            heat = _heat(f"{title}, {name.removeprefix('confusion_')}", share, 1.0)
            heat["usage"] = [round(100 * v, 1) for v in table.sum(axis=1) / table.to_numpy().sum()]
            heat["used"] = sum(value >= 1 for value in heat["usage"])
            found.append(heat)
    return found


# --- models --------------------------------------------------------------------------------------------------------


def _models(
    name: str, shown: dict[str, Run], gallery: Gallery, titles: Mapping[str, str], named: Mapping[str, Row],
    ranked: Sequence[str], first: Sequence[Row],
) -> Row:  # fmt: skip
    """What is known of the run that stands for a model: tables, and strips of images. titles: by label."""
    tables = {label: tables_of(run) for label, run in shown.items()}
    information, covariances = _information(tables, titles), _covariances(tables, titles)
    known = {label: model for label, run in shown.items() if (model := gallery.model(run)) is not None}
    x = gallery.images(name) if known else None
    glance = [label for label in ranked if label in known and x is not None][:MANY]
    models = [
        named[label]
        | {"id": run.id, "title": titles[label], "open": label == ranked[0], "glance": label in glance,
           "numbers": _numbers(first, label), "information": information.get(label),
           "covariance": covariances.get(label), "confusions": _confusions(titles[label], tables[label], gallery, name)}
        | (_images(label, run, known[label], x) if label in known and x is not None else {})
        for label, run in shown.items()
    ]  # fmt: skip
    original = None if x is None else {"name": "original", "src": png(x.numpy()), "alt": f"{len(x)} images"}
    return {"models": models, "original": original}


# --- images --------------------------------------------------------------------------------------------------------


def png(images: NDArray[np.float32], gap: int = 1) -> str:
    """(n, channels, h, w) images in [0, 1] side by side, as a data URI."""
    padded = np.pad(images, [(0, 0), (0, 0), (0, 0), (0, gap)], constant_values=0.5)
    row = np.concatenate(list(padded), axis=2)[:, :, : -gap or None]
    pixels = np.rint(255 * np.moveaxis(row, 0, -1)).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(content, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _images(label: str, run: Run, model: Model, x: Tensor) -> Row:
    """Strips of images: what of x is rebuilt, what the prior gives, what each latent does."""
    decoded = encoder.images_of(model, encoder.posterior(model, x).mode())
    drawn = encoder.images_of(model, pictures.prior(model, len(x)))
    return {
        "decoded": {"name": label, "src": png(decoded), "alt": f"the images above, encoded and decoded by {label}"},
        "drawn": {"name": label, "src": png(drawn), "alt": f"{len(x)} images drawn from {label}'s prior"},
        "traversals": [
            {"name": row, "src": png(encoder.images_of(model, z)), "alt": f"{len(z)} images that differ in {row} alone"}
            for row, z in pictures.traversals(model, x[:1], pictures.kl_of(run)).items()
        ],
    }


# --- explorer ------------------------------------------------------------------------------------------------------


def _explorers(
    results: Path, runs: Sequence[Run], labels: dict[tuple[str, str, str], str], gallery: Gallery, first: set[str]
) -> tuple[list[Row], dict[str, Row]]:
    """What can be explored, and the records of the runs in `first`; writes the others beside the page."""
    folder = results / FOLDER
    for old in folder.glob("*.js"):
        old.unlink()
    datasets: dict[str, Row] = {}
    records: dict[str, Row] = {}
    trained = [run for run in runs if run.kind == "run" and run.status == "ok"]
    order = sorted(trained, key=lambda r: (r.spec.seed, r.spec.dataset, r.spec.model, r.config))
    for run in order:
        label = labels[run.spec.dataset, run.spec.model, run.config]
        entry: Row = {"id": run.id, "label": label, "seed": run.spec.seed, "where": "none", "reason": "", "classes": 0}
        model = gallery.model(run)
        data = gallery.data(run.spec.dataset) if model is not None else None
        images = gallery.images(run.spec.dataset) if data is not None else None
        group = datasets.setdefault(run.spec.dataset, {"name": run.spec.dataset, "images": [], "runs": []})
        group["images"] = group["images"] or (_faces(data) if data is not None else [])
        group["runs"].append(entry)
        if model is None or images is None:
            entry["reason"] = gallery.notes.get(run.id) or gallery.notes.get(run.spec.dataset, "")
            continue
        entry["classes"] = len(model.categories)
        try:
            record = explorer.record(run, label, model, images)
        except explorer.Unsupported as problem:
            entry["reason"] = f"{problem}; see its traversals below"
            continue
        entry["where"] = "file"
        if run.id in first:
            records[run.id] = record
        else:
            _beside(folder, record)
    return [datasets[name] for name in sorted(datasets)], records


def _inside(
    results: Path, catalog: Sequence[Row], records: Mapping[str, Row], ranked: Mapping[str, Sequence[str]]
) -> list[Row]:
    """The records that have room in the page, of every data set's best model first; writes the others beside it."""
    entries = [(group["name"], entry) for group in catalog for entry in group["runs"] if entry["id"] in records]
    room = EMBEDDED
    inside: list[Row] = []
    for _, entry in sorted(entries, key=lambda one: (ranked[one[0]].index(one[1]["label"]), one[0])):
        record = records[entry["id"]]
        if len(record["weights"]) <= room:
            room -= len(record["weights"])
            entry["where"] = "page"
            inside.append(record)
        else:
            _beside(results / FOLDER, record)
    return inside


def _beside(folder: Path, record: Row) -> None:
    folder.mkdir(exist_ok=True)
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    store.write_bytes(folder / f"{record['id']}.js", f"exploreRun({text});\n".encode())


def _faces(data: Dataset) -> list[Row]:
    """Small real images to start from, each with what is known of it."""
    rows = varied(data, 10)
    named = [dict(zip(data.factor_names, data.factors[row], strict=True)) for row in rows]
    return [
        {"src": png(image[None]), "alt": ", ".join(f"{name} {value}" for name, value in factors.items()) or "image"}
        for image, factors in zip(data.batch(rows).numpy(), named, strict=True)
    ]
