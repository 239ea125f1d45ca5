"""What a machine has, and turns on a GPU: with real locks and real processes, and made-up GPUs."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmark import plan, plugins, sources, store
from benchmark.errors import UserError
from benchmark.running import machine, worker
from benchmark.running.clock import Clock
from benchmark.running.job import Job, stage_files
from benchmark.running.machine import Machine, Slot
from benchmark.running.supervisor import GOES_ON, ROOT, WAITING
from benchmark.spec import Spec

GIB = 2**30
TWO = Machine(("cpu", "cuda"), ("cuda",), (("a", 20 * GIB), ("b", 7 * GIB)))


def names(slots):
    return [(slot.number, slot.name) for slot in slots]


def test_this_machine_is_the_same_to_a_process_of_its_own():
    found = machine.asked()
    assert found.devices == machine.look().devices and found.bfloat16 == machine.look().bfloat16
    assert ("cuda" in found.devices) == torch.cuda.is_available() == bool(found.gpus) and "cpu" in found.devices


def test_denormals_are_0_in_every_thread_of_torch_that_is_started_meanwhile():
    code = """
import torch
from benchmark.running import machine
torch.set_num_threads(2)
def left():
    return int((torch.full((10**6,), 1e-30) * 1e-9).view(torch.int32).count_nonzero())
with machine.denormals_as_zero():
    print(left())
print(left() > 0, float(torch.tensor(1e-30) * 1e-9) > 0)
"""
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, text=True, capture_output=True).stdout
    assert out.split() == ["0", "True", "True"]


def test_the_processor_is_recorded_with_its_instructions(tmp_path):
    spec = Spec("blobs", "vae", 0, 1, 16, 1e-3)
    job = Job(spec, tmp_path, (), "quick", tmp_path)
    Clock(job).record()
    recorded = store.read_json(tmp_path / "run.json")["processor"]
    if (system := Path("/proc/cpuinfo")).exists():
        flags = set(system.read_text().split())
        assert all((name in recorded.split()) == (name in flags) for name in ("avx2", "avx512_bf16", "amx_bf16"))
    assert ("avx512_bf16" in recorded or "amx_bf16" in recorded) == ("cpu" in machine.look().bfloat16)


def test_a_run_that_is_only_scored_is_not_said_to_be_made_by_this_processor(tmp_path):
    spec = Spec("blobs", "vae", 0, 1, 16, 1e-3)
    for name in (files := stage_files(spec)):
        (tmp_path / name).touch()
    store.finish(tmp_path, *files)
    store.write_json(tmp_path / "run.json", {"threads": 3})
    Clock(Job(spec, tmp_path, (), "quick", tmp_path)).record()
    facts = store.read_json(tmp_path / "run.json")
    assert "processor" not in facts and facts["threads"] == 3


def test_slots_follow_the_free_memory_and_alternate_between_gpus():
    assert machine.RUN_BYTES == 3 * GIB and machine.MOST_RUNS == 4
    assert names(machine.slots(TWO, None)) == [(0, "a.0"), (1, "b.0"), (0, "a.1"), (1, "b.1"), (0, "a.2"), (0, "a.3")]
    assert names(machine.slots(TWO, 3)) == [(0, "a.0"), (1, "b.0"), (0, "a.1")]
    assert names(machine.slots(TWO, 1)) == [(0, "a.0")]
    full = Machine(("cpu", "cuda"), (), (("a", 0),))
    assert names(machine.slots(full, None)) == [(0, "a.0")] and len(machine.slots(full, 5)) == 5
    assert machine.slots(Machine(("cpu",), ()), 3) == ()


def test_auto_follows_the_machine_that_runs_are_done_on():
    cpu, gpu = Machine(("cpu",), ("cpu",)), Machine(("cpu", "cuda"), ("cuda",))
    assert plan.chosen_device("auto", cpu) == "cpu" and plan.chosen_device("auto", gpu) == "cuda"
    assert plan.chosen_device("cpu", gpu) == "cpu"
    with pytest.raises(UserError, match="--device cuda: not available; available: cpu"):
        plan.chosen_device("cuda", cpu)
    precisions = [plan._precision("auto", device, gpu) for device in ("cpu", "cuda", "mps")]
    assert precisions == ["fp32", "bf16", "fp32"] and plan._precision("fp32", "cuda", gpu) == "fp32"
    both = machine.common([TWO, cpu])
    assert both == Machine(("cpu",), ()) and machine.common([TWO]).gpus == ()


def test_twice_as_many_processes_as_slots():
    assert plan.at_a_time(machine.slots(TWO, 3), 3) == 6 and plan.at_a_time((), 5) == 5


# Takes a slot of those named, says which, and keeps it until it is killed or its standard input ends.
HOLDER = """
import sys
from benchmark.running import machine
taken = []
slots = [machine.Slot(0, name) for name in sys.argv[1:]]
free = machine._free
def told(choice, tell):
    slot, lock = free(choice, tell)
    taken.append(slot.name)
    return slot, lock
