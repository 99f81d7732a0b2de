"""S3 as the place for objects, through s3fs with its surprises taken out.

Every call has a timeout (a PUT that waits for `100 Continue` has none of its own), no layer below retries (the
defaults made 25 requests of one PUT), listings are never cached, and a body is read from one request, so that two
versions of a key are never spliced. Credentials are found by botocore, in the environment or a file of shared
credentials, and stay in s3fs: nothing here logs, prints or pickles a filesystem. When they are refused the next call
looks for them anew, so that a file that was renewed (`AWS_SHARED_CREDENTIALS_FILE`) needs no restart.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tasks.adapters.bucket.store import TransientBucketError, patience
from tasks.core.errors import BucketError, ObjectMissing

_PIECE = 256 * 2**10  # bytes read at once, at most
_OPENING_S = 30.0  # for what botocore does before the first request
_BUSY = {
    "SlowDown",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "OperationAborted",
    "ConditionalRequestConflict",
    "ThrottlingException",
    "BadDigest",
}
_TAKEN = {"PreconditionFailed", "412"}
_MISSING = {"NoSuchKey", "404"}
_FORBIDDEN = {"AccessDenied", "403"}
_ADVICE = {
    "NoSuchBucket": "create it, or correct the bucket's URL",
    "AccessDenied": "give these credentials the right to read and write there",
    "403": "check the credentials and their rights",
    "InvalidAccessKeyId": "check the credentials in the environment",
    "SignatureDoesNotMatch": "check the credentials in the environment",
    "ExpiredToken": "renew the credentials",
    "RequestTimeTooSkewed": "this machine's clock differs from the server's: set the clock",
    "QuotaExceeded": "its quota is used up: raise it, or remove what is not needed",
}
_CREDENTIALS_REFUSED = {
    "AccessDenied",
    "401",
    "403",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "TokenRefreshRequired",
}


class S3Store:
    """Objects below `prefix` of an S3 bucket. The endpoint is `AWS_ENDPOINT_URL` where that is set."""

    def __init__(self, bucket: str, prefix: str, timeout: float) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._timeout = timeout
        self._filesystem: Any = None
        self._used = threading.local()  # the filesystem of this thread's last call
        self._process = 0
        self._opening = threading.Lock()

    def write(self, path: str, data: bytes) -> None:
        with self._errors(path, "written"):
            # From 100 MiB on s3fs writes in parts by itself, and drops the digest, which is of the whole.
            self._s3.pipe_file(
                self._full(path), data, timeout=self._timeout + patience(len(data)), ContentMD5=_md5(data)
            )

    def create(self, path: str, data: bytes) -> bool:
        with self._errors(path, "written"):
            try:
                self._s3.pipe_file(
                    self._full(path),
                    data,
                    mode="create",
                    timeout=self._timeout + patience(len(data)),
                    ContentMD5=_md5(data),
                )
            except OSError as error:
                # The type differs by server (FileExistsError, EINVAL, EIO); the code does not.
                if isinstance(error, FileExistsError) or _code_of(error) in _TAKEN:
                    return False
                raise
            return True

    def read(self, path: str) -> Iterator[bytes]:
        from fsspec.asyn import sync

        with self._errors(path, "read"):
            deadline = time.monotonic() + self._timeout
            answer = self._call("get_object", Key=self._prefix + path)
            body, deadline = answer["Body"], deadline + patience(answer["ContentLength"])
            try:
                while piece := sync(self._s3.loop, body.read, _PIECE, timeout=self._left(deadline)):
                    yield piece
            finally:
                body.close()

    def exists(self, path: str) -> bool:
        try:
            with self._errors(path, "read"):
                self._call("head_object", Key=self._prefix + path)
        except ObjectMissing:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """One request a thousand keys, each with a timeout of its own."""
        more: dict[str, str] = {}
        while True:
            with self._errors(prefix, "listed"):
                page = self._call("list_objects_v2", Prefix=self._prefix + prefix, **more)
            for entry in page.get("Contents", ()):
                yield entry["Key"].removeprefix(self._prefix)
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def children(self, folder: str) -> Iterator[str]:
        more: dict[str, str] = {}
        full = self._prefix + folder
        while True:
            with self._errors(folder, "listed"):
                page = self._call("list_objects_v2", Prefix=full, Delimiter="/", **more)
            for entry in page.get("CommonPrefixes", ()):
                yield entry["Prefix"].removeprefix(full).rstrip("/")
            for entry in page.get("Contents", ()):
                yield entry["Key"].removeprefix(full)
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def remove(self, path: str) -> None:
        with self._errors(path, "removed"):
            self._call("delete_object", Key=self._prefix + path)

    def url_of(self, path: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{path}"

    def close(self) -> None:
        filesystem, self._filesystem = self._filesystem, None
        if filesystem is not None and self._process == os.getpid() and getattr(filesystem, "_s3creator", None):
            filesystem.close_session(filesystem.loop, filesystem._s3creator)

    @property
    def _s3(self) -> Any:
        """The filesystem, a fresh one after a fork: the event loop's thread does not come along."""
        if self._process != os.getpid():
            self._filesystem, self._opening, self._process = None, threading.Lock(), os.getpid()
        with self._opening:
            if self._filesystem is None:
                self._filesystem = self._opened()
            self._used.filesystem = self._filesystem
            return self._filesystem

    def _opened(self) -> Any:
        import s3fs  # half a second, and of no use to a device whose bucket is a folder

        custom = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        filesystem = s3fs.S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs={
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "connect_timeout": self._timeout,
                "read_timeout": self._timeout,
                # Content-MD5 is ours; the newer checksums are unknown to older servers.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
                # Servers of one's own rarely have a DNS name for each bucket.
                "s3": {"addressing_style": "path" if custom else "auto"},
            },
        )
        filesystem.retries = 1
        # Half a second of computing, on a slow device more, that is no call's time: it asks no server.
        filesystem.connect(timeout=_OPENING_S)
        return filesystem

    def _call(self, method: str, **arguments: Any) -> Any:
        return self._s3.call_s3(method, Bucket=self._bucket, timeout=self._timeout, **arguments)

    def _left(self, deadline: float) -> float:
        """Seconds that the next piece of a body may take, however it drips."""
        return max(0.01, min(self._timeout, deadline - time.monotonic()))

    def _full(self, path: str) -> str:
        return f"{self._bucket}/{self._prefix}{path}"

    @contextmanager
    def _errors(self, path: str, verb: str) -> Iterator[None]:
        """One line of ours for whatever s3fs, botocore or aiohttp raise; transient failures can be told apart."""
        import aiohttp
        import botocore.exceptions  # type: ignore[import-untyped]
        import botocore.parsers  # type: ignore[import-untyped]

        where = f"{self.url_of(path)}: cannot be {verb}"
        try:
            yield
        except (TimeoutError, asyncio.TimeoutError):  # two types before Python 3.11
            raise TransientBucketError(
                f"{where}: no answer within {self._timeout:.0f} s: check the network and the endpoint"
            ) from None
        except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError):
            self._look_for_credentials()
            raise BucketError(f"{where}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from None
        except (
            botocore.exceptions.HTTPClientError,
            botocore.exceptions.ConnectionError,
            botocore.parsers.ResponseParserError,
            aiohttp.ClientError,
            ConnectionError,
        ) as error:
            raise TransientBucketError(
                f"{where}: the connection failed ({type(error).__name__}): check the network and the endpoint"
            ) from None
        except botocore.exceptions.BotoCoreError as error:
            raise BucketError(f"{where}: {type(error).__name__}: check the endpoint and the environment") from None
        except OSError as error:
            if _code_of(error) in _CREDENTIALS_REFUSED:
                self._look_for_credentials()
            raise self._refusal(error, path, where) from None

    def _look_for_credentials(self) -> None:
        """Have the next call open a new session, unless another thread has done so since."""
        with self._opening:
            if self._filesystem is getattr(self._used, "filesystem", None):
                self._filesystem = None  # closes itself when the last call that uses it has ended
        self._used.filesystem = None

    def _is_not_listed(self, path: str) -> bool:
        """Is a key that may not be read simply not there?

        S3 answers 403 instead of 404 to whoever may not list the whole bucket, and a device may list its own keys only.
        """
        try:
            with self._errors(path, "listed"):
                page = self._call("list_objects_v2", Prefix=self._prefix + path, MaxKeys=1)
        except BucketError:
            return False
        return all(entry["Key"] != self._prefix + path for entry in page.get("Contents", ()))

    def _refusal(self, error: OSError, path: str, where: str) -> BucketError:
        """What the server's answer means."""
        code, status = _code_of(error), _status_of(error)
        if code in _MISSING or (code in _FORBIDDEN and where.endswith("read") and self._is_not_listed(path)):
            return ObjectMissing(f"{self.url_of(path)}: there is no such object")
        if code in _BUSY or status == 429 or status >= 500:
            return TransientBucketError(f"{where}: the server is busy ({code or status}): it is tried again")
        if code:
            return BucketError(
                f"{where}: the server answers {code}: {_ADVICE.get(code, 'check the bucket and its rights')}"
            )
        return TransientBucketError(f"{where}: {type(error).__name__}: check the network and the endpoint")


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _response_of(error: BaseException) -> dict[str, Any]:
    """The server's answer, which s3fs keeps in the cause of the error that it raises."""
    for candidate in (error.__cause__, error):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def _code_of(error: BaseException) -> str:
    return str(_response_of(error).get("Error", {}).get("Code", ""))


def _status_of(error: BaseException) -> int:
    return int(_response_of(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
