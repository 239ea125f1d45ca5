"""Run folders: atomic writes, checksums, checkpoints, codes. Nothing that is read from them can execute code.

A file of a run counts once `SHA256SUMS` lists it with the digest that it has; anything else is made again.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmark.errors import UserError
from metrics import Codes

SUMS = "SHA256SUMS"
COMING = ".coming"  # a file that is listed already and about to take its place
# Text that a spreadsheet would run as a formula; numbers may begin so too.
FORMULA = tuple("=+-@\t\r")
NUMBER = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?")
Row = dict[str, Any]


class CorruptFile(Exception):
    """A file whose content is not what was written."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place if the block ends well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """End or remove what killed writers left; only for one who holds the folder's lock."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for path in folder.glob(f".*{COMING}"):
        name = path.name[1:].removesuffix(COMING)
        if digest(path) == sums(folder).get(name):
            path.replace(folder / name)
        path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """All of the file or none of it."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    write_bytes(path, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Rows as CSV; None and nan are empty. Floats keep every digit; text cannot become a formula."""
    names = list(columns or dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(row.get(name)) for name in names} for row in rows)
    write_bytes(path, text.getvalue().encode())


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in FORMULA and not NUMBER.fullmatch(value):
        return "'" + value
    return "" if value != value else value


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums(folder: Path) -> dict[str, str]:
    """File name -> sha256 of the finished files of a run; empty where there are none."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return {name: value for value, _, name in (line.partition("  ") for line in lines)}


def is_listed(folder: Path, name: str) -> bool:
    """Whether a file is there and said to be finished; its content is not looked at."""
    return name in sums(folder) and (folder / name).is_file()


def finish(folder: Path, *names: str) -> None:
    """Record files as complete."""
    _list(folder, {**sums(folder), **{name: digest(folder / name) for name in names}})


def rewrite_csv(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A finished file in the place of a finished one. Killed at any point, either is whole: the new one lies beside
    first, is then listed, and last takes its place, which `sweep` does where that was not reached."""
    coming = folder / f".{name}{COMING}"
    write_csv(coming, rows, columns)
    _list(folder, {**sums(folder), name: digest(coming)})
    coming.replace(folder / name)


def _list(folder: Path, listed: Mapping[str, str]) -> None:
    write_bytes(folder / SUMS, "".join(f"{listed[name]}  {name}\n" for name in sorted(listed)).encode())


def discard(folder: Path, *names: str) -> None:
    """Remove files from a run and from its list."""
    listed = {name: value for name, value in sums(folder).items() if name not in names}
    if (folder / SUMS).exists():
        _list(folder, listed)
    for name in names:
        (folder / name).unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove everything from a run but its lock, what is hidden last."""
    names = sorted((path.name for path in folder.iterdir()), key=lambda name: name.startswith("."))
    discard(folder, *[name for name in names if name != ".lock"])


def is_finished(folder: Path, *names: str, warn: Callable[[str], None] = lambda text: None) -> bool:
    """Whether all these files are complete; a listed file with other content is named and does not count."""
    listed = sums(folder)
    for name in names:
        path = folder / name
        if name not in listed or not path.is_file():
            return False
        if digest(path) != listed[name]:
            coming = folder / f".{name}{COMING}"
            if not (coming.is_file() and digest(coming) == listed[name]):  # else a killed writer's, which `sweep` ends
                warn(f"{path}: its content is not what was written (sha256 differs); it is made again")
            return False
    return True


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file whose metadata holds the sha256 of the tensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(tensors, {"sha256": _digest_tensors(tensors)})
    write_bytes(path, content)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; raises CorruptFile unless they are what was written."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path}: {error}") from error
    if metadata.get("sha256") != _digest_tensors(tensors):
        raise CorruptFile(f"{path}: its content is not what was written (sha256 differs)")
    return tensors


def is_rounded(path: Path) -> bool:
    """Whether a file has tensors in half precision, as published weights are; False for one that cannot be read."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return any(file.get_slice(name).get_dtype() == "F16" for name in file.keys())
    except (OSError, safetensors.SafetensorError, UnicodeDecodeError):
        return False