machine._free = told
with machine.training(slots, lambda line: print(line, flush=True), lambda: None):
    print("took", *taken, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    started = []

    def start(*slots):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", HOLDER, *slots], cwd=ROOT, **pipes)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_runs_take_turns_and_a_killed_one_lets_go(holder, tmp_path):
    first, second = holder("g.0", "g.1"), holder("g.0", "g.1")
    assert {first.stdout.readline(), second.stdout.readline()} == {"took g.0\n", "took g.1\n"}
    third = holder("g.0", "g.1")
    assert third.stdout.readline() == f"{WAITING}\n"
    second.kill()
    assert third.stdout.readline() == f"{GOES_ON}\n" and third.stdout.readline().startswith("took g.")
    fourth = holder("g.0", "g.1")
    assert fourth.stdout.readline() == f"{WAITING}\n"
    first.stdin.close()  # ends well
    assert fourth.stdout.readline() == f"{GOES_ON}\n" and fourth.stdout.readline().startswith("took g.")
    assert sorted(path.name for path in tmp_path.glob("disentangle-bench-*/*")) == ["g.0.lock", "g.1.lock"]


def test_the_time_until_a_slot_is_free_is_told_and_without_slots_nothing_waits(holder):
    said, waited = [], []
    with machine.training((), said.append, lambda: waited.append(1)):
        pass
    assert not said and not waited
    process = holder("h.0")
    assert process.stdout.readline() == "took h.0\n"
    start, ended = time.monotonic(), []

    def tell(line):
        said.append(line)
        if line == WAITING:
            process.stdin.close()

    with machine.training([Slot(0, "h.0")], tell, lambda: ended.append(time.monotonic())):
        assert said == [WAITING, GOES_ON] and ended[0] > start


@pytest.mark.parametrize(
    "text, version",
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n", "535.129.03"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC 12.3", "580.65.06"),
        ("", ""),
    ],
)
def test_the_drivers_version_is_what_its_module_says(text, version):
    assert machine.driver_version(text) == version


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_facts_of_a_gpu_are_recorded():
    torch.zeros(2**20, device="cuda")
    facts = machine.gpu_facts()
    assert facts["gpu"] and facts["driver"] == machine.driver_version(Path(machine.DRIVER).read_text())
    assert facts["gpu_peak_mb"] >= 4


def test_a_run_waits_for_its_turn_with_its_data_loaded_and_is_not_billed_for_it(holder, tmp_path):
    spec, found = Spec("blobs", "vae", 0, 1, 16, 1e-3, hparams={"latents": 4}), plugins.discover()
    job = Job(spec, tmp_path / spec.id(), ("kl",), "quick", tmp_path, slots=(Slot(0, "w.0"),),
              sources=sources.of_run(spec, found))  # fmt: skip
    process, said = holder("w.0"), []
    assert process.stdout.readline() == "took w.0\n"

    def tell(line):
        said.append((line, set(store.read_json(job.folder / "run.json")["stages"])))
        if line == WAITING:
            time.sleep(2)
            process.stdin.close()

    start = time.monotonic()
    worker.run_one(job, tell=tell)
    stages = store.read_json(job.folder / "run.json")["stages"]
    assert [line for line, _ in said] == [WAITING, GOES_ON] and "data" in said[0][1] and "training" not in said[1][1]
    assert {"training", "encoding", "scoring kl"} <= stages.keys()
    assert sum(stages.values()) - stages["imports"] < time.monotonic() - start - 2
