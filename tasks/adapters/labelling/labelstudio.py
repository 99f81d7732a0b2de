"""Labelling in Label Studio: a project a batch, a task an image, known by `meta.sample_id`.

Nothing of it is remembered here: what people were given, and the boxes that they began with, stand in the tasks
themselves, so that any machine goes on where another one ended. A webhook only hurries: a pull looks.

Images of an S3 bucket stay there: Label Studio signs an address for each look at them, with the credentials that its
own server has. Images of a local folder are uploaded, so that the server may be anywhere, nothing outside the image
itself is opened to it, and the local cache may be deleted meanwhile.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.adapters.bucket import Bucket
from tasks.adapters.labelling.labelstudio_client import LabelStudio
from tasks.adapters.labelling.labelstudio_interface import IMAGE, instructions, labelling_interface, reason_in
from tasks.adapters.labelling.labelstudio_webhook import ensure_webhook
from tasks.adapters.labels.labelstudio_json import labels_of_tasks, regions_of
from tasks.adapters.secrets import secret
from tasks.core import layout
from tasks.core.entities import Batch, Label, Sample
from tasks.core.errors import LabellingUnavailable, SettingsError
from tasks.core.settings import ProjectSettings

TOKEN_VARIABLE = "EDGELOOP_LABELSTUDIO_TOKEN"
PRE_ANNOTATION = "pre-annotation"  # one name for all models: Label Studio shows those of one "version" alone
LONGEST_TITLE = 50  # characters that Label Studio allows
PRESIGNED_MINUTES = 60  # that the address of an image holds; each look at the task makes a new one
_AT_ONCE = 50  # tasks or files in one request
_OTHERS = 0o077  # rights that nobody else may have on a file with a token


@dataclass(frozen=True, slots=True)
class GivenTask:
    """A task as people have it. seed: the boxes that they began with, None where the image came blank."""

    task_id: int
    sample_id: str
    seed: Label | None
    annotations: tuple[Mapping[str, Any], ...]


class LabelStudioLabelling:
    """Batches as projects of a Label Studio server.

    bucket: where the images are. annotations: how many people label each image. skip_reasons: to choose from.
    webhook_url: whom a project calls when somebody has labelled; empty: nobody.
    """

    def __init__(
        self,
        server: LabelStudio,
        bucket: Bucket,
        *,
        annotations: int = 1,
        skip_reasons: Sequence[str] = (),
        webhook_url: str = "",
    ) -> None:
        self._server = server
        self._bucket = bucket
        self._annotations = annotations
        self._skip_reasons = tuple(skip_reasons)
        self._webhook_url = webhook_url
        self._problems: dict[str, list[str]] = {}

    @classmethod
    def of(cls, project: ProjectSettings) -> LabelStudioLabelling:
        """As the project's settings say. Raises SettingsError where there is no token."""
        settings = project.labelling
        server = LabelStudio(settings.labelstudio_url, access_token(Path(settings.labelstudio_token_file)))
        bucket = Bucket(project.bucket, project.project)
        return cls(
            server,
            bucket,
            annotations=settings.annotations,
            skip_reasons=settings.skip_reasons,
            webhook_url=settings.webhook_url,
        )

    def where(self, batch_id: str) -> str:
        """The page of the batch's project; the list of projects where there is none."""
        found = self._project(batch_id)
        return f"{self._server.url}/projects/{found}/data" if found else f"{self._server.url}/projects"

    def push(self, batch: Batch, image_of: Callable[[Sample], Path], seeds: Mapping[str, Label]) -> None:
        """Make the project of `batch`, and a task for each image that has none; nothing that is there is changed.

        May end anywhere and be called again. An image is seeded when its task is made.
        """
        project = self._project(batch.batch_id) or self._make_project(batch)
        known = {task.sample_id for task in self._tasks(project)}
        missing = [sample for sample in batch.samples if sample.sample_id not in known]
        for first in range(0, len(missing), _AT_ONCE):
            some = missing[first : first + _AT_ONCE]
            addresses = self._addresses(project, some, image_of)
            tasks = [new_task(sample, addresses[sample.sample_id], seeds.get(sample.sample_id)) for sample in some]
            self._server.post(f"/api/projects/{project}/import", tasks)
        if missing:
            self._drop_doubles(project)
        if self._webhook_url:
            ensure_webhook(self._server, project, self._webhook_url)

    def offered(self, batch: Batch) -> tuple[str, ...]:
        """The sample ids that have a task; all of the batch where its project is not there."""
        project = self._project(batch.batch_id)
        if project is None:
            return tuple(sample.sample_id for sample in batch.samples)
        return tuple(dict.fromkeys(task.sample_id for task in self._tasks(project)))

    def seeds(self, batch: Batch) -> dict[str, Label]:
        """What people saw before they began, by sample id."""
        project = self._project(batch.batch_id)
        tasks = self._tasks(project) if project else ()
        return {task.sample_id: task.seed for task in tasks if task.seed is not None}

    def pull(self, batch: Batch) -> list[Label]:
        """A label for each person and image, by sample id, then by when it was made.

        Of several annotations of one image by the same person the one changed last counts.
        """
        lines = self._problems[batch.batch_id] = []
        project = self._project(batch.batch_id)
        if project is None:
            lines.append(f"{self._server.url}: no project {title_of(batch.batch_id)!r}: it was deleted, or never made")
            return []
        samples = {sample.sample_id: sample for sample in batch.samples}
        people = self._people()
        newest: dict[tuple[str, str], Label] = {}
        for task in self._tasks(project, annotations=True):
            for annotation in task.annotations:
                label = label_of(task, annotation, samples, batch.class_names, people, lines)
                if label is None:
                    continue
                before = newest.get((label.sample_id, label.annotator))
                if before is None or label.labelled_at >= before.labelled_at:
                    newest[label.sample_id, label.annotator] = label
        return sorted(newest.values(), key=lambda label: (label.sample_id, label.labelled_at, label.annotator))

    def problems(self, batch: Batch) -> list[str]:
        """What could not be used of it when it was pulled last; it is pulled where it never was."""
        if batch.batch_id not in self._problems:
            self.pull(batch)
        return list(self._problems[batch.batch_id])

    # --- projects ----------------------------------------------------------------------------------------------------

    def _project(self, batch_id: str) -> int | None:
        """The project of a batch; the oldest, where two machines made one at the same moment.

        Raises LabellingUnavailable where a project of that title belongs to something else.
        """
        title = title_of(batch_id)
        found = [p for p in self._server.pages("/api/projects", "results", title=title) if p["title"] == title]
        ours = [p for p in found if self._mark(batch_id) in str(p.get("description"))]
        if found and not ours:
            raise LabellingUnavailable(
                f"{self._server.url}: project {title!r} is there and not of this batch: rename it in Label Studio, "
                f"or put {self._mark(batch_id)!r} back into its description"
            )
        return min((int(p["id"]) for p in ours), default=None)

    def _mark(self, batch_id: str) -> str:
        return f"edgeloop batch {self._bucket.project}/{batch_id}"

    def _make_project(self, batch: Batch) -> int:
        asked = f", {batch.assignee} is asked to label it" if batch.assignee else ""
        self._server.post(
            "/api/projects",
            {
                "title": title_of(batch.batch_id),
                "description": f"{self._mark(batch.batch_id)}{asked}",
                "label_config": labelling_interface(batch.class_names, self._skip_reasons),
                "expert_instruction": instructions(batch.class_names),
                "maximum_annotations": self._annotations,
                "skip_queue": "IGNORE_SKIPPED",  # a skip is an answer; the image does not come to others for it
                "show_collab_predictions": True,
            },
        )
        made = self._project(batch.batch_id)
        if made is None:
            raise LabellingUnavailable(f"{self._server.url}: made project {title_of(batch.batch_id)!r}, and has it not")
        return made

    # --- tasks -------------------------------------------------------------------------------------------------------

    def _tasks(self, project: int, *, annotations: bool = False) -> Iterator[GivenTask]:
        """The tasks of a project in the order in which they were made; what others put there is passed over."""
        fields = {"fields": "all"} if annotations else {}
        for task in self._server.pages("/api/tasks", "tasks", project=project, resolve_uri="false", **fields):
            meta = task.get("meta")
            if isinstance(meta, Mapping) and isinstance(meta.get("sample_id"), str):
                given = tuple(task.get("annotations") or ()) if annotations else ()
                yield GivenTask(int(task["id"]), meta["sample_id"], seed_in(meta), given)

    def _drop_doubles(self, project: int) -> None:
        """Of two tasks of one image, which a lost answer or a second machine can leave, the one nobody has touched."""
        tasks = defaultdict(list)
        for task in self._tasks(project, annotations=True):
            tasks[task.sample_id].append(task)
        for same in tasks.values():
            untouched = [task for task in same if not task.annotations]
            surplus = untouched if len(untouched) < len(same) else untouched[1:]
            for task in surplus:
                self._server.delete(f"/api/tasks/{task.task_id}/")

    def _people(self) -> dict[int, str]:
        """User id -> e-mail, or the name where there is none."""
        return {int(user["id"]): str(user["email"] or user["username"]) for user in self._server.get("/api/users")}

    # --- images ------------------------------------------------------------------------------------------------------

    def _addresses(self, project: int, samples: Sequence[Sample], image_of: Callable[[Sample], Path]) -> dict[str, str]:
        """Sample id -> the address of its image, as a task's data holds it."""
        if not self._bucket.url.startswith("s3://"):
            return self._uploaded(project, samples, image_of)
        self._open_bucket(project)
        return {sample.sample_id: self._bucket.url_of(image_key(sample)) for sample in samples}

    def _uploaded(self, project: int, samples: Sequence[Sample], image_of: Callable[[Sample], Path]) -> dict[str, str]:
        """Uploads what is not there: a push that ended in the middle has left some."""
        wanted = {sample.sample_id: sample for sample in samples}
        there = self._uploads(project)
        if missing := [image_of(sample) for sample_id, sample in wanted.items() if sample_id not in there]:
            self._server.upload(f"/api/projects/{project}/import", missing, commit_to_project="false")
            there = self._uploads(project)
        return {sample_id: there[sample_id] for sample_id in wanted}

    def _uploads(self, project: int) -> dict[str, str]:
        """Sample id -> address, of the files of a project: `upload/7/1f0c9a2b-{sample id}.jpg`."""
        files = self._server.get(f"/api/projects/{project}/file-uploads", all="true")
        return {Path(file["file"]).stem.rpartition("-")[2]: f"/data/{file['file']}" for file in files}

    def _open_bucket(self, project: int) -> None:
        """Let the project read the bucket. Label Studio's server uses credentials of its own: ours never go there."""
        bucket, _, prefix = self._bucket.url_of("x").removeprefix("s3://").removesuffix("/x").partition("/")
        there = self._server.get("/api/storages/s3", project=project)
        if any((storage.get("bucket"), storage.get("prefix")) == (bucket, prefix) for storage in there):
            return
        storage = {
            "project": project,
            "title": self._bucket.url,
            "bucket": bucket,
            "prefix": prefix,
            "presign": True,
            "presign_ttl": PRESIGNED_MINUTES,
            "use_blob_urls": True,
            "s3_endpoint": os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None,
            "region_name": os.environ.get("AWS_DEFAULT_REGION") or None,
        }
        try:
            self._server.post("/api/storages/s3", storage)
        except LabellingUnavailable as error:
            raise LabellingUnavailable(
                f"{error}: start Label Studio's server with AWS credentials that may read {self._bucket.url}"
            ) from None


