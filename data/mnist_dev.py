"""MNIST's training images, split to design models on: the test set is left for reporting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data._dataset import Dataset
from data.mnist import mnist

TRAINED = 50_000


def mnist_dev(root: Path) -> Dataset:
    """MNIST without its test set: trains on the first 50,000 training images, is scored on the last 10,000.

    Models take their settings for MNIST.
    """
    full = mnist(root)
    rows = full.train_rows
    return replace(full, name="mnist_dev", train_rows=rows[:TRAINED], score_rows=rows[TRAINED:], like="mnist")
