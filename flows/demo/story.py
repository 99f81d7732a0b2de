"""What a demo came to, from the records in its bucket: the input of the page that it ends with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from flows.demo.servers import LOOPBACK
from flows.demo.state import DemoState
from flows.demo.world import World
from tasks.adapters.report import CameTrue, LabelCounts, LoopStory, RoundStory, Thumbnail
from tasks.adapters.report.story import Figure
from tasks.allocate import newest_allocations
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import DatasetEntry, Estimate, Evaluation, Forecast, Suggestion, Turn, Verdict
from tasks.core.errors import NotEnoughData
from tasks.core.field import FieldRecall
from tasks.core.suggestion.track_record import track_record
from tasks.field_recall import newest_field_recall
from tasks.suggest import scored_forecasts
from tasks.turn import read_turns

THUMBNAILS = 8
LINKED_VIEWS = ("To review", "Misses in the suggested band", "Misses within reach", "Blind misses")
NO_NEW_MODEL = "No new model was trained in this round."
SAME_PRECISION = "Both models on the same test images; recall of both at the live model's operating precision."
FORECAST_NAMES = {
    "images_a_day": ("images a day", False),
    "share_with_miss": ("of the chosen images have a miss", True),
    "share_with_miss_random": ("of random images have a miss", True),
    "misses_an_image": ("misses an image", False),
    "misses_a_box": ("misses a box", True),
}


def tell(world: World, state: DemoState, folder: Path, seconds: float) -> LoopStory:
    """The story of a finished demo."""
    central = Central(world.project)
    turns = read_turns(world.project)
    entries = central.entries(turns[-1].dataset_version)
    judged = [turn for turn in turns if turn.dataset_version and turn.batches and not turn.open_batches]
    rounds = []
    known: set[str] = set()
    for number, turn in enumerate(last_of_each_dataset(judged)):
        rounds.append(round_story(world, state, central, number, turn, set(turn.batches) - known, entries))
        known |= set(turn.batches)
    field, field_missing = in_the_field(world)
    return LoopStory(
        title=world.title,
        project=world.project.project,
        rounds=rounds,
        live_model=state.final.model_version if state.final else turns[-1].live_model,
        base_checkpoint=world.base_checkpoint,
        seed=state.arguments.seed,
        seconds=seconds,
        annotator=(
            "No person took part: a simulated annotator labelled. It overlooks 5% of the objects that nothing points "
            "at, believes 10% of false pre-annotations, and draws imprecisely; test labels have these faults too."
        ),
        links=links(folder, turns[-1]),
        thumbnails=thumbnails(central, entries),
        waits_for=turns[-1].waits_for,
        track_record=track_record(scored_forecasts(world.project, turns[-1].forecast_scores)),
        field=field,
        field_missing=field_missing,
        allocation=next(newest_allocations(central.bucket), None),
    )


def in_the_field(world: World) -> tuple[list[FieldRecall], str]:
    """What is known of the models over all frames; where nothing is, why."""
    try:
        return newest_field_recall(world.project), ""
    except NotEnoughData as error:
        return [], str(error)


def last_of_each_dataset(turns: list[Turn]) -> list[Turn]:
    """The turns that ended with a dataset version of their own."""
    by_dataset = {turn.dataset_version: turn for turn in turns}
    return list(by_dataset.values())


def round_story(
    world: World,
    state: DemoState,
    central: Central,
    number: int,
    turn: Turn,
    batches: set[str],
    entries: list[DatasetEntry],
) -> RoundStory:
    samples = [s for b in sorted(batches) for s in central.batch(b).samples]
    labels = [entry.label for entry in entries if entry.batch_id in batches]
    models = models_of(central, turn)
    notes = (world.round_notes[number], models.note)
    day = state.days[number] if number < len(state.days) else None
    return RoundStory(
        number=number,
        title="cold start: random" if number == 0 else "collected by the suggestion",
        frames=world.frames_a_day,
        collected=dict(Counter(sample.strategy for sample in samples)),
        labels=LabelCounts(len(labels), sum(len(label.boxes) for label in labels), len(samples) - len(labels)),
        model_before=models.before,
        model_after=models.after,
        ap50_before=models.ap50[0],
        ap50_after=models.ap50[1],
        recall_before=models.recall[0],
        recall_after=models.recall[1],
        note=" ".join(filter(None, notes)),
        evaluation=evaluation_of(central, turn.evaluation),
        suggestion=suggestion_of(central, turn.suggestion),
        came_true=came_true(central, turn),
        verdict=models.verdict,
        swaps=day.swaps if day else (),
        seconds=sum(s for name, s in state.ended.items() if name.startswith(f"day {number}")),
    )


@dataclass(frozen=True, slots=True)
class Models:
    """The live model of a round and the one that was trained in it, with their figures, before and after."""

    before: str
    after: str
    ap50: tuple[Figure, Figure]
    recall: tuple[Figure, Figure]
    verdict: Verdict | None
    note: str


def models_of(central: Central, turn: Turn) -> Models:
    """A turn goes on knowing the newest candidate and its verdict; they are this round's when its dataset made them."""
    if turn.trained_on != turn.dataset_version:
        live = evaluation_of(central, turn.test_evaluation)
        ap50 = live.coco.get("AP50") if live else None
        return Models(turn.live_model, turn.live_model, (ap50, None), (recall_of(live), None), None, NO_NEW_MODEL)
    after = evaluation_of(central, turn.candidate_test_evaluation)
    compared = turn.verdict.numbers if turn.verdict else {}
    ap50_after = compared.get("candidate.ap50", after.coco.get("AP50") if after else None)
    notes = (SAME_PRECISION if "live.recall" in compared else "", meaning_of(turn.verdict))
    return Models(
        before=turn.verdict.live if turn.verdict else turn.live_model,
        after=turn.candidate,
        ap50=(compared.get("live.ap50"), ap50_after),
        recall=(compared.get("live.recall"), compared.get("candidate.recall") or recall_of(after)),
        verdict=turn.verdict,
        note=" ".join(filter(None, notes)),
    )


