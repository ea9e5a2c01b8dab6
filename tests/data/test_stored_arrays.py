"""Arrays of a stored folder, mapped from its files and compared with their checksums."""

import json
import zlib

import numpy as np
import pytest

from kitsjax.data import stored_arrays
from kitsjax.data.stored_arrays import describe_arrays, map_array, map_stored
from kitsjax.errors import InputError


@pytest.mark.parametrize("dtype", ["float16", "uint8", "int32", "bool"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (0, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_mapped_as_numpy_reads_them(tmp_path, dtype, shape, order):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    np.save(tmp_path / "a.npy", array if order == "C" else np.asfortranarray(array))
    found = map_array(tmp_path / "a.npy")
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    assert not found.flags.writeable or found.size == 0


def test_files_that_are_no_arrays_are_refused(tmp_path):
    objects, whole = tmp_path / "objects.npy", tmp_path / "whole.npy"
    np.save(objects, np.array([{}]))
    np.save(whole, np.zeros(1000))
    content = whole.read_bytes()
    (tmp_path / "short.npy").write_bytes(content[:500])
    (tmp_path / "zeros.npy").write_bytes(bytes(len(content)))
    for name in ("objects", "short", "zeros", "absent"):
        with pytest.raises(InputError, match=rf"{name}\.npy: cannot be read .*makes it again"):
            map_array(tmp_path / f"{name}.npy")


def write_folder(folder, **arrays):
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "case.json").write_text(json.dumps(describe_arrays(folder)))
    return folder / "case.json"


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("at", [200, -1])
def test_a_flipped_bit_is_found_at_the_first_read(tmp_path, at):
    record = write_folder(tmp_path / "case", image=np.arange(1000), label=np.ones(3))
    image = tmp_path / "case" / "image.npy"
    flip(image, at)
    for _ in range(2):
        with pytest.raises(InputError, match=rf"{image}: .*changed on disk.*makes it again"):
            map_stored(record, "image.npy")
    assert map_stored(record, "label.npy").tolist() == [1, 1, 1]
    flip(image, at)
    assert map_stored(record, "image.npy")[-1] == 999


def test_a_file_is_compared_once_in_a_process(tmp_path, monkeypatch):
    record, read = write_folder(tmp_path / "case", image=np.arange(9)), []
    checksum = stored_arrays._checksum
    monkeypatch.setattr(stored_arrays, "_checksum", lambda p: (read.append(p), checksum(p))[1])
    for _ in range(3):
        assert map_stored(record, "image.npy").sum() == 36
    assert read == [tmp_path / "case" / "image.npy"]


def test_records_without_checksums_are_read(tmp_path):
    """Caches of older versions stay as they are."""
    record = write_folder(tmp_path / "case", image=np.arange(9))
    record.write_text(json.dumps({"files": json.loads(record.read_text())["files"]}))
    assert map_stored(record, "image.npy").sum() == 36


def test_checksums_are_crc32_of_whole_files(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_arrays, "_CHUNK", 100)
    record = write_folder(tmp_path / "case", image=np.arange(99))
    content = (tmp_path / "case" / "image.npy").read_bytes()
    found = json.loads(record.read_text())
    assert found["files"] == {"image.npy": len(content)}
    assert found["checksums"] == {"image.npy": zlib.crc32(content)}
