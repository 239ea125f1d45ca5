"""What the page's latent explorer needs: a decoder as plain layers with half-precision weights, and starting points.

The page evaluates the layers in the browser, so only a decoder made of fully connected layers, ReLU, Unflatten and
transposed convolutions can be explored; others are refused with a reason.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark import store
from benchmark.reporting.pictures import kl_of, prior, quantised_values
from benchmark.running import encoder
from benchmark.runs import Run
from metrics import Codes
from models import Model

Layers = list[dict[str, Any]]
RANGE = (0.5, 99.5)  # percentiles of q(z) that a slider spans
DEAD = 0.01  # variance of the mean (as `active_units`), or nats
DRAWS = 50  # from a prior of the model's own
TOLERANCE = 0.02  # of a pixel in [0, 1], which half precision may cost


class Unsupported(Exception):
    """Why a decoder cannot be evaluated in the page."""


def record(run: Run, label: str, model: Model, images: Tensor) -> dict[str, Any]:
    """All that the page must know of a run; raises Unsupported. Its keys are what page/explorer.js reads."""
    layers, weights = decoder(model)
    q = encoder.posterior(model, images)
    values = quantised_values(model, q)
    path = run.folder / "codes.h5"
    codes = store.load_codes(path)[0] if store.is_finished(run.folder, path.name) else None
    return {
        "id": run.id,
        "label": label,
        "shape": list(model.shape),
        "layers": layers,
        "weights": base64.b64encode(weights.tobytes()).decode(),
        **latents(run, codes, model, values),
        "starts": [
            {"z": [round(v, 4) for v in mean], "classes": classes}
            for mean, *classes in zip(q.mean.tolist(), *(p.argmax(1).tolist() for p in q.probs), strict=True)
        ],
        **_own_prior(model),
    }


def _own_prior(model: Model) -> dict[str, Any]:
    """Draws from a prior that the page does not know."""
    if type(model).prior is Model.prior:
        return {}
    z, *blocks = prior(model, DRAWS).split([model.latents, *model.categories], dim=1)
    classes = [block.argmax(1).tolist() for block in blocks]
    return {"prior": [{"z": [round(v, 4) for v in row], "classes": list(chosen)}
                      for row, *chosen in zip(z.tolist(), *classes, strict=True)]}  # fmt: skip


def latents(run: Run, codes: Codes | None, model: Model, values: list[list[float]] | None = None) -> dict[str, Any]:
    """The sliders (range of the aggregated posterior, KL, whether the latent is in use) and the classes (KL, usage).

    values: of each quantised latent; its slider goes through these.
    """
    nats = kl_of(run)
    kl = {str(name): round(float(value), 4) for name, value in nats.items()} if nats is not None else {}
    low, high = model.traversal
    wide = (low - (high - low) / 4, high + (high - low) / 4)  # where q(z) is not known: -3 to 3 for N(0, 1)
    spans = _spans(codes) if codes is not None else [wide] * model.latents
    variance = codes.mean.var(axis=0) if codes is not None else np.full(model.latents, np.nan)
    sliders = [
        {
            "name": f"z{i}",
            "kl": kl.get(f"z{i}"),
            "low": round(low, 3),
            "high": round(high, 3),
            "dead": bool(variance[i] <= DEAD if codes is not None else kl.get(f"z{i}", 1.0) <= DEAD),
            **({"values": [round(value, 4) for value in values[i]]} if values is not None else {}),
        }
        for i, (low, high) in enumerate(spans)
    ]
    share = [np.bincount(c, minlength=k) / codes.n for c, k in zip(codes.classes.T, model.categories, strict=True)] \
        if codes is not None and codes.probs else []  # a class that has not begun is not in the codes  # fmt: skip
    classes = [
        {"name": f"c{i}", "k": k, "kl": kl.get(f"c{i}"), "share": share[i].round(4).tolist() if share else None}
        for i, k in enumerate(model.categories)
    ]
    return {"sliders": sliders, "classes": classes}


def _spans(codes: Codes) -> list[tuple[float, float]]:
    """Percentiles of the aggregated posterior q(z), the mixture of the images' posteriors."""
    z = codes.mean
    if codes.logvar is not None:
        z = z + np.random.default_rng(0).standard_normal(z.shape, dtype=np.float32) * np.exp(0.5 * codes.logvar)
    low, high = np.percentile(z, RANGE, axis=0)
    return [(float(a), float(b)) if b > a else (float(a) - 1, float(a) + 1) for a, b in zip(low, high, strict=True)]


