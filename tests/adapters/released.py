"""Releases for tests, and models in a bucket that they can bring."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import go_back, install, installed_release, passed
from tasks.core import layout
from tasks.core.entities import STUB, Release
from tests.adapters.models import constant_detector, sha256_of
from tests.adapters.signing import publish, trusted, trusted_root

ROOT = Path(__file__).parents[2]
BOX = (32, 32, 20, 10, 1, 0.75)


def a_release(model: Path | None = None, *, sampling=None, **fields) -> Release:
    """Unpublished; of a model file, or of the stub."""
    digest = sha256_of(model) if model else ""
    return Release(
        **{
            "group": "all",
            "number": 1,
            "created_at": datetime(2026, 5, 1, tzinfo=timezone.utc),
            "class_names": ("truck", "person"),
            "model_version": digest[:16] if model else STUB,
            "model_sha256": digest,
            "settings": {"sampling_strategies": [{"type": "random", "name": "random"}], **(sampling or {})},
            **fields,
        }
    )


def upload(bucket: Bucket, model: Path) -> Path:
    bucket.upload(layout.model_file(sha256_of(model)[:16], "model.onnx"), model)
    return model


def a_model(bucket: Bucket, folder: Path, confidence: float = 0.75) -> Path:
    """A detector that sees one truck, in the bucket."""
    return upload(bucket, constant_detector(folder / f"{confidence}.onnx", [(*BOX[:5], confidence)]))


def installed_now(bucket: Bucket, release: Release, folder: Path, **options):
    """What a device does with the newest release."""
    releases = trusted(bucket, folder)
    number = releases.newest(release.group)
    return install(releases, releases.release(release.group, number), folder, **options)


class Cut(Exception):
    """The publisher dies here."""


@contextmanager
def cut_off(bucket: Bucket, writes: int) -> Iterator[None]:
    """A publisher in it dies before the write that comes after so many, which raises Cut."""
    left = writes

    def counted(write):
        def once(path, data):
            nonlocal left
            if not left:
                raise Cut
            left -= 1
            return write(path, data)

        return once

    with pytest.MonkeyPatch.context() as patch:
        for verb in ("write", "create"):
            patch.setattr(bucket._store, verb, counted(getattr(bucket._store, verb)))
        yield


def kill_installations(bucket: Bucket, tmp_path: Path, attempts: int, longest: float) -> list[int]:
    """SIGKILL at `attempts` instants of the installation of release 2, evenly spread; the number found after each."""
    folder = tmp_path / "installed"
    old = installed_now(bucket, publish(bucket, a_release(a_model(bucket, tmp_path, 0.3))), folder)
    passed(folder, 1)
    new = publish(bucket, a_release(a_model(bucket, tmp_path, 0.5)))
    code = (  # without the trial of the model, which would take most of the time and writes nothing
        "import importlib, sys; from pathlib import Path; from tasks.adapters.bucket import Bucket; "
        "from tasks.adapters.releases import TrustedReleases, install; folder = Path(sys.argv[2]); "
        "importlib.import_module('tasks.adapters.releases.installing').smoke_test = lambda *given: None; "
        "t = TrustedReleases(Bucket(sys.argv[1], 'yard'), folder, Path(sys.argv[3]).read_bytes()); "
        "print('go', flush=True); install(t, t.release('all', t.newest('all')), folder)"
    )
    found = []
    for attempt in range(attempts):
        child = subprocess.Popen(
            [sys.executable, "-c", code, bucket.url, str(folder), trusted_root()],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        assert child.stdout.readline() == b"go\n"
        began = time.monotonic()
        try:
            child.wait(longest * attempt / attempts)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()
        installed = installed_release(folder)
        found.append(installed.release.number)
        assert installed.release in (old.release, new)
        assert sha256_of(Path(installed.model)) == installed.release.model_sha256
        if installed.release == new:
            longest = min(longest, time.monotonic() - began)
            go_back(folder)
    return found
