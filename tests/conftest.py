"""What every test starts from: the same seeds, grad mode on, and a stack dump if it hangs.

The time limit per test is pytest's own `faulthandler_timeout`: it prints where every thread stands.
"""

import os
import random
import sys

sys.path.insert(0, os.path.dirname(__file__))

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import firesteel  # noqa: E402
from tensors import from_torch, to_torch, torch  # noqa: E402, F401

HANG_SECONDS = 120


def pytest_configure(config):
    """Sets the limit unless the project's settings name one."""
    if not float(config.getini("faulthandler_timeout") or 0):
        config._inicache["faulthandler_timeout"] = HANG_SECONDS


@pytest.fixture(autouse=True)
def _same_start():
    random.seed(0)
    np.random.seed(0)
    firesteel.manual_seed(0)
    if torch is not None:
        torch.manual_seed(0)
    firesteel.set_grad_enabled(True)
    yield
    firesteel.set_grad_enabled(True)
