"""Zip archives of labels and datasets, unpacked without trusting them."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tasks.core.errors import LabelsInvalid

MAX_FILES = 500_000
MAX_BYTES = 200_000_000_000
MAX_RATIO = 200  # unpacked to packed; JPEGs hardly shrink, label texts by 20
RATIO_COUNTS_FROM = 10_000_000  # bytes below which a high ratio does no harm
MAX_NAME = 255
MAX_DEPTH = 50  # folders in each other


def unpack(
    archive: Path,
    into: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
    wanted: Callable[[str], bool] = lambda name: True,
) -> Path:
    """Unpack a zip, or what is wanted of it by its name, into the new or empty folder `into` and return it.

    Raises LabelsInvalid, with nothing left behind, for what is not a zip, for names that lead out of the folder or are
    there twice, links, encrypted members, too many files, and more bytes than announced, allowed or plausible. What is
    not wanted must keep to all of that, too, but counts for none of the allowed bytes.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise LabelsInvalid(f"{into}: is not empty: unpack {archive.name} into a folder of its own")
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [m for m in zipped.infolist() if not m.is_dir()]
            chosen = [member for member in members if wanted(member.filename)]
            _check(archive, members, chosen, max_bytes, max_files)
            into.mkdir(parents=True, exist_ok=True)
            for member in chosen:
                _extract(zipped, member, into)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(into, ignore_errors=True)
        raise LabelsInvalid(f"{archive.name}: cannot be unpacked: {str(error)[:120]}") from None
    except LabelsInvalid:
        shutil.rmtree(into, ignore_errors=True)
        raise
    return into


def _check(
    archive: Path, members: list[zipfile.ZipInfo], chosen: list[zipfile.ZipInfo], max_bytes: int, max_files: int
) -> None:
    if len(members) > max_files:
        raise LabelsInvalid(f"{archive.name}: {len(members)} files, more than {max_files}")
    total = sum(m.file_size for m in chosen)
    if total > max_bytes:
        raise LabelsInvalid(f"{archive.name}: {total} bytes when unpacked, more than {max_bytes}")
    _check_ratio(archive.name, sum(m.file_size for m in members), archive.stat().st_size)
    for member in members:
        _check_name(archive, member)
        _check_ratio(f"{archive.name}: {member.filename[:80]!r}", member.file_size, member.compress_size)
    # Names that differ in their case alone are one file on many disks.
    names = Counter(str(PurePosixPath(member.filename.replace("\\", "/"))).casefold() for member in members)
    double = next((name for name, count in names.items() if count > 1), None)
    if double is not None:
        raise LabelsInvalid(f"{archive.name}: {double[:80]!r} is in it twice: keep one and zip it again")


def _check_ratio(what: str, size: int, packed: int) -> None:
    """Of the whole archive, and of each file: one bomb hides well among a gigabyte of images."""
    if size > RATIO_COUNTS_FROM and size > MAX_RATIO * packed:
        raise LabelsInvalid(f"{what}: grows {size // max(packed, 1)} times, which labels and images never do")


def _check_name(archive: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename.replace("\\", "/")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or ":" in name or not name.isprintable() or not path.parts:
        raise LabelsInvalid(f"{archive.name}: the name {name[:80]!r} leads out of the archive")
    if any(len(part.encode()) > MAX_NAME for part in path.parts):
        raise LabelsInvalid(f"{archive.name}: the name {name[:80]!r}... is too long")
    if len(path.parts) > MAX_DEPTH:
        raise LabelsInvalid(f"{archive.name}: {name[:80]!r}... lies more than {MAX_DEPTH} folders deep")
    mode = member.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise LabelsInvalid(f"{archive.name}: {name[:80]!r} is a link")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise LabelsInvalid(f"{archive.name}: {name[:80]!r} is no plain file")
    if member.flag_bits & 1:
        raise LabelsInvalid(f"{archive.name}: is encrypted: send it without a password")


def _extract(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, into: Path) -> None:
    target = into.joinpath(*PurePosixPath(member.filename.replace("\\", "/")).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipped.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)  # zipfile itself stops at the announced size
