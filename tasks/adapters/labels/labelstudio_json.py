"""Label Studio's JSON: a list of tasks, each with the annotations of its people, boxes in percent of the image.

    write   task_of             one image as a task that Label Studio imports: annotations, or predictions to begin with
    read    read_labelstudio    its export, "JSON" in its menu, as labels

Percents are written with all their digits and come back to the ten-thousandth of a pixel. What the format has no word
for is kept in `meta`, which Label Studio hands back: the sample id, and `crowd` as the note of a region. A cancelled
annotation is a skipped image, a submitted one without regions is reviewed and empty; drafts, predictions and tasks
without annotations say nothing yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from tasks.adapters.labels.coco import UNKNOWN_IMAGE, parse_json, sample_id_in
from tasks.adapters.labels.dataset import (
    BAD_LINE,
    MAX_BOXES,
    OTHER_SIZE,
    UNKNOWN_CLASS,
    WITHOUT_AREA,
    BadBox,
    Problems,
    checked_box,
    number,
)
from tasks.core.entities import Label, LabelBox, Sample, Xyxy, format_utc
from tasks.core.errors import LabelsInvalid

BOXES = "rectanglelabels"  # the type of the regions that are boxes
FROM_NAME, TO_NAME = "label", "image"  # of the labelling interface's <RectangleLabels> and <Image>
CROWD = "crowd"
_NO_REGIONS = ("choices", "textarea", "number", "rating", "datetime", "taxonomy", "pairwise", "relation")  # of an image


def percent_box(xyxy: Xyxy, width: int, height: int) -> tuple[float, float, float, float]:
    """Corners in pixels as left, top, width and height in percent of the image."""
    x1, y1, x2, y2 = xyxy
    return 100 * x1 / width, 100 * y1 / height, 100 * (x2 - x1) / width, 100 * (y2 - y1) / height


def pixels_box(percent: Sequence[float], width: int, height: int) -> Xyxy:
    """Left, top, width and height in percent as corners in pixels, to the ten-thousandth: of `percent_box` exactly."""
    x, y, w, h = percent
    return (
        round(x * width / 100, 4),
        round(y * height / 100, 4),
        round((x + w) * width / 100, 4),
        round((y + h) * height / 100, 4),
    )


# --- writing ---------------------------------------------------------------------------------------------------------


def task_of(
    number_: int, sample: Sample, image: str, label: Label | None = None, seed: Label | None = None
) -> dict[str, Any]:
    """One image as a task. image: its address in the task's data. label: what was said; seed: what to begin with."""
    task: dict[str, Any] = {"id": number_, "data": {"image": image}, "meta": {"sample_id": sample.sample_id}}
    task["annotations"] = [] if label is None else [_annotation(number_, label, sample)]
    if seed is not None:
        task["predictions"] = [{"model_version": seed.annotator, "result": regions_of(seed.boxes, sample)}]
    return task


def regions_of(boxes: Sequence[LabelBox], sample: Sample) -> list[dict[str, Any]]:
    """Boxes as the regions of an annotation or a prediction."""
    regions = []
    for n, box in enumerate(boxes, start=1):
        x, y, w, h = percent_box(box.xyxy, sample.width, sample.height)
        region = {
            "id": f"box-{n}",
            "type": BOXES,
            "from_name": FROM_NAME,
            "to_name": TO_NAME,
            "original_width": sample.width,
            "original_height": sample.height,
            "image_rotation": 0,
            "value": {"x": x, "y": y, "width": w, "height": h, "rotation": 0, BOXES: [box.class_name]},
        }
        regions.append(region | ({"meta": {"text": [CROWD]}} if box.crowd else {}))
    return regions


def _annotation(number_: int, label: Label, sample: Sample) -> dict[str, Any]:
    return {
        "id": number_,
        "completed_by": {"email": label.annotator},
        "was_cancelled": label.status == "skipped",
        "updated_at": format_utc(label.labelled_at),
        "lead_time": label.lead_seconds,
        "result": regions_of(label.boxes, sample),
    }


# --- reading ---------------------------------------------------------------------------------------------------------


def read_labelstudio(
    data: bytes,
    samples: Mapping[str, Sample],
    class_names: Sequence[str],
    where: str,
    *,
    annotator: str = "",
    labelled_at: datetime | None = None,
) -> tuple[list[Label], Problems]:
    """The labels of an export, one for each annotation: an image that two people annotated has two.

    Tasks are known by `meta.sample_id`, or by the id in the name of their image. `annotator` and `labelled_at` stand in
    where an annotation does not say. Tasks that are bad or unknown are skipped and counted; a file that is no export of
    Label Studio raises LabelsInvalid.
    """
    tasks = parse_tasks(parse_json(data, where), where)
    return labels_of_tasks(tasks, samples, class_names, where, annotator, labelled_at)


def labels_of_tasks(
    tasks: Sequence[Mapping[str, Any]],
    samples: Mapping[str, Sample],
    class_names: Sequence[str],
    where: str,
    annotator: str = "",
    labelled_at: datetime | None = None,
) -> tuple[list[Label], Problems]:
    """As `read_labelstudio`, of tasks as they come from a file or a server."""
    problems = Problems()
    labels: list[Label] = []
    for n, task in enumerate(tasks):
        annotations = _annotations(task)
        if not annotations:
            continue
        place = f"{where}: tasks[{n}]"
        sample = samples.get(sample_of_task(task))
        if sample is None:
            problems.add(UNKNOWN_IMAGE, place, str(_image(task))[:80])
            continue
        for annotation in annotations:
            label = _label(annotation, sample, class_names, place, problems, annotator, labelled_at)
            if label is not None:
                labels.append(label)
    return labels, problems


