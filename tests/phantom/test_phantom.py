"""The phantom: KiTS21's layout and rules, seeded, restartable, and no gift to a threshold."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from kitsjax.errors import InputError
from kitsjax.labels import EVALUATION_CLASSES
from kitsjax.phantom import case as phantom
from kitsjax.phantom.case import make_case, make_phantom
from kitsjax.phantom.painting import Scene, ellipsoid

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


@pytest.fixture(scope="module")
def cases():
    return [make_case(0, n, 96) for n in range(8)]


def read(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_case_follows_from_seed_number_and_matrix():
    one, same = make_case(3, 1, MATRIX), make_case(3, 1, MATRIX)
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.labels["MAJ"], same.labels["MAJ"])
    assert one.spacing_mm == same.spacing_mm
    for other in (make_case(4, 1, MATRIX), make_case(3, 2, MATRIX)):
        assert other.spacing_mm != one.spacing_mm


def test_files_do_not_depend_on_the_number_of_workers(root):
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


def test_merged_labels_follow_from_the_annotations(root):
    """Rules of kits21: votes an instance, OR over instances, painted kidney, cyst, tumor."""
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


@pytest.mark.parametrize("n", range(6))
def test_every_patient_has_kidneys_and_a_tumor_that_annotators_see_alike(n):
    case = make_case(11, n, 96)
    kinds = [instance.kind for instance in case.instances]
    assert 1 <= kinds.count("kidney") <= 2
    assert kinds.count("tumor") >= 1
    assert set(np.unique(case.labels["MAJ"])) <= {0, 1, 2, 3}
    for instance in case.instances:
        for a, b in ((0, 1), (0, 2), (1, 2)):
            agreement = dice(instance.masks[a], instance.masks[b])
            assert agreement > (0.6 if instance.kind == "cyst" else 0.85)
            assert agreement < 1 or instance.kind != "kidney"
    milliliters = (case.labels["MAJ"] > 0).sum() * np.prod(case.spacing_mm) / 1000
    assert 120 < milliliters < 900


def test_tissues_have_their_hounsfield_units(cases):
    tissue = {1: [], 2: [], 3: []}
    for case in cases:
        assert case.image.min() >= -1024
        # Fat, the most frequent tissue far below water.
        values = np.bincount(np.clip(case.image.ravel(), -200, 0) + 200, minlength=201)
        assert (
            -125 < np.argmax(ndimage.uniform_filter1d(values[1:-30].astype(float), 9)) - 199 < -75
        )
        assert np.median(case.image[:, 0]) == pytest.approx(-1000, abs=15)
        means = {}
        for label, found in tissue.items():
            inside = ndimage.binary_erosion(case.labels["AND"] == label, iterations=1)
            if inside.sum() > 20:
                means[label] = case.image[inside].mean()
                found.append(means[label])
        assert means[1] > means.get(2, 0) + 10
    assert 90 < np.mean(tissue[1]) < 190
    assert 35 < np.mean(tissue[2]) < 120
    assert -10 < np.mean(tissue[3]) < 30


def test_no_threshold_finds_the_classes(cases):
    """The best window of HU over all voxels, the data's own included, stays far from a network."""
    hu = np.concatenate([np.clip(c.image, -200, 500).ravel() for c in cases]).astype(int) + 200
    label = np.concatenate([c.labels["MAJ"].ravel() for c in cases])
    everything = np.r_[0, np.bincount(hu, minlength=701).cumsum()]
    for name, evaluation in EVALUATION_CLASSES.items():
        truth = np.isin(label, evaluation.labels)
        hits = np.r_[0, np.bincount(hu[truth], minlength=701).cumsum()]
        overlap = np.triu(hits[None] - hits[:, None])
        size = np.triu(everything[None] - everything[:, None])
        assert (2 * overlap / (size + truth.sum())).max() < 0.35, name


