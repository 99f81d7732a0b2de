"""Releases as a device sees them: nothing of the bucket is believed that the project's keys have not signed.

    trusted = TrustedReleases(bucket, Path("outbox/installed"), Path("root.json").read_bytes())
    number = trusted.newest("all")             # one small GET when nothing is new
    release = trusted.release("all", number)
    trusted.fetch_model(release, path)

What a device has verified is kept in one file, `trusted.json`, replaced atomically: nothing older is ever believed
again. Each method raises BucketError when the bucket does not answer, and ReleaseUntrusted when what it holds is not
what was signed, or is no longer valid; both may be over the next time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from pydantic import ValidationError
from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from tasks.adapters.bucket import Bucket
from tasks.adapters.bucket.store import TransientBucketError
from tasks.adapters.outbox import read_checked, write_checked
from tasks.adapters.releases.metadata import LONGEST, Role, numbers_of, parse, project_of, release_target
from tasks.adapters.releases.signed import parsed_release
from tasks.core import layout
from tasks.core.entities import Record, Release
from tasks.core.errors import BucketError, ObjectMissing, ObjectTooLong, ReleaseUntrusted, SettingsError

TRUSTED_FILE = "trusted.json"
LARGEST_RELEASE = 4 * 2**20  # bytes of a record
LARGEST_MODEL = 2 * 2**30

_ROOTS = "root_history"  # where tuf keeps the roots that it has walked through
_KINDS: tuple[tuple[Role, type], ...] = (("timestamp", Timestamp), ("snapshot", Snapshot), ("targets", Targets))


class _Trusted(Record):
    """Verified metadata, as it was fetched: the roots by version, and the newest of each other role."""

    roots: dict[int, str] = {}
    timestamp: str = ""
    snapshot: str = ""
    targets: str = ""


class TrustedReleases:
    """The signed releases of one project. root: the root metadata that this device was given. For one thread."""

    def __init__(self, bucket: Bucket, folder: Path, root: bytes) -> None:
        """Raises SettingsError when `root` is none, or another project's."""
        self._bucket = bucket
        self._folder = folder
        self._given = root
        try:
            project = project_of(parse(Root, root).signed)
        except tuf_errors.RepositoryError as error:
            raise SettingsError(f"trusted_root: is no root metadata ({error}): copy root.json of the keys") from None
        if project != bucket.project:
            raise SettingsError(
                f"trusted_root: is that of project {project!r}, this device's is {bucket.project!r}: copy the right one"
            )
        self._trusted = _read(folder)
        self._targets: Targets | None = None
        self._ends = (datetime.max.replace(tzinfo=timezone.utc), "")

    def newest(self, group: str) -> int:
        """The number of the newest release of a group; 0 when there is none.

        Raises ReleaseUntrusted also when the metadata has expired, which may be no more than that nobody signs it.
        """
        try:
            is_as_before = self._is_as_before()
        except ObjectMissing as error:
            if self._trusted.timestamp:
                raise ReleaseUntrusted(f"{error}, and there was one: put it back with edgeloop keys sign") from None
            return 0  # nothing has been published yet
        if self._targets is None or not is_as_before:
            self._refresh()
        self._check_not_expired()
        numbers = numbers_of(self._verified_targets, group)
        return numbers[-1] if numbers else 0

    def release(self, group: str, number: int) -> Release:
        """A release as it was signed. Raises ReleaseRefused when its record cannot be understood here."""
        target = release_target(self._verified_targets, group, number)
        if target is None:
            raise ReleaseUntrusted(f"release {number} of group {group}: is not among the signed ones")
        key = layout.release(group, number)
        with _as_untrusted(f"release {number}"):
            data = self._bucket.get(key, at_most=min(target.length, LARGEST_RELEASE))
            target.verify_length_and_hashes(data)
        return parsed_release(data, group, number)

    def fetch_model(self, release: Release, path: Path) -> None:
        """The release's model to a file, which appears whole and verified, or not at all."""
        key = layout.model_file(release.model_version, "model.onnx")
        target: TargetFile | None = self._verified_targets.targets.get(key)
        what = f"release {release.number}: model {release.model_version}"
        if target is None or target.hashes.get("sha256") != release.model_sha256:
            raise ReleaseUntrusted(f"{what}: is not among the signed files")
        with _as_untrusted(what):
            fetched = path.with_name(f".{path.name}.unverified")
            try:
                self._bucket.download(key, fetched, at_most=min(target.length, LARGEST_MODEL))
                with fetched.open("rb") as file:
                    target.verify_length_and_hashes(file)
                fetched.replace(path)
            except OSError as error:
                raise BucketError(f"{path}: cannot be written: {error.strerror or error}: free some space") from error
            finally:
                with suppress(OSError):
                    fetched.unlink(missing_ok=True)

    # --- metadata ----------------------------------------------------------------------------------------------------

    @property
    def _verified_targets(self) -> Targets:
        if self._targets is None:
            raise ReleaseUntrusted("the signed metadata has not been fetched yet")
        return self._targets

    def _is_as_before(self) -> bool:
        """Whether the bucket's timestamp, to the byte, is the one that was verified last. The one GET of most polls."""
        with _as_untrusted("timestamp.json"):
            data = self._bucket.get(layout.tuf_timestamp(), at_most=LONGEST["timestamp"])
        return data == self._trusted.timestamp.encode()

    def _refresh(self) -> None:
        """TUF's client workflow, in a scratch folder, on what was trusted before; what it has verified is kept."""
        self._targets = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=".tuf-") as scratch:
                _write(Path(scratch), self._trusted)
                try:
                    with _as_untrusted("releases"):
                        self._update(scratch)
                finally:
                    self._keep(_read_scratch(Path(scratch)))
        except OSError as error:
            raise BucketError(
                f"{self._folder}: cannot be written: {error.strerror or error}: free some space"
            ) from error
        self._targets, self._ends = parse(Targets, self._trusted.targets.encode()).signed, self._first_end()

    def _update(self, scratch: str) -> None:
        fetcher = _BucketFetcher(self._bucket)
        config = UpdaterConfig(
            root_max_length=LONGEST["root"],
            timestamp_max_length=LONGEST["timestamp"],
            snapshot_max_length=LONGEST["snapshot"],
            targets_max_length=LONGEST["targets"],
            prefix_targets_with_hash=False,  # keys are immutable: a record's number and a model's digest are in them
        )
        try:
            Updater(scratch, layout.TUF_PREFIX, fetcher=fetcher, config=config, bootstrap=self._given).refresh()
        except tuf_errors.DownloadError:
            if fetcher.failure is not None and not isinstance(fetcher.failure, ObjectMissing):
                raise fetcher.failure from None
            raise

    def _keep(self, trusted: _Trusted) -> None:
        if trusted != self._trusted:
            write_checked(self._folder / TRUSTED_FILE, trusted.to_json())
            self._trusted = trusted

    def _check_not_expired(self) -> None:
        ends, name = self._ends
        if ends <= datetime.now(timezone.utc):
            raise MetadataExpired(
                f"{name}.json expired on {ends:%Y-%m-%d %H:%M} UTC, and nobody has signed a newer one: run a turn on "
                f"central (edgeloop loop), or check this device's clock"
            )

    def _first_end(self) -> tuple[datetime, str]:
        """When the first of the roles ends, and which one."""
        roots = [data for _, data in sorted(self._trusted.roots.items())]
        ends = [(parse(Root, roots[-1].encode() if roots else self._given).signed.expires, "root")]
        for role, kind in _KINDS:
            ends.append((parse(kind, getattr(self._trusted, role).encode()).signed.expires, role))
        return min(ends)


