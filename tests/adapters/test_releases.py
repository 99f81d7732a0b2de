"""Releases: numbered by one winner, installed when they hold what they promise, refused with a reason otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import (
    go_back,
    install,
    installed_release,
    latest_release,
    publish,
    smoke_test,
)
from tasks.core import layout
from tasks.core.entities import STUB, ModelVersion, Release
from tasks.core.errors import BucketError, ReleaseRefused
from tests.adapters.models import (
    constant_detector,
    endless_detector,
    greedy_detector,
    nan_detector,
    sha256_of,
)
from tests.adapters.s3 import fresh_s3_url

ROOT = Path(__file__).parents[2]
BOX = (32, 32, 20, 10, 1, 0.75)


@pytest.fixture
def bucket(tmp_path):
    return Bucket(f"file://{tmp_path}/bucket", "yard")


def a_release(model: Path | None = None, *, sampling=None, **fields) -> Release:
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


def upload(bucket: Bucket, model: Path) -> None:
    bucket.upload(layout.model_file(sha256_of(model)[:16], "model.onnx"), model)


def a_model(bucket: Bucket, folder: Path, confidence: float = 0.75) -> Path:
    model = constant_detector(folder / f"{confidence}.onnx", [(*BOX[:5], confidence)])
    upload(bucket, model)
    return model


def test_a_release_gets_the_next_number_of_its_group(bucket):
    """Numbers are consecutive within a group, name their predecessor, and groups do not share them."""
    first = publish(bucket, a_release(number=77, reason="one"))
    second = publish(bucket, a_release(number=77, reason="two"))
    other = publish(bucket, a_release(group="dock"))
    assert [(r.number, r.previous) for r in (first, second, other)] == [(1, 0), (2, 1), (1, 0)]
    assert latest_release(bucket, "all") == second
    assert latest_release(bucket, "all", after=2) is None
    assert latest_release(bucket, "nobody") is None


def test_a_repeated_publication_of_the_newest_release_writes_nothing(bucket):
    """A retried task gets the release that it had published; an older one again is a new number."""
    first, second = a_release(reason="one"), a_release(reason="two")
    publish(bucket, first)
    assert publish(bucket, first).number == 1
    assert publish(bucket, second).number == 2
    assert publish(bucket, first).number == 3


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_publishers_that_race_all_get_a_number_of_their_own(request, tmp_path, kind):
    """Eight publishers at once: numbers 1 to 8, each written once and by the one who holds it."""
    opened = Bucket(fresh_s3_url(request) if kind == "s3" else f"file://{tmp_path}", "yard")
    barrier = threading.Barrier(8)

    def race(writer):
        barrier.wait()
        return publish(opened, a_release(reason=f"writer {writer}"))

    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(race, range(8)))
    assert sorted(r.number for r in published) == list(range(1, 9))
    for release in published:
        assert opened.read_record(layout.release("all", release.number), Release) == release
    opened.close()


def test_a_release_without_its_model_in_the_bucket_is_not_published(bucket, tmp_path):
    """Devices could not install it: the publisher is told to upload the model first."""
    with pytest.raises(ReleaseRefused, match="upload the model before its release"):
        publish(bucket, a_release(constant_detector(tmp_path / "m.onnx", [BOX])))


def test_a_record_that_was_copied_to_another_number_is_refused(bucket):
    """A release whose record names another number or group is a replay; broken JSON is refused too."""
    old = publish(bucket, a_release())
    bucket.put(layout.release("all", 2), old.to_json())
    with pytest.raises(ReleaseRefused, match="copied"):
        latest_release(bucket, "all", after=1)
    bucket.put(layout.release("all", 2), b"{}")
    with pytest.raises(ReleaseRefused, match="release 2"):
        latest_release(bucket, "all", after=1)


def test_an_installed_release_is_found_after_a_restart(bucket, tmp_path):
    """A restart finds the release that was fetched, verified and tried, and its model, without the bucket."""
    model = a_model(bucket, tmp_path)
    release = publish(bucket, a_release(model))
    installed = install(bucket, release, tmp_path / "installed")
    assert Path(installed.model).read_bytes() == model.read_bytes()
    assert installed_release(tmp_path / "installed") == installed
    assert installed.release == release
    assert installed_release(tmp_path / "nowhere") is None


def test_a_stub_release_needs_no_model(bucket, tmp_path):
    """Release 1 of a project is the stub: installed without a fetch."""
    installed = install(bucket, publish(bucket, a_release()), tmp_path / "installed")
    assert installed.model == STUB
    assert installed_release(tmp_path / "installed") == installed


def test_the_release_before_stays_and_can_be_gone_back_to(bucket, tmp_path):
    """Two models are kept, the third newest is removed, and going back needs no bucket."""
    folder = tmp_path / "installed"
    releases = [publish(bucket, a_release(a_model(bucket, tmp_path, c))) for c in (0.3, 0.5, 0.7)]
    for release in releases:
        install(bucket, release, folder)
    assert {p.name for p in (folder / "models").iterdir()} == {r.model_version for r in releases[1:]}
    assert go_back(folder, from_number=2) is None
    back = go_back(folder, from_number=3)
    assert back.release == releases[1]
    assert installed_release(folder) == back
    assert go_back(folder) is None


def test_a_damaged_model_leads_back_to_the_release_before(bucket, tmp_path):
    """When the current model's file changes on the disk, a restart runs the previous release."""
    folder = tmp_path / "installed"
    first = install(bucket, publish(bucket, a_release(a_model(bucket, tmp_path, 0.3))), folder)
    second = install(bucket, publish(bucket, a_release(a_model(bucket, tmp_path, 0.5))), folder)
    Path(second.model).write_bytes(b"damaged")
    assert installed_release(folder) == first