def test_finished_cases_survive_a_kill(tmp_path):
    program = (
        "from kitsjax.phantom.case import make_phantom;"
        f"make_phantom({str(tmp_path / 'data')!r}, 99, {MATRIX}, workers=1, progress=False)"
    )
    run = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60
    while not (tmp_path / "data" / "case_00001").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    cases = sorted((tmp_path / "data").glob("case_*"))
    assert 2 <= len(cases) < 99
    dates = {case.name: case.stat().st_mtime_ns for case in cases}
    (tmp_path / "data" / ".1.partial.case_00098" / "segmentations").mkdir(parents=True)
    make_phantom(tmp_path / "data", len(cases) + 1, MATRIX, workers=1, progress=False)
    assert not list((tmp_path / "data").glob(".*"))
    for n in range(len(cases) + 1):
        folder = tmp_path / "data" / f"case_{n:05d}"
        assert dates.get(folder.name, folder.stat().st_mtime_ns) == folder.stat().st_mtime_ns
        expected = make_case(0, n, MATRIX)
        assert len(list((folder / "segmentations").iterdir())) == 3 * len(expected.instances)
        np.testing.assert_array_equal(read(folder / "imaging.nii.gz"), expected.image)


def test_another_phantom_or_other_data_is_refused(root, tmp_path):
    for wrong in ({"seed": 6, "matrix": MATRIX}, {"seed": 5, "matrix": 96}):
        with pytest.raises(InputError, match="holds a phantom of"):
            make_phantom(root, 1, progress=False, **wrong)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match="holds other data"):
        make_phantom(tmp_path, 1, MATRIX, progress=False)
    (tmp_path / "phantom.json").write_text("[")
    with pytest.raises(InputError, match="not a phantom's record"):
        make_phantom(tmp_path, 1, MATRIX, progress=False)
    with pytest.raises(InputError, match="cannot hold the phantom"):
        make_phantom(tmp_path / "photo.jpg" / "data", 1, MATRIX, progress=False)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(phantom, "_write_nifti", full)
    with pytest.raises(InputError, match="No space left on device"):
        make_phantom(tmp_path / "data", 1, MATRIX, progress=False)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["phantom.json"]


@pytest.mark.parametrize("spacing_mm", [(1.0, 0.8, 0.8), (5.0, 0.8, 0.8), (3.0, 6.0, 6.0)])
def test_painting_keeps_volume_and_place(spacing_mm):
    """Partial volume: a ball painted 0 in air keeps its volume and centroid to a few percent."""
    shape = tuple(int(100 / h) for h in spacing_mm)
    first = tuple(-h * (n - 1) / 2 for h, n in zip(spacing_mm, shape, strict=True))
    scene = Scene(np.random.default_rng(0), shape, spacing_mm, first, (60, 60, 60))
    center, radius = np.array([3.3, -7.1, 5.2]), 21.0
    straight = np.stack(np.meshgrid(*scene.lattice, indexing="ij"))
    ball = ellipsoid(straight, center, (radius,) * 3)
    scene.paint(ball, scene.everywhere, 0.0)
    share = 1 + scene.image / 1000
    assert share.min() == 0
    assert share.max() == 1
    assert share.sum() * np.prod(spacing_mm) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
    centroid = np.array(ndimage.center_of_mass(share)) * spacing_mm + first
    np.testing.assert_allclose(centroid, center, atol=0.15)
    box, inside = scene.to_voxels(ball, scene.everywhere)
    assert dice(inside < 0, share[box] > 0.5) > 0.98


def test_a_removed_case_is_made_again_alike(root, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    before = read(root / "case_00001" / "imaging.nii.gz")
    shutil.rmtree(tmp_path / "data" / "case_00001")
    make_phantom(tmp_path / "data", 3, MATRIX, seed=5, workers=1, progress=False)
    after = read(tmp_path / "data" / "case_00001" / "imaging.nii.gz")
    np.testing.assert_array_equal(after, before)
    record = (tmp_path / "data" / "phantom.json").read_text()
    assert record == (root / "phantom.json").read_text()
