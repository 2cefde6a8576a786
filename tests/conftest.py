"""What every test starts from: the same seeds and grad mode on.

The time limit per test is pytest's own `faulthandler_timeout`: it prints where every thread stands and ends
the run.
"""

import os
import random
import sys

sys.path.insert(0, os.path.dirname(__file__))

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import firesteel  # noqa: E402
from tensors import torch  # noqa: E402


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
