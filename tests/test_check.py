"""`--check FILE` on plugins that keep their contract and on ones that break it, each in a way of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_command import here  # noqa: F401

from benchmark import plugins
from benchmark.authoring import contract_data, contract_metric, contract_model
from benchmark.authoring.check import check_file
from benchmark.errors import UserError

ROOT = Path(__file__).parent.parent
MODEL = '''"""My model."""

import numpy as np
import torch

from models import Model, reconstruction_loss


class Mine(Model):
    """A weighted VAE."""

    def __init__(self, shape, n_images, latents: int = 4, categories: tuple[int, ...] = (3,), weight: float = 2.0):
        super().__init__(shape, n_images, latents, categories)
        self.weight = weight
        self.register_buffer("spare", torch.zeros(1))
        # more layers

    def encode(self, x):
        return super().encode(x)

    def decode(self, z):
        return self.decoder(z)

    def losses(self, x, step, rng):
        q = self.encode(x)
        recon = reconstruction_loss(self.decode(q.sample(rng, 0.67)), x)
        kl = q.kl_normal().sum() + q.kl_uniform().sum()
        return {"loss": recon + self.weight * kl, "recon": recon, "kl": kl}
'''
METRIC = '''"""Spread."""

from metrics import Codes, NotApplicable

PROTOCOLS = {"study": {"scale": 1.0}}
DEFAULT = False
LOWER_IS_BETTER = frozenset({"spread"})


def spread(codes: Codes, rng, *, scale: float = 1.0):
    """Mean standard deviation of the continuous latents."""
    if codes.mean.shape[1] == 0:
        raise NotApplicable("there is no continuous latent")
    value = scale * float(codes.mean.std(axis=0).mean())
    return {"spread": value}
'''
DATA = '''"""Stripes at two angles."""

import numpy as np

from data import Dataset


def stripes(root):
    """8 phases of horizontal and vertical stripes, 32x32."""
    angle, phase = (a.ravel() for a in np.meshgrid(range(2), range(8), indexing="ij"))
    wave = (np.arange(32)[None, :] + phase[:, None]) // 4 % 2 * 255
    images = np.where(angle[:, None, None] == 0, wave[:, None, :], wave[:, :, None])
    images = np.broadcast_to(images, (16, 32, 32)).astype(np.uint8)[:, None]
    rows = np.arange(16)
    return Dataset(
        name="stripes",
        shape=(1, 32, 32),
        images=images,
        factors=np.stack([angle, phase], 1),
        factor_names=("angle", "phase"),
        factor_sizes=(2, 8),
        class_factor="angle",
        train_rows=rows,
        score_rows=rows,
        grid=True,
    )
'''
SOURCES = {"mine.py": MODEL, "spread.py": METRIC, "stripes.py": DATA}
# file, what is replaced by what, and a FIX line: check, text, and the code on the line that it names
BROKEN = {
    "decode's shape": ("mine.py", "return self.decoder(z)", "return self.decoder(z)[:, :, 1:]",
                       "images", "logits of shape (16, 1, 31, 32), needed (16, 1, 32, 32)", "def decode"),
    "unused parameter": ("mine.py", "# more layers", "self.extra = torch.nn.Linear(2, 2)",
                         "gradients", "extra.weight and 1 more has no gradient from 'loss'", "self.extra ="),
    "probabilities": ("mine.py", "return super().encode(x)",
                      "q = super().encode(x)\n        return type(q)(q.mean, q.logvar, tuple(2 * p for p in q.probs))",
                      "codes", "rows of probs[0] sum to 2 to 2", "q.probs"),
    "global random state": ("mine.py", "q.sample(rng, 0.67)", "q.sample(rng, 0.67) + torch.rand(1)",
                            "same seed, same bits", "draw from the rng handed in", "torch.rand(1)"),
    "numpy's global random state": ("mine.py", "self.weight * kl,", "np.random.rand() * kl,",
                                    "same seed, same bits", "draw from the rng", "np.random.rand"),
    "random codes": ("mine.py", "return super().encode(x)", "return super().encode(x + torch.rand_like(x))",
                     "same code again", "two codes for the same images", "rand_like"),
    "a loss that is not finite": ("mine.py", '"kl": kl}', '"kl": kl / 0}', "losses", "'kl' that is not finite", '"kl"'),
    "a loss that rises": ("mine.py", '"loss": recon', '"loss": -recon', "loss falls", "needed less", '"recon"'),
    "a traversal of nothing": ("mine.py", "    def decode(self, z)",
                               "    traversal = (1.0, -1.0)\n\n    def decode(self, z)", "prior and traversal",
                               "traversal is (1.0, -1.0), needed (low, high)", "traversal ="),
    "a prior of its own": ("mine.py", "    def decode(self, z)",
                           "    def prior(self, n, rng):\n        return torch.zeros(n, 2)\n\n    def decode(self, z)",
                           "prior and traversal", "prior() gave latents of shape (16, 2), needed (16, 7)", "def prior"),
    "a mean over pixels": ("mine.py", "q.sample(rng, 0.67)), x)", "q.sample(rng, 0.67)), x) / x[0].numel()",
                           "units", "the sum over an image's pixels", '"recon"'),
    "a mean of squares": ("mine.py", "recon = reconstruction_loss(self.decode(q.sample(rng, 0.67)), x)",
                          "recon = (self.decode(q.sample(rng, 0.67)) - x).square().mean()",
                          "units", "the sum over an image's pixels", '"recon"'),
    "a decoder of pixels": ("mine.py", "recon = reconstruction_loss(self.decode(q.sample(rng, 0.67)), x)",
                            "recon = (self.decode(q.sample(rng, 0.67)) - x).square().sum() / len(x)",
                            "loss falls", "decode() must give logits", "self.decode("),
    "a sum over the batch": ("mine.py", "q.sample(rng, 0.67)), x)", "q.sample(rng, 0.67)), x) * len(x)",
                             "units", "the mean over the batch", '"recon"'),
    "a term that is cut off": ("mine.py", "self.weight * kl,", "self.weight * kl.detach(),",
                               "whole gradient", "posterior's mean and its gradient does not", "kl.detach()"),
    "a number in place of a term": ("mine.py", "kl = q.kl", "kl = q.kl_normal().sum().item() + 0 * q.kl",
                                    "whole gradient", "posterior's mean and its gradient does not", ".item()"),
    "an error": ("mine.py", "q = self.encode(x)\n        recon", "q = self.encoed(x)\n        recon",
                 "losses", "AttributeError", "encoed"),
    "syntax": ("mine.py", "def decode(self, z):", "def decode(self, z:", "can be used", "SyntaxError", "def decode"),
    "integers": ("spread.py", "scale * float(codes.mean.std(axis=0).mean())", "len(codes.mean)",
                 "values", "spread is a int, needed a float", "return"),
    "nan": ("spread.py", '"spread": value', '"spread": value * float("nan")', "values", "spread is nan", "return"),
    "keys": ("spread.py", '{"spread": value', '{"width": value', "values", "key 'width'", "return"),
    "changed codes": ("spread.py", "    value =", "    codes.mean[:] = 0\n    value =",
                      "codes untouched", "codes.mean was changed", "codes.mean[:] = 0"),
    "a metric's random state": ("spread.py", "    value = scale",
                                "    import numpy as np\n    value = np.random.rand()",
                                "same rng, same scores", "", "np.random.rand()"),
    "declarations": ("spread.py", 'frozenset({"spread"})', 'frozenset({"width"})',
                     "declarations", "LOWER_IS_BETTER", "LOWER_IS_BETTER"),
    "degenerate codes": ("spread.py", "    value =", "    assert codes.factors.shape[1]\n    value =",
                         "degenerate codes", "on no factors: AssertionError", "assert"),
    "factor out of range": ("stripes.py", "factor_sizes=(2, 8)", "factor_sizes=(2, 7)",
                            "factors", "factor 'phase' has values 0..7, needed 0..6", "factors="),
    "rows out of range": ("stripes.py", "train_rows=rows", "train_rows=rows + 1", "rows", "needed 0..15", "train_rows"),
    "order of the grid": ("stripes.py", "score_rows=rows", "score_rows=rows[::-1]", "grid", "in order", "grid="),
    "float images": ("stripes.py", "astype(np.uint8)", "astype(float)", "images", "float64, needed uint8", "images ="),
    "channels last": ("stripes.py", "astype(np.uint8)[:, None]", "astype(np.uint8)[..., None]", "images",
                      "images have shape (16, 32, 32, 1), needed (n, 1, 32, 32); channels come first: transpose to "
                      "(n, c, h, w)", "images ="),
    "a file that is not there": ("stripes.py", "    rows =", "    open(root / 'absent')\n    rows =", "can be made",
                                 "No such file", "absent"),
    "class factor": ("stripes.py", 'class_factor="angle"', 'class_factor="hue"', "factors", "'hue'", "class_factor"),
    "random images": ("stripes.py", "    rows =", "    np.random.shuffle(images)\n    rows =",
                      "same again", "other images", "np.random.shuffle"),
}  # fmt: skip
BROKEN["encoding changes it"] = (
    "mine.py", "        return super().encode(x)\n",
    "        next(self.buffers()).add_(1)\n        return super().encode(x)\n",
    "same code again", "changed the model's buffers", "def encode",
)  # fmt: skip
BROKEN["state outside buffers"] = (
    "mine.py", "        recon =", "        self.seen = getattr(self, 'seen', 0) + 1\n        recon = 0.1 * self.seen +",
    "killed and resumed", "keep what changes from step to step in buffers", "def losses",
)  # fmt: skip
HEAD = MODEL[MODEL.index("class Mine") : MODEL.index("    def decode")]
BROKEN["an inherited method"] = (
    "mine.py", HEAD,
    "class Critic(torch.nn.Module):\n    pass\n\n\n" + HEAD.partition("    def encode")[0].replace(
        "# more layers", "self.encoder.register_forward_hook(lambda module, given, found: found * np.nan)"),
    "codes", "not finite", "class Mine",
)  # fmt: skip


def written(folder, name, old="", new=""):
    source = SOURCES[name]
    assert old in source
    (folder / name).write_text(source.replace(old, new, 1) if old else source)
    return folder / name


@pytest.fixture(autouse=True)
def only_these_checks(request, monkeypatch):
    """A broken model is put to the check that finds it, and to those of every shape: the others take seconds."""
    case = request.node.callspec.params.get("case") if hasattr(request.node, "callspec") else None
    if case and BROKEN[case][0] == "mine.py":
        monkeypatch.setattr(
            contract_model, "ONCE", {k: v for k, v in contract_model.ONCE.items() if k == BROKEN[case][3]}
        )
        one = {k: v for k, v in contract_model.image_sets().items() if k == "32x32"}
        monkeypatch.setattr(contract_model, "image_sets", lambda: one)


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_named_with_its_line(case, tmp_path, capsys):
    name, old, new, check, text, code = BROKEN[case]
    file = written(tmp_path, name, old, new)
    assert check_file(file, tmp_path) == 1
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith(f"FIX  {check}")]
    assert lines and text in lines[0], out
    number = int(lines[0].split(f"({name}:")[1].split(":")[0])
    assert code in file.read_text().splitlines()[number - 1], lines[0]


def test_data_that_is_not_there_is_one_line(tmp_path, capsys):
    file = written(tmp_path, "stripes.py", "    rows =", "    open(root / 'absent')\n    rows =")
    assert check_file(file, tmp_path) == 1 and capsys.readouterr().out.count("FIX ") == 1


def test_numbers_of_numpy_are_numbers(tmp_path):
    file = written(tmp_path, "stripes.py", "factor_sizes=(2, 8)", "factor_sizes=tuple(np.array([2, 8]))")
    assert check_file(file, tmp_path) == 0


@pytest.mark.parametrize("name", ["spread.py", "stripes.py"])
def test_what_is_sound_passes(name, tmp_path, capsys):
    assert check_file(written(tmp_path, name), tmp_path) == 0
    out = capsys.readouterr().out
    assert "FIX" not in out and out.splitlines()[-1] == f"{name}: all is well"
    if name == "spread.py":
        assert "order of latents does not matter" in out and "as noise grows spread rises" in out


def test_a_gradient_of_its_own_may_be_declared(tmp_path):
    source = MODEL.replace("self.weight * kl,", "self.weight * kl.detach(),").replace(
        '    """A weighted VAE."""\n', '    """A weighted VAE."""\n\n    surrogate_gradient = True\n'
    )
    (tmp_path / "mine.py").write_text(source)
    case = contract_model.ModelCase(
        "mine", plugins.from_file(tmp_path / "mine.py").load(), contract_model.image_sets()["32x32"]
    )
    assert contract_model.attached(case) == "not compared: surrogate_gradient"


def test_a_loss_may_hold_a_gradient_of_its_own_and_a_schedule_without_a_floor(tmp_path):
    source = MODEL.replace(
        "        kl = q.kl_normal",
        """        slope = torch.autograd.grad(recon, q.mean, create_graph=True)[0].square().sum()
        recon = recon + 0.1 * slope
        warm = 0.9999 ** step
        kl = warm * q.kl_normal""",
    )
    (tmp_path / "mine.py").write_text(source)
    cls = plugins.from_file(tmp_path / "mine.py").load()
    case = contract_model.ModelCase("mine", cls, contract_model.image_sets()["32x32"])
    assert contract_model.units(case) is None and contract_model.attached(case) is None


@pytest.mark.slow
def test_a_buffer_may_hold_nan(tmp_path, capsys):
    file = written(tmp_path, "mine.py", "torch.zeros(1)", "torch.full((1,), np.nan)")
    assert check_file(file, tmp_path) == 0, capsys.readouterr().out


def command(*arguments):
    done = subprocess.run([sys.executable, str(ROOT / "run_benchmark.py"), *map(str, arguments)], text=True,
                          capture_output=True, timeout=280)  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_command_on_a_sound_model(tmp_path):
    status, out, err = command("--check", written(tmp_path, "mine.py"))
    assert status == 0 and err == "", out + err
    checks = ["can be used: a model", *contract_model.ON_EVERY_SHAPE, *contract_model.ONCE]
    assert [line[5:].startswith(name) for line, name in zip(out.splitlines(), checks, strict=False)] == [True] * len(
        checks
    )


def test_the_command_on_broken_files(tmp_path, here):  # noqa: F811
    broken = written(tmp_path, *BROKEN["syntax"][:3])
    line = next(i for i, text in enumerate(broken.read_text().splitlines(), 1) if "def decode" in text)
    status, out, err = command("--check", broken)
    assert status == 1 and out.startswith(f"FIX  can be used (mine.py:{line}: SyntaxError") and err == ""
    status, out, err = here("--check", tmp_path / "none.py")
    assert status == 2 and "no such file" in err
    assert here("--check", tmp_path)[0] == 2 and f"plugin {tmp_path}: not a file" in here("--check", tmp_path)[2]
    (tmp_path / "My-Model.py").write_text(MODEL)
    status, out, err = here("--check", tmp_path / "My-Model.py")
    assert status == 2 and "the name must be like" in err


@pytest.mark.parametrize(
    "source", ["import sys\nsys.exit(3)", "raise KeyError", "x = 1", "def odd(x):\n    pass", "", "\0"]
)
def test_files_that_are_no_plugin(source, tmp_path, capsys):
    (tmp_path / "odd.py").write_text(source)
    assert check_file(tmp_path / "odd.py", tmp_path) == 1
    assert capsys.readouterr().out.startswith("FIX  can be used (odd.py:")
    with pytest.raises(UserError, match="no such file"):
        check_file(tmp_path / "other.py", tmp_path)
    with pytest.raises(UserError, match=r"has no code to check; --dataset-file .*mine\.npz --dry-run reads it"):
        check_file(tmp_path / "mine.npz", tmp_path)


def test_a_metric_is_tried_as_runs_do_it(tmp_path, capsys):
    """Attributes are for those alone that say that they ask for them."""
    source = '"""Mean."""\n\n\ndef asks(codes, rng):\n    return {"asks": float(codes.attributes.mean())}\n'
    (tmp_path / "asks.py").write_text(source)
    assert check_file(tmp_path / "asks.py", tmp_path) == 1
    assert "'NoneType' object has no attribute 'mean'" in capsys.readouterr().out


# The suite's own metrics and data sets keep the contract as well; its models do so in test_models.py.

OWN = plugins.discover()


@pytest.mark.parametrize("check", contract_metric.METRIC)
@pytest.mark.parametrize("name", sorted(OWN["metric"]))
def test_contract_of_the_metrics(name, check):
    if check != "values" or name not in ("dci", "downstream", "betavae_score", "factorvae_score"):  # minutes
        contract_metric.METRIC[check](
            contract_metric.MetricCase(name, OWN["metric"][name].load(), OWN["metric"][name].module())
        )


@pytest.mark.parametrize("check", contract_data.DATA)
def test_contract_of_the_small_data_set(check, tmp_path):
    contract_data.DATA[check](contract_data.DataCase("blobs", OWN["data set"]["blobs"].load(), tmp_path))