def access_token(file: Path) -> str:
    """The personal access token: from the environment or a credential of systemd, else from `file`.

    Raises SettingsError where there is none, or where others may read the file.
    """
    if given := secret(TOKEN_VARIABLE):
        return given
    try:
        if file.stat().st_mode & _OTHERS:
            raise SettingsError(f"{file}: others may read this access token: chmod 600 {file}")
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text:
        raise SettingsError(
            f"no access token of Label Studio: set {TOKEN_VARIABLE}, or put it into {file} "
            f"(labelling.labelstudio_token_file; edgeloop labelstudio up does)"
        )
    return text


def title_of(batch_id: str) -> str:
    """A batch id as a project's title; a long one keeps its beginning and its end, which tells it from all others."""
    if len(batch_id) <= LONGEST_TITLE:
        return batch_id
    return f"{batch_id[: LONGEST_TITLE - 19]}--{batch_id[-17:]}"


def image_key(sample: Sample) -> str:
    return layout.sample_image(sample.device, sample.captured_at, sample.sample_id)


def new_task(sample: Sample, address: str, seed: Label | None) -> dict[str, Any]:
    """What Label Studio imports for one image."""
    task: dict[str, Any] = {"data": {IMAGE: address}, "meta": {"sample_id": sample.sample_id}}
    if seed is not None:
        task["meta"]["seed"] = json.loads(seed.to_json())
        task["predictions"] = [{"model_version": PRE_ANNOTATION, "result": regions_of(seed.boxes, sample)}]
    return task


