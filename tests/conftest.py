from pathlib import Path

import pytest
import torch

from data.blobs import blobs


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The tiny data set that is made in memory."""
    return blobs(Path(tmp_path_factory.mktemp("blobs")))


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from more, and tests share the machine.

    For every test, as numba's first compiled loop gives torch as many as there are cores.
    """
    torch.set_num_threads(1)
