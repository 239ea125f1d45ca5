"""What is said of dead runs and of seeds, on published runs that are made up."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import write_run

from benchmark import store
from benchmark.evidence import evidence, seeds
from benchmark.evidence.published import PublishedRuns
from benchmark.spec import Overrides, Spec, resolve
from benchmark.statistics.differences import permutation_test
from models.autoencoder import Autoencoder
from models.betavae import BetaVAE
from models.dipvae1 import DIPVAE1
from models.dipvae2 import DIPVAE2
from models.infovae import InfoVAE
from models.jointvae import JointVAE
from models.vae import VAE

LIVE, DEAD = 3.0, 0.0
MIG = {"vae": [0.10, 0.11, 0.09, 0.10, 0.12], "jointvae": [0.30, 0.29, 0.31, 0.33, 0.30]}


def published(folder, jointvae, mig=MIG):
    """Five seeds of two models on dSprites; jointvae: the active units of its seeds."""
    for name, cls in (("vae", VAE), ("jointvae", JointVAE)):
        spec = resolve("dsprites", 64, name, cls, preset="standard", overrides=Overrides(precision="fp32"))
        for seed, value in enumerate(mig[name]):
            units = jointvae[seed] if name == "jointvae" else LIVE
            run = write_run(folder, replace(spec, seed=seed), {"mig": value, "active_units": units},
                            better={"active_units": "neither"})  # fmt: skip
            fall = 3 + seed if units else 100
            history = [{"step": 100 * (i + 1), "recon": 560.0 if i < fall else 500.0} for i in range(9)]
            store.write_csv(run / "history.csv", history)
            store.finish(run, "history.csv")
    write_run(folder, Spec("dsprites", "constant", 0, 0, 0, 0.0), {"reconstruction": 568.0}, kind="floors",
              better={"reconstruction": "lower"})  # fmt: skip
    return PublishedRuns.read(folder)


def test_dead_runs_are_counted_and_the_living_ones_timed(tmp_path):
    found = seeds.dead_rows(published(tmp_path, [LIVE, DEAD, LIVE, LIVE, LIVE]))
    assert found == [
        ["dsprites", "jointvae", "15,000", "1 of 5", "0.20 [0.01, 0.72]", "400 to 800"],  # 1.3 % below 568 is no fall
        ["dsprites", "vae", "15,000", "0 of 5", "0.00 [0.00, 0.52]", "400 to 800"],
    ]


def test_the_living_runs_have_a_table_of_their_own_and_stay_in_the_first(tmp_path):
    found = published(tmp_path, [DEAD, LIVE, DEAD, LIVE, LIVE])
    (row,) = evidence.living_table(found).splitlines()[2:]
    assert row.startswith("| dsprites | `jointvae` | 1, 3, 4 | – | 0.307 [0.255, 0.358] |"), row
    assert "| `jointvae` | 5 | – | 0.306 [" in evidence.scores(found, "dsprites")
    assert evidence.living_table(published(tmp_path / "all", [LIVE] * 5)).splitlines()[2:] == []
    assert evidence.living_table(published(tmp_path / "none", [DEAD] * 5)).splitlines()[2:] == []


def test_what_seeds_can_tell_is_said_of_the_models_that_learned(tmp_path):
    columns = {"dsprites": {"mig": "MIG", "sap": "not scored"}, "mnist": {"mig": "MIG"}}
    row = ["dsprites", "MIG", "2", "0.0134", "1 %", "0.027", "1 of 1", "1 of 1", "–"]
    assert seeds.told_apart_rows(published(tmp_path / "live", [LIVE] * 5), columns) == [row]
    groups = [np.array(values) for values in MIG.values()]
    within = sum(((values - values.mean()) ** 2).sum() for values in groups)
    assert row[3] == f"{np.sqrt(within / 8):.3g}"
    assert row[4] == f"{100 * within / ((np.concatenate(groups) - np.mean(groups)) ** 2).sum():.0f} %"
    assert seeds.told_apart_rows(published(tmp_path / "dead", [DEAD] * 3 + [LIVE] * 2), columns) == []
    near = {"vae": MIG["vae"], "jointvae": [value + 0.01 for value in MIG["vae"]]}
    alike = seeds.told_apart_rows(published(tmp_path / "alike", [LIVE] * 5, near), columns)
    assert alike[0][6:8] == ["0 of 1"] * 2 and int(alike[0][8]) > 5
    same = seeds.told_apart_rows(published(tmp_path / "same", [LIVE] * 5, dict.fromkeys(MIG, MIG["vae"])), columns)
    assert same[0][6:] == ["0 of 1", "0 of 1", "any number"]


def test_many_models_are_told_apart_alone_but_not_once_their_tests_are_corrected(tmp_path):
    """Of five seeds against five no p-value is below 1/126, and of fifteen Holm's correction wants one of 1/300."""
    classes = {"autoencoder": Autoencoder, "betavae": BetaVAE, "dipvae1": DIPVAE1, "dipvae2": DIPVAE2,
               "infovae": InfoVAE, "vae": VAE}  # fmt: skip
    for step, (name, cls) in enumerate(classes.items()):
        spec = resolve("dsprites", 64, name, cls, preset="standard", overrides=Overrides(precision="fp32"))
        for seed, mig in enumerate(MIG["vae"]):
            mig = 0.05 * seed if name == "vae" else mig + 0.1 * step  # wide, and over the lowest
            write_run(tmp_path, replace(spec, seed=seed), {"mig": mig, "active_units": LIVE},
                      better={"active_units": "neither"})  # fmt: skip
    (row,) = seeds.told_apart_rows(PublishedRuns.read(tmp_path), {"dsprites": {"mig": "MIG"}})
    assert row[6:8] == ["14 of 15", "0 of 15"] and row[8].startswith("6 (6 to ")