def test_class_names_come_from_the_models_record_when_the_file_has_none(bucket, tmp_path):
    """The model's record in the bucket names the classes of a file without metadata; the device's word goes first."""
    model = a_model(bucket, tmp_path)
    digest = sha256_of(model)
    record = ModelVersion(
        model_version=digest[:16],
        sha256=digest,
        size_bytes=1,
        created_at=datetime(2026, 5, 1),
        class_names=("car", "truck"),
        image_size=(64, 64),
        format="ultralytics",
    )
    bucket.write_record(layout.model_file(digest[:16], "model.json"), record)
    release = publish(bucket, a_release(model))
    assert install(bucket, release, tmp_path / "a").model_classes == ("car", "truck")
    assert install(bucket, release, tmp_path / "b", model_classes="coco80").model_classes == "coco80"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"class_names": ("boat",)}, "class"),
        ({"model_sha256": "0" * 64}, "not the beginning of its sha256"),
        ({"sampling": {"model_digest": "0123456789abcdef"}}, "fitted to model 0123456789abcdef"),
        (
            {
                "sampling": {
                    "sampling_strategies": [
                        {
                            "type": "close_to_threshold",
                            "name": "c",
                            "threshold": 0.01,
                            "epsilon": 0.01,
                            "probability": 1,
                        }
                    ]
                }
            },
            "the detector keeps nothing below",
        ),
    ],
)
def test_orders_that_cannot_be_obeyed_are_refused_and_change_nothing(bucket, tmp_path, fields, reason):
    """No common class, a false digest, settings of another model or below the floor: refused, the old one stays."""
    folder = tmp_path / "installed"
    old = install(bucket, publish(bucket, a_release()), folder)
    release = a_release(a_model(bucket, tmp_path), number=2, **fields)
    with pytest.raises(ReleaseRefused, match=reason):
        install(bucket, release, folder)
    assert installed_release(folder) == old


def test_portable_settings_run_with_another_model(bucket, tmp_path):
    """Settings fitted to another model are obeyed when they say that they are portable."""
    settings = {"model_digest": "0123456789abcdef", "portable": True}
    release = publish(bucket, a_release(a_model(bucket, tmp_path), sampling=settings))
    assert install(bucket, release, tmp_path / "installed").release == release


