"""Steps of training: forward, loss, backward and update of small networks of all kinds."""

from __future__ import annotations

from agree import losses_agree
from models import STEPS as CASES
from report import Group

GROUP = Group("training steps", 2.0)


def test_race(race, case, threads):
    race(CASES[case], threads, agree=losses_agree)
