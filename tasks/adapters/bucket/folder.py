"""A folder as the place for objects: atomic and durable writes, and creation that has one winner."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.adapters.durable import sync_folder
from tasks.core.errors import BucketError, ObjectMissing

_PIECE = 2**20  # bytes read at once
_TEMPORARY = ".tmp"
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


class FolderStore:
    """Objects as files below `root`. Temporary files are hidden ones and are never listed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, path: str, data: bytes) -> None:
        with self._errors(path, "written"):
            temporary, target = self._temporary(path, data)
            try:
                os.replace(temporary, target)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            sync_folder(target.parent)

    def create(self, path: str, data: bytes) -> bool:
        with self._errors(path, "written"):
            temporary, target = self._temporary(path, data)
            try:
                # A hard link appears with its whole content and fails when the name is taken: create and write in one.
                os.link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in _NO_HARD_LINKS:
                    raise BucketError(
                        f"{self.url_of(path)}: the file system has no hard links, so two writers could both win: "
                        f"put the bucket on another file system"
                    ) from None
                raise
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(target.parent)
            return True

    def read(self, path: str) -> Iterator[bytes]:
        with self._errors(path, "read"), open(self._root / path, "rb") as file:
            while piece := file.read(_PIECE):
                yield piece

    def exists(self, path: str) -> bool:
        with self._errors(path, "read"):
            try:
                return stat.S_ISREG(os.stat(self._root / path).st_mode)
            except (FileNotFoundError, NotADirectoryError):
                return False

    def list(self, prefix: str) -> Iterator[str]:
        with self._errors(prefix, "listed"):
            top = self._root / prefix.rpartition("/")[0]
            for folder, _, names in os.walk(top, onerror=_raise_unless_missing):
                for name in names:
                    path = Path(folder, name).relative_to(self._root).as_posix()
                    if path.startswith(prefix) and not name.startswith("."):
                        yield path

    def children(self, folder: str) -> Iterator[str]:
        with self._errors(folder, "listed"), suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(self._root / folder):
                if not entry.name.startswith("."):
                    yield entry.name

    def remove(self, path: str) -> None:
        with self._errors(path, "removed"), suppress(FileNotFoundError):
            os.unlink(self._root / path)

    def url_of(self, path: str) -> str:
        return f"file://{self._root.as_posix()}/{path}"

    def close(self) -> None:
        """Nothing to close."""

    def _temporary(self, path: str, data: bytes) -> tuple[Path, Path]:
        """`data`, on the disk for good under a hidden name beside its place, and that place."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}{_TEMPORARY}")
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        return temporary, target

    @contextmanager
    def _errors(self, path: str, verb: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if verb != "read":
                raise BucketError(f"{self.url_of(path)}: cannot be {verb}: {error.strerror}") from error
            raise ObjectMissing(f"{self.url_of(path)}: there is no such object") from None
        except IsADirectoryError:
            raise ObjectMissing(f"{self.url_of(path)}: there is no such object") from None
        except NotADirectoryError as error:
            if verb == "read":
                raise ObjectMissing(f"{self.url_of(path)}: there is no such object") from None
            raise BucketError(f"{self.url_of(path)}: cannot be {verb}: a part of the path is a file") from error
        except PermissionError as error:
            raise BucketError(
                f"{self.url_of(path)}: cannot be {verb}: permission denied: give this user access to the folder"
            ) from error
        except OSError as error:
            hint = ": free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise BucketError(f"{self.url_of(path)}: cannot be {verb}: {error.strerror or error}{hint}") from error


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
