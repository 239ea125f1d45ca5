"""report.html: what it says, and what it does in a real browser (`-m browser`; skipped where there is none)."""

import base64
import html.parser
import json
import shlex
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark import plan, plugins, runs, sources, store
from benchmark.defaults import HEADLINE
from benchmark.options import parser
from benchmark.reporting import explorer, findings, page, pictures, repeat, report
from benchmark.reporting.conclusions import Conclusion, Lifeless, listed
from benchmark.reporting.gallery import Gallery
from benchmark.reporting.report import score_table
from benchmark.reporting.screen import Screen
from benchmark.running import encoder, floors, trainer, worker
from benchmark.running.clock import Clock
from benchmark.running.job import Job
from benchmark.spec import Spec
from benchmark.statistics import stats
from models.vae import VAE

METRICS = ("discrete_accuracy", "kl", "mig", "reconstruction")
ATTACK = "</script><script>window.hacked = 1</script>\"'<img src=x onerror=hacked()>$x_"
LARGE = '''
"""Blobs of 64x64 pixels."""
import dataclasses
import numpy as np
from data.blobs import blobs

def large(root):
    """Every third image of blobs, twice as large, dark red on light blue."""
    small = blobs(root)
    rows = small.score_rows[::3]
    grey = small.images.repeat(2, axis=2).repeat(2, axis=3)
    images = np.concatenate([grey // 2, 255 - grey, 255 - grey // 3], axis=1)
    return dataclasses.replace(small, name="large", shape=(3, 64, 64), images=images, score_rows=rows, grid=False)
'''
MINE = '''
"""A model with a decoder of its own."""
from models import Model, reconstruction_loss

class Mine(Model):
    """Its images are upside down, which no list of layers tells."""

    def __init__(self, shape, n_images, latents: int = 2, word: str = ""):
        super().__init__(shape, n_images, latents)

    def decode(self, z):
        return self.decoder(z).flip(2)

    def losses(self, x, step, rng):
        return {"loss": reconstruction_loss(self.decode(self.encode(x).mean), x)}
'''


def make_run(results, found, spec, data):
    """A finished run of an untrained model, its weights enlarged so that latents matter."""
    job = Job(spec, results / "runs" / spec.id(), METRICS, "quick", results, commit="abc")
    plugin = found["model"][spec.model]
    job.folder.mkdir(parents=True)
    store.write_json(job.folder / "spec.json", {"spec": spec.to_json(), "sources": sources.of_run(spec, found)})
    model = trainer.build(plugin.load(), spec, data)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    store.save_tensors(job.folder / "model.safetensors", model.state_dict())
    history = [{"step": s, "loss": 9.0 / s, "recon": 8.0 / s, "kl": s / 100.0, "kl_z0": s / 90.0} for s in (100, 200)]
    store.write_csv(job.folder / "history.csv", history)
    store.finish(job.folder, "model.safetensors", "history.csv")
    score(job, found, encoder.encode(model, data, encoder.select(data, "quick")))
    Clock(job).record()


