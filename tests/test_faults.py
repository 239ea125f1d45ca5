"""Faults as they happen: real processes, killed, stopped, starved and fed with damaged files."""

import contextlib
import io
import json
import math
import os
import pickle
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_command import LEVELS, here, run, start  # noqa: F401

from benchmark import command as command_module
from benchmark import plan, plugins, store
from benchmark.options import parser
from benchmark.running.supervisor import RETRAIN
from benchmark.runs import Record
from benchmark.spec import Spec

# A checkpoint every 100 steps, and a run that hangs at step 150 for as long as a file is there. It imports the suite's
# own trainer, as any plugin can.
PLUGIN = '''
"""A model of a user."""
import os, time
from benchmark.running import trainer
from models.betavae import BetaVAE

trainer.CHECKPOINT_SECONDS = 0.0


class {name}(BetaVAE):
    """A small β-VAE that can hang."""

    def __init__(self, shape, n_images, latents: int = 4, beta: float = 2.0, hang: str = ""):
        super().__init__(shape, n_images, latents, beta)
        self.hang = hang

    def losses(self, x, step, rng):
        while step == 150 and self.hang and os.path.exists(self.hang):
            time.sleep(0.1)
        return super().losses(x, step, rng)
'''


def plugin(folder: Path, name: str = "mine") -> Path:
    path = folder / f"{name}.py"
    path.write_text(PLUGIN.replace("{name}", name.title()))
    return path


def command(file: Path, results: Path, *more) -> list[object]:
    return ["--models", file.stem, "--plugin", file, "--datasets", "blobs", "--steps", 300, "--batch-size", 16,
            "--metrics", "mig", "kl", "--jobs", 2, "--results", results, *more]  # fmt: skip


def contents(results: Path) -> dict[str, bytes]:
    """Every file but those that hold times and what a lock or a probe leaves."""
    own = ("run.json", "runs.csv", "report.html", ".lock", ".report.lock")
    files = sorted(path for path in results.rglob("*") if path.is_file() and path.name not in own)
    return {str(path.relative_to(results)): path.read_bytes() for path in files}


def wait_for(found, process: subprocess.Popen, seconds: float = 600):
    """What `found()` returns once it is something, while the process runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if result := found():
            return result
        time.sleep(0.1)
    raise AssertionError(f"waited in vain; exit status {process.poll()}")


def workers(folder: Path) -> set[int]:
    """Process ids of the runs that are alive and were started from below a folder; others share the machine."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            below = (path / "cwd").readlink().is_relative_to(folder)
            if below and b"benchmark.running.worker" in (path / "cmdline").read_bytes():
                found.add(int(path.name))
        except OSError:
            pass  # it ended meanwhile
    return found


def hangs(progress: Path) -> bool:
    """Whether a training has not gone on for ten seconds."""
    try:
        return progress.read_text().endswith("training") and time.time() - progress.stat().st_mtime > 10
    except OSError:
        return False  # it ended meanwhile


@pytest.mark.slow
def test_a_run_over_its_time_limit_is_stopped_and_goes_on_from_its_checkpoint(tmp_path):
    file, flag = plugin(tmp_path), tmp_path / "hang"
    options = ["--set", f"mine.hang=,{flag}", "--time-limit", 0.5]
    flag.touch()
    status, _, err = run(*command(file, tmp_path / "r", *options))
    assert status == 1 and f"1 of {2 + LEVELS} runs failed" in err, err
    reason = "stopped after its time limit of 0.5 min; the same command goes on from its checkpoint"
    assert reason in " ".join(err.split())
    runs = pd.read_csv(tmp_path / "r" / "runs.csv")
    assert sorted(runs["status"]) == ["failed", "ok"] and reason in set(runs["reason"])
    flag.unlink()
    saved = next(iter((tmp_path / "r").glob("runs/*/checkpoint.safetensors")))
    saved_at = saved.stat().st_mtime_ns
    status, _, err = run(*command(file, tmp_path / "r", *options))
    assert status == 0 and "to do: 1 and 0" in err and saved_at, err
    assert run(*command(file, tmp_path / "undisturbed", *options))[0] == 0
    assert contents(tmp_path / "r") == contents(tmp_path / "undisturbed")


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def run_of(alive: set[int]) -> int:
    """The one run among a server and its run."""
    (run,) = (process for process in alive if parent(process) in alive)
    return run


