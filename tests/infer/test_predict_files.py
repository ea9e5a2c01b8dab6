import dataclasses
import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import nibabel
import numpy as np
import pytest
from threshold_model import bright_cube, threshold_model
from voxel_models import Positional, random_image, voxel_model

from kitsjax.errors import InputError
from kitsjax.image.header import kits_header
from kitsjax.image.read_nifti import read_volume
from kitsjax.image.write_nifti import write_label, write_volume
from kitsjax.infer.find_inputs import find_inputs
from kitsjax.infer.predict import segment
from kitsjax.infer.predict_files import best_cpu_devices, predict_files
from kitsjax.infer.predict_slabs import predict_slabs
from kitsjax.process_pool import cores


def test_masks_have_the_grid_of_their_ct(tmp_path):
    """Bad files among the CTs are listed, and the others are written."""
    header = kits_header((20, 30, 30), (3.0, 1.0, 1.0))
    folder, output = tmp_path / "in", tmp_path / "deep" / "out"
    folder.mkdir()
    for name in ("b.nii.gz", "d.nii.gz"):
        write_volume(folder / name, bright_cube(), header)
    (folder / "a.nii.gz").write_text("no NIfTI")
    packed = (folder / "d.nii.gz").read_bytes()
    (folder / "c.nii").write_bytes(packed[: len(packed) // 2])
    (folder / "notes.txt").write_text("no CT")
    model = threshold_model()
    files = find_inputs(folder, output)
    failures = predict_files(model, files, probabilities=True)
    assert [path.name for path, _ in failures] == ["a.nii.gz", "c.nii"]
    assert all(str(path) in message for path, message in failures)
    masks = {"b.nii.gz", "d.nii.gz", "b_probabilities.nii.gz", "d_probabilities.nii.gz"}
    assert {path.name for path in output.iterdir()} == masks
    expected = segment(model, read_volume(folder / "d.nii.gz")).array
    mask = read_volume(output / "d.nii.gz")
    np.testing.assert_array_equal(mask.array, expected)
    np.testing.assert_array_equal(mask.header.nifti["sform_code"], header.nifti["sform_code"])
    np.testing.assert_array_equal(mask.affine, read_volume(folder / "d.nii.gz").affine)
    probabilities = read_probabilities(output / "d_probabilities.nii.gz")
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(-1), expected)


def test_masks_of_nrrd_and_metaimage_are_nifti(tmp_path):
    """A CT gives the same mask in each format, as NIfTI; ITK finds it on the CT's grid."""
    sitk = pytest.importorskip("SimpleITK", reason="the extra itk is not installed")
    image = sitk.GetImageFromArray(bright_cube())
    image.SetSpacing((1.0, 1.0, 3.0))
    image.SetOrigin((5.0, -6.0, 7.0))
    for name in ("a.nii.gz", "b.nrrd", "c_0000.mha"):
        sitk.WriteImage(image, str(tmp_path / name), True)
    assert predict_files(threshold_model(), find_inputs(tmp_path, tmp_path / "out")) == []
    masks = [sitk.ReadImage(str(tmp_path / "out" / f"{name}.nii.gz")) for name in "abc"]
    first, *others = (sitk.GetArrayFromImage(mask) for mask in masks)
    assert first.any()
    for mask, array in zip(masks[1:], others, strict=True):
        np.testing.assert_array_equal(array, first)
        np.testing.assert_allclose(mask.GetOrigin(), image.GetOrigin(), atol=1e-5)
        np.testing.assert_allclose(mask.GetDirection(), image.GetDirection(), atol=1e-6)


def test_both_ways_back_are_those_of_segment(tmp_path):
    """Masks with and without probabilities are `segment`'s, and the argmax of these."""
    source, target = tmp_path / "ct.nii.gz", tmp_path / "mask.nii.gz"
    write_volume(source, random_image((14, 30, 26)), kits_header((14, 30, 26), (4.0, 1.0, 1.2)))
    masks = []
    for resample in ("label", "probability"):
        model = voxel_model(Positional())
        settings = model.predict.model_copy(update={"resample": resample})
        model = dataclasses.replace(model, predict=settings)
        expected = segment(model, read_volume(source)).array
        unsure = settings.model_copy(update={"least_lesion_certainty": 0.85})
        surer = segment(dataclasses.replace(model, predict=unsure), read_volume(source)).array
        assert (surer != expected).any()
        for with_probabilities in (False, True):
            for chosen, mask in ((unsure, surer), (settings, expected)):
                files = [(source, target)]
                assert predict_files(model, files, chosen, probabilities=with_probabilities) == []
                np.testing.assert_array_equal(read_volume(target).array, mask)
        by_class = read_probabilities(tmp_path / "mask_probabilities.nii.gz")
        np.testing.assert_allclose(by_class.sum(-1), 1, atol=1e-6)
        np.testing.assert_array_equal(by_class.argmax(-1), expected)
        masks.append(expected)
    assert (masks[0] != masks[1]).mean() > 0.05


def read_probabilities(path):
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.float32
    return np.asanyarray(image.dataobj)


@pytest.mark.parametrize("where", ["read_volume", "write_label"])
def test_no_exception_takes_other_files_along(cts, tmp_path, monkeypatch, where):
    """Whatever is raised for a file is its line: class, file, and where the traceback is."""
    module = {
        "read_volume": "kitsjax.infer.predict_files",
        "write_label": "kitsjax.infer.outputs",
    }[where]
    real = {"read_volume": read_volume, "write_label": write_label}[where]

    def failing(path, *args, **kwargs):
        if path.name == "b.nii.gz":
            raise KeyError("no such unit")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(f"{module}.{where}", failing)
    out = tmp_path / "out"
    ((path, line),) = predict_files(threshold_model(), find_inputs(cts, out))
    assert path == cts / "b.nii.gz"
    log = out / "errors.log"
    assert line == f"{path}: KeyError: 'no such unit'; the full traceback is in {log}"
    assert {p.name for p in out.iterdir()} == {"a.nii.gz", "c.nii.gz", "errors.log"}
    assert "in failing" in log.read_text()


def test_lack_of_memory_names_what_needs_less(cts, tmp_path, monkeypatch):
    """It is no error of the program; another error of JAX still is one."""
    message = "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nBFC arena"

    def failing(*args, **kwargs):
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr("kitsjax.infer.window_program.predict_windows", failing)
    files, log = find_inputs(cts, tmp_path / "out"), tmp_path / "out" / "errors.log"
    for path, line in predict_files(threshold_model(), files):
        assert line == (
            f"{path}: the device is out of memory (RESOURCE_EXHAUSTED: Out of memory allocating 9 "
            "bytes.); set predict.batch_size=1, a smaller predict.bucket or, on a CPU, "
            "run.cpu_devices=1"
        )
    assert not log.exists()
    with pytest.raises(InputError, match=r"the CT: the device is out of memory .*batch_size=1"):
        segment(threshold_model(), read_volume(cts / "a.nii.gz"))
    message = "INTERNAL: broken"
    failures = predict_files(threshold_model(), files)
    assert len(failures) == 3
    assert all(
        line.endswith(f"INTERNAL: broken; the full traceback is in {log}") for _, line in failures
    )


def test_destinations_are_tested_before_reading(cts, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        "kitsjax.infer.predict_files.read_volume",
        lambda path: read.append(path.name) or read_volume(path),
    )
    (tmp_path / "file").write_text("not a folder")
    failures = predict_files(threshold_model(), find_inputs(cts, tmp_path / "file"))
    assert [path.name for path, _ in failures] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    assert all("file: is a file; choose another folder with --output" in m for _, m in failures)
    assert (tmp_path / "file").read_text() == "not a folder"
    out = tmp_path / "out"
    (out / "a.nii.gz").mkdir(parents=True)
    (out / "b_probabilities.nii.gz").mkdir()
    failures = predict_files(threshold_model(), find_inputs(cts, out), probabilities=True)
    assert [path.name for path, _ in failures] == ["a.nii.gz", "b.nii.gz"]
    assert all("is a folder, and a file will be written" in m for _, m in failures)
    assert read == ["c.nii.gz"]


def test_a_mask_waits_for_no_other_ct(cts, tmp_path, monkeypatch):
    """A mask is written once its own slabs are there, before the first slab of the next CT."""
    out = tmp_path / "out"
    seen = []

    def predict_one_by_one(*args):
        previous = None
        for case, slab in predict_slabs(*args):
            if previous not in (None, case):
                mask, until = previous.file[1], time.monotonic() + 60
                while not mask.exists() and time.monotonic() < until:
                    time.sleep(0.01)
                seen.append(mask.exists())
            previous = case
            yield case, slab

    monkeypatch.setattr("kitsjax.infer.predict_files.predict_slabs", predict_one_by_one)
    assert predict_files(threshold_model(), find_inputs(cts, out)) == []
    assert seen == [True, True]


def test_leftovers_of_a_killed_prediction_go(cts, tmp_path):
    out = tmp_path / "out"
    script = (
        "import os, sys\n"
        "from kitsjax.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as temporary:\n"
        "    temporary.touch()\n"
        "    os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", script, out / "a.nii.gz"], check=False)
    assert len(list(out.glob(".*"))) == 1
    assert predict_files(threshold_model(), find_inputs(cts, out)) == []
    assert sorted(path.name for path in out.iterdir()) == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]


