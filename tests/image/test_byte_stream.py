"""Gzipped files: what follows the last member, and damage."""

import gzip

import numpy as np
import pytest
from nifti_files import canonical_array, refusal, save

from kitsjax.image import byte_stream
from kitsjax.image.byte_stream import UNPACKING_ERRORS, open_unpacked, read_first, skip_bytes
from kitsjax.image.read_nifti import read_volume

BODY = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8).tobytes()


def unpack(path):
    with open_unpacked(path) as stream:
        return b"".join(iter(lambda: stream.read(777), b""))


@pytest.mark.parametrize("tail", [b"", bytes(512), b"--boundary--\r\n", b"\x1f", bytes(9) + b"x"])
def test_bytes_after_the_stream_are_ignored(tmp_path, monkeypatch, tail):
    monkeypatch.setattr(byte_stream, "_PACKED_BYTES", 1000)
    (tmp_path / "file").write_bytes(gzip.compress(BODY) + tail)
    assert unpack(tmp_path / "file") == BODY


@pytest.mark.parametrize("between", [b"", bytes(3), bytes(2500)])
def test_every_member_counts(tmp_path, monkeypatch, between):
    monkeypatch.setattr(byte_stream, "_PACKED_BYTES", 1000)
    packed = between.join(gzip.compress(part) for part in (BODY[:2000], b"", BODY[2000:]))
    (tmp_path / "file").write_bytes(packed)
    assert unpack(tmp_path / "file") == BODY


def _flip(content, place):
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-1],
        lambda packed: packed[:-8],
        lambda packed: packed[:30],
        lambda packed: packed[:5],
        lambda packed: _flip(packed, -6),
        lambda packed: _flip(packed, len(packed) // 2),
        lambda packed: packed + packed[:-3],
    ],
)
def test_damage_is_found(tmp_path, damage):
    (tmp_path / "file").write_bytes(damage(gzip.compress(BODY)))
    with pytest.raises(UNPACKING_ERRORS):
        unpack(tmp_path / "file")


def test_plain_files_are_read_as_they_are(tmp_path):
    (tmp_path / "file.gz").write_bytes(BODY)
    assert unpack(tmp_path / "file.gz") == BODY
    with open_unpacked(tmp_path / "file.gz") as stream:
        skip_bytes(stream, 4990)
        assert read_first(stream, 540) == BODY[4990:]


@pytest.mark.parametrize("name", ["scan.nii", "scan.NII.GZ", "scan.nii.gz", "scan"])
@pytest.mark.parametrize("packed", [True, False])
def test_content_decides_not_the_name(tmp_path, name, packed):
    """A browser unpacks .nii.gz; Windows writes capitals."""
    whole = save(tmp_path / "whole.nii", canonical_array()).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(whole) if packed else whole)
    np.testing.assert_array_equal(read_volume(tmp_path / name).array, canonical_array())


def test_a_wrong_checksum_refuses_the_volume(tmp_path):
    path = save(tmp_path / "image.nii.gz", canonical_array())
    path.write_bytes(_flip(path.read_bytes(), -6) + b"more")
    assert "damaged or cut short" in refusal(read_volume, path)
