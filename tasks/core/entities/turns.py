"""What one central turn did, and what it waits for."""

from __future__ import annotations

from pydantic import Field

from tasks.core.entities.base import STUB, Record, UtcTime
from tasks.core.entities.models import Verdict


class Turn(Record):
    """The state of the loop after a central turn.

    Only central writes it. A turn that was interrupted has no `finished_at`; the next call goes on with it, so each
    step is recorded as soon as its result is in the bucket.
    """

    number: int = Field(ge=1)
    started_at: UtcTime
    finished_at: UtcTime | None = None
    ingested: dict[str, int] = Field({}, description="new samples by device")
    batches: dict[str, int] = Field({}, description="every batch -> its newest label revision; 0: none yet")
    open_batches: tuple[str, ...] = Field((), description="batches that people have not finished")
    late_batches: tuple[str, ...] = Field(
        (), description="batches that nobody waits for any more and whose later labels are still taken in"
    )
    held_batches: tuple[str, ...] = Field(
        (), description="batches that are not offered yet: behind a trial, or twins of images that are not labelled yet"
    )
    waiting_batches: tuple[str, ...] = Field(
        (), description="batches of devices whose samples wait for the week's draw, where labels_a_week is set"
    )
    dataset_version: str = ""
    trained_on: str = Field("", description="dataset version that the newest candidate was trained on")
    candidate: str = Field("", description="the newest model version that was trained")
    verdict: Verdict | None = Field(None, description="the gate on the newest candidate")
    live_model: str = STUB
    release_number: int = 0
    evaluation: str = Field("", description="of the live model, on calibration")
    test_evaluation: str = Field("", description="of the live model, on the newest test edition")
    candidate_evaluation: str = Field("", description="of the candidate, on calibration")
    candidate_test_evaluation: str = ""
    suggestion: str = Field("", description="the newest one, for the live model")
    suggested_on: str = Field("", description="the evaluation that it was made from")
    suggestion_release: int = Field(0, description="number of the release that it went out with; 0: not yet")
    reviewed: str = Field("", description="dataset version, model version and suggestion that FiftyOne shows")
    review_views: dict[str, str] = Field({}, description="saved view -> path below the App's address")
    replaced_test_evaluation: str = Field(
        "", description="of the model that the candidate replaced, on the same test edition"
    )
    newly_scored: dict[str, dict[str, float]] = Field({}, description="forecasts that this turn could score")
    forecast_scores: dict[str, dict[str, float]] = Field(
        {}, description="suggestion -> what came true of its forecast, by name"
    )
    seeding: str = Field("", description="what pre-annotations change, by the images labelled both ways; a sentence")
    done: tuple[str, ...] = Field((), description="sentences: what this turn did")
    waits_for: tuple[str, ...] = Field((), description="sentences: what the loop needs to go on")
