"""A trace of training steps: it holds just these, and nothing that is computed changes."""

import gzip
import json
from collections import Counter

import jax
import pytest
from test_loop import SETTINGS, Streams, equal, numbers

from kitsjax.config import override_settings
from kitsjax.errors import InputError
from kitsjax.signals import Stopped
from kitsjax.train.loop import TrainingLoop
from kitsjax.train.trace import STEP_NAME, trace_steps

DEVICES = 8
"""Each of them does every operation of a step."""

# One epoch, so that no validation lies between the steps.
ONE_EPOCH = override_settings(SETTINGS, ["train.epochs=1", "train.batches=6"])


def train(folder, steps, moment=None):
    settings = override_settings(ONE_EPOCH, [f"run.profile_steps={steps}"])
    loop = TrainingLoop(settings, folder, [], [])
    with trace_steps(loop):
        return loop.fit(Streams(moment))


def read_traces(folder):
    """The numbers of the steps of each trace, and how many times its operations were done."""
    found = []
    for path in sorted(folder.glob("profile/plugins/profile/*/perfetto_trace.json.gz")):
        assert len(list(path.parent.glob("*.xplane.pb"))) == 1, "what xprof reads"
        with gzip.open(path) as file:
            events = [event for event in json.load(file)["traceEvents"] if event.get("ph") == "X"]
        steps = [int(event["args"]["step_num"]) for event in events if event["name"] == STEP_NAME]
        arguments = [event.get("args", {}) for event in events]
        operations = Counter(each["hlo_op"] for each in arguments if "hlo_op" in each)
        # Operations of a loop are done more often.
        found.append((steps, Counter(operations.values()).most_common(1)[0][0]))
    return found


def test_a_trace_holds_its_steps_alone(tmp_path, capsys):
    """It begins after three steps; parameters and log are those of a run without it."""
    params, progress = train(tmp_path / "traced", 2)
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("trace of"))
    assert line.startswith(f"trace of steps 4 to 5: {tmp_path}/traced/profile/plugins/")
    assert line.endswith(f"xprof --logdir {tmp_path}/traced/profile)")
    assert read_traces(tmp_path / "traced") == [([4, 5], 2 * DEVICES)]
    plain_params, plain_progress = train(tmp_path / "plain", 0)
    assert not (tmp_path / "plain" / "profile").exists()
    assert equal(params, plain_params)
    assert progress == plain_progress
    assert numbers(tmp_path / "traced") == numbers(tmp_path / "plain")


def test_a_trace_ends_with_the_run(tmp_path, caplog):
    train(tmp_path, 100)
    assert caplog.messages == [
        "run.profile_steps = 100: the run has 6 steps left, and the trace leaves out the first 3 "
        "of them; it holds 3"
    ]
    assert read_traces(tmp_path) == [([4, 5, 6], 3 * DEVICES)]


def test_a_stop_ends_the_trace(tmp_path, caplog):
    """It holds the steps until then, and the resumed run has too few for another."""
    with pytest.raises(Stopped):
        train(tmp_path, 3, ("train", 5))
    assert read_traces(tmp_path) == [([4, 5], 2 * DEVICES)]
    train(tmp_path, 3)
    assert caplog.messages[-1].startswith("run.profile_steps = 3: the run has 1 steps left")
    assert caplog.messages[-1].endswith("it holds 0")
    assert len(read_traces(tmp_path)) == 1


def test_training_goes_on_without_the_trace(tmp_path, monkeypatch, caplog):
    real = jax.profiler.stop_trace

    def fail():
        real()
        raise OSError("no room")

    monkeypatch.setattr(jax.profiler, "stop_trace", fail)
    _, progress = train(tmp_path, 2)
    assert progress.step == 6
    assert caplog.messages == [f"{tmp_path}/profile: the trace was not written (no room)"]


def test_a_driver_may_refuse_to_profile(tmp_path, monkeypatch, caplog):
    def refuse(*args, **kwargs):
        raise RuntimeError("no right to profile")

    monkeypatch.setattr(jax.profiler, "start_trace", refuse)
    _, progress = train(tmp_path, 2)
    assert progress.step == 6
    assert caplog.messages == [f"{tmp_path}/profile: nothing is traced (no right to profile)"]


def test_the_folder_is_tested_before(tmp_path):
    (tmp_path / "profile").write_text("not a folder")
    with pytest.raises(InputError, match=r"profile: is a file; choose another folder with run"):
        train(tmp_path, 2)