class MetadataExpired(ReleaseUntrusted):
    """Signed metadata that is no longer valid: nobody signs it any more, or somebody holds newer metadata back."""


class _BucketFetcher(FetcherInterface):
    """How tuf fetches metadata. `failure` is what the bucket said, when a download failed."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.failure: BucketError | None = None

    def download_bytes(self, url: str, max_length: int) -> bytes:
        try:
            return self._bucket.get(url, at_most=max_length)
        except ObjectMissing as error:
            self.failure = error
            raise tuf_errors.DownloadHTTPError(str(error), 404) from None
        except ObjectTooLong as error:
            raise tuf_errors.DownloadLengthMismatchError(str(error)) from None
        except TransientBucketError as error:
            self.failure = error
            raise tuf_errors.DownloadError(str(error)) from None
        except BucketError as error:
            # Servers answer 403 for what is not there to whoever may not list; tuf takes it so for the next root only.
            self.failure = error
            raise tuf_errors.DownloadHTTPError(str(error), 403) from None

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, LONGEST["targets"])


@contextmanager
def _as_untrusted(what: str) -> Iterator[None]:
    """One line of ours for whatever tuf refuses."""
    try:
        yield
    except tuf_errors.ExpiredMetadataError as error:
        raise MetadataExpired(
            f"{what}: {error}, and nobody has signed a newer one: run a turn on central (edgeloop loop), or check this "
            f"device's clock"
        ) from None
    except tuf_errors.BadVersionNumberError as error:
        raise ReleaseUntrusted(f"{what}: older than what this device has seen, or mixed: {error}") from None
    except tuf_errors.UnsignedMetadataError as error:
        raise ReleaseUntrusted(f"{what}: not signed by the project's keys: {error}") from None
    except (tuf_errors.LengthOrHashMismatchError, tuf_errors.DownloadLengthMismatchError, ObjectTooLong) as error:
        raise ReleaseUntrusted(f"{what}: not what was signed: {error}") from None
    except (tuf_errors.RepositoryError, tuf_errors.DownloadError) as error:
        raise ReleaseUntrusted(f"{what}: {error}") from None


# --- what was verified, on the disk ----------------------------------------------------------------------------------


def _read(folder: Path) -> _Trusted:
    data = read_checked(folder / TRUSTED_FILE)
    if data is not None:
        with suppress(ValidationError):
            return _Trusted.model_validate_json(data)
    return _Trusted()  # the root that the device was given is where it begins again


def _write(scratch: Path, trusted: _Trusted) -> None:
    """As tuf expects to find it."""
    (scratch / _ROOTS).mkdir()
    for version, data in trusted.roots.items():
        (scratch / _ROOTS / f"{version}.root.json").write_text(data, encoding="utf-8")
    for role, _ in _KINDS:
        if data := getattr(trusted, role):
            (scratch / f"{role}.json").write_text(data, encoding="utf-8")


def _read_scratch(scratch: Path) -> _Trusted:
    roots = {int(path.name.split(".")[0]): path.read_text() for path in (scratch / _ROOTS).glob("*.root.json")}
    others = {role: scratch / f"{role}.json" for role, _ in _KINDS}
    texts = {role: path.read_text(encoding="utf-8") for role, path in others.items() if path.exists()}
    return _Trusted(roots=roots, **texts)
