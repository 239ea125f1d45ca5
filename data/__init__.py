"""Data sets: one file each, a function `name(root) -> Dataset`."""

from data._dataset import DataError, Dataset

__all__ = ["DataError", "Dataset"]