def score(job, found, codes):
    store.save_codes(job.folder / "codes.h5", codes, "all")
    store.write_csv(job.folder / "details.csv", worker._details(codes), worker.DETAIL_COLUMNS)
    store.finish(job.folder, "codes.h5", "details.csv")
    worker._score(job, codes, None, [found["metric"][name] for name in METRICS], lambda stage: None, print)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A results folder with two data sets, four models, a failed run, and text that attacks the page."""
    root = tmp_path_factory.mktemp("page")
    files = [root / "large.py", root / "mine.py"]
    for file, text in zip(files, (LARGE, MINE), strict=True):
        file.write_text(text)
    found = plugins.discover(files)
    results = root / "results"
    joint = {"latents": 3, "categories": (3,), "gamma": 30.0, "capacity_z": 5.0, "capacity_c": 5.0,
             "capacity_steps": 10, "temperature": 0.67}  # fmt: skip
    for name in ("blobs", "large"):
        data = found["data set"][name].load()(root)
        for seed in (0, 1):
            make_run(results, found, Spec(name, "jointvae", seed, 200, 16, 5e-4, hparams=joint), data)
        make_run(results, found, Spec(name, "betavae", 0, 200, 16, 5e-4, hparams={"latents": 4, "beta": 2.0}), data)
        for level, make in {**floors.FLOORS, **floors.CEILINGS}.items():
            spec = Spec(name, level, 0, 0, 0, 0.0)
            job = Job(spec, results / "floors" / spec.id(), METRICS, "quick", root)
            job.folder.mkdir(parents=True)
            store.write_json(job.folder / "spec.json", {"spec": spec.to_json(), "sources": {}})
            score(job, found, make(data, encoder.select(data, "quick"), 0))
    for word in ("", ATTACK):
        spec = Spec("blobs", "mine", 0, 200, 16, 5e-4, hparams={"latents": 2, "word": word})
        make_run(results, found, spec, found["data set"]["blobs"].load()(root))
    broken = replace(spec, seed=1)
    folder = results / "runs" / broken.id()
    folder.mkdir()
    store.write_json(folder / "spec.json", {"spec": broken.to_json(), "sources": {}})
    (folder / "error.txt").write_text(f"ValueError: {ATTACK}\n")
    warnings = []
    report.build(results, root, files, warnings.append, formats=())
    return results, root, files, warnings


@pytest.fixture(scope="module")
def many(finished, tmp_path_factory):
    """A results folder with more models of a data set than stand side by side, most of them one model's sweep."""
    results, root, files, _ = finished
    copy = tmp_path_factory.mktemp("many") / "results"
    shutil.copytree(results, copy)
    found = plugins.discover(files)
    data = found["data set"]["blobs"].load()(root)
    for beta in range(3, 3 + page.MANY):
        hparams = {"latents": 4, "beta": float(beta)}
        make_run(copy, found, Spec("blobs", "betavae", 0, 200, 16, 5e-4, hparams=hparams), data)
    report.build(copy, root, files, print, formats=())
    return copy


def rebuilt(finished, tmp_path, *without):
    """A copy of the folder without some files of its runs, and its page."""
    results, root, files, _ = finished
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    for name in without:
        for path in copy.glob(f"*/*/{name}"):
            path.unlink()
    warnings = []
    report.build(copy, root, files, warnings.append, formats=())
    return copy, (copy / "report.html").read_text(), warnings