def parse_tasks(content: Any, where: str) -> list[Mapping[str, Any]]:
    """The tasks of an export. Raises LabelsInvalid for anything else; a task is checked where it is read."""
    if not is_labelstudio(content):
        raise LabelsInvalid(f"{where}: is no export of Label Studio: choose JSON there, not JSON-MIN or CSV")
    return list(content)


def is_labelstudio(content: Any) -> bool:
    """Whether JSON has the form of Label Studio's export: a list of objects with `data`."""
    return isinstance(content, list) and all(isinstance(one, dict) and isinstance(one.get("data"), dict)
                                             for one in content)  # fmt: skip


def sample_of_task(task: Mapping[str, Any]) -> str:
    """The sample id of a task; empty when it says none."""
    for place in (task.get("meta"), task.get("data")):
        if isinstance(place, dict) and isinstance(place.get("sample_id"), str):
            return str(place["sample_id"])
    return sample_id_in(str(_image(task)).rpartition("/")[2]) or sample_id_in(str(task.get("file_upload")))


def _image(task: Mapping[str, Any]) -> Any:
    data = task.get("data")
    return data.get("image") if isinstance(data, dict) else None


def _annotations(task: Mapping[str, Any]) -> list[Any]:
    found = task.get("annotations")
    return found if isinstance(found, list) else []


def _label(
    annotation: Any,
    sample: Sample,
    class_names: Sequence[str],
    place: str,
    problems: Problems,
    annotator: str,
    labelled_at: datetime | None,
) -> Label | None:
    """The label of one annotation; None when it cannot be used, with the reason counted."""
    if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
        problems.add(BAD_LINE, place, "an annotation is no object with a list `result`")
        return None
    cancelled = annotation.get("was_cancelled") is True
    boxes = () if cancelled else _boxes(annotation["result"], sample, class_names, place, problems)
    if boxes is None:
        return None
    given: dict[str, Any] = {
        "annotator": _annotator(annotation) or annotator,
        "labelled_at": annotation.get("updated_at") or annotation.get("created_at") or labelled_at,
        "lead_seconds": annotation.get("lead_time"),
        "status": "skipped" if cancelled else "done",
    }
    try:
        return Label(sample_id=sample.sample_id, boxes=boxes, **given)
    except ValidationError as error:
        problem = error.errors()[0]
        problems.add(BAD_LINE, place, f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}")
        return None


def _annotator(annotation: Mapping[str, Any]) -> str:
    """The e-mail of who completed it, or their number."""
    person = annotation.get("completed_by")
    if isinstance(person, dict):
        person = person.get("email") or person.get("id")
    return str(person)[:200] if isinstance(person, (str, int)) and not isinstance(person, bool) else ""


def _boxes(
    result: Sequence[Any], sample: Sample, class_names: Sequence[str], place: str, problems: Problems
) -> tuple[LabelBox, ...] | None:
    boxes, whole = [], True
    for n, region in enumerate(result):
        if isinstance(region, dict) and region.get("type") in _NO_REGIONS:
            continue
        try:
            boxes.append(_box(region, sample, class_names))
        except BadBox as error:
            problems.add(error.reason, f"{place}: region {n} of {sample.sample_id}", str(error))
            whole = whole and error.reason == WITHOUT_AREA
    if not whole:
        return None
    if len(boxes) > MAX_BOXES:
        problems.add(BAD_LINE, place, f"an image with {len(boxes)} boxes; it has at most {MAX_BOXES}")
        return None
    return tuple(boxes)


def _box(region: Any, sample: Sample, class_names: Sequence[str]) -> LabelBox:
    """The box of a region. Raises BadBox."""
    if not isinstance(region, dict) or not isinstance(region.get("value"), dict):
        raise BadBox(BAD_LINE, "a region is no object with a `value`")
    value, names = region["value"], region["value"].get(BOXES)
    if not isinstance(names, list) or len(names) != 1:
        raise BadBox(
            BAD_LINE, f"{str(region.get('type'))[:40]} with classes {str(names)[:40]}: draw boxes of one class"
        )
    _refuse_turned(region, value)
    if names[0] not in class_names:
        raise BadBox(UNKNOWN_CLASS, repr(str(names[0])[:40]))
    size = (region.get("original_width", sample.width), region.get("original_height", sample.height))
    if size != (sample.width, sample.height):
        raise BadBox(OTHER_SIZE, f"{str(size)[:40]} against {(sample.width, sample.height)}")
    percent = [number(value.get(side), side) for side in ("x", "y", "width", "height")]
    if percent[2] < 0 or percent[3] < 0 or max(map(abs, percent)) > 1e6:
        raise BadBox(BAD_LINE, f"a box of {percent[2]} x {percent[3]} percent")
    xyxy = checked_box(pixels_box(percent, sample.width, sample.height), sample.width, sample.height)
    return LabelBox(class_name=names[0], xyxy=xyxy, crowd=_is_crowd(region))


def _refuse_turned(region: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    """A box that was turned, or drawn in an image that was, is none with two corners."""
    for degrees in (value.get("rotation"), region.get("image_rotation")):
        if degrees not in (None, 0):
            raise BadBox(BAD_LINE, f"a box turned by {str(degrees)[:20]} degrees: draw it upright")


def _is_crowd(region: Mapping[str, Any]) -> bool:
    meta = region.get("meta")
    notes = meta.get("text") if isinstance(meta, dict) else None
    return isinstance(notes, list) and CROWD in notes