def server_of(alive: set[int]) -> int:
    return parent(run_of(alive))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [run_of, server_of])
def test_a_run_that_the_kernel_kills_is_a_failed_run_and_the_others_go_on(tmp_path, victim):
    file, flag = plugin(tmp_path), tmp_path / "hang"
    flag.touch()
    process = start(*command(file, tmp_path / "r", "--set", f"mine.hang=,{flag}", "--jobs", 1), cwd=tmp_path)
    wait_for(lambda: list(filter(hangs, tmp_path.rglob(".progress"))), process)
    os.kill(victim(workers(tmp_path)), signal.SIGKILL)
    flag.unlink()
    _, err = process.communicate(timeout=900)
    assert process.returncode == 1 and "killed by SIGKILL (out of memory?)" in err, err
    assert not workers(tmp_path)
    runs = pd.read_csv(tmp_path / "r" / "runs.csv")
    assert sorted(runs["status"]) == ["failed", "ok"]
    assert (runs["seconds"] > 0).all(), "what the killed run has cost is lost"


@pytest.mark.slow
def test_an_interrupted_retrain_says_to_leave_it_out(tmp_path):
    process = start(*command(plugin(tmp_path), tmp_path / "r", "--steps", 20_000, "--retrain"))
    wait_for(lambda: list(tmp_path.glob("r/runs/*/.progress")), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "leave out --retrain" in err and "the same command" not in err


@pytest.mark.slow
def test_an_interrupted_retrain_goes_on_without_the_option(tmp_path):
    file = plugin(tmp_path)
    line = [*command(file, tmp_path / "r"), "--seeds", 2, "--jobs", 1]
    assert run(*line)[0] == 0
    first, second = sorted(tmp_path.glob("r/runs/*"))
    file.write_text(file.read_text() + "\nCHANGED = True\n")
    process = start(*line, "--retrain")
    wait_for(lambda: not (first / RETRAIN).exists() and (second / RETRAIN).exists(), process)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) and process.returncode == 130
    assert (second / RETRAIN).exists() and store.is_finished(second, "scores.csv"), "it was not reached"
    status, _, err = run(*line)
    assert status == 0, err
    codes = [Record.read(folder).sources["training"]["mine.py"] for folder in (first, second)]
    assert codes[0] == codes[1] and not list(tmp_path.rglob(RETRAIN))
    assert "to do: 0 and 0" in run(*line)[2]


def test_a_results_folder_that_cannot_be_written_is_said_before_data_sets_are_made(here, tmp_path):  # noqa: F811
    (tmp_path / "r").write_text("a file")
    status, out, err = here("--models", "vae", "--data-dir", tmp_path / "data", "--results", tmp_path / "r" / "deep")
    assert status == 2 and not out and len(err.strip().splitlines()) == 1 and str(tmp_path / "r" / "deep") in err
    assert not (tmp_path / "data").exists()


def grid(file: Path, results: Path) -> list[object]:
    return ["--models", file.stem, "betavae", "--plugin", file, "--datasets", "blobs", "--steps", 300, "--batch-size",
            16, "--seeds", 2, "--metrics", "mig", "kl", "factorvae_score", "udr", "--jobs", 2, "--results",
            results]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A plugin, and the results of a grid of four runs and four floors that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = plugin(folder)
    status, _, err = run(*grid(file, folder / "r"))
    assert status == 0, err
    return file, folder / "r"


STAGES = ["training", "checkpoint", "encoding", "scoring", "tables"]


def reached(results: Path, stage: str, since: float) -> bool:
    """Whether a command that started at `since` is at a stage, from the files that it writes there."""
    patterns = {"checkpoint": "runs/*/*checkpoint.safetensors*", "tables": "plots/*"}
    try:
        fresh = [p for p in results.glob(patterns.get(stage, "*/*/.progress")) if p.stat().st_mtime >= since]
        return any(stage in patterns or stage in path.read_text() for path in fresh)
    except OSError:
        return False  # it went meanwhile