class Elements(html.parser.HTMLParser):
    """Tags with their attributes, and the text of scripts."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_same_folder_gives_the_same_bytes(finished, tmp_path):
    copy, _, _ = rebuilt(finished, tmp_path)
    for path in [finished[0] / "report.html", *(finished[0] / "explorer").iterdir()]:
        assert (copy / path.relative_to(finished[0])).read_bytes() == path.read_bytes(), path.name


def test_the_page_holds_all_that_it_shows(finished):
    page = (finished[0] / "report.html").read_text()
    assert "http://" not in page and "https://" not in page
    elements = Elements(page).found
    sources = [attributes.get("src") or attributes.get("href") for _, attributes in elements]
    assert all(s.startswith(("data:", "#")) or s.endswith(".csv") for s in sources if s)
    assert all(attributes.get("alt") is not None for tag, attributes in elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in elements if tag == "figure" and "role" in attributes)


def test_the_title_lists_the_data_sets(finished):
    assert "<h1>What was learned on blobs and large</h1>" in (finished[0] / "report.html").read_text()
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


def test_the_order_of_the_sections(finished):
    elements = Elements((finished[0] / "report.html").read_text()).found
    found = [attributes["id"] for tag, attributes in elements if tag == "section"]
    assert found == ["answer", "explore", "tradeoff", "classes", "latents", "images", "training", "failed", "scores",
                     "how"]  # fmt: skip
    links = [attributes.get("href") for tag, attributes in elements if tag == "a"]
    assert [link for link in links if link in {f"#{name}" for name in found}][: len(found)] == [f"#{n}" for n in found]


def test_conclusions_come_first(finished, tmp_path):
    results, root, files, _ = finished
    found = runs.read_runs(results, print)
    said = [conclusion("mig", "jointvae", (), ("vae",))]
    text = "jointvae has not learned yet at this length (2 of 2 runs dead)."
    dead = Lifeless("blobs", "jointvae", 2, "2 of 2 runs", "", text)
    scores, labels, failed = score_table(found, files, print), runs.config_labels(found), report.run_table([])
    first = Screen(scores, failed, findings.find(found, scores, failed, labels, print), labels, HEADLINE)
    page.write(tmp_path, found, scores, Gallery(root, files, print), conclusions=said, lifeless=[dead], method="",
               traps={}, warning="", screen=first)  # fmt: skip
    text = (tmp_path / "report.html").read_text()
    where = text.index("One &amp; &lt;b&gt;two&lt;/b&gt; are not told apart.")
    assert (
        text.index('id="answer"') < text.index(f"<strong>{dead.sentence}</strong>") < where < text.index('id="explore"')
    )
    assert text.count(dead.sentence) == 2 and ">2 dead</a>" in text  # also under what failed


def conclusion(metric, leader, shown, others):
    text = "One & <b>two</b> are not told apart."
    return Conclusion("blobs", "quick", 5, metric, "higher", leader, "" if others else leader, shown, others, "pca", 5,
                      True, 3, text)  # fmt: skip


def test_the_winners_are_those_of_the_conclusions():
    """Also where another model has the better mean, and nothing is won that is not shown."""
    row = {"metric": "mig", "protocol": "quick", "headline": True, "better": "higher", "kind": "run", "dead": 0, "n": 5,
           "steps": 5, "seeds": {0: 1.0}}  # fmt: skip
    rows = [{**row, "label": "a", "mean": 0.9}, {**row, "label": "b", "mean": 0.5}]
    (open_one,) = page._winners(rows, set(), [conclusion("mig", "b", (), ("a",))])
    assert open_one["first"]["label"] == "b" and open_one["below"] == "pca" and page._tally([open_one]) == []
    (won,) = page._winners(rows, set(), [conclusion("mig", "a", ("b",), ())])
    assert page._tally([won]) == [{"label": "a", "metrics": ["mig"]}]


def test_what_has_not_learned_wins_nothing():
    row = {"metric": "mig", "protocol": "quick", "headline": True, "better": "higher", "kind": "run", "dead": 0, "n": 5,
           "steps": 5, "seeds": {0: 1.0}}  # fmt: skip
    rows = [{**row, "label": "a", "mean": 0.9}, {**row, "label": "b", "mean": 0.5}, {**row, "label": "c", "mean": 0.1}]
    firsts = [[w["first"]["label"] for w in page._winners(rows, lost, [])] for lost in (set(), {"a"}, {"a", "b", "c"})]
    assert firsts == [["a"], ["b"], []]
    assert [w["first"]["label"] for w in page._winners([{**rows[0], "dead": 3}, *rows[1:]], set(), [])] == ["b"]


def test_the_explorer_opens_on_a_model_that_has_learned_and_is_here():
    names = {"a": 3, "b": 0, "c": 3, "d": 0}  # and their classes
    listed = [{"label": label, "classes": k, "where": "none" if label == "a" else "file"} for label, k in names.items()]
    leaders = [replace(conclusion(metric, leader, (), ()), metric=metric, leader=leader)
               for metric, leader in (("mig", "b"), ("discrete_accuracy", "a"))]  # fmt: skip
    group = {"name": "blobs", "runs": listed}
    assert page._ranked(group, leaders, set(), names) == ["b", "c", "d", "a"]
    assert page._ranked(group, leaders, {"b"}, names) == ["c", "d", "b", "a"]
    assert page._ranked(group, leaders, {"d"}, {"d", "a"}) == ["d", "b", "c", "a"]  # b and c were trained for longer


def test_the_best_of_every_data_set_is_the_first_inside_the_page(tmp_path):
    runs_of = {"one": ["a", "b"], "two": ["c", "d"]}
    catalog = [{"name": name, "runs": [{"id": run, "label": run, "where": "file"} for run in found]}
               for name, found in runs_of.items()]  # fmt: skip
    records = {run: {"id": run, "weights": "w" * (page.EMBEDDED // 2)} for found in runs_of.values() for run in found}
    inside = page._inside(tmp_path, catalog, records, {"one": ["b", "a"], "two": ["d", "c"]})
    assert [record["id"] for record in inside] == ["b", "d"]
    assert [run["where"] for group in catalog for run in group["runs"]] == ["file", "page"] * 2
    assert sorted(path.name for path in (tmp_path / page.FOLDER).iterdir()) == ["a.js", "c.js"]


def test_the_rate_of_dead_runs_stands_in_the_headline_table(finished):
    results, _, files, _ = finished
    rates = stats.dead_rates(score_table(runs.read_runs(results, print), files, print))
    dead = rates[rates["dead"] > 0]
    text = (results / "report.html").read_text()
    assert 0 < len(dead) == text.count(" % dead [")
    for row in dead.itertuples():
        assert f"{100 * row.rate:.0f} % dead [{100 * row.low:.0f}, {100 * row.high:.0f}]</small>" in text


def test_text_from_elsewhere_stays_text(finished):
    page = (finished[0] / "report.html").read_text()
    assert "<script>window.hacked" not in page and "<img src=x" not in page and "window.hacked" in page
    elements = Elements(page).found
    scripts = [attributes for tag, attributes in elements if tag == "script"]
    assert sum(attributes.get("type") != "application/json" for attributes in scripts) == 2  # the page's own
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]


@pytest.mark.parametrize(
    "without",
    ["model.safetensors", *(pytest.param(name, marks=pytest.mark.slow) for name in ("codes.h5", "history.csv"))],
)
def test_what_is_absent_is_left_out_with_a_note(finished, tmp_path, without):
    _, page, warnings = rebuilt(finished, tmp_path, without)
    whole = (finished[0] / "report.html").read_text()
    assert page.count('<tr class="run"') == whole.count('<tr class="run"') > 0
    assert ("its weights are not here" in page) == (without == "model.safetensors")
    assert ("history.csv</code> is not here" in page) == (without == "history.csv")
    assert bool(warnings) == (without in ("model.safetensors", "codes.h5"))


def test_the_commands_repeat_the_runs(finished):
    results, root, files, _ = finished
    found = runs.read_runs(results, print)
    kept = [run for run in found if run.spec.hparams.get("word") != ATTACK]  # no shell word can be read in a sentence
    lines = repeat.commands(kept, score_table(found, files, print), Gallery(root, files, print))
    planned = set()
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["python", "run_benchmark.py"]
        options = parser().parse_args([*words[2:], "--data-dir", str(root)])
        options.plugin = files
        planned |= {job.spec.id() for job in plan.jobs_of(options, plugins.discover(files), root)}
    assert {run.id for run in kept if run.kind == "run"} <= planned


def test_a_command_repeats_all_lengths_of_a_run(finished):
    results, root, files, _ = finished
    every = runs.read_runs(results, print)
    found = [run for run in every if (run.spec.model, run.spec.dataset) == ("betavae", "blobs")]
    longer = [replace(run, spec=replace(run.spec, steps=1_000)) for run in found]
    (line,) = repeat.commands([*longer, *found], pd.DataFrame(columns=["run", "plugin"]), Gallery(root, files, print))
    assert " --steps 200 1000 " in line


def test_a_model_says_what_is_sampled_and_traversed(small):
    class Signs(VAE):
        traversal = (-0.5, 0.5)

        def prior(self, n, rng):
            return torch.randint(2, (n, self.latents), generator=rng) - 0.5

    model = Signs(small.shape, 10, latents=3)
    assert set(pictures.prior(model, 8).unique().tolist()) == {-0.5, 0.5}
    rows = pictures.traversals(model, torch.zeros(1, *small.shape), None)
    assert [(z[0, i].item(), z[-1, i].item()) for i, z in enumerate(rows.values())] == [(-0.5, 0.5)] * 3
    drawn = explorer._own_prior(model)["prior"]
    assert len(drawn) == explorer.DRAWS and {v for one in drawn for v in one["z"]} == {-0.5, 0.5}
    assert explorer._own_prior(VAE(small.shape, 10, latents=3)) == {}


def test_a_quantised_latent_is_traversed_through_its_own_values(small):
    model = plugins.discover()["model"]["qlae"].load()(small.shape, 10, latents=3)
    torch.nn.init.normal_(model.points, generator=torch.Generator().manual_seed(0))
    for i, z in enumerate(pictures.traversals(model, torch.zeros(1, *small.shape), None).values()):
        own = model.points[i].sort().values
        assert torch.isin(z[:, i], own).all() and (z[0, i], z[-1, i]) == (own[0], own[-1])
        assert (z[1:, i] > z[:-1, i]).all()

    class Rounded(VAE):
        def encode(self, x):
            return replace(super().encode(x), logvar=None, ordinal=True)

    rounded = Rounded(small.shape, 10, latents=2)  # its prior says nothing of its values
    rows = pictures.traversals(rounded, torch.zeros(1, *small.shape), None)
    assert [(z[0, i].item(), z[-1, i].item()) for i, z in enumerate(rows.values())] == [(-2, 2)] * 2


def test_decoders_that_the_page_cannot_evaluate_are_refused(small):
    model = plugins.discover()["model"]["vae"].load()(small.shape, 10)
    layers, weights = explorer.decoder(model)
    assert weights.dtype == np.float16 and weights.size == sum(p.numel() for p in model.decoder.parameters())
    assert [layer["kind"] for layer in layers][:5] == ["linear", "relu", "linear", "relu", "unflatten"]
    model.decoder[1] = torch.nn.Tanh()
    with pytest.raises(explorer.Unsupported, match="Tanh"):
        explorer.decoder(model)
    model.decoder = torch.nn.Identity()
    with pytest.raises(explorer.Unsupported, match="plain sequence"):
        explorer.decoder(model)


# --- in a browser --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next((path for name in names if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs Chromium, for example `apt-get install chromium`")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, finished):
    yield from watched(chromium, finished[0])


@pytest.fixture
def opened_many(chromium, many):
    yield from watched(chromium, many)


def watched(chromium, results):
    """The page from file://, where every console error and every request for something else is a failure."""
    problems = []
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url)
    )
    page.goto((results / "report.html").as_uri())
    page.wait_for_selector("#explorer[data-shown]", state="attached")
    yield page
    context.close()
    assert not problems


