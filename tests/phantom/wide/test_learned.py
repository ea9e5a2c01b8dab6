"""The wide phantom as a data set to learn from: cases without any kidney are no obstacle."""

import json

import numpy as np
import pytest

from kitsjax.data.kits import find_cases
from kitsjax.data.patches import draw_start
from kitsjax.evaluate.evaluation import BOTH, evaluate
from kitsjax.image.read_nifti import read_label
from kitsjax.image.write_nifti import write_label
from kitsjax.prepare import prepare_data
from kitsjax.settings import DataSettings, PhantomSettings, PreprocessSettings


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The first four cases of seed 0, which are a pelvis twice, a chest, and an abdomen."""
    root = tmp_path_factory.mktemp("wide") / "data"
    data = DataSettings(root=str(root), make_phantom=True, workers=2)
    phantom = PhantomSettings(cases=4, matrix=64, domain="wide")
    preprocess = PreprocessSettings(
        spacing_mm=6.0, normalize="fixed", intensities=(-160.0, 304.0, -102.0, 100.0)
    )
    return root, prepare_data(data, phantom, preprocess)


def test_all_are_preprocessed_and_sampled(prepared):
    """A foreground patch of a case without foreground lies anywhere within it."""
    _, data_set = prepared
    cases = list(data_set.preprocessed.values())
    assert [bool(case.present) for case in cases] == [False, False, False, True]
    rng, patch = np.random.default_rng(0), (16, 16, 16)
    for case in cases[:3]:
        start = draw_start(rng, case, patch, foreground=True)
        spans = zip(start, patch, case.shape, strict=True)
        assert all(s >= 0 and s + p <= max(n, p) for s, p, n in spans if n >= p)


def test_all_are_scored_against_both_truths(prepared, tmp_path):
    """An empty mask of a case without kidneys is right, a full one wrong."""
    root, _ = prepared
    cases = find_cases(root)
    for number, case in enumerate(cases[:2]):
        label = read_label(case.label)
        mask = np.full_like(label.array, number)
        write_label(tmp_path / f"{case.case_id}.nii.gz", mask, label.grid.header)
    found = evaluate(cases[:2], tmp_path, BOTH, workers=1, log_folder=tmp_path / "log")
    assert not found.failures
    for score in found.scores:
        if score.evaluation_class == "kidney_and_mass":
            assert score.dice == (1 if score.case_id == "case_00000" else 0)
    assert {score.against for score in found.scores} == set(BOTH)


def test_records_say_what_each_case_shows(prepared):
    root, _ = prepared
    records = json.loads((root / "phantom.json").read_text())["cases"]
    assert [record["features"][0] for record in records.values()] == [
        "pelvis", "pelvis", "chest", "abdomen and pelvis",
    ]  # fmt: skip
