"""What a run of the loop came to, round by round: the input of the page and of the summary in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tasks.core.entities import STUB, Allocation, Detection, Estimate, Evaluation, LabelBox, Suggestion, Verdict
from tasks.core.field import FieldRecall
from tasks.core.suggestion.track_record import FigureRecord

Figure = Estimate | float | None  # a figure with its 95% interval, without one, or unknown


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """What people (or who stood in for them) did."""

    images: int = 0
    boxes: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class CameTrue:
    """A figure of a forecast beside what it turned out to be."""

    name: str
    forecast: Estimate
    came_true: float
    is_share: bool = False

    @property
    def inside(self) -> bool:
        return self.forecast.low <= self.came_true <= self.forecast.high


@dataclass(frozen=True, slots=True)
class RoundStory:
    """One round: what was collected, labelled, trained, judged, and suggested for the next one.

    collected: images by the strategy that was charged. ap50, recall: on the test edition. evaluation, suggestion: of
    the model that the round ended with. came_true: the forecast that this round's collection was made on.
    """

    number: int
    title: str
    frames: int = 0
    collected: Mapping[str, int] = field(default_factory=dict)
    labels: LabelCounts = LabelCounts()
    model_before: str = STUB
    model_after: str = STUB
    ap50_before: Figure = None
    ap50_after: Figure = None
    recall_before: Figure = None
    recall_after: Figure = None
    evaluation: Evaluation | None = None
    suggestion: Suggestion | None = None
    came_true: Sequence[CameTrue] = ()
    verdict: Verdict | None = None
    swaps: Sequence[str] = ()
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A sample as a picture: an encoded JPEG or PNG with the boxes of the model and of people over it.

    width, height: pixels of the image that the boxes refer to. The encoded picture may be smaller.
    """

    image: bytes
    width: int
    height: int
    predictions: Sequence[Detection] = ()
    labels: Sequence[LabelBox] = ()
    caption: str = ""


@dataclass(frozen=True, slots=True)
class LoopStory:
    """The whole run.

    links: text -> address. annotator: who labelled, where that was not people. track_record: of all its forecasts.
    field: what is known of models over all frames, the newest first; field_missing: why nothing is, a sentence without
    its full stop. allocation: how the newest week's labels were shared out.
    """

    title: str
    project: str
    rounds: Sequence[RoundStory]
    live_model: str = STUB
    base_checkpoint: str = ""
    seed: int = 0
    seconds: float = 0.0
    annotator: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    thumbnails: Sequence[Thumbnail] = ()
    waits_for: Sequence[str] = ()
    track_record: Sequence[FigureRecord] = ()
    field: Sequence[FieldRecall] = ()
    field_missing: str = ""
    allocation: Allocation | None = None

    @property
    def frames(self) -> int:
        return sum(r.frames for r in self.rounds)

    @property
    def collected(self) -> int:
        return sum(sum(r.collected.values()) for r in self.rounds)

    @property
    def labelled(self) -> int:
        return sum(r.labels.images for r in self.rounds)


def value_of(figure: Figure) -> float | None:
    return figure.value if isinstance(figure, Estimate) else figure


def figure_text(figure: Figure) -> str:
    """`0.52 (0.46 to 0.58)`, `0.52`, or a dash."""
    if isinstance(figure, Estimate):
        return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"
    return "-" if figure is None else f"{figure:.2f}"


def seconds_text(seconds: float) -> str:
    """`48 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


def story_sentence(story: LoopStory) -> str:
    """What the run came to, in two sentences at most."""
    rounds = len(story.rounds)
    start = (
        f"In {rounds} round{'' if rounds == 1 else 's'} the devices saw {story.frames:,} frames and sent "
        f"{story.collected:,} of them; {story.labelled:,} were labelled."
    )
    compared = [r for r in story.rounds if value_of(r.ap50_before) is not None and value_of(r.ap50_after) is not None]
    if not compared:
        return start
    first, last = (round(value_of(figure) or 0.0, 2) for figure in (compared[-1].ap50_before, compared[-1].ap50_after))
    word = f"rose from {first:.2f} to" if last > first else f"fell from {first:.2f} to" if last < first else "stayed at"
    return f"{start} In round {compared[-1].number} AP50 on the same test images {word} {last:.2f}."