def shown(page, timeout=20_000):
    """(run, latents, (3, h, w) pixels in 0..255) of the explorer's image, once it has caught up with the controls."""
    page.wait_for_timeout(80)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    run, z = json.loads(page.get_attribute("#explorer", "data-shown"))
    height, width, pixels = page.evaluate("""() => {
        const c = document.getElementById("x-image"), all = c.getContext("2d").getImageData(0, 0, c.width, c.height);
        return [c.height, c.width, [...all.data].filter((_, i) => i % 4 < 3)];
    }""")
    return run, z, np.moveaxis(np.array(pixels, dtype=float).reshape(height, width, 3), -1, 0)


def until(page, expression):
    """Wait; the browser tool's own way is an `eval`, which the page forbids."""
    for _ in range(300):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)


def expected(finished, run, z):
    results, root, files, _ = finished
    found = {r.id: r for r in runs.read_runs(results, print)}
    model = Gallery(root, files, print).model(found[run])
    return np.broadcast_to(255 * encoder.images_of(model, torch.tensor([z]))[0], (3, *model.shape[1:]))


def select(page, **choices):
    for name, value in choices.items():
        page.select_option(f"#x-{name}", value)


def other_seed(page):
    """Of two seeds the one that is not shown: its decoder lies beside the page."""
    return {"0": "1", "1": "0"}[page.input_value("#x-seed")]