def test_the_smallest_effect_is_shown_by_four_fifths_of_such_seeds():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 2000, seeds.MANY))
    shown = permutation_test(a + seeds.smallest_effect(), b) <= 0.05
    assert shown.mean() == pytest.approx(0.8, abs=0.04)


def test_infomec_is_shown_where_it_was_scored(tmp_path):
    spec = resolve("dsprites", 64, "vae", VAE, preset="standard", overrides=Overrides(precision="fp32"))
    parts = {"infomec_modularity": 0.5, "infomec_compactness": 0.25, "infomec_explicitness": 0.125}
    for seed, shift in enumerate((0.0, 0.1, 0.2)):
        write_run(tmp_path, replace(spec, seed=seed), {key: value + shift for key, value in parts.items()})
    jointvae = resolve("dsprites", 64, "jointvae", JointVAE, preset="standard", overrides=Overrides(precision="fp32"))
    write_run(tmp_path, jointvae, {"mig": 0.3})
    half = 4.3027 * 0.1 / 3**0.5  # Student's quantile of two degrees of freedom, and the standard error
    cells = [f"{value + 0.1:.3f} [{value + 0.1 - half:.3f}, {value + 0.1 + half:.3f}]" for value in parts.values()]
    assert evidence.infomec(PublishedRuns.read(tmp_path)).splitlines()[2:] == [
        f"| dsprites | `vae` | 3 | {' | '.join(cells)} |"
    ]


def test_a_training_that_was_scored_on_its_way_is_a_row_a_length(tmp_path):
    for steps, mig in ((5_000, 0.25), (15_000, 0.5)):
        overrides = Overrides(precision="fp32", steps=steps)
        spec = resolve("dsprites", 64, "jointvae", JointVAE, preset="standard", overrides=overrides)
        write_run(tmp_path, spec, {"mig": mig, "reconstruction": 100.0})
    once = resolve("dsprites", 64, "vae", VAE, preset="standard", overrides=Overrides(precision="fp32"))
    write_run(tmp_path, once, {"mig": 0.125})
    published = PublishedRuns.read(tmp_path)
    found = evidence.length_table(published).splitlines()
    assert found[0].startswith("| data set | model | steps | seeds | FactorVAE score | MIG | DCI | ")
    cells = ["| dsprites | `jointvae` | 5,000 | 1 | – | 0.250 |", "| dsprites | `jointvae` | 15,000 | 1 | – | 0.500 |"]
    assert [row[: len(start)] for row, start in zip(found[2:], cells, strict=True)] == cells
    assert len(evidence.sweeps(published).splitlines()) == 2  # heads alone: a length is no sweep
    write_run(tmp_path, replace(spec, hparams=spec.hparams | {"gamma": 30.0}), {"mig": 0.75})
    swept = evidence.sweeps(PublishedRuns.read(tmp_path)).splitlines()[2:]
    assert [row.split(" | ")[4] for row in swept] == ["0.250", "0.750", "0.500", "0.125"], swept


def test_beta_vaes_are_ordered_by_their_loss(tmp_path):
    """That of the last thousand steps, whatever the images decoded from the means are like."""
    usual = resolve("dsprites", 64, "betavae", BetaVAE, preset="standard", overrides=Overrides(precision="fp32"))
    for seed, beta, recon, last in ((0, 8.0, 101.0, 157.0), (1, 8.0, 105.0, 147.0), (0, 4.0, 84.0, 124.0)):
        spec = replace(usual, seed=seed, hparams=usual.hparams | {"beta": beta})
        folder = write_run(tmp_path, spec, {"reconstruction": recon, "kl_total": 9.0, "mig_posX": recon / 500})
        losses = [(100, 1000.0), (14_000, 500.0), (14_100, last - 1), (15_000, last + 1)]
        store.write_csv(folder / "history.csv", [{"step": step, "loss": loss} for step, loss in losses])
        store.finish(folder, "history.csv")
    vae = resolve("dsprites", 64, "vae", VAE, preset="standard", overrides=Overrides(precision="fp32"))
    write_run(tmp_path, vae, {"reconstruction": 1.0, "kl_total": 1.0})
    assert evidence.optima_table(PublishedRuns.read(tmp_path)).splitlines()[2:] == [
        "| 4 | 15,000 | 0 | 124.0 | 84.0 | 9.00 | – | – | 0.17 | – | – | – | – |",
        "| 8 | 15,000 | 1 | 147.0 | 105.0 | 9.00 | – | – | 0.21 | – | – | – | – |",
        "| 8 | 15,000 | 0 | 157.0 | 101.0 | 9.00 | – | – | 0.20 | – | – | – | – |",
    ]