def test_a_model_of_another_digest_is_refused_and_not_kept(bucket, tmp_path):
    """Bytes that are not those of the release are refused by sha256 and removed."""
    model = a_model(bucket, tmp_path)
    release = publish(bucket, a_release(model))
    bucket.put(layout.model_file(release.model_version, "model.onnx"), b"something else")
    with pytest.raises(ReleaseRefused, match="sha256 of its model"):
        install(bucket, release, tmp_path / "installed")
    assert not any((tmp_path / "installed" / "models").iterdir())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (nan_detector, "NaN or infinity"),
        (lambda path: greedy_detector(path, gigabytes=6), "does not run"),
        (endless_detector, "did not give an output within 3 s"),
        (lambda path: path.write_bytes(b"not a model") and path, "not an ONNX file"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_before_it_runs_here(bucket, tmp_path, make, reason):
    """NaN, too much memory, no end, no model: the subprocess finds out, this process and the old release go on."""
    folder = tmp_path / "installed"
    old = install(bucket, publish(bucket, a_release()), folder)
    model = make(tmp_path / "bad.onnx")
    upload(bucket, model)
    release = publish(bucket, a_release(model))
    with pytest.raises(ReleaseRefused, match=reason):
        install(bucket, release, folder, timeout=3.0)
    assert installed_release(folder) == old


def test_a_smoke_test_that_crashes_is_a_refusal(tmp_path, monkeypatch):
    """A child that dies by a signal is a refusal that names the exit status."""
    model = constant_detector(tmp_path / "m.onnx", [BOX])
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    real = subprocess.run

    def crash(command, **options):
        return real(["/bin/sh", "-c", f"kill -{signal.SIGSEGV.value} $$"], **options)

    monkeypatch.setattr(subprocess, "run", crash)
    with pytest.raises(ReleaseRefused, match="exit status -11"):
        smoke_test(model, project_classes=["truck"])


def test_the_smoke_test_sees_no_secret(tmp_path, monkeypatch):
    """The child that runs a freshly fetched file gets no credentials in its environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    seen = {}
    real = subprocess.run

    def run(command, **options):
        seen.update(options["env"])
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", run)
    answer = smoke_test(constant_detector(tmp_path / "m.onnx", [BOX]), project_classes=["truck"])
    assert answer["detections"] == 1
    assert not any(name.startswith("AWS") for name in seen)


def test_an_unreachable_bucket_is_no_refusal(bucket, tmp_path, monkeypatch):
    """A release that cannot be fetched now is tried again later: the error is a BucketError, not a refusal."""
    release = publish(bucket, a_release(a_model(bucket, tmp_path)))

    def fail(path):
        raise BucketError("down")
        yield b""

    monkeypatch.setattr(bucket._store, "read", fail)
    with pytest.raises(BucketError, match="down"):
        install(bucket, release, tmp_path / "installed")


@pytest.mark.slow
def test_a_kill_in_the_middle_of_an_installation_leaves_old_or_new(bucket, tmp_path):
    """SIGKILL at seven instants of an installation: a restart finds the old release or the new one, verified."""
    folder = tmp_path / "installed"
    old = install(bucket, publish(bucket, a_release(a_model(bucket, tmp_path, 0.3))), folder)
    new = publish(bucket, a_release(a_model(bucket, tmp_path, 0.5)))
    code = (
        "import sys; from tasks.adapters.bucket import Bucket; "
        "from tasks.adapters.releases import install, read_release; "
        "b = Bucket(sys.argv[1], 'yard'); print('go', flush=True); install(b, read_release(b, 'all', 2), sys.argv[2])"
    )
    found = []
    for attempt in range(7):
        child = subprocess.Popen(
            [sys.executable, "-c", code, bucket.url, str(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        assert child.stdout.readline() == b"go\n"
        try:
            child.wait(attempt * 0.12)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()
        installed = installed_release(folder)
        found.append(installed.release.number)
        assert installed.release in (old.release, new)
        assert sha256_of(Path(installed.model)) == installed.release.model_sha256
        if installed.release == new:
            go_back(folder)
    assert 1 in found