@pytest.mark.browser
def test_it_opens_without_an_error_or_a_request_and_nothing_injected_runs(opened):
    assert opened.evaluate("window.hacked") is None
    labels = opened.locator("#x-model option").all_inner_texts()
    select(opened, model=next(label for label in labels if "script" in label))
    assert "script" in opened.inner_text("#x-message") and opened.evaluate("window.hacked") is None


@pytest.mark.browser
@pytest.mark.parametrize(("dataset", "side", "colours"), [("blobs", 32, False), ("large", 64, True)])
def test_the_explorer_draws_what_the_decoder_says(opened, finished, dataset, side, colours):
    select(opened, dataset=dataset, model="jointvae")
    seen = []
    for k, value in enumerate((-1.5, 0.2, 1.1)):
        slider = opened.locator("#x-sliders input").nth(k)
        slider.evaluate("(e, v) => { e.min = -3; e.max = 3; e.value = v; e.dispatchEvent(new Event('input')) }", value)
        opened.locator(f"#x-classes button >> nth={2 - k}").click()
        run, z, pixels = shown(opened)
        assert value in z and z[3:] == [float(2 - k == c) for c in range(3)]
        assert pixels.shape == (3, side, side) and (pixels[0] != pixels[2]).any() == colours
        np.testing.assert_allclose(pixels, expected(finished, run, z), atol=2.0)
        seen.append(pixels)
    assert min(np.abs(a - b).max() for a, b in pairwise(seen)) > 10  # the controls do something


