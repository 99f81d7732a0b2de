"""What people do from FiftyOne's App: each function is an operator of `deployments/fiftyone_plugin`, in words.

Nothing here knows FiftyOne. Answers are sentences; what cannot be done is an error of one line, which the App shows.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tasks.adapters.labelling import LabellingStatus
from tasks.adapters.review import PROJECT_VARIABLE
from tasks.ask import find_sample, known_batches, send_to_labelling
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Batch, Evaluation, Release, Sample
from tasks.core.errors import BucketError, DataError, SettingsError
from tasks.core.explain.kept import why_kept
from tasks.core.settings import ProjectSettings, SamplingSettings
from tasks.label import labelling_of, pull_batch
from tasks.loop_state import LoopState, loop_state
from tasks.suggest import approve
from tasks.turn import newest_turn

MOST_PROBLEMS = 10  # that are shown at once


def project_of_app() -> ProjectSettings:
    """The project that the App was opened for. Raises SettingsError where that is not said, or cannot be read."""
    from tasks.adapters.config import read_project

    path = os.environ.get(PROJECT_VARIABLE, "")
    if not path:
        raise SettingsError(
            f"this App does not know its project: open it with edgeloop ui or edgeloop review, or set "
            f"{PROJECT_VARIABLE} to the path of project.yaml and start it again"
        )
    return read_project(Path(path))


def submit_labels(project: ProjectSettings, batch_id: str) -> list[str]:
    """Check what people have done of a batch, and take in what can be: its next label revision."""
    batch = batch_with_people(project, batch_id)
    labelling = labelling_of(project)
    check = getattr(labelling, "submit", None)  # the App's own place checks, and shows in the App what it refuses
    refused: Mapping[str, str] = check(batch).refused if check is not None else {}
    known = Central(project).bucket.latest_number(partial(layout.labels, batch_id))
    pulled = pull_batch.fn(project, batch_id, known)
    said = [f"Batch {batch_id}: {progress_words(pulled.status)}."]
    if pulled.revision > known:
        said.append(f"Taken in as label revision {pulled.revision}; the next turn learns from it.")
    else:
        said.append("Nothing was new since the last time.")
    problems = [f"{sample}: {why}" if sample else why for sample, why in refused.items()] or list(pulled.problems)
    if problems:
        said.append(f"{len(problems)} not taken:")
        said += [f"- {line}" for line in problems[:MOST_PROBLEMS]]
        said += [f"- and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
    return said


def batch_with_people(project: ProjectSettings, batch_id: str) -> Batch:
    """The batch, when people have it. Raises SettingsError."""
    turn = newest_turn(project)
    known = turn.batches if turn else {}
    if not batch_id:
        raise SettingsError("no batch is named: open the batch's dataset, or choose one that people have")
    if batch_id not in known:
        raise SettingsError(f"batch {batch_id!r} is none that the loop knows: choose one of those that people have")
    if turn and batch_id in (*turn.held_batches, *turn.waiting_batches):
        raise SettingsError(
            f"batch {batch_id} has not been offered to people yet: the Loop panel says what it waits for"
        )
    return Central(project).batch(batch_id)


def progress_words(status: LabellingStatus) -> str:
    skipped = f", {status.skipped} skipped" if status.skipped else ""
    left = status.offered - status.done - status.skipped
    return f"{status.done} of {status.offered} images done{skipped}" + (f", {left} to do" if left else "")


def accept_suggestion(project: ProjectSettings) -> list[str]:
    """What `edgeloop approve` does, of the newest suggestion."""
    state = loop_state(project)
    if state.turn is None or not state.turn.suggestion:
        raise SettingsError("there is no suggestion yet: one is made when a model is live and its labels are evaluated")
    if state.turn.suggestion_release:
        raise SettingsError(
            f"suggestion {state.turn.suggestion} went out with release {state.turn.suggestion_release} already"
        )
    approval = approve(project, state.turn.suggestion, by=who())
    return [f"Suggestion {approval.suggestion} is accepted by {approval.approved_by}.", "The next turn releases it."]


def send_selected(project: ProjectSettings, picked: Mapping[str, Sequence[str]]) -> list[str]:
    """Selected samples, batch -> sample ids, to people; the next turn offers them."""
    request = send_to_labelling(project, picked, who())
    images = sum(request.batches.values())
    return [
        f"{images} image{'s' if images > 1 else ''} sent to labelling: {', '.join(request.batches)}.",
        "The next turn offers them; a label that an image has already is replaced by the new one.",
    ]


def explain_frame(project: ProjectSettings, sample_id: str, batch_id: str = "") -> list[str]:
    """Why a frame was kept, in words. batch_id: where it is known to be, to be asked first."""
    if not sample_id:
        raise SettingsError("no frame is chosen: open or select one image")
    candidates = dict.fromkeys(filter(None, [batch_id, *known_batches(project)]))
    sample = find_sample(project, sample_id, candidates)
    said = [f"Frame {sample.sample_id} of {sample.device}/{sample.camera}, {sample.captured_at:%Y-%m-%d %H:%M:%S} UTC."]
    return [*said, *why_kept(sample, settings_of(project, sample))]


def settings_of(project: ProjectSettings, sample: Sample) -> SamplingSettings | None:
    """What the device obeyed when it kept the sample; None where the bucket does not know."""
    try:
        release: Release | None = Central(project).release_of(sample.settings_version)
    except (DataError, BucketError):
        return None
    return release.settings if release else None


def suggestion_picture(project: ProjectSettings, state: LoopState) -> bytes:
    """The plot of the suggestion as PNG; empty where there is none, or its evidence is gone."""
    if state.suggestion is None:
        return b""
    from tasks.adapters.report import suggestion_plot

    try:
        evaluation: Evaluation = Central(project).evaluation(state.suggestion.evaluation)
    except (DataError, BucketError):
        return b""
    with tempfile.TemporaryDirectory(prefix="edgeloop-") as folder:
        return suggestion_plot(state.suggestion, evaluation, Path(folder) / "suggestion.png").read_bytes()


def open_batches(project: ProjectSettings) -> list[str]:
    """Those whose labels can be submitted, the newest first."""
    turn = newest_turn(project)
    return list(reversed((*turn.late_batches, *turn.open_batches))) if turn else []


def who() -> str:
    """Who acts: nobody logs in to the App, so it is who runs its server."""
    return os.environ.get("EDGELOOP_REVIEWER") or getpass.getuser()


def lines_of(said: Iterable[str]) -> str:
    """Sentences as Markdown: paragraphs, and the lists among them."""
    text = ""
    for line in said:
        text += ("\n" if line.startswith("- ") else "\n\n") + line
    return text.strip()
