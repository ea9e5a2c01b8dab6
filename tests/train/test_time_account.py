import time
from types import SimpleNamespace

import pytest

from kitsjax.train.time_account import PARTS, TimeAccount


class Clock:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


class Result:
    """A step's result on the devices, which they finish when the test says so."""

    ready = False

    def addressable_data(self, index):
        return SimpleNamespace(is_ready=lambda: self.ready)


@pytest.fixture
def account():
    clock = Clock()
    made = TimeAccount(50.0, clock)

    def spend(seconds, part):
        clock.seconds += seconds
        made.mark(part)

    def spend_first(seconds, step):
        clock.seconds += seconds
        made.mark_first(step)

    made.spend, made.spend_first = spend, spend_first
    return made


def test_shares_are_those_of_the_marks(account):
    for seconds, part in (
        (1, "host"),
        (2, "data"),
        (4, "device"),
        (1, "saving"),
        (2, "validating"),
    ):
        account.spend(seconds, part)
    assert account.take_shares() == {
        "share_device": 0.4, "share_data": 0.2, "share_host": 0.1, "share_saving": 0.1,
        "share_validating": 0.2,
    }  # fmt: skip
    assert account.productive_seconds == 50 + 4 + 2


def test_shares_sum_to_one_and_begin_anew(account):
    for part in PARTS:
        account.spend(1 / 3, part)
    assert sum(account.take_shares().values()) == pytest.approx(1, abs=1e-12)
    assert sum(account.take_shares().values()) == pytest.approx(1), "no time has passed"
    account.spend(3, "saving")
    assert account.take_shares()["share_saving"] == 1


def test_work_beside_a_running_step_costs_nothing(account):
    """Reading and logging count as the devices' time as long as these train."""
    result = Result()
    account.follow(result)
    account.spend(3, "data")
    account.spend(1, "host")
    account.spend(2, "saving")
    result.ready = True
    account.spend(2, "data")
    account.spend(2, "host")
    shares = account.take_shares()
    assert (shares["share_device"], shares["share_saving"]) == (0.4, 0.2)
    assert (shares["share_data"], shares["share_host"]) == (0.2, 0.2)


def test_only_the_first_call_of_a_step_compiles(account):
    """That is the host's time, and moves the run no further; what a later call takes is not."""
    for step in ("train step", "eval step"):
        account.spend_first(8, step)
        account.spend_first(1, step)
        account.spend(1, "validating")
    assert account.productive_seconds == 50 + 4
    assert account.take_shares()["share_host"] == 0.8


def test_goodput_is_productive_time_of_all(account, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    account.spend(10, "device")
    account.spend(30, "host")
    assert account.goodput(1000.0 - 240) == pytest.approx(60 / 240)
    assert account.goodput(2000.0) == 1, "the clock was set back"
    assert TimeAccount().goodput(1000.0) == 0