@pytest.mark.browser
def test_the_explorer_starts_from_real_images_and_from_the_prior(opened, finished):
    select(opened, dataset="blobs", model="betavae")
    run, z, _ = shown(opened)
    found = {r.id: r for r in runs.read_runs(finished[0], print)}
    gallery = Gallery(finished[1], finished[2], print)
    posterior = encoder.posterior(gallery.model(found[run]), gallery.images("blobs"))
    np.testing.assert_allclose(z, posterior.mode()[0].numpy(), atol=1e-4)
    opened.locator("#x-starts button").nth(4).click()
    np.testing.assert_allclose(shown(opened)[1], posterior.mode()[4].numpy(), atol=1e-4)
    opened.click("#x-random")
    assert not np.allclose(shown(opened)[1], posterior.mode()[4].numpy(), atol=1e-2)
    assert opened.locator("#x-starts button[aria-pressed=true]").count() == 0
    opened.click("#x-reset")
    np.testing.assert_allclose(shown(opened)[1], posterior.mode()[4].numpy(), atol=1e-4)


@pytest.mark.browser
def test_a_quantised_latents_slider_goes_through_its_values(chromium, finished, tmp_path):
    _, root, files, _ = finished
    found = plugins.discover(files)
    data = found["data set"]["blobs"].load()(root)
    spec = Spec("blobs", "qlae", 0, 200, 16, 5e-4, hparams={"latents": 3, "values": 4, "weight": 0.01, "decay": 0.1})
    make_run(tmp_path, found, spec, data)
    report.build(tmp_path, root, files, print, formats=())
    model = Gallery(root, files, print).model(runs.read_runs(tmp_path, print)[0])
    for seen in watched(chromium, tmp_path):
        slider = seen.locator("#x-z1")
        for at, value in enumerate(model.points[1].tolist()):  # ascending
            slider.evaluate("(e, at) => { e.value = at; e.dispatchEvent(new Event('input')) }", at)
            run, z, pixels = shown(seen)
            assert z[1] == pytest.approx(value, abs=1e-4) and slider.input_value() == str(at)
            assert slider.get_attribute("aria-valuetext") == f"{value:.2f}"
            np.testing.assert_allclose(pixels, expected((tmp_path, root, files, []), run, z), atol=2.0)
        until(seen, f"document.getElementById('x-along').width === 4 * ({data.shape[2]} + 1) - 1")  # an image a value
        low, *_, high = model.points[1].tolist()
        assert seen.inner_text("#x-along-text").startswith(f"Along z1, from {low:.1f} to {high:.1f},")
        seen.click("#x-reset")
        start = shown(seen)[1][1]
        assert model.points[1][int(slider.input_value())].item() == pytest.approx(start, abs=1e-4)
        assert (slider.get_attribute("min"), slider.get_attribute("max")) == ("0", "3")


