"""Tools around training; :mod:`firesteel.utils.data` feeds it."""

from . import data as data

__all__ = ["data"]
