from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmarks import recipes
from kitsjax.config import load_settings
from kitsjax.errors import InputError
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.evaluate.results import Evaluation, Failure, Score
from kitsjax.evaluate.write_results import write_evaluation
from kitsjax.labels import KITS, MAJORITY
from kitsjax.training_log import LOG_NAME


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_recipes_change_the_base(name):
    """A recipe of prediction uses another's model, and changes nothing of training."""
    recipe = recipes.RECIPES[name]
    base = list(recipes.RECIPES[recipes.BASE].training)
    changed = load_settings(None, [*base, *recipe.training, *recipe.prediction])
    assert (changed != load_settings(None, base)) == (name != recipes.BASE)
    assert all(option.startswith("predict.") for option in recipe.prediction)
    assert bool(recipe.trained_as) == bool(recipe.prediction) == (not recipe.training)


def write_run(work, name, seed, seconds, dice):
    """Write what a run leaves: an epoch of `seconds` and slower ones, a Dice of each case."""
    run = work / f"{name}-{seed}"
    run.mkdir(parents=True, exist_ok=True)
    rows = [
        f'{{"kind": "epoch", "epoch": {n}, "step": {n}, "seconds": {99 if n != 3 else seconds}}}\n'
        for n in (1, 2, 3, 4)
    ]
    (run / LOG_NAME).write_text("".join(rows))
    for cases in ("others", "phantom"):
        scores = [
            Score(f"case_{n:05}", c, MAJORITY, 1, value, value / 2, 1.0, 1.0, 1.0, 1)
            for n, value in enumerate(dice)
            for c in KITS.evaluation_keys
        ]
        folder = recipes.score_folder(work, name, seed, cases)
        write_evaluation(folder, Evaluation(tuple(scores)))


def test_rows_compare_with_the_base(tmp_path):
    """The interval is that of the cases' differences, whose mean over seeds is taken first."""
    for seed, shift in ((0, 0.0), (1, 0.2)):
        write_run(tmp_path, "base", seed, 2.0, [0.1, 0.3, 0.5 + shift])
        # Ahead by 0.1 in each case, in one seed more and in one less.
        write_run(tmp_path, "regions", seed, 3.0, [0.1 + shift, 0.3 + shift, 0.5 + 2 * shift])
    base, regions = recipes.make_rows(tmp_path, ["base", "regions"], [0, 1])
    assert base[:4] == ["base", "1.00", "0.333", "0.167"]
    assert regions[:3] == ["regions", "1.50", "0.433 (+0.100, +0.100)"]
    assert regions[3] == "0.217 (+0.050, +0.050)"
    # The six cases have no interval.
    assert regions[8:] == ["0.433", "0.217"] * 3


def test_only_what_is_not_there_is_made(tmp_path, monkeypatch):
    """A finished run is not trained again, and its own scores are those of the six cases."""
    commands = []
    monkeypatch.setattr(recipes, "_command", lambda core, *words: commands.append(words))
    recipes.train_and_score(tmp_path, "regions", 3, core=0)
    train, predict = (next(c for c in commands if c[0] == n) for n in ("train", "predict"))
    assert {"loss.regions=true", "train.seed=3"} <= set(train)
    assert predict[predict.index("--model") + 1] == tmp_path / "regions-3"
    assert predict[predict.index("--input") + 1] == tmp_path / "others"
    commands.clear()
    write_run(tmp_path, "base", 3, 1.0, [0.5])
    (tmp_path / "base-3" / "summary.json").touch()
    recipes.train_and_score(tmp_path, "base", 3, core=0)
    assert commands == []
    recipes.train_and_score(tmp_path, "label", 3, core=0)
    assert [c[0] for c in commands] == ["predict", "evaluate"] * 2
    assert all('predict.resample="label"' in c for c in commands[::2])


@pytest.mark.parametrize("how", ["half written", "a case failed", "a case is missing"])
def test_scores_of_some_cases_are_made_again(tmp_path, monkeypatch, how):
    """An evaluation may have been stopped, or have left out a case that could not be read."""
    commands = []
    monkeypatch.setattr(recipes, "_command", lambda core, *words: commands.append(words[0]))
    write_run(tmp_path, "base", 0, 1.0, [0.5])
    (tmp_path / "base-0" / "summary.json").touch()
    folder = recipes.score_folder(tmp_path, "base", 0, "others")
    if how == "half written":
        (folder / "evaluation.json").unlink()
    else:
        found = read_evaluation(folder)
        failed = (Failure("case_00007", "damaged"),) if how == "a case failed" else ()
        missing = () if failed else ("case_00007",)
        write_evaluation(folder, replace(found, failures=failed, missing=missing))
    recipes.train_and_score(tmp_path, "base", 0, core=0)
    assert commands == ["predict", "evaluate"]


def test_a_command_that_fails_is_one_line(tmp_path, monkeypatch):
    """The command itself has told why."""
    done = SimpleNamespace(returncode=2)
    monkeypatch.setattr(recipes.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(InputError, match=r"bin/train\.py: exit status 2, as told above"):
        recipes._command(0, "train", "--config", tmp_path / "none.toml")