@pytest.mark.browser
def test_another_seed_comes_from_the_file_beside_the_page(opened, finished):
    select(opened, dataset="large", model="jointvae")
    seed = other_seed(opened)
    select(opened, seed=seed)
    until(opened, f"JSON.parse(document.getElementById('explorer').dataset.shown)[0].includes('-s{seed}-')")
    run, z, pixels = shown(opened)
    np.testing.assert_allclose(pixels, expected(finished, run, z), atol=2.0)


@pytest.mark.browser
def test_a_missing_file_and_a_strange_decoder_are_said(chromium, finished, tmp_path):
    alone = tmp_path / "report.html"
    shutil.copy(finished[0] / "report.html", alone)
    page = chromium.new_page()
    page.goto(alone.as_uri())
    select(page, dataset="blobs", model="jointvae")
    assert not page.inner_text("#x-message")  # it opens on the run inside the page
    select(page, seed=other_seed(page))
    until(page, "document.getElementById('x-message').textContent.includes('is not beside this page')")
    page.select_option("#x-model", index=2)
    assert "does more than its layers" in page.inner_text("#x-message")
    select(page, model="betavae")
    assert page.is_visible("#x-image") and not page.inner_text("#x-message")
    page.close()


@pytest.mark.browser
def test_tables_sort_and_filter(opened):
    assert opened.locator("#scores-1 tbody tr:visible").count() < opened.locator("#scores-1 tbody tr").count()
    opened.uncheck("[data-main=scores-1]")
    opened.fill("[data-filter=scores-1]", "mig JOINTVAE")
    visible = opened.locator("#scores-1 tbody tr:visible")
    assert 0 < visible.count() < opened.locator("#scores-1 tbody tr").count()
    assert all("mig" in text and "jointvae" in text for text in visible.all_inner_texts())
    assert opened.inner_text("[data-count=scores-1]").startswith(f"{visible.count()} of ")
    opened.fill("[data-filter=scores-1]", "")
    heading = opened.locator("#scores-1 th", has_text="Mean")
    for direction, sign in (("ascending", 1), ("descending", -1)):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == direction
        values = opened.eval_on_selector_all("#scores-1 tbody tr", "rows => rows.map(r => +r.cells[2].dataset.value)")
        assert values == sorted(values, reverse=sign < 0) and len(values) > 10


@pytest.mark.browser
def test_the_keyboard_is_enough(opened):
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "main"
    opened.focus("#scores-1 thead button >> nth=1")
    opened.keyboard.press("Enter")
    assert opened.get_attribute("#scores-1 thead th >> nth=1", "aria-sort") == "ascending"
    before = shown(opened)[1]
    opened.focus("#x-sliders input >> nth=0")
    opened.keyboard.press("ArrowRight")
    after = shown(opened)[1]
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    named = "e => e.labels?.length || e.ariaLabel || e.textContent.trim() || e.querySelector('img[alt]')"
    count = f"all => all.filter(e => !({named})(e)).length"
    assert opened.eval_on_selector_all("input, select, button", count) == 0