def seed_in(meta: Mapping[str, Any]) -> Label | None:
    try:
        return Label.model_validate(meta["seed"])
    except (KeyError, ValidationError):
        return None


def label_of(
    task: GivenTask,
    annotation: Mapping[str, Any],
    samples: Mapping[str, Sample],
    class_names: Sequence[str],
    people: Mapping[int, str],
    problems: list[str],
) -> Label | None:
    """What one person said about one image; None for what cannot be used, with a line in `problems`.

    A chosen reason skips the image, whichever button was pressed; a submitted one with boxes as well says two things at
    once, and is not used.
    """
    by = annotation.get("completed_by")
    person = people.get(by, str(by)) if isinstance(by, int) else "somebody"
    where = f"task {task.task_id}, {person}"
    content = {
        "data": {},
        "meta": {"sample_id": task.sample_id},
        "annotations": [{**annotation, "completed_by": {"email": person}}],
    }
    labels, found = labels_of_tasks([content], samples, class_names, where)
    problems += [line.replace(": tasks[0]", "", 1) for line in found.lines]
    if not labels:
        return None
    label = labels[0]
    reason = reason_in(annotation["result"])
    if label.status == "skipped":
        return label.model_copy(update={"reason": reason})
    if not reason:
        return label
    if label.boxes:
        problems.append(f"{where}: chose {reason!r} and drew boxes: press Skip, or take the choice back")
        return None
    return label.model_copy(update={"status": "skipped", "reason": reason})
