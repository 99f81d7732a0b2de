"""Zips that come back: what an archive says of itself is believed as little as what its files say."""

from __future__ import annotations

import os
import stat
import struct
import zipfile

import pytest

from tasks.adapters.labelling.package import write_zip
from tasks.adapters.labels import unpack
from tasks.core.errors import LabelsInvalid, SettingsError


def zipped(path, members, mode=0o100644):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, mode << 16
            archive.writestr(info, data)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "mode", "message"),
    [
        ([("a.txt", b"1"), ("a.txt", b"2")], stat.S_IFREG, "'a.txt' is in it twice"),
        ([("a.txt", b"1"), ("./a.txt", b"2")], stat.S_IFREG, "'a.txt' is in it twice"),
        ([("a/b.txt", b"1"), ("a\\b.txt", b"2")], stat.S_IFREG, "'a/b.txt' is in it twice"),
        ([("a.txt", b"1"), ("A.TXT", b"2")], stat.S_IFREG, "'a.txt' is in it twice"),
        ([("a", b"1"), ("a/b", b"2")], stat.S_IFREG, "cannot be unpacked"),
        ([("pipe", b"")], stat.S_IFIFO, "is no plain file"),
        ([("device", b"")], stat.S_IFBLK, "is no plain file"),
        ([("/".join("d" * 60), b"")], stat.S_IFREG, "lies more than 50 folders deep"),
        ([("big.json", b"\0" * 30_000_000), ("x.jpg", os.urandom(400_000))], stat.S_IFREG, "'big.json': grows"),
    ],
)
def test_what_hides_in_an_archive_is_refused(tmp_path, members, mode, message):
    """Names that are there twice, special files, depth, and a bomb among images that do not shrink."""
    with pytest.raises(LabelsInvalid, match=message):
        unpack(zipped(tmp_path / "x.zip", members, mode), tmp_path / "in")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_an_encrypted_archive_is_one_line_that_says_what_to_do(tmp_path):
    """The bit of the member counts, whatever the program that wrote it."""
    archive = zipped(tmp_path / "x.zip", [("a.txt", b"0 0.5 0.5 0.1 0.1")])
    data = bytearray(archive.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(signature) + at
        struct.pack_into("<H", data, place, 1)
    archive.write_bytes(bytes(data))
    with pytest.raises(LabelsInvalid, match="is encrypted: send it without a password"):
        unpack(archive, tmp_path / "in")


def test_what_is_not_wanted_stays_in_the_archive_but_must_keep_to_the_rules(tmp_path):
    """Images are not unpacked and count for nothing of the allowed bytes; their names are checked all the same."""
    members = [("a.txt", b"label"), ("images/a.jpg", os.urandom(5000))]
    into = unpack(
        zipped(tmp_path / "x.zip", members), tmp_path / "in", max_bytes=100, wanted=lambda n: n.endswith("txt")
    )
    assert [path.name for path in into.rglob("*")] == ["a.txt"]
    archive = zipped(tmp_path / "y.zip", [*members, ("../b.jpg", b"")])
    with pytest.raises(LabelsInvalid, match="leads out"):
        unpack(archive, tmp_path / "in2", wanted=lambda n: n.endswith("txt"))


def test_an_archive_that_says_less_than_it_holds_is_refused(tmp_path):
    """A member that is larger than announced ends where it said it would, and fails its checksum."""
    archive = zipped(tmp_path / "x.zip", [("a.txt", b"7" * 100_000)])
    data = bytearray(archive.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + at, 10)
    archive.write_bytes(bytes(data))
    with pytest.raises(LabelsInvalid, match="cannot be unpacked"):
        unpack(archive, tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_what_goes_out_is_the_same_to_the_byte_and_whole_or_not_there(tmp_path):
    """Times of files do not matter; an error on the way leaves what was there before, and nothing else."""
    (tmp_path / "image.jpg").write_bytes(os.urandom(100_000))

    def write(seconds=0):
        os.utime(tmp_path / "image.jpg", (seconds, seconds))
        parts = [("labels/a.txt", iter([b"0 ", b"0.5"])), ("labels/b.txt", [])]
        write_zip(tmp_path / "out.zip", parts, [("images/a.jpg", tmp_path / "image.jpg")])
        return (tmp_path / "out.zip").read_bytes()

    first = write()
    assert write(10**9) == first
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == ["images/a.jpg", "labels/a.txt", "labels/b.txt"]
        assert archive.read("labels/a.txt") == b"0 0.5"
        assert archive.read("images/a.jpg") == (tmp_path / "image.jpg").read_bytes()
        assert archive.getinfo("images/a.jpg").compress_type == zipfile.ZIP_STORED
    unpack(tmp_path / "out.zip", tmp_path / "in")

    def breaks():
        yield b"half"
        raise LabelsInvalid("no more")

    with pytest.raises(LabelsInvalid, match="no more"):
        write_zip(tmp_path / "out.zip", [("a", breaks())])
    assert (tmp_path / "out.zip").read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.jpg", "in", "out.zip"]
    with pytest.raises(SettingsError, match="cannot be written"):
        write_zip(tmp_path / "nowhere" / "out.zip", [])
