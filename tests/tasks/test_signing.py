"""Central's side of signing: keys where there are none yet, signatures that do not end, and the way back."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tasks import signing
from tasks.adapters.releases import Publisher, create_keys, latest_release, read_keys
from tasks.adapters.releases.metadata import LIFETIMES
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import STUB, ModelVersion
from tasks.core.errors import ReleaseRefused, SettingsError
from tasks.core.settings import Probation
from tasks.redeploy import release
from tests.adapters.models import constant_detector, sha256_of
from tests.adapters.s3 import fresh_s3_url
from tests.tasks.collecting import CAR, sampling, unpublished
from tests.tasks.stages import a_project

NOW = datetime.now(timezone.utc)


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


def publish(project, reason: str):
    return signing.publisher(project).publish(unpublished(reason=reason))


def test_a_project_on_one_machine_gets_its_keys_by_itself_and_once(project):
    """The first turn makes them and says where the devices' root is; the second finds them."""
    made = signing.keep_signed(project)
    assert "made the keys that sign releases" in made.done[0]
    assert "root.json as their trusted_root" in made.done[0]
    root = (Path(project.signing_keys) / "root.json").read_bytes()
    assert signing.keep_signed(project) == signing.Kept()
    assert (Path(project.signing_keys) / "root.json").read_bytes() == root


def test_a_fleets_keys_are_made_by_a_person(request, tmp_path):
    """On S3 nothing is made in passing: the message is the command."""
    project = a_project(tmp_path, fresh_s3_url(request))
    with pytest.raises(SettingsError, match=r"edgeloop keys init --folder .*keys --project yard"):
        signing.keep_signed(project)
    assert not Path(project.signing_keys).exists()


def test_lost_keys_are_not_made_anew(project):
    """With signed releases in the bucket, new keys would leave every device behind: the operator is told."""
    signing.keep_signed(project)
    publish(project, "one")
    Path(project.signing_keys).rename(Path(project.signing_keys).with_name("elsewhere"))
    with pytest.raises(SettingsError, match="put the keys back"):
        signing.keep_signed(project)


def test_keys_inside_the_bucket_are_refused(project):
    """Whoever reads the bucket would sign."""
    inside = project.model_copy(update={"signing_keys": project.bucket.removeprefix("file://") + "/keys"})
    with pytest.raises(SettingsError, match="inside the bucket"):
        signing.keep_signed(inside)


def test_a_turn_renews_what_is_about_to_end(project):
    """A root with 100 days left is renewed where its keys are; signatures of yesterday are made again."""
    ago = timedelta(days=265)
    keys = create_keys(Path(project.signing_keys), "yard", now=NOW - ago)
    Publisher(Central(project).bucket, keys, now=NOW - ago).publish(unpublished(reason="one"))
    done = signing.keep_signed(project).done
    assert "renewed the root of the signing keys" in done[0]
    assert "signed the releases again (targets" in done[1]
    renewed = read_keys(keys.folder, "yard").root
    assert renewed.version == 2
    assert renewed.expires > NOW + LIFETIMES["root"] - timedelta(days=1)
    assert signing.keep_signed(project).done == ()


@pytest.mark.parametrize(("days", "waits"), [(265, False), (320, True)])
def test_a_root_whose_keys_are_kept_elsewhere_is_asked_for_in_time(project, days, waits):
    """Central cannot renew it: from 60 days before its end on the turn waits for a person."""
    keys = create_keys(Path(project.signing_keys), "yard", now=NOW - timedelta(days=days))
    for path in keys.folder.glob("root-*.pem"):
        path.unlink()
    kept = signing.keep_signed(project)
    assert bool(kept.waits_for) == waits
    assert not waits or "edgeloop keys rotate-root" in kept.waits_for[0]


def test_going_back_walks_down_the_orders_and_never_up_again(project):
    """From 3 to the orders of 2, then of 1, then no further; a number of one's own choice can be named."""
    signing.keep_signed(project)
    for reason in ("one", "two", "three"):
        publish(project, reason)
    first = signing.back(project, "all")
    assert (first.number, first.previous, first.back_to) == (4, 3, 2)
    second = signing.back(project, "all")
    assert (second.number, second.back_to) == (5, 1)
    with pytest.raises(ReleaseRefused, match="release 1 was the first"):
        signing.back(project, "all")
    chosen = signing.back(project, "all", to=3, reason="it was not so bad")
    assert (chosen.number, chosen.back_to, chosen.reason) == (6, 3, "it was not so bad")
    with pytest.raises(ReleaseRefused, match="is not among the signed ones"):
        signing.back(project, "all", to=77)
    with pytest.raises(ReleaseRefused, match="has no release yet"):
        signing.back(project, "dock")
    assert [r.number for r in signing.signed_releases(project, "all", 3)] == [6, 5, 4]


def test_a_release_carries_what_devices_hold_it_to(project, tmp_path):
    """The model's outputs on the probe frames, its class names and the project's limits; published once."""
    signing.keep_signed(project)
    project = project.model_copy(update={"probation": Probation(frames=40, most_detections=9)})
    model = constant_detector(tmp_path / "m.onnx", [CAR])
    digest = sha256_of(model)
    record = ModelVersion(
        model_version=digest[:16],
        sha256=digest,
        size_bytes=model.stat().st_size,
        created_at=NOW,
        class_names=("car", "truck"),
        image_size=(64, 64),
        format="ultralytics",
    )
    bucket = Central(project).bucket
    bucket.upload(layout.model_file(digest[:16], "model.onnx"), model)
    bucket.write_record(layout.model_file(digest[:16], "model.json"), record)
    first = release.fn(project, STUB, {}, sampling(), "The first.")
    assert first.probe is None
    made = release.fn(project, digest[:16], {"car": 0.4}, sampling(), "A model.")
    assert [d.class_name for frame in made.probe.frames for d in frame.detections] == ["car", "car"]
    assert (made.model_classes, made.probation.most_detections) == (("car", "truck"), 9)
    assert release.fn(project, digest[:16], {"car": 0.4}, sampling(), "Again.") == made
    assert latest_release(bucket, "all") == made
