"""The phantom's data set: KiTS21's layout and rules, restartable, and refusals."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from processes import wait_until

from kitsjax.errors import InputError
from kitsjax.phantom import dataset
from kitsjax.phantom.case import VERSION, make_case
from kitsjax.phantom.dataset import DOMAINS, Domain, make_phantom
from kitsjax.processes import host_name, machine_id

MATRIX = 64
CASE_FILE = re.compile(
    r"imaging\.nii\.gz|aggregated_(MAJ|AND|OR)_seg\.nii\.gz|phantom\.json"
    r"|segmentations/(kidney|tumor|cyst)_instance-[1-9]_annotation-[123]\.nii\.gz"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three small cases, made by two processes."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    make_phantom(root, 3, MATRIX, seed=5, workers=2, progress=False)
    return root


def read(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_files_do_not_depend_on_workers(root):
    for n in range(3):
        case, folder = make_case(5, n, MATRIX), root / f"case_{n:05d}"
        np.testing.assert_array_equal(read(folder / "imaging.nii.gz"), case.image)
        for rule, label in case.labels.items():
            np.testing.assert_array_equal(read(folder / f"aggregated_{rule}_seg.nii.gz"), label)


def test_layout_and_geometry_are_those_of_kits21(root):
    assert sorted(p.name for p in root.iterdir()) == [
        *(f"case_{n:05d}" for n in range(3)),
        "phantom.json",
    ]
    for folder in root.glob("case_*"):
        files = [p for p in folder.rglob("*") if p.is_file()]
        names = [p.relative_to(folder).as_posix() for p in files]
        assert all(CASE_FILE.fullmatch(name) for name in names), names
        for kind in ("kidney", "tumor"):
            for annotation in (1, 2, 3):
                name = f"segmentations/{kind}_instance-1_annotation-{annotation}.nii.gz"
                assert name in names
        image = nib.load(folder / "imaging.nii.gz")
        assert image.get_data_dtype() == np.int16
        assert nib.aff2axcodes(image.affine) == ("I", "P", "L")
        z, y, x = image.header.get_zooms()
        assert 0.5 <= z <= 5
        assert x == y
        assert 350 <= image.shape[2] * x <= 450
        assert 180 - z <= image.shape[0] * z <= 260 + z
        for path in folder.rglob("*seg*/*.nii.gz"):
            mask = nib.load(path)
            assert mask.get_data_dtype() == np.uint8
            np.testing.assert_array_equal(mask.affine, image.affine)
            assert set(np.unique(read(path))) == {0, 1}


def test_merged_labels_follow_from_annotations(root):
    """KiTS21 votes on each instance, then paints all kidneys, cysts and tumors in this order."""
    for folder in root.glob("case_*"):
        votes: dict[tuple[str, str], int] = {}
        for path in (folder / "segmentations").iterdir():
            kind, instance = path.name.split("_")[:2]
            votes[kind, instance] = votes.get((kind, instance), 0) + read(path)
        for rule, least in (("MAJ", 2), ("AND", 3), ("OR", 1)):
            expected = np.zeros_like(read(folder / "aggregated_MAJ_seg.nii.gz"))
            for kind, value in (("kidney", 1), ("cyst", 3), ("tumor", 2)):
                for (name, _), count in votes.items():
                    if name == kind:
                        expected[count >= least] = value
            np.testing.assert_array_equal(read(folder / f"aggregated_{rule}_seg.nii.gz"), expected)
        low, middle, high = (
            read(folder / f"aggregated_{r}_seg.nii.gz") > 0 for r in ("AND", "MAJ", "OR")
        )
        assert (low <= middle).all()
        assert (middle <= high).all()
        assert low.sum() < middle.sum() < high.sum()


def fail_on_case_1(seed, n, matrix):
    if n == 1:
        raise KeyError("no such organ")
    return make_case(seed, n, matrix)


def test_one_case_fails_the_others_are_made(tmp_path, monkeypatch):
    monkeypatch.setitem(dataset.DOMAINS, "plain", Domain(VERSION, fail_on_case_1))
    data = tmp_path / "data"
    with pytest.raises(InputError, match=r"1 of 3 cases could not be made.*KeyError.*errors.log"):
        make_phantom(data, 3, 32, workers=1, progress=False)
    assert set(case_times(data)) == {"case_00000", "case_00002"}
    assert list(json.loads((data / "phantom.json").read_text())["cases"]) == [
        "case_00000", "case_00002",
    ]  # fmt: skip
    monkeypatch.undo()
    make_phantom(data, 3, 32, workers=1, progress=False)
    assert len(case_times(data)) == 3


PROGRAM = """
import sys
from kitsjax.phantom.dataset import DOMAINS, Domain, make_phantom
make_phantom(sys.argv[1], int(sys.argv[2]), 32, workers=1, progress=False)
"""


def start(folder, cases):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, folder, str(cases)])


def case_times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("case_*")}


def test_finished_cases_survive_a_kill(tmp_path):
    many, data = 40, tmp_path / "data"
    run = start(data, many)
    wait_until(lambda: len(case_times(data)) > 1, seconds=60)
    run.send_signal(signal.SIGKILL)
    run.wait()
    before = case_times(data)
    assert 2 <= len(before) < many
    leftover = f".{host_name()}-{machine_id()}-{run.pid}-01234567.partial.case_00999"
    (data / leftover / "segmentations").mkdir(parents=True)
    make_phantom(data, many, 32, workers=1, progress=False)
    assert not list(data.glob(".*"))
    after = case_times(data)
    assert len(after) == many
    assert after.items() >= before.items()
    for name in before:
        folder, expected = data / name, make_case(0, int(name[-5:]), 32)
        assert len(list((folder / "segmentations").iterdir())) == 3 * len(expected.instances)
        np.testing.assert_array_equal(read(folder / "imaging.nii.gz"), expected.image)


def test_two_runs_make_one_phantom(tmp_path):
    """The second asks for more cases; the record has those of both."""
    data = tmp_path / "data"
    runs = [start(data, cases) for cases in (10, 12)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    names = [f"case_{n:05d}" for n in range(12)]
    assert sorted(path.name for path in data.iterdir()) == [*names, "phantom.json"]
    assert list(json.loads((data / "phantom.json").read_text())["cases"]) == names


def test_first_of_two_makes_the_phantoms_case(tmp_path, monkeypatch):
    """Another process finishes the case while this one draws it."""

    def overtaken(*arguments):
        monkeypatch.setitem(dataset.DOMAINS, "plain", Domain(VERSION, make_case))
        make_phantom(tmp_path / "data", 1, 32, workers=1, progress=False)
        times.update(case_times(tmp_path / "data"))
        return make_case(*arguments)

    times = {}
    monkeypatch.setitem(dataset.DOMAINS, "plain", Domain(VERSION, overtaken))
    make_phantom(tmp_path / "data", 1, 32, workers=1, progress=False)
    assert list(times) == ["case_00000"]
    assert case_times(tmp_path / "data") == times


def test_phantoms_record_has_cases_made_meanwhile(root, tmp_path, monkeypatch):
    """Another process makes a case after this one has looked for cases to record."""
    make_phantom(tmp_path / "data", 1, MATRIX, seed=5, workers=1, progress=False)
    record, write = tmp_path / "data" / "phantom.json", dataset._write_json

    def overtaken(path, content):
        monkeypatch.undo()
        shutil.copytree(root / "case_00002", tmp_path / "data" / "case_00002")
        write(path, content)

    monkeypatch.setattr(dataset, "_write_json", overtaken)
    make_phantom(tmp_path / "data", 1, MATRIX, seed=5, workers=1, progress=False)
    assert list(json.loads(record.read_text())["cases"]) == ["case_00000", "case_00002"]


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "not seen"])
def test_phantom_begun_meanwhile_is_no_other_data(tmp_path, monkeypatch, seen):
    """Another process claims the folder and makes a case just when this one looks what is there."""

    def overtaken(folder):
        monkeypatch.undo()
        empty = list(folder.iterdir())
        make_phantom(folder, 1, 32, workers=1, progress=False)
        return folder.iterdir() if seen else iter(empty)

    monkeypatch.setattr(Path, "iterdir", overtaken)
    make_phantom(tmp_path / "data", 2, 32, workers=1, progress=False)
    assert len(case_times(tmp_path / "data")) == 2


def test_a_removed_case_is_made_again_alike(root, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    before = read(root / "case_00001" / "imaging.nii.gz")
    shutil.rmtree(tmp_path / "data" / "case_00001")
    make_phantom(tmp_path / "data", 3, MATRIX, seed=5, workers=1, progress=False)
    after = read(tmp_path / "data" / "case_00001" / "imaging.nii.gz")
    np.testing.assert_array_equal(after, before)
    record = (tmp_path / "data" / "phantom.json").read_text()
    assert record == (root / "phantom.json").read_text()


def test_another_phantom_or_other_data_is_refused(root, tmp_path):
    for wrong in ({"seed": 6, "matrix": MATRIX}, {"seed": 5, "matrix": 96}):
        with pytest.raises(InputError, match="holds a phantom of"):
            make_phantom(root, 1, progress=False, **wrong)
    with pytest.raises(InputError, match="holds a phantom of domain plain, not wide"):
        make_phantom(root, 1, MATRIX, seed=5, progress=False, domain="wide")
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match="holds other data"):
        make_phantom(tmp_path, 1, MATRIX, progress=False)
    (tmp_path / "phantom.json").write_text("[")
    with pytest.raises(InputError, match="not the record of a phantom"):
        make_phantom(tmp_path, 1, MATRIX, progress=False)
    with pytest.raises(InputError, match="cannot write the phantom"):
        make_phantom(tmp_path / "photo.jpg" / "data", 1, MATRIX, progress=False)


def test_a_case_without_its_record_is_named(root, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    record = tmp_path / "data" / "case_00001" / "phantom.json"
    record.unlink()
    with pytest.raises(InputError, match=f"^{record}: cannot read the record .*; remove"):
        make_phantom(tmp_path / "data", 3, MATRIX, seed=5, workers=1, progress=False)


def test_records_without_a_domain_are_plain(root, tmp_path):
    """Earlier versions knew one domain and did not name it."""
    shutil.copytree(root, tmp_path / "data")
    path = tmp_path / "data" / "phantom.json"
    record = json.loads(path.read_text())
    assert record.pop("domain") == "plain"
    path.write_text(json.dumps(record))
    make_phantom(tmp_path / "data", 3, MATRIX, seed=5, progress=False)
    assert json.loads(path.read_text())["domain"] == "plain"


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domains_cases_are_those_on_the_disk(domain, tmp_path):
    """Each on its own, with what it shows in its record; one without kidneys has none."""
    make_phantom(tmp_path / "data", 3, 48, workers=2, progress=False, domain=domain)
    for n in range(3):
        case, folder = DOMAINS[domain].make_case(0, n, 48), tmp_path / "data" / f"case_{n:05d}"
        np.testing.assert_array_equal(read(folder / "imaging.nii.gz"), case.image)
        label = read(folder / "aggregated_MAJ_seg.nii.gz")
        np.testing.assert_array_equal(label, case.labels["MAJ"])
        record = json.loads((folder / "phantom.json").read_text())
        assert record["features"] == list(case.features)
        # Three annotators who find no kidney draw an empty mask each.
        masks = list((folder / "segmentations").iterdir())
        assert len(masks) == 3 * max(len(case.instances), 1)
        assert case.instances or not any(read(mask).any() for mask in masks)


def test_a_full_disk_is_refused_in_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset, "_write_nifti", full)
    with pytest.raises(InputError, match="No space left on device"):
        make_phantom(tmp_path / "data", 1, MATRIX, progress=False)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["phantom.json"]
