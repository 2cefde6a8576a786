"""Misuses of autograd that PyTorch's documentation and its forum name: one table, one row each."""

from __future__ import annotations

from misuse_cases.backward import BACKWARD
from misuse_cases.functions import FUNCTIONS
from misuse_cases.hooks import HOOKS
from misuse_cases.in_place import IN_PLACE
from misuse_cases.leaves import LEAVES_AND_FLAGS
from misuse_cases.row import Misuse as Misuse

TABLE = [*BACKWARD, *LEAVES_AND_FLAGS, *IN_PLACE, *HOOKS, *FUNCTIONS]
