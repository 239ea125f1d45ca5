"""Fashion-MNIST: 70,000 grey-level images of Zalando's articles in MNIST's form, resized to 32x32.

Xiao, Rasul, Vollgraf (2017), Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from data._dataset import Dataset
from data.mnist import COUNTS, SIDE, Source, load, torchvision_files, user_files

CLASS_NAMES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
MD5 = {  # of the raw IDX files
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
KIND = "FashionMNIST"  # torchvision's name for it, and its folder's
SOURCES: Mapping[str, Source] = {
    "files in the data folder": partial(user_files, folders=(f"{KIND}/raw",)),
    "torchvision": partial(torchvision_files, kind=KIND),
}


def fashionmnist(root: Path) -> Dataset:
    """Articles of fashion, 32x32 (a bilinear resize), 60,000 training images first; one factor, the kind of article.

    Kept in `root` (72 MB). JointVAE has its paper's settings for it, and `meanstartjointvae` those; other models take
    those for MNIST. Raises DataError that says why each source failed and what to do.
    """
    arrays = load(Path(root), SOURCES, MD5, COUNTS, KIND, "articles")
    rows = np.arange(sum(COUNTS))
    return Dataset(
        name="fashionmnist",
        shape=(1, SIDE, SIDE),
        images=arrays["images"],
        factors=arrays["articles"].astype(np.int64)[:, None],
        factor_names=("article",),
        factor_sizes=(10,),
        class_factor="article",
        train_rows=rows[: COUNTS[0]],
        score_rows=rows[COUNTS[0] :],
        grid=False,
        like="mnist",
    )
