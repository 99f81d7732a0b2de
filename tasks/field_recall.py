"""Field recall: how good the model on the devices is over all frames, from the samples that people have labelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from prefect import task

from tasks.central import Central, truths_of
from tasks.core import layout
from tasks.core.entities import STUB, DatasetVersion, Release
from tasks.core.errors import NotEnoughData, ObjectMissing, RecordInvalid
from tasks.core.field import Asked, FieldRecall, by_version, field_recall, refusal, refused
from tasks.core.settings import ProjectSettings, SamplingSettings
from tasks.retries import may_pass
from tasks.turn import newest_turn

_LOST = ("evicted, ", "refused, outbox", "refused, disk")  # of the outbox's drops: for want of room


@task(task_run_name="{model_version} in the field", retries=2, retry_delay_seconds=[1, 10], retry_condition_fn=may_pass)
def recall_in_the_field(project: ProjectSettings, model_version: str, dataset_version: str) -> list[FieldRecall]:
    """What the labels of a dataset version say of a model in the field; nothing where no device has run it."""
    central = Central(project)
    if not any(entry.sample.model_version == model_version for entry in central.entries(dataset_version)):
        return []  # batches need not be read for a model that no device had yet
    dataset = central.bucket.read_record(layout.dataset(dataset_version), DatasetVersion)
    return estimates(central, asked_of(central, dataset.batches), model=model_version)


def newest_field_recall(project: ProjectSettings, model: str = "", since: datetime | None = None) -> list[FieldRecall]:
    """The same of everything that people have labelled so far, by the newest turn; the newest versions first.

    model: of these model versions alone, which begin so. since: images captured from then on. Raises NotEnoughData
    where that leaves nothing to say anything of.
    """
    central, turn = Central(project), newest_turn(project)
    asked = list(asked_of(central, turn.batches if turn else {}))
    if not asked:
        raise NotEnoughData(
            f"no image of project {project.project} is labelled yet: label a batch, then call edgeloop loop"
        )
    chosen = [item for item in asked if since is None or item.sample.captured_at >= since]
    found = estimates(central, chosen, model=model)
    if not found:
        known = sorted({item.sample.model_version for item in asked})
        raise NotEnoughData(
            f"no image in the labelled batches is of such a model and time: the models are {', '.join(known)}"
        )
    return found


def asked_of(central: Central, batches: Mapping[str, int]) -> Iterable[Asked]:
    """What people said of each sample of batches, by batch and label revision. An imported dataset is no field."""
    for batch_id, revision in sorted(batches.items()):
        if not revision:
            continue  # nobody has begun it
        batch = central.batch(batch_id)
        if batch.origin == "import" or batch.purpose != "labels":
            continue
        labels = central.labels(batch, revision)
        for sample in batch.samples:
            if sample.sample_id in batch.gold:
                continue  # it is asked of in its own batch
            offered = batch.probability_offered.get(sample.sample_id, 1.0)
            label = labels.get(sample.sample_id)
            by_a_person = label if label is not None and label.origin == "human" else None
            yield Asked(sample, by_a_person, batch_id, offered)


def estimates(central: Central, asked: Iterable[Asked], model: str = "") -> list[FieldRecall]:
    """One answer for each model version, that begins with `model`, and settings version."""
    groups = by_version(item for item in asked if item.sample.model_version.startswith(model))
    found = [_estimate(central, version, items) for (_, version), items in groups.items()]
    lost = losses(central, {item.sample.device for items in groups.values() for item in items})
    return [one.model_copy(update={"warnings": (*one.warnings, *lost)}) if one.figures else one for one in found]


def losses(central: Central, devices: Iterable[str]) -> list[str]:
    """What devices say that they lost to a full outbox; of kinds that went as a whole no sample can tell."""
    told = []
    for device in sorted(devices):
        status = central.status_of(device)
        drops = status.drops if status else {}
        lost = sum(number for reason, number in drops.items() if reason.startswith(_LOST))
        if status and lost:
            told.append(
                f"device {device} has lost {lost} samples to a full outbox since {status.started_at:%Y-%m-%d}: the "
                "random slice, which is the last that goes, stands for kinds of which nothing is left, at too little "
                "weight where samples of an older version do not say how likely it was"
            )
    return told


def _estimate(central: Central, settings_version: str, asked: list[Asked]) -> FieldRecall:
    project, model_version = central.project, asked[0].sample.model_version
    if model_version == STUB:
        return refused(asked, refusal(STUB, project.sampling))
    release, reason = _release(central, settings_version)
    if release is None:
        return refused(asked, reason)
    if release.model_version != model_version:
        return refused(asked, f"release {settings_version} is of model {release.model_version}, not of this one")
    return field_recall(asked, in_force(release), project.classes, truths_of=truths_of, seed=project.seed)


def in_force(release: Release) -> SamplingSettings:
    """What devices obeyed: thresholds that the settings do not have are the release's."""
    if release.settings.thresholds:
        return release.settings
    return release.settings.model_copy(update={"thresholds": release.thresholds})


def _release(central: Central, settings_version: str) -> tuple[Release | None, str]:
    """The release whose settings were in force; None, and why, where nobody here can know them."""
    try:
        release = central.release_of(settings_version)
    except (ObjectMissing, RecordInvalid) as error:
        return None, f"release {settings_version} cannot be read, so what was in force is not known: {error}"
    if release is None:
        return None, (
            f"the settings {settings_version!r} came from a file on the device, not from a release: what was in force "
            "then is not known here"
        )
    return release, ""