def _digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def save_checkpoint(
    path: Path, model: nn.Module, optimizers: Mapping[str, Optimizer], step: int, history: Sequence[Row],
    totals: Mapping[str, Tensor],
) -> None:  # fmt: skip
    """All that training needs to go on after `step` steps: weights, optimiser states, history, and the sums of losses
    since its last row. There is no random state to keep."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for loss, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimizer.{loss}.{index}.{name}"] = torch.as_tensor(value)
    tensors |= {f"totals.{name}": total for name, total in totals.items()}
    columns = list(history[0]) if history else []
    if changed := {name for row in history for name in row.keys() ^ set(columns)}:
        some = ", ".join(sorted(changed))
        raise UserError(f"losses() must give the same names at every step; {some} came at some steps only")
    tensors["history"] = torch.tensor([[row[name] for name in columns] for row in history], dtype=torch.float64)
    tensors["step"] = torch.tensor(step)
    names = json.dumps([columns, list(totals)]).encode()  # in their order; safetensors has none among its metadata
    tensors["names"] = torch.tensor(list(names), dtype=torch.uint8)
    save_tensors(path, tensors)


def load_checkpoint(
    path: Path, model: nn.Module, optimizers: Mapping[str, Optimizer]
) -> tuple[int, list[Row], dict[str, Tensor]]:
    """Puts a checkpoint's state into model and optimisers; returns its step, history, and sums of losses since."""
    tensors = load_tensors(path)
    columns, summed = json.loads(bytes(tensors["names"].tolist()))
    try:
        model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    except RuntimeError as error:
        raise CorruptFile(f"{path}: not a checkpoint of this model: {error}") from error
    for loss, optimizer in optimizers.items():
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith(f"optimizer.{loss}."):
                index, name = key.removeprefix(f"optimizer.{loss}.").split(".", 1)
                state.setdefault(int(index), {})[name] = _laid_out_as(parameters[int(index)], tensor)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    rows = [dict(zip(columns, row, strict=True)) for row in tensors["history"].tolist()]
    device = next(model.parameters()).device
    totals = {name: tensors[f"totals.{name}"].to(device) for name in summed}
    return int(tensors["step"]), [{**row, "step": int(row["step"])} for row in rows], totals


def _laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Fused optimisers walk memory in order, so a state must lie in memory as its parameter does (channels last)."""
    if tensor.shape != parameter.shape:
        return tensor
    return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)


def save_codes(path: Path, codes: Codes, rows: str) -> None:
    """The table of posteriors as HDF5; `rows` names the selection of images that it holds."""
    # HDF5 crashes where a disk fills up under it, so the file is made in memory (90 MB for all of dSprites)
    content = io.BytesIO()
    arrays = {"mean": codes.mean, "logvar": codes.logvar, "recon": codes.recon, "factors": codes.factors}
    with h5py.File(content, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
        for index, probs in enumerate(codes.probs):
            file[f"probs/{index}"] = probs
        file.attrs.update(rows=rows, grid=codes.grid, ordinal=codes.ordinal, class_factor=codes.class_factor or "")
        file.attrs["factor_names"] = json.dumps(codes.factor_names)
        file.attrs["factor_sizes"] = json.dumps([int(size) for size in codes.factor_sizes])
    write_bytes(path, content.getvalue())


def load_codes(path: Path) -> tuple[Codes, str]:
    """The table of posteriors, and the name of the selection of images that it holds."""
    with h5py.File(path, "r") as file:
        optional: dict[str, Any] = {name: file[name][:] if name in file else None for name in ("logvar", "recon")}
        codes = Codes(
            mean=file["mean"][:],
            factors=file["factors"][:],
            factor_names=tuple(json.loads(file.attrs["factor_names"])),
            factor_sizes=tuple(json.loads(file.attrs["factor_sizes"])),
            probs=tuple(file[f"probs/{index}"][:] for index in range(len(file.get("probs", ())))),
            class_factor=str(file.attrs["class_factor"]) or None,
            grid=bool(file.attrs["grid"]),
            ordinal=bool(file.attrs.get("ordinal", False)),  # a file of earlier versions does not say
            **optional,
        )
        return codes, str(file.attrs["rows"])


def rows_of_codes(path: Path) -> tuple[str, bool]:
    """The name of the selection of images that a table of posteriors holds, and whether they are a grid."""
    with h5py.File(path, "r") as file:
        return str(file.attrs["rows"]), bool(file.attrs["grid"])


def check_writable(folder: Path) -> None:
    """Raises a UserError where nothing can be written into the folder, or where it cannot be made; leaves no trace."""
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise UserError(f"results folder {folder}: cannot be written: {error.strerror or error}") from error


def run_folders(folder: Path) -> Iterable[Path]:
    """The folders of runs, by name."""
    return sorted(path.parent for path in folder.glob("*/spec.json")) if folder.is_dir() else []


def read_json(path: Path) -> Any:
    """Parsed JSON; a UserError names a file that is none."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