# What is wider than the screen must lie in a region that scrolls; what names a table, a row or a strip is not cut by it
# and does not run into its neighbour.
CUT = """width => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
    const shown = [...document.querySelectorAll("body *")].filter(e => e.getClientRects().length && !e.closest("svg"));
    const wide = shown.filter(e => !e.matches(".sr, .skip") && !e.parentElement.closest(".scroll, .starts")
        && e.getBoundingClientRect().right > width + 1);
    const names = shown.filter(e => e.matches("tbody th, figcaption, caption:not(.sr)"));
    const cut = names.filter(e => {
        const text = document.createRange();
        text.selectNodeContents(e);
        return text.getBoundingClientRect().right > Math.min(e.getBoundingClientRect().right, width) + 1;
    });
    return [...wide, ...cut].map(e => `${e.tagName}.${e.className}: ${e.textContent.slice(0, 40)}`);
}"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["opened", "opened_many"])
def test_nothing_is_wider_than_the_screen(request, which, width):
    page = request.getfixturevalue(which)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate(CUT, width) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_two_data_sets_of_two_models_fit_on_the_first_screen(chromium, finished, tmp_path):
    results, root, files, _ = finished
    shutil.copytree(results, tmp_path / "results", ignore=shutil.ignore_patterns("blobs-mine-*"))
    report.build(tmp_path / "results", root, files, print, formats=())
    for seen in watched(chromium, tmp_path / "results"):
        seen.set_viewport_size({"width": 1280, "height": 800})
        for what, n in ((".headline", 2), (".glance figure", 4)):
            boxes = [one.bounding_box() for one in seen.locator(what).all()]
            assert len(boxes) == n and max(box["y"] + box["height"] for box in boxes) <= 800, what


@pytest.mark.browser
def test_many_models_fold_but_the_explorers(opened_many):
    folds = opened_many.locator("details.model")
    assert folds.count() > page.MANY
    inside = opened_many.locator("details.model[open]")
    assert inside.count() == 1
    run = json.loads(opened_many.get_attribute("#explorer", "data-shown"))[0]
    assert inside.get_attribute("id") == f"model-{run}"
    assert inside.locator(".heat").count() > 1 and inside.locator(f"#traversals-{run}").is_visible()
    assert all(", seed " in text for text in folds.locator("summary").all_inner_texts())
    assert f"betavae: {page.MANY + 1} configurations" in opened_many.inner_text("#latents")
    sweep = opened_many.locator(".headline >> nth=0").locator("tbody", has=opened_many.locator(".sweep"))
    assert [f"beta={beta}.0" in sweep.first.inner_text() for beta in range(2, 3 + page.MANY)] == [True] * (
        page.MANY + 1
    )
    assert opened_many.locator(".glance >> nth=0").locator("figure:visible").count() == page.MANY
    opened_many.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert folds.count() == inside.count() and opened_many.locator("details:not([open])").count() == 0
    opened_many.evaluate("dispatchEvent(new Event('afterprint'))")
    assert inside.count() == 1


@pytest.mark.browser
def test_a_link_opens_the_fold_that_holds_its_end(opened_many):
    links = opened_many.locator(".glance a:visible").all()
    link = next(link for link in links if not opened_many.is_visible(link.get_attribute("href")))
    name = link.get_attribute("href")
    link.click()
    inside = f"""(() => {{ const box = document.querySelector("{name}").getBoundingClientRect();
        return box.height > 0 && box.top < innerHeight && box.bottom > 0 }})()"""
    until(opened_many, inside)
    start = opened_many.url
    opened_many.goto("about:blank")
    opened_many.goto(start)
    assert start.endswith(name)
    until(opened_many, inside)


def test_weights_in_the_page_are_the_decoders(finished):
    page = (finished[0] / "report.html").read_text()
    name = next(path.name for path in (finished[0] / "runs").glob("blobs-betavae-s0-*"))
    text = page.partition(f'id="run-{name}">')[2].partition("</script>")[0]
    record = json.loads(text)
    weights = np.frombuffer(base64.b64decode(record["weights"]), dtype="<f2").astype(np.float32)
    model = Gallery(finished[1], finished[2], print).model(
        next(run for run in runs.read_runs(finished[0], print) if run.id == name)
    )
    z = pictures.prior(model, 5)
    mine = torch.sigmoid(explorer._evaluate(record["layers"], torch.from_numpy(weights), z)).numpy()
    np.testing.assert_allclose(mine, encoder.images_of(model, z), atol=0.01)
    assert Path(finished[0] / "explorer").is_dir()
