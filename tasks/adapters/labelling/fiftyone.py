"""Labelling in the FiftyOne App: a dataset a batch, for one person and some hundred images (APP.md).

The bucket holds what people were given and what was taken from them; the dataset holds what they are at. A database
that was deleted is made again from both, and nothing is lost but what had not been pulled.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from tasks.adapters import review
from tasks.adapters.bucket import Bucket
from tasks.adapters.labelling import fiftyone_dataset as dataset_of
from tasks.adapters.labelling.fiftyone_boxes import CONFIRMED_TAG as CONFIRMED_TAG
from tasks.adapters.labelling.fiftyone_boxes import label_of
from tasks.adapters.labelling.fiftyone_dataset import MARK, PROBLEM
from tasks.adapters.labelling.interface import LabellingStatus, Offer
from tasks.adapters.labels import labels_from_coco
from tasks.core import layout
from tasks.core.entities import Batch, Detection, Label, Release, Sample, detections_from_records
from tasks.core.errors import BucketError, DataError, LabellingUnavailable, LabelsInvalid, ReviewUnavailable
from tasks.core.sampling.observation import Observation
from tasks.core.sampling.strategies import StrategyTable
from tasks.core.settings import ProjectSettings, SamplingSettings

NOBODY = "fiftyone"  # who labelled, where nobody said who it is


@dataclass(frozen=True, slots=True)
class Submission:
    """What the check found. refused: sample id -> why it was not taken; status counts what was."""

    labels: tuple[Label, ...]
    refused: Mapping[str, str]
    status: LabellingStatus


class FiftyOneLabelling:
    """Batches as datasets of FiftyOne's database.

    folder: of the database. skip_reasons: what a skip can be explained with.
    """

    def __init__(self, bucket: Bucket, folder: Path, *, skip_reasons: Sequence[str] = ()) -> None:
        self._bucket = bucket
        self._folder = folder
        self._skip_reasons = tuple(skip_reasons)
        self._problems: dict[str, list[str]] = {}

    @classmethod
    def of(cls, project: ProjectSettings) -> FiftyOneLabelling:
        """As the project's settings say."""
        bucket = Bucket(project.bucket, project.project)
        return cls(bucket, Path(project.work) / "fiftyone", skip_reasons=project.labelling.skip_reasons)

    def dataset_name(self, batch_id: str) -> str:
        return f"{self._bucket.project}.{batch_id}"

    def where(self, batch_id: str) -> str:
        """The command that opens it: the App's address is there while it runs."""
        return f"edgeloop review {batch_id}"

    def link(self, batch_id: str, port: int = review.DEFAULT_PORT) -> str:
        """The page with what is to do, while an App runs at `port`."""
        return review.app_url(self.dataset_name(batch_id), dataset_of.view_slug("To do"), port)

    # --- out ---------------------------------------------------------------------------------------------------------

    def push(self, batch: Batch, image_of: Callable[[Sample], Path], seeds: Mapping[str, Label]) -> None:
        """Make the dataset of `batch`, and a sample for each image that has none; what people have is not touched.

        May end anywhere and be called again. What an image begins with is written to the bucket once, before people
        can see it. Where the database was lost the images come back with what was pulled of them.
        """
        paths = {sample.sample_id: image_of(sample).absolute() for sample in batch.samples}
        given = self._give(batch, seeds)
        schemas = dataset_of.label_schemas(batch.class_names, self._skip_reasons)
        name, mark = self.dataset_name(batch.batch_id), self._mark(batch.batch_id)
        with self._database() as db:
            found = dataset_of.find(db, name, mark)
            if found is not None and dataset_of.is_whole(db, found, paths, schemas):
                return
        with self._held(), self._reachable():
            known, bands = self._taken(batch), Bands(self._bucket, batch.class_names)
            shown = {seed.sample_id: seed for seed in given.seeds}
            dataset = dataset_of.make_dataset(name, mark, batch.class_names)
            dataset_of.add_samples(
                dataset,
                batch.samples,
                paths,
                lambda sample: dataset_of.new_content(
                    sample,
                    shown.get(sample.sample_id),
                    known.get(sample.sample_id),
                    bands.candidates(sample, shown.get(sample.sample_id)),
                ),
            )
            dataset_of.activate(dataset, schemas)

    def offered(self, batch: Batch) -> tuple[str, ...]:
        """The sample ids that people were given; all of the batch where it was not given out."""
        given = self._given(batch.batch_id)
        return given.images or tuple(sample.sample_id for sample in batch.samples)

    def seeds(self, batch: Batch) -> dict[str, Label]:
        """What people saw before they began, by sample id."""
        return {seed.sample_id: seed for seed in self._given(batch.batch_id).seeds}

    def is_given(self, batch_id: str) -> bool:
        """Whether people were given any of it."""
        return bool(self._given(batch_id).images)

    # --- back --------------------------------------------------------------------------------------------------------

    def pull(self, batch: Batch) -> list[Label]:
        """What people have finished, by sample id; what cannot be taken is left with them and named by `problems`."""
        labels, refused = self._read(batch)
        self._problems[batch.batch_id] = refused_lines(refused)
        return labels

    def problems(self, batch: Batch) -> list[str]:
        """What could not be taken when it was pulled last; it is pulled where it never was."""
        if batch.batch_id not in self._problems:
            self.pull(batch)
        return list(self._problems[batch.batch_id])

    def submit(self, batch: Batch) -> Submission:
        """The check before labels are taken: what a pull would give, and why not the others.

        The reasons are shown in the App, too, as `problem` and in the view Refused; nothing else is written there.
        """
        labels, refused = self._read(batch)
        self._problems[batch.batch_id] = refused_lines(refused)
        with self._database() as db:
            found = dataset_of.find(db, self.dataset_name(batch.batch_id), self._mark(batch.batch_id))
            if found is None:
                raise LabellingUnavailable(
                    f"batch {batch.batch_id} is not in the App: open it with {self.where(batch.batch_id)}"
                )
            # Without a new last_modified_at, so that no page which is open has to be loaded again before it can save.
            samples = db[found["sample_collection_name"]]
            samples.update_many(
                {"sample_id": {"$nin": list(refused)}, PROBLEM: {"$ne": None}}, {"$set": {PROBLEM: None}}
            )
            for sample_id, why in refused.items():
                samples.update_one({"sample_id": sample_id}, {"$set": {PROBLEM: why}})
        return Submission(tuple(labels), refused, LabellingStatus.of(self.offered(batch), labels))

    def opened_by(self, batch_id: str, name: str) -> None:
        """That `name` labels this batch from now on."""
        opened = {"name": name, "since": datetime.now(timezone.utc)}
        with self._database() as db:
            db.datasets.update_one({"name": self.dataset_name(batch_id)}, {"$push": {f"info.{MARK}.reviewers": opened}})

    def _read(self, batch: Batch) -> tuple[list[Label], dict[str, str]]:
        """Labels by sample id, and for each other finished image why it is not among them."""
        with self._database() as db:
            found = dataset_of.find(db, self.dataset_name(batch.batch_id), self._mark(batch.batch_id))
            read = dataset_of.documents(db, found) if found else []
        if found is None:
            return [], {"": f"batch {batch.batch_id} is not in the App: {self.where(batch.batch_id)} brings it back"}
        samples = {sample.sample_id: sample for sample in batch.samples}
        seeds, taken = self.seeds(batch), self._taken(batch)
        reviewers = found["info"][MARK].get("reviewers") or []
        labels, refused = {}, {}
        for document in read:
            sample_id = document.get("sample_id")
            if sample_id not in samples:
                where = Path(str(document.get("filepath"))).name
                refused[str(sample_id or where)] = f"{where}: is no image of this batch: delete it from the dataset"
                continue
            moment = min(document["last_modified_at"], datetime.now(timezone.utc))
            who = reviewer_at(moment, reviewers) or batch.assignee or NOBODY
            sample, seed, before = samples[sample_id], seeds.get(sample_id), taken.get(sample_id)
            try:
                label = label_of(document, sample, seed, before, batch.class_names, who, moment)
            except LabelsInvalid as error:
                refused[sample_id] = str(error)
                continue
            if label is not None:
                labels[sample_id] = newer(label, before)
        return [labels[sample_id] for sample_id in sorted(labels)], refused

    # --- what the bucket knows ---------------------------------------------------------------------------------------

    def _given(self, batch_id: str) -> Offer:
        """All that people were given of it; of an image that two machines gave out, what came first."""
        key = partial(layout.batch_given, batch_id)
        records = [self._bucket.read_record(key(n), Offer) for n in range(1, self._bucket.latest_number(key) + 1)]
        first: dict[str, int] = {}
        for number, record in enumerate(records):
            for sample_id in record.images:
                first.setdefault(sample_id, number)
        seeds = (seed for n, record in enumerate(records) for seed in record.seeds if first.get(seed.sample_id) == n)
        return Offer(images=tuple(first), seeds=tuple(seeds))

    def _give(self, batch: Batch, seeds: Mapping[str, Label]) -> Offer:
        """Write down what people begin with, of the images that they have not got yet."""
        known = set(self._given(batch.batch_id).images)
        new = [sample.sample_id for sample in batch.samples if sample.sample_id not in known]
        if new:
            offer = Offer(images=tuple(new), seeds=tuple(seeds[sample_id] for sample_id in new if sample_id in seeds))
            self._bucket.append_record(partial(layout.batch_given, batch.batch_id), lambda number: offer)
        return self._given(batch.batch_id)

    def _taken(self, batch: Batch) -> dict[str, Label]:
        """What people have said that is in the bucket, by sample id; not what a model said in their place."""
        revision = self._bucket.latest_number(partial(layout.labels, batch.batch_id))
        if not revision:
            return {}
        key = layout.labels(batch.batch_id, revision)
        samples = {sample.sample_id: sample for sample in batch.samples}
        labels, _ = labels_from_coco(self._bucket.get(key), samples, batch.class_names, key)
        return {label.sample_id: label for label in labels if label.origin == "human"}

    # --- the database ------------------------------------------------------------------------------------------------

    def _mark(self, batch_id: str) -> dict[str, str]:
        return {"project": self._bucket.project, "batch": batch_id}

    @contextmanager
    def _database(self) -> Iterator[Any]:
        with self._reachable():
            review.ensure_database(self._folder)
            with dataset_of.database() as db:
                yield db

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """An outage of the App's database is one of the place where people label."""
        from pymongo.errors import PyMongoError

        try:
            yield
        except (ReviewUnavailable, PyMongoError) as error:
            what = (
                error if isinstance(error, ReviewUnavailable) else f"the review database fails: {type(error).__name__}"
            )
            raise LabellingUnavailable(
                f"{what}; or let people label elsewhere: labelling.interface files or labelstudio"
            ) from None

    @contextmanager
    def _held(self) -> Iterator[None]:
        """One process of this machine at a time brings images in."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "labelling.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Bands:
    """What the model doubts in a sample: the detections for which the settings of its time look for misses."""

    def __init__(self, bucket: Bucket, class_names: Sequence[str]) -> None:
        self._bucket = bucket
        self._class_names = tuple(class_names)
        self._tables: dict[str, StrategyTable | None] = {}

    def candidates(self, sample: Sample, seed: Label | None) -> list[Detection]:
        """The doubtful detections that are not among the boxes of `seed`; none on an image that comes blank."""
        table = self._table(sample.settings_version) if seed is not None else None
        if seed is None or table is None:
            return []
        records = [record for record in sample.detections if record.class_name in self._class_names]
        seen = Observation(
            frame=sample.sample_id,
            device=sample.device,
            camera=sample.camera,
            captured_at=sample.captured_at,
            detections=detections_from_records(records, self._class_names),
        )
        shown = {(box.class_name, tuple(round(v) for v in box.xyxy)) for box in seed.boxes}
        doubtful = [record for record, is_doubtful in zip(records, table.doubtful(seen)) if is_doubtful]
        return [one for one in doubtful if (one.class_name, tuple(round(v) for v in one.xyxy)) not in shown]

    def _table(self, settings_version: str) -> StrategyTable | None:
        """None where the settings came from a file on the device, or cannot be read."""
        if settings_version not in self._tables:
            settings = self._settings(settings_version)
            self._tables[settings_version] = StrategyTable(settings, self._class_names) if settings else None
        return self._tables[settings_version]

    def _settings(self, settings_version: str) -> SamplingSettings | None:
        group, _, number = settings_version.partition("/")
        if not layout.NAME.match(group) or not number.isdecimal():
            return None
        try:
            return self._bucket.read_record(layout.release(group, int(number)), Release).settings
        except (BucketError, DataError):
            return None


def newer(label: Label, before: Label | None) -> Label:
    """The label, or the one from before: where it says the same, and where it came from elsewhere later."""
    if before is None:
        return label
    said, said_before = ((one.status, one.boxes, one.reason) for one in (label, before))
    return before if said == said_before or before.labelled_at > label.labelled_at else label


def reviewer_at(moment: datetime, reviewers: Sequence[Mapping[str, Any]]) -> str:
    """Who had opened the batch last by then; the first one for what is older than all; empty where nobody has."""
    opened = sorted(reviewers, key=lambda one: one["since"])
    before = [one["name"] for one in opened if one["since"] <= moment]
    return str(before[-1] if before else opened[0]["name"]) if opened else ""


def refused_lines(refused: Mapping[str, str]) -> list[str]:
    return [f"{sample_id}: {why}" if sample_id else why for sample_id, why in sorted(refused.items())]
