"""Pages in HTML that need nothing but themselves: style inside, plots and pictures as data.

`evaluation_report` is the page of an evaluation, `loop_page` that of a whole run of the loop. What they say is in
`sentences.py`, what they draw in `plots.py`, how they look in `templates/`.
"""

from __future__ import annotations

import tempfile
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.adapters.report import sentences
from tasks.adapters.report.in_the_field import field_values
from tasks.adapters.report.plots import bands_plot, confidences_plot, precision_recall_plot
from tasks.adapters.report.progress_plot import progress_plot
from tasks.adapters.report.shared_out import allocation_values
from tasks.adapters.report.story import (
    CameTrue,
    LoopStory,
    RoundStory,
    Thumbnail,
    figure_text,
    seconds_text,
    story_sentence,
)
from tasks.adapters.report.suggestion_plot import suggestion_plot
from tasks.core.entities import STUB, Evaluation, Suggestion
from tasks.core.field import FieldRecall
from tasks.core.matching import Matches
from tasks.core.suggestion.track_record import FigureRecord

MOST_SENTENCES = 12  # classes that get one; the table has all
MOST_DETECTIONS = 4  # named below a picture; all are drawn
COCO_MEANINGS = {
    "AP": "mean over IoU 0.50 to 0.95",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "APs": "objects below 32 x 32 pixels",
    "APm": "32 x 32 to 96 x 96",
    "APl": "from 96 x 96",
    "AR1": "recall with 1 detection an image",
    "AR10": "with 10",
    "AR100": "with 100",
    "ARs": "with 100, small objects",
    "ARm": "with 100, medium ones",
    "ARl": "with 100, large ones",
    "AR": "of keypoints: recall, mean over OKS 0.50 to 0.95",
    "AR50": "at OKS 0.50",
    "AR75": "at OKS 0.75",
    "top1": "labels that are the most probable class",
    "top5": "labels among the five most probable",
}

Fact = tuple[str, str, str]  # name, value, and a small line below it


def render(template: str, **values: Any) -> str:
    """A page from `templates/`. A value that a template asks for and nobody gave is an error, not a gap."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


# --- evaluation ------------------------------------------------------------------------------------------------------


def evaluation_report(
    evaluation: Evaluation,
    matches: Matches,
    out: Path,
    *,
    suggestion: Suggestion | None = None,
    field: Sequence[FieldRecall] = (),
    title: str = "What the model misses",
) -> Path:
    """Write `report.html`, `bands.png`, `precision_recall.png` and `confidences.png` into `out`; the page's path.

    With a suggestion also `suggestion.png`, and its rules, forecast and diff on the page. field: what is known of the
    model over all frames that devices saw.
    """
    out.mkdir(parents=True, exist_ok=True)
    plots = {
        "bands": bands_plot(evaluation, out / "bands.png"),
        "precision_recall": precision_recall_plot(evaluation, matches, out / "precision_recall.png"),
        "confidences": confidences_plot(evaluation, matches, out / "confidences.png"),
    }
    if suggestion:
        plots["suggestion"] = suggestion_plot(suggestion, evaluation, out / "suggestion.png")
    page = out / "report.html"
    page.write_text(
        render(
            "evaluation.html",
            title=title,
            evaluation=evaluation,
            sentence=sentences.evaluation_sentence(evaluation),
            class_sentences=class_sentences(evaluation),
            facts=evaluation_facts(evaluation),
            coco=coco_rows(evaluation.coco),
            unit="images" if evaluation.bootstrap_unit == "image" else "clusters (camera and hour)",
            images={name: data_uri(path.read_bytes()) for name, path in plots.items()},
            field=field_values(field),
            suggestion=suggestion,
            suggestion_sentence=sentences.suggestion_sentence(suggestion) if suggestion else "",
            forecast=forecast_rows(suggestion) if suggestion else [],
        ),
        encoding="utf-8",
    )
    return page


def evaluation_facts(evaluation: Evaluation) -> list[Fact]:
    """The figures at the head of the page."""
    facts = [("Images", f"{evaluation.images:,}", f"{evaluation.split} split" if evaluation.split else "")]
    if evaluation.coco.get("AP50", -1.0) >= 0:
        facts.append(("AP50", f"{evaluation.coco['AP50']:.2f}", f"AP {evaluation.coco['AP']:.2f}"))
    if evaluation.recall is not None:
        facts.append(("Recall", f"{evaluation.recall:.0%}", "at the thresholds"))
    if evaluation.precision is not None:
        facts.append(("Precision", f"{evaluation.precision:.0%}", "at the thresholds"))
    if evaluation.cost_an_image is not None:
        facts.append(("Cost an image", *sentences.cost_text(evaluation)))
    if evaluation.model_version:
        facts.append(("Model", short(evaluation.model_version), f"dataset {short(evaluation.dataset_version)}"))
    return facts


def class_sentences(evaluation: Evaluation) -> list[str]:
    """A sentence for each class with ground truths, the most missed first."""
    classes = sorted(evaluation.classes.items(), key=lambda item: -item[1].misses)
    lines = [
        sentences.class_sentence(name, of_class, evaluation.confidence_floor)
        for name, of_class in classes
        if of_class.ground_truths
    ]
    absent = [name for name, of_class in classes if not of_class.ground_truths]
    if absent:
        lines = lines[:MOST_SENTENCES]
        lines.append(f"Without a labelled object in these images: {', '.join(absent)}.")
    return lines[: MOST_SENTENCES + 1]


def coco_rows(coco: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Name, value and meaning of the COCO figures that are there; a dash for those without ground truths."""
    return [
        (name, f"{coco[name]:.3f}" if coco[name] >= 0 else "-", meaning)
        for name, meaning in COCO_MEANINGS.items()
        if name in coco
    ]