def decoder(model: Model) -> tuple[Layers, NDArray[np.float16]]:
    """The decoder's layers, and all their weights one after another; checked against the model's own `decode`."""
    layers, tensors = _layers(getattr(model, "decoder", None))
    if not tensors:
        raise Unsupported("its decoder has no weights")
    weights = np.concatenate([t.detach().cpu().float().numpy().ravel() for t in tensors])
    if np.abs(weights).max() > np.finfo(np.float16).max:
        raise Unsupported("its weights are too large for half precision")
    half = weights.astype("<f2")
    z = prior(model, 8)
    try:
        mine = torch.sigmoid(_evaluate(layers, torch.from_numpy(half.astype(np.float32)), z)).numpy()
    except RuntimeError:
        raise Unsupported("its decoder does more than its layers in order") from None
    if mine.shape != (theirs := encoder.images_of(model, z)).shape or np.abs(mine - theirs).max() > TOLERANCE:
        raise Unsupported("its decoder does more than its layers in order")
    return layers, half


def _layers(module: object) -> tuple[Layers, list[Tensor]]:
    if not isinstance(module, nn.Sequential):
        raise Unsupported("its decoder is not a plain sequence of layers")
    layers: Layers = []
    tensors: list[Tensor] = []
    for layer in module:
        layers.append(_described(layer))
        tensors += list(layer.parameters())
    return layers, tensors


def _described(layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, nn.ReLU):
        return {"kind": "relu"}
    if isinstance(layer, nn.Linear) and layer.bias is not None:
        return {"kind": "linear", "inputs": layer.in_features, "outputs": layer.out_features}
    if isinstance(layer, nn.Unflatten) and len(layer.unflattened_size) == 3:
        return {"kind": "unflatten", "shape": [int(n) for n in layer.unflattened_size]}
    if isinstance(layer, nn.ConvTranspose2d) and _is_plain(layer):
        return {"kind": "upsample", "inputs": layer.in_channels, "outputs": layer.out_channels,
                "kernel": layer.kernel_size[0], "stride": layer.stride[0],
                "padding": int(layer.padding[0])}  # fmt: skip
    raise Unsupported(f"its decoder has a layer that the page cannot evaluate: {layer}")


def _is_plain(layer: nn.ConvTranspose2d) -> bool:
    square = all(len(set(pair)) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding))
    usual = layer.groups == 1 and layer.dilation == (1, 1) and layer.output_padding == (0, 0)
    return square and usual and layer.bias is not None


def _evaluate(layers: Layers, weights: Tensor, x: Tensor) -> Tensor:
    """What the page does, in torch: logits of latents x."""
    at = 0

    def take(*shape: int) -> Tensor:
        nonlocal at
        at += int(np.prod(shape))
        return weights[at - int(np.prod(shape)) : at].reshape(shape)

    for layer in layers:
        if layer["kind"] == "relu":
            x = torch.relu(x)
        elif layer["kind"] == "linear":
            x = nn.functional.linear(x, take(layer["outputs"], layer["inputs"]), take(layer["outputs"]))
        elif layer["kind"] == "unflatten":
            x = x.unflatten(1, layer["shape"])
        else:
            kernel = take(layer["inputs"], layer["outputs"], layer["kernel"], layer["kernel"])
            x = nn.functional.conv_transpose2d(x, kernel, take(layer["outputs"]), layer["stride"], layer["padding"])
    return x
