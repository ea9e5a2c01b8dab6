"""What a run still holds in memory when it predicts."""

import weakref
from functools import partialmethod
from types import SimpleNamespace

from test_loop import SETTINGS, Streams

from kitsjax.config import override_settings
from kitsjax.data.split import Split
from kitsjax.train import run as run_module
from kitsjax.train.loop import TrainingLoop
from kitsjax.train.run import run_together


def test_training_is_gone_when_prediction_begins(tmp_path, monkeypatch):
    """Its parameters, its optimizer's state and its batches would take the prediction's memory."""
    settings = override_settings(SETTINGS, ["train.epochs=1", f"run.folder={tmp_path}"])
    made, seen = [], []

    def make_loop(*_):
        loop = TrainingLoop(settings, tmp_path, [], [])
        made.append(weakref.ref(loop))
        return loop

    def predict_and_score(*_):
        seen.extend(loop() for loop in made)
        return 0

    monkeypatch.setattr(TrainingLoop, "fit", partialmethod(TrainingLoop.fit, Streams()))
    monkeypatch.setattr(run_module, "prepare_together", lambda _: SimpleNamespace(cases=[]))
    monkeypatch.setattr(run_module, "choose_split", lambda *_: Split((), ()))
    monkeypatch.setattr(run_module, "_complete_settings", lambda *_: settings)
    monkeypatch.setattr(run_module, "make_loop", make_loop)
    monkeypatch.setattr(run_module, "compile_loop", lambda *_: None)
    monkeypatch.setattr(run_module, "_predict_and_score", predict_and_score)
    assert run_together(settings, False, None, None) == 0
    assert seen == [None]