def forecast_rows(suggestion: Suggestion) -> list[dict[str, Any]]:
    """Every figure of the suggested way, and of the others beside it."""
    ways = [suggestion.forecast, *(way.forecast for way in suggestion.alternatives)]
    columns = [
        {name: sentences.estimate_text(estimate, is_share) for name, estimate, is_share in sentences.forecast_rows(way)}
        for way in ways
    ]
    return [{"name": name, "texts": [column.get(name, "") for column in columns]} for name in columns[0]]


def track_record_rows(records: Sequence[FigureRecord]) -> list[dict[str, str]]:
    """How forecasts came true over all suggestions."""
    return [
        {
            "name": record.figure.replace("_", " "),
            "inside": f"{record.inside} of {record.forecasts}",
            "score": f"{record.interval_score:.3g}",
            "base_rate": "" if record.base_rate_score is None else f"{record.base_rate_score:.3g}",
        }
        for record in records
    ]


# --- the loop --------------------------------------------------------------------------------------------------------


def loop_page(story: LoopStory, out: Path) -> Path:
    """Write the page of a whole run to the file `out`; its path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgeloop-plots-") as folder:
        plots = Path(folder)
        progress = progress_plot(story, plots / "progress.png")
        page = render(
            "loop.html",
            title=story.title,
            story=story,
            sentence=story_sentence(story),
            facts=story_facts(story),
            progress=data_uri(progress.read_bytes()) if progress else "",
            rounds=[round_values(r, plots) for r in story.rounds],
            track_record=track_record_rows(story.track_record),
            field=field_values(story.field),
            field_missing=story.field_missing,
            allocation=allocation_values(story.allocation, plots),
            thumbnails=[thumbnail_values(t) for t in story.thumbnails],
        )
    out.write_text(page, encoding="utf-8")
    return out


def story_facts(story: LoopStory) -> list[Fact]:
    """The figures at the head of the page."""
    facts = [
        ("Frames seen", f"{story.frames:,}", ""),
        ("Sent", f"{story.collected:,}", f"{sentences.share(story.collected, story.frames)} of them"),
        ("Labelled", f"{story.labelled:,}", ""),
        ("Live model", short(story.live_model), f"from {story.base_checkpoint}" if story.base_checkpoint else ""),
    ]
    if story.seconds:
        facts.append(("Took", seconds_text(story.seconds), f"seed {story.seed}"))
    return facts


def round_values(r: RoundStory, plots: Path) -> dict[str, Any]:
    """One round as its part of the template wants it."""
    most = max(r.collected.values(), default=0)
    kept = sum(r.collected.values())
    values: dict[str, Any] = {
        "number": r.number,
        "title": r.title,
        "note": r.note,
        "seconds": seconds_text(r.seconds) if r.seconds else "",
        "collected": [
            {"name": name, "count": f"{count:,}", "width": 100 * count / max(most, 1), "is_random": name == "random"}
            for name, count in sorted(r.collected.items(), key=lambda item: -item[1])
        ],
        "collected_sentence": f"{kept:,} of {r.frames:,} frames ({sentences.share(kept, r.frames)}), by strategy:"
        if kept
        else f"None of {r.frames:,} frames.",
        "labels": labels_sentence(r),
        "model_rows": [
            ("version", short(r.model_before), short(r.model_after)),
            ("AP50", figure_text(r.ap50_before), figure_text(r.ap50_after)),
            ("recall", figure_text(r.recall_before), figure_text(r.recall_after)),
        ],
        "verdict": r.verdict,
        "swaps": r.swaps,
        "came_true": [came_true_values(row) for row in r.came_true],
        "came_true_missed": not all(row.inside for row in r.came_true),
        "evaluation": r.evaluation,
        "suggestion": r.suggestion if r.evaluation else None,
    }
    if r.evaluation:
        plot = bands_plot(r.evaluation, plots / f"bands-{r.number}.png")
        values |= {"bands": data_uri(plot.read_bytes()), "class_sentences": class_sentences(r.evaluation)}
    if r.evaluation and r.suggestion:
        plot = suggestion_plot(r.suggestion, r.evaluation, plots / f"suggestion-{r.number}.png")
        values |= {
            "suggestion_plot": data_uri(plot.read_bytes()),
            "suggestion_sentence": sentences.suggestion_sentence(r.suggestion),
            "forecast": forecast_rows(r.suggestion),
        }
    return values


def labels_sentence(r: RoundStory) -> str:
    """What was labelled, with what was left out."""
    if not r.labels.images and not r.labels.skipped:
        return ""
    images = sentences.counted(r.labels.images, "image")
    boxes = "1 box" if r.labels.boxes == 1 else f"{r.labels.boxes:,} boxes"
    skipped = f"; {r.labels.skipped:,} skipped" if r.labels.skipped else ""
    return f"Labelled: {images} with {boxes}{skipped}."


def came_true_values(row: CameTrue) -> dict[str, Any]:
    """A forecast and what came true, as positions in percent of the highest figure of the row."""
    highest = max(row.forecast.high, row.forecast.value, row.came_true) * 1.08 or 1.0
    estimate = row.forecast
    text = sentences.estimate_text(estimate, row.is_share)
    return {
        "name": row.name,
        "text": text,
        "came_true_text": sentences.value_text(row.came_true, row.is_share),
        "inside": row.inside,
        "low": 100 * estimate.low / highest,
        "width": 100 * (estimate.high - estimate.low) / highest,
        "value": 100 * estimate.value / highest,
        "came_true": 100 * row.came_true / highest,
    }


def thumbnail_values(thumbnail: Thumbnail) -> dict[str, Any]:
    """A picture and the boxes over it; people's boxes last, so that they lie on top."""
    predictions = [(d.xyxy, "prediction", f"{d.class_name} {d.confidence:.2f}") for d in thumbnail.predictions]
    labels = [(box.xyxy, "label", box.class_name) for box in thumbnail.labels]
    return {
        "uri": data_uri(thumbnail.image),
        "width": thumbnail.width,
        "height": thumbnail.height,
        "caption": thumbnail.caption,
        "said": sentences.listed([title for _, _, title in predictions], MOST_DETECTIONS),
        "boxes": [
            {"kind": kind, "title": title, "x": x1, "y": y1, "width": max(x2 - x1, 0), "height": max(y2 - y1, 0)}
            for (x1, y1, x2, y2), kind, title in [*predictions, *labels]
        ],
    }


# --- small things ----------------------------------------------------------------------------------------------------


def short(version: str) -> str:
    """The first 8 of 16 hex digits, as people say a version."""
    return "none yet" if version in ("", STUB) else version[:8]


def data_uri(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{b64encode(image).decode()}"
