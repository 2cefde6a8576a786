"""Misuses of autograd that PyTorch's documentation and its forum name: one table, one row each."""

from __future__ import annotations

from misuse_cases.anomaly import ANOMALY
from misuse_cases.backward import BACKWARD
from misuse_cases.batches import BATCHES
from misuse_cases.custom_function import CUSTOM_FUNCTION
from misuse_cases.functional import FUNCTIONAL
from misuse_cases.hooks import HOOKS
from misuse_cases.in_place import IN_PLACE
from misuse_cases.leaves import LEAVES_AND_FLAGS
from misuse_cases.modules import MODULES
from misuse_cases.row import Misuse as Misuse
from misuse_cases.saving import SAVING
from misuse_cases.stateless import STATELESS
from misuse_cases.transforms import TRANSFORMS

TABLE = [
    *BACKWARD,
    *LEAVES_AND_FLAGS,
    *MODULES,
    *IN_PLACE,
    *HOOKS,
    *CUSTOM_FUNCTION,
    *SAVING,
    *ANOMALY,
    *TRANSFORMS,
    *BATCHES,
    *STATELESS,
    *FUNCTIONAL,
]
