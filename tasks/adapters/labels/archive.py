"""Zip archives of labels and datasets, unpacked without trusting them."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tasks.core.errors import LabelsInvalid

MAX_FILES = 500_000
MAX_BYTES = 200_000_000_000
MAX_RATIO = 200  # unpacked to packed; JPEGs hardly shrink, label texts by 20
RATIO_COUNTS_FROM = 10_000_000  # bytes below which a high ratio does no harm
MAX_NAME = 255


def unpack(archive: Path, into: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> Path:
    """Unpack a zip into the new or empty folder `into` and return it.

    Raises LabelsInvalid, with nothing left behind, for what is not a zip, for names that lead out of the folder,
    links, encrypted members, too many files, and more bytes than announced, allowed or plausible.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise LabelsInvalid(f"{into}: is not empty: unpack {archive.name} into a folder of its own")
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [m for m in zipped.infolist() if not m.is_dir()]
            _check(archive, members, max_bytes, max_files)
            for member in members:
                _extract(zipped, member, into)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(into, ignore_errors=True)
        raise LabelsInvalid(f"{archive.name}: cannot be unpacked: {str(error)[:120]}") from None
    except LabelsInvalid:
        shutil.rmtree(into, ignore_errors=True)
        raise
    return into


def _check(archive: Path, members: list[zipfile.ZipInfo], max_bytes: int, max_files: int) -> None:
    if len(members) > max_files:
        raise LabelsInvalid(f"{archive.name}: {len(members)} files, more than {max_files}")
    total = sum(m.file_size for m in members)
    packed = archive.stat().st_size
    if total > max_bytes:
        raise LabelsInvalid(f"{archive.name}: {total} bytes when unpacked, more than {max_bytes}")
    if total > RATIO_COUNTS_FROM and total > MAX_RATIO * packed:
        raise LabelsInvalid(f"{archive.name}: grows {total // max(packed, 1)} times, which labels and images never do")
    for member in members:
        _check_name(archive, member)


def _check_name(archive: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename.replace("\\", "/")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or ":" in name or not name.isprintable() or not path.parts:
        raise LabelsInvalid(f"{archive.name}: the name {name[:80]!r} leads out of the archive")
    if any(len(part.encode()) > MAX_NAME for part in path.parts):
        raise LabelsInvalid(f"{archive.name}: the name {name[:80]!r}... is too long")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise LabelsInvalid(f"{archive.name}: {name[:80]!r} is a link")
    if member.flag_bits & 1:
        raise LabelsInvalid(f"{archive.name}: is encrypted")


def _extract(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, into: Path) -> None:
    target = into.joinpath(*PurePosixPath(member.filename.replace("\\", "/")).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipped.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)  # zipfile itself stops at the announced size