def meaning_of(verdict: Verdict | None) -> str:
    """What a verdict that lets nothing pass means for the devices."""
    if verdict is None or verdict.verdict == "accepted":
        return ""
    if verdict.verdict == "rejected":
        return (
            "Rejected: on these test images the new model is worse than is allowed, so the devices keep what they have."
        )
    settle = f" About {verdict.images_needed:,} test images would settle it." if verdict.images_needed else ""
    return f"Inconclusive: these test images cannot tell, so the devices keep what they have.{settle}"


def evaluation_of(central: Central, evaluation: str) -> Evaluation | None:
    return central.evaluation(evaluation) if evaluation else None


def suggestion_of(central: Central, suggestion: str) -> Suggestion | None:
    return central.bucket.read_record(layout.suggestion(suggestion), Suggestion) if suggestion else None


def recall_of(evaluation: Evaluation | None) -> Estimate | None:
    """Pooled recall with its interval, where there is one."""
    if evaluation is None or evaluation.recall is None:
        return None
    low, high = evaluation.recall_interval or (evaluation.recall, evaluation.recall)
    return Estimate(value=evaluation.recall, low=low, high=high)


def came_true(central: Central, turn: Turn) -> list[CameTrue]:
    """The forecast that this turn's samples were collected on, beside what they turned out to be."""
    rows = []
    for suggestion, score in turn.newly_scored.items():
        found = suggestion_of(central, suggestion)
        forecast: Forecast | None = found.forecast if found else None
        for field, (name, is_share) in FORECAST_NAMES.items():
            if forecast is not None and field in score:
                rows.append(CameTrue(name, getattr(forecast, field), score[field], is_share))
    return rows


def links(folder: Path, turn: Turn) -> dict[str, str]:
    """Where everything is."""
    evaluation = f"bucket/{folder_of_project(folder)}/evaluations"
    found = {}
    if turn.evaluation:
        found["Evaluation of the live model, with plots"] = f"{evaluation}/{turn.evaluation}/report.html"
    if turn.candidate_test_evaluation:
        found["The newest model on the test images"] = f"{evaluation}/{turn.candidate_test_evaluation}/report.html"
    found["Prefect runs (after: make ui)"] = f"http://{LOOPBACK}:4200/runs"
    for name in LINKED_VIEWS:
        if name in turn.review_views:
            found[f"FiftyOne (after: make ui): {name}"] = f"http://{LOOPBACK}:5151{turn.review_views[name]}"
    return found


def folder_of_project(folder: Path) -> str:
    return next(path.name for path in (folder / "bucket").iterdir() if path.is_dir())


def thumbnails(central: Central, entries: list[DatasetEntry]) -> list[Thumbnail]:
    """Some newest samples with the boxes of the device's model and of people."""
    seen = [entry for entry in entries if entry.sample.detections and entry.label.boxes]
    seen.sort(key=lambda entry: (entry.sample.captured_at, entry.sample.sample_id))
    step = max(1, len(seen) // THUMBNAILS)
    return [
        Thumbnail(
            image=central.images.path_of(entry.sample).read_bytes(),
            width=entry.sample.width,
            height=entry.sample.height,
            predictions=entry.sample.detections,
            labels=entry.label.boxes,
            caption=f"{entry.sample.camera}, kept by {entry.sample.strategy}",
        )
        for entry in seen[::-step][:THUMBNAILS]
    ]