@pytest.fixture
def cts(tmp_path):
    """A folder of three CTs."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        header = kits_header((20, 30, 30), (3.0, 1.0, 1.0))
        write_volume(folder / f"{name}.nii.gz", bright_cube(), header)
    return folder


@pytest.fixture
def predicted(monkeypatch):
    """The names of the masks that were predicted and written since the list was last cleared."""
    names = []

    def record(path, *args, **kwargs):
        names.append(path.name.removesuffix(".nii.gz"))
        write_label(path, *args, **kwargs)

    monkeypatch.setattr("kitsjax.infer.outputs.write_label", record)
    return names


def other_model():
    model = threshold_model()
    return dataclasses.replace(model, params={"cut": model.params["cut"] + 1})


def unclipped_model():
    model = threshold_model()
    preprocess = model.preprocess.model_copy(update={"hu_range": ()})
    return dataclasses.replace(model, preprocess=preprocess)


def test_continue_leaves_what_is_current(cts, tmp_path, predicted, caplog):
    """Without it everything is predicted again; a note says how many masks were left."""
    model, files = threshold_model(), find_inputs(cts, tmp_path / "out")
    assert predict_files(model, files) == []
    key = nibabel.load(tmp_path / "out/a.nii.gz").header["descrip"].item()
    assert len(key) <= 80
    assert key.startswith(b"kitsjax ")
    predicted.clear()
    assert predict_files(model, files, keep_current=True) == []
    assert predicted == []
    assert caplog.messages == [
        f"{tmp_path / 'out'}: 3 of 3 masks are whole and current, and left as they were"
    ]
    assert predict_files(model, files) == []
    assert sorted(predicted) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("make_model", "update"),
    [
        (other_model, {}),
        (unclipped_model, {}),
        (lambda: [threshold_model(), other_model()], {}),
        (threshold_model, {"mirror": True}),
        (threshold_model, {"resample": "probability"}),
        (threshold_model, {"least_lesion_certainty": 0.1}),
    ],
    ids=["parameters", "preprocessing", "ensemble", "mirror", "resample", "certainty"],
)
def test_continue_sees_another_model(cts, tmp_path, predicted, make_model, update):
    model, files = threshold_model(), find_inputs(cts, tmp_path / "out")
    predict_files(model, files)
    predicted.clear()
    settings = model.predict.model_copy(update=update)
    predict_files(make_model(), files, settings, keep_current=True)
    assert sorted(predicted) == ["a", "b", "c"]
    predict_files(make_model(), files, settings, keep_current=True)
    assert sorted(predicted) == ["a", "b", "c"]


def test_a_new_format_is_predicted_again(cts, tmp_path, predicted, monkeypatch):
    """A version of kitsjax that makes other voxels keeps no mask of an older one."""
    model, files = threshold_model(), find_inputs(cts, tmp_path / "out")
    predict_files(model, files)
    predicted.clear()
    monkeypatch.setattr("kitsjax.infer.current_masks.FORMAT", 2)
    predict_files(model, files, keep_current=True)
    assert sorted(predicted) == ["a", "b", "c"]


def test_continue_overlooks_how_it_is_computed(cts, tmp_path, predicted):
    model, files = threshold_model(), find_inputs(cts, tmp_path / "out")
    predict_files(model, files)
    predicted.clear()
    for update in ({"batch_size": 3}, {"bucket": 32}):
        settings = model.predict.model_copy(update=update)
        predict_files(model, files, settings, keep_current=True)
    portable, half = (
        dataclasses.replace(model, network=model.network.clone(**change))
        for change in ({"implementation": "portable"}, {"dtype": jnp.dtype("bfloat16")})
    )
    predict_files(portable, files, keep_current=True)
    assert predicted == []
    predict_files(half, files, keep_current=True)
    assert sorted(predicted) == ["a", "b", "c"]


def touch(source, mask):
    os.utime(source)


def cut_short(source, mask):
    mask.write_bytes(mask.read_bytes()[:-20])


def remove(source, mask):
    mask.unlink()


def forget(source, mask):
    write_volume(mask, read_volume(mask).array.astype(np.uint8), read_volume(source).header)


def shift(source, mask):
    """Keep the key, but move the grid."""
    image = nibabel.load(mask)
    array, header = np.asanyarray(image.dataobj), image.header
    affine = image.affine + np.array([[0, 0, 0, 40.0]] + 3 * [[0, 0, 0, 0]])
    nibabel.save(nibabel.Nifti1Image(array, affine, header), mask)


@pytest.mark.parametrize("change", [touch, cut_short, remove, forget, shift])
def test_continue_sees_what_changed(cts, tmp_path, predicted, change):
    model, files = threshold_model(), find_inputs(cts, tmp_path / "out")
    predict_files(model, files)
    expected = (tmp_path / "out" / "b.nii.gz").read_bytes()
    predicted.clear()
    change(*files[1])
    assert predict_files(model, files, keep_current=True) == []
    assert predicted == ["b"]
    if change is not touch:
        assert (tmp_path / "out" / "b.nii.gz").read_bytes() == expected


def pack_fewer_bytes(source, mask):
    mask.write_bytes(gzip.compress(gzip.decompress(mask.read_bytes())[:-16]))


@pytest.mark.parametrize("damage", [cut_short, pack_fewer_bytes])
def test_continue_wants_whole_probabilities(cts, tmp_path, predicted, damage):
    model, files = threshold_model(), find_inputs(cts, tmp_path / "out")
    predict_files(model, files)
    predicted.clear()
    for expected in (["a", "b", "c"], []):
        predict_files(model, files, probabilities=True, keep_current=True)
        assert sorted(predicted) == expected
        predicted.clear()
    path = tmp_path / "out" / "b_probabilities.nii.gz"
    damage(None, path)
    predict_files(model, files, probabilities=True, keep_current=True)
    assert predicted == ["b"]
    assert read_probabilities(path).shape[-1] == 4
    # The mask itself is current either way.
    predict_files(model, files, keep_current=True)
    assert predicted == ["b"]


def test_what_cannot_be_read_is_a_plain_line(cts, tmp_path):
    """A mistake of the user is no unforeseen error, and the other files are predicted."""
    (cts / "gone.nii.gz").symlink_to("nowhere")
    (cts / "loop.nii.gz").symlink_to("loop.nii.gz")
    os.mkfifo(cts / "pipe.nii.gz")
    files = find_inputs(cts, tmp_path / "out")
    files += [(cts / "absent.nii.gz", tmp_path / "out" / "absent.nii.gz")]
    failures = dict(predict_files(threshold_model(), files))
    assert {path.name: line.split("; ")[0] for path, line in failures.items()} == {
        "gone.nii.gz": f"{cts / 'gone.nii.gz'}: is a link that leads nowhere",
        "loop.nii.gz": f"{cts / 'loop.nii.gz'}: is a link that leads nowhere",
        "pipe.nii.gz": f"{cts / 'pipe.nii.gz'}: is not a file",
        "absent.nii.gz": f"{cts / 'absent.nii.gz'}: no such file",
    }
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"a.nii.gz", "b.nii.gz", "c.nii.gz"}


def test_a_pipe_among_the_masks_is_not_read(cts, tmp_path, predicted):
    model, files = threshold_model(), find_inputs(cts, tmp_path / "out", probabilities=True)
    (tmp_path / "out").mkdir()
    for name in ("a", "a_probabilities"):
        os.mkfifo(tmp_path / "out" / f"{name}.nii.gz")
    assert predict_files(model, files[:1], probabilities=True) == []
    (tmp_path / "out" / "a_probabilities.nii.gz").unlink()
    os.mkfifo(tmp_path / "out" / "a_probabilities.nii.gz")
    assert predict_files(model, files[:1], probabilities=True, keep_current=True) == []
    assert predicted == ["a", "a"]


@pytest.mark.parametrize("asked", [None, 3])
def test_the_command_uses_every_core(asked):
    root = Path(__file__).parents[2]
    override = ["--set", f"run.cpu_devices={asked}"] if asked else []
    command = [sys.executable, root / "bin/predict.py", "--print-config", *override]
    command += ["--model", root / "notebooks/phantom.safetensors"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert f"cpu_devices = {asked or min(cores(), 8)}\n" in done.stdout
    assert best_cpu_devices() == min(cores(), 8)


def test_probabilities_leave_no_other_file(cts, tmp_path, monkeypatch):
    """Meanwhile they lie in a file without a name; a full disk is a line of each CT."""
    files = find_inputs(cts, tmp_path / "out", probabilities=True)
    assert predict_files(threshold_model(), files, probabilities=True) == []
    assert len(list((tmp_path / "out").iterdir())) == 6

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full_disk)
    failures = predict_files(threshold_model(), files, probabilities=True)
    assert [path.name for path, _ in failures] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    assert all("cannot write (No space left on device); free the disk" in m for _, m in failures)
