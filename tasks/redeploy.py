"""Redeploy: the gate's verdict on a candidate, and the releases that devices obey."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from prefect import task

from tasks import signing
from tasks.adapters.detector import open_detector
from tasks.adapters.releases import latest_release
from tasks.central import Central, detect_again, of_split
from tasks.core import gate, layout
from tasks.core.entities import STUB, DatasetVersion, ModelVersion, Release, Verdict
from tasks.core.matching import match
from tasks.core.settings import ProjectSettings, SamplingSettings, Thresholds
from tasks.retries import may_pass


@task(task_run_name="gate {candidate}", retries=2, retry_delay_seconds=[1, 10], retry_condition_fn=may_pass)
def judge(
    project: ProjectSettings,
    candidate: str,
    live: str,
    dataset_version: str,
    candidate_thresholds: Thresholds,
    live_thresholds: Thresholds,
) -> Verdict:
    """May `candidate` replace `live`? Both run again on the newest test edition; the verdict is stored."""
    central = Central(project)
    dataset = central.bucket.read_record(layout.dataset(dataset_version), DatasetVersion)
    entries = of_split(central.entries(dataset_version), "test")
    ours = detect_again(central, candidate, entries)
    edition = gate.Edition(
        clusters=tuple(ours.clusters),
        class_names=project.classes,
        dataset_version=dataset_version,
        number=dataset.test_edition,
        is_random=dataset.test_is_random,
    )
    outcome = gate.ModelOutcome(candidate, match(ours.results), candidate_thresholds)
    now = datetime.now(timezone.utc)
    if live == STUB:
        verdict = gate.judge_first(outcome, edition, project.gate, decided_at=now, seed=project.seed)
    else:
        theirs = detect_again(central, live, ours.entries)
        verdict = gate.judge_improve(
            outcome,
            gate.ModelOutcome(live, match(theirs.results), live_thresholds),
            edition,
            project.gate,
            decided_at=now,
            seed=project.seed,
        )
    store_verdict(central, verdict)
    return verdict


def store_verdict(central: Central, verdict: Verdict) -> None:
    """Every verdict gets a number of its own: none is ever overwritten."""
    central.bucket.append_record(layout.verdict, lambda number: verdict)


@task(
    task_run_name="release to {project.group}", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass
)
def release(
    project: ProjectSettings,
    model_version: str,
    thresholds: Thresholds,
    settings: SamplingSettings,
    reason: str,
) -> Release:
    """Sign and publish the next release of the group. The same orders twice are one release."""
    central = Central(project)
    publisher = signing.publisher(project)
    live = publisher.newest(project.group)
    model = None if model_version == STUB else central.model(model_version)
    wanted = Release(
        group=project.group,
        number=live.number + 1 if live else 1,
        previous=live.number if live else 0,
        created_at=datetime.now(timezone.utc),
        model_version=model_version,
        model_sha256=model.sha256 if model else "",
        model_classes=model.class_names if model else (),
        class_names=project.classes,
        thresholds=thresholds,
        settings=bound(settings, model_version, thresholds),
        probation=project.probation,
        reason=reason,
    )
    if live is not None and same_orders(live, wanted):
        return live
    return publisher.publish(wanted.model_copy(update={"probe": signing.probe_of(central, wanted)}))


@task(task_run_name="keep releases signed", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def keep_signed(project: ProjectSettings) -> signing.Kept:
    """The project's keys, where there are none yet, and signatures that do not end."""
    return signing.keep_signed(project)


def bound(settings: SamplingSettings, model_version: str, thresholds: Thresholds) -> SamplingSettings:
    """The settings with the thresholds of the model that they go out with."""
    digest = settings.model_digest if settings.portable else ("" if model_version == STUB else model_version)
    return settings.model_copy(update={"thresholds": thresholds, "model_digest": digest})


def same_orders(a: Release, b: Release) -> bool:
    ignored = {"number", "previous", "created_at", "reason", "back_to", "probe"}
    return a.model_dump(exclude=ignored) == b.model_dump(exclude=ignored)


def live_release(project: ProjectSettings) -> Release | None:
    """The release in force, None before the first."""
    return latest_release(Central(project).bucket, project.group)


def thresholds_in_force(project: ProjectSettings) -> Thresholds:
    """The operating thresholds that devices obey now."""
    live = live_release(project)
    return live.thresholds if live else {}


@task(task_run_name="first model", retries=3, retry_delay_seconds=[1, 5, 20], retry_condition_fn=may_pass)
def first_model(project: ProjectSettings) -> str:
    """The model version that devices start with: the user's own file, or none (the stub)."""
    if project.first_model == STUB:
        return STUB
    return import_model(project, Path(project.first_model)).model_version


def import_model(project: ProjectSettings, path: Path, licence: str = "") -> ModelVersion:
    """Take a user's own ONNX file into the bucket as a model version."""
    central = Central(project)
    detector = open_detector(path, project_classes=project.classes, model_classes=project.model_classes)
    model = ModelVersion(
        model_version=detector.model_version,
        sha256=detector.sha256,
        size_bytes=path.stat().st_size,
        created_at=datetime.now(timezone.utc),
        class_names=open_detector(path, project_classes=None, model_classes=project.model_classes).class_names,
        image_size=detector.image_size,
        format=detector.format,
        trained_from=path.name,
        licence=licence,
    )
    key = layout.model_file(model.model_version, "model.json")
    if not central.bucket.exists(key):
        central.bucket.upload(layout.model_file(model.model_version, "model.onnx"), path)
        central.bucket.write_record(key, model)
    return model