@pytest.mark.slow
def test_twenty_kills_of_the_whole_command_change_no_bit(undisturbed, tmp_path):
    """Each a little after a stage drawn at random was reached; a grid that ends before gives way to a new one."""
    file, expected = undisturbed
    moments, killed, folders = random.Random(11), [], [tmp_path / "0"]
    while len(killed) < 20:
        stage, since = moments.choice(STAGES), time.time()
        process = start(*grid(file, folders[-1]), cwd=tmp_path, start_new_session=True)
        while process.poll() is None and not reached(folders[-1], stage, since):
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.3))
        if process.poll() is None:
            killed.append(stage)
            os.killpg(process.pid, signal.SIGKILL)
        else:
            assert process.returncode == 0
            folders.append(tmp_path / str(len(folders)))
        process.communicate()
    print("killed at", killed, "over", len(folders), "grids")
    for folder in folders:
        status, _, err = run(*grid(file, folder), cwd=tmp_path)
        assert status == 0, err
        assert contents(folder) == contents(expected)
    assert not workers(tmp_path)
    assert set(killed) == set(STAGES)


@pytest.mark.slow
def test_two_commands_at_once_share_the_work_and_spoil_nothing(undisturbed, tmp_path):
    """Every training appends a line to a file at its first step: there are as many lines as runs."""
    file, log = plugin(tmp_path, "told"), tmp_path / "log"
    code = file.read_text().replace("        while step", "        self.tell(step)\n        while step")
    file.write_text(
        code + "\n    def tell(self, step):\n        if step == 0:\n"
        f"            with open({str(log)!r}, 'a') as log:\n                log.write(f'{{os.getpid()}}\\n')\n"
    )
    both = [start(*command(file, tmp_path / "r", "--seeds", 4), cwd=tmp_path) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0 and "Traceback" not in out + err, err
    assert len(log.read_text().splitlines()) == 4
    assert run(*command(file, tmp_path / "alone", "--seeds", 4), cwd=tmp_path)[0] == 0
    assert contents(tmp_path / "r") == contents(tmp_path / "alone")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_ends_cleanly_and_says_how_to_go_on(tmp_path, number):
    process = start(*command(plugin(tmp_path), tmp_path / "r", "--steps", 20_000, "--seeds", 2), cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("r/runs/*/.progress")), process)
    process.send_signal(number)
    sent = time.monotonic()
    out, err = process.communicate(timeout=30)
    print(f"ended after {time.monotonic() - sent:.1f} s")
    assert process.returncode == 130 and time.monotonic() - sent < 15, err
    assert "the same command goes on" in err and "Traceback" not in out + err
    time.sleep(2)
    assert not workers(tmp_path)


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes({"flip": bytes(content), "half": bytes(content[: len(content) // 2]), "empty": b"",
                      "pickle": PICKLE}[how])  # fmt: skip


class Executes:
    def __reduce__(self):
        return os.system, ("touch /tmp/executed-by-a-pickle",)


PICKLE = pickle.dumps(Executes())
HOW = ["flip", "half", "empty", "pickle"]


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_damaged_files_are_named_and_made_again(undisturbed, tmp_path, how):
    file, expected = undisturbed
    shutil.copytree(expected, tmp_path / "r")
    runs = sorted((tmp_path / "r" / "runs").iterdir())
    for folder, name in zip(runs, ("codes.h5", "model.safetensors", "scores.csv", "history.csv"), strict=True):
        damage(folder / name, how)
    floor = next((tmp_path / "r" / "floors").iterdir())
    damage(floor / "details.csv", how)
    status, _, err = run(*grid(file, tmp_path / "r"), cwd=tmp_path)
    assert status == 0 and "to do: 4 and 1" in err, err
    for folder, name in zip([*runs, floor], ("codes.h5", "model.safetensors", "scores.csv", "history.csv",
                                             "details.csv"), strict=True):  # fmt: skip
        assert err.count(f"{folder / name}: its content is not what was written") == 1, err
    assert contents(tmp_path / "r") == contents(expected)
    assert not Path("/tmp/executed-by-a-pickle").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_a_damaged_checkpoint_is_named_and_training_starts_anew(tmp_path, how):
    file, flag = plugin(tmp_path), tmp_path / "hang"
    flag.touch()
    line = command(file, tmp_path / "r", "--set", f"mine.hang={flag}")
    process = start(*line, cwd=tmp_path, start_new_session=True)
    (checkpoint,) = wait_for(lambda: list(tmp_path.glob("r/runs/*/checkpoint.safetensors")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    damage(checkpoint, how)
    flag.unlink()
    status, _, err = run(*line, cwd=tmp_path)
    assert status == 0 and f"warning: {checkpoint}: " in err and "training starts anew" in err, err
    assert run(*command(file, tmp_path / "undisturbed", *line[-2:]), cwd=tmp_path)[0] == 0
    assert contents(tmp_path / "r") == contents(tmp_path / "undisturbed")
    assert not Path("/tmp/executed-by-a-pickle").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields["spec"].update(optimizer="adam"),
        lambda fields: fields["spec"].pop("batch_size"),
        lambda fields: fields["spec"].pop("lr"),
        lambda fields: fields.pop("sources"),
        lambda fields: fields["spec"].update(seed="0"),
        lambda fields: fields.update(sources=[1]),
        lambda fields: fields.update(spec=None),
        None,
    ],
)
def test_a_folder_of_another_version_is_refused_in_one_line(here, tmp_path, change):  # noqa: F811
    results = tmp_path / "r"
    assert here(*SMALL, "--results", results, "--dry-run")[0] == 0
    folder = made(results)
    fields = json.loads((folder / "spec.json").read_text())
    if change is None:
        (folder / "spec.json").unlink()
    else:
        change(fields)
        (folder / "spec.json").write_text(json.dumps(fields))
    for more in (["--dry-run"], []):
        status, out, err = here(*SMALL, "--results", results, *more)
        assert status == 2 and folder.name in err and len(err.strip().splitlines()) == 1 and not out, err


SMALL = ["--models", "vae", "--datasets", "blobs", "--steps", "1", "--metrics", "mig"]


def made(results: Path) -> Path:
    """The folder of SMALL's one run, with a spec.json as the suite writes it and one finished file."""
    options = parser().parse_args([*SMALL, "--results", str(results)])
    job = plan.jobs_of(options, plugins.discover(), results)[0]
    job.folder.mkdir(parents=True)
    store.write_json(job.folder / "spec.json", {"spec": job.spec.to_json(), "sources": job.sources})
    store.write_csv(job.folder / "history.csv", [{"step": 1}])
    store.finish(job.folder, "history.csv")
    return job.folder


ESCAPES = [
    (["--models", "../../x"], "unknown model '../../x'"),
    (["--models", "/etc/passwd"], "unknown model '/etc/passwd'"),
    (["--models", "vae", "--datasets", "../x"], "unknown data set '../x'"),
    (["--models", "vae", "--datasets", "blobs", "--metrics", ".."], "unknown metric '..'"),
    (["--models", "vae", "--datasets", "blobs", "--protocol", "../x"], "unknown protocol '../x'"),
    (["--models", "vae", "--plugin", "{folder}/..py"], "plugin"),
    (["--models", "vae", "--plugin", "{folder}/my.model.py"], "the name must be like"),
    (["--models", "vae", "--plugin", "{folder}/..x.py"], "the name must be like"),
    (["--models", "vae", "--set", "vae.../x=3"], "unknown setting of vae '../x'"),
]


@pytest.mark.parametrize(("arguments", "message"), ESCAPES, ids=[" ".join(a[1:]) for a, _ in ESCAPES])
def test_names_cannot_leave_the_results_folder(here, tmp_path, arguments, message):  # noqa: F811
    for name in ("..py", "my.model.py", "..x.py"):
        (tmp_path / name).write_text(PLUGIN.replace("{name}", "Mine"))
    before = set(tmp_path.rglob("*"))
    status, out, err = here(*[argument.format(folder=tmp_path) for argument in arguments])
    assert status == 2 and message in err and len(err.strip().splitlines()) == 1 and not out
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("suite_file", ["model.safetensors", "codes.h5"])
def test_a_pickle_with_a_true_digest_is_refused_and_not_executed(tmp_path, suite_file):
    """Even where the list of finished files vouches for it."""
    (tmp_path / suite_file).write_bytes(PICKLE)
    store.finish(tmp_path, suite_file)
    assert store.is_finished(tmp_path, suite_file)
    with pytest.raises((store.CorruptFile, OSError)):
        (store.load_tensors if suite_file.endswith("tensors") else store.load_codes)(tmp_path / suite_file)
    assert not Path("/tmp/executed-by-a-pickle").exists()


def mounted(folder: Path, options: str) -> None:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted: {done.stderr.strip()}")


def test_a_read_only_results_folder_is_said_in_one_line(here, tmp_path):  # noqa: F811
    mounted(tmp_path / "ro", "ro,size=1m")
    try:
        status, out, err = here("--models", "vae", "--results", tmp_path / "ro" / "r")
        assert status == 2 and "Read-only file system" in err and len(err.strip().splitlines()) == 1 and not out
    finally:
        subprocess.run(["umount", tmp_path / "ro"], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_is_said_and_the_same_command_goes_on_when_there_is_room(tmp_path):
    file, small = plugin(tmp_path), tmp_path / "small"
    mounted(small, "size=3m")
    try:
        status, out, err = run(*command(file, small / "r", "--seeds", 2), cwd=tmp_path)
        assert status == 1 and "No space left on device" in err and "Traceback" not in out + err
        subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)
        status, _, err = run(*command(file, small / "r", "--seeds", 2), cwd=tmp_path)
        assert status == 0, err
        assert run(*command(file, tmp_path / "roomy", "--seeds", 2), cwd=tmp_path)[0] == 0
        assert contents(small / "r") == contents(tmp_path / "roomy")
    finally:
        subprocess.run(["umount", small], check=True)


JUNK = st.one_of(
    st.sampled_from(["", " ", "-", "--", "nan", "NaN", "inf", "-inf", "1e400", "-1", "0", "1", "10" * 60, "9" * 5000,
                     "0x10", "1_000", "٣", "½", "1,2", "[", "[1", "a\nb", "../..", "/", "/dev/null", "~nobody-here/x",
                     "[red]", "[/]", "\\[", "%s %d {} {0}", "’", "\U0001f600", "e\u0301", "\u202e",
                     os.fsdecode(b"\xff\xfe"), "x" * 300]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    st.integers().map(str),
    st.floats().map(str),
)  # fmt: skip
SETTINGS = st.sampled_from(
    ["vae.latents=", "vae.latents=1,2", "vae.latents=1.5", "vae.latents=None", "vae.latents=99999999999999999999",
     "vae.latents=[1,2]", "vae.latents=(1", "vae.latents=__import__('os')", "vae.latents=" + "(" * 300, "vae.beta=1",
     "betavae.beta=1e308", "betavae.beta=nan", "betavae.beta=1e999", "betavae.beta=-0.0", "betavae.beta=" + "1," * 40,
     "jointvae.categories=[]", "jointvae.categories=[10,4]", "jointvae.categories=[0]", "jointvae.categories=[[1]]",
     "jointvae.categories=[99999999999]", "jointvae.latents=True", "vae", "vae.", ".x=1", "=", "vae.=",
     "vae.latents==3"]
)  # fmt: skip
SEEDS = st.sampled_from(
    ["5", "0", "0:3", "3:0", ":", "1:", ":2", "1:2:3", "0:999999999", "007", "1e3", "-1", "2", "+1"]
)


def option(name: str, *good: str, more: st.SearchStrategy[str] = JUNK) -> st.SearchStrategy[list[str]]:
    values = st.one_of(st.sampled_from(good), more) if good else more
    return st.lists(values, max_size=3).map(lambda texts: [name, *texts])


LINES = st.lists(
    st.one_of(
        option("--models", "vae", "jointvae", "betavae", "noise"),
        option("--metrics", "mig", "all", "udr", "dci"),
        option("--seeds", more=st.one_of(SEEDS, JUNK)),
        option("--preset", "quick", "paper"),
        option("--steps", "10"),
        option("--batch-size", "16"),
        option("--lr", "1e-3"),
        option("--set", more=st.one_of(SETTINGS, SETTINGS, JUNK)),
        option("--protocol", "kim", "study"),
        option("--draws", "3"),
        option("--jobs", "2"),
        option("--threads", "2"),
        option("--time-limit", "1.5"),
        option("--backend", "dask", "loky"),
        option("--scheduler", "tcp://127.0.0.1:1"),
        option("--device", "cpu", "cuda"),
        option("--precision", "bf16", "fp32"),
        option("--data-dir"),
        option("--plugin"),
        option("--report"),
        st.sampled_from([["--retrain"], ["--list"], ["--model"], ["--dry-run"]]),
        st.lists(JUNK, max_size=2),
    ),
    max_size=5,
)


def called(*arguments: str) -> tuple[int, str]:
    """Exit status and standard error of the command in this process, with streams as Python makes them."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = command_module.main(arguments)
    except SystemExit as end:
        assert "-h" in "".join(arguments)
        status = int(str(end.code))
    finally:
        signal.signal(signal.SIGTERM, before)
    err.seek(0)
    return status, err.read()


def check_answer(status: int, err: str) -> None:
    lines = err.splitlines()
    assert status in (0, 1, 2), err
    assert all(line.startswith(("error: ", "warning: ")) for line in lines), err
    assert sum(line.startswith("error: ") for line in lines) == (status != 0), err


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(LINES)
def test_no_command_line_ends_in_a_traceback(elsewhere, line):
    arguments = [text for part in line for text in part]
    status, err = called("--models", "vae", *arguments, "--results", "r", "--datasets", "blobs", "--dry-run")
    check_answer(status, err)
    assert not (elsewhere / "r").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["dataset", "model", "seed", "steps", "batch_size", "lr", "precision", "hparams", "new"]
PLAUSIBLE = st.sampled_from(["../x", "0", 0, -1, 10**30, 1.0, math.nan, True, None, [], {}, [[]], "noise", "x" * 300])
SPECS = st.one_of(
    st.binary(max_size=40),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"[" * 100_000, b"{}", b'{"spec": {}, "sources": {}}', b'{"spec": [], "sources": 3}']),
)


@pytest.mark.filterwarnings("ignore:.*fill value:Warning")  # of pandas, about the page of a run without times
@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(SPECS | st.tuples(st.sampled_from(NAMES), JSON | PLAUSIBLE))
def test_no_spec_file_ends_in_a_traceback(elsewhere, found):
    """Whole files, and single fields of a sound one; its folder takes the name that the new content asks for."""
    shutil.rmtree("r", ignore_errors=True)
    folder = made(elsewhere / "r")
    if isinstance(found, bytes):
        (folder / "spec.json").write_bytes(found)
    else:
        fields = json.loads((folder / "spec.json").read_text())
        fields["spec"][found[0]] = found[1]
        (folder / "spec.json").write_text(json.dumps(fields))
    check_answer(*called(*SMALL, "--results", "r", "--dry-run"))
    with contextlib.suppress(Exception):
        name = Spec.from_json(json.loads((folder / "spec.json").read_bytes())["spec"]).id()
        folder.rename(folder.with_name(name)) if "/" not in name else None
    check_answer(*called("--report", "r"))
    check_answer(*called(*SMALL, "--results", "r", "--dry-run"))


def test_a_dry_run_says_how_long_the_rest_will_take(elsewhere, capsys):
    def said(*arguments):
        assert command_module.main(arguments) == 0
        return capsys.readouterr().out

    folder = made(elsewhere / "r")
    options = [*SMALL, "--results", "r", "--dry-run", "--jobs", "2"]
    assert "no finished run to judge it by" in said(*options)
    store.write_csv(folder / "scores.csv", [], ["metric"])
    (folder / "codes.h5").write_bytes(b"")
    store.finish(folder, "scores.csv", "codes.h5")
    store.write_json(folder / "run.json", {"seconds": 2.0})
    longer = [*options, "--steps", "3600", "--seeds", "3"]
    told = f"about 3 h with 2 jobs, judged by 1 finished runs and floors; {LEVELS} more cannot be judged"
    assert told in said(*longer)
