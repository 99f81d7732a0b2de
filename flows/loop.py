"""START HERE: one central turn of the loop, top to bottom.

    devices' samples -> batches -> labels -> dataset version -> evaluation -> candidate -> gate -> suggestion -> release

A turn does every step whose inputs are in the bucket and ends by naming what it waits for; call it again when that is
there. It never waits itself, and an interrupted turn goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from prefect import flow

from flows.drift import headline
from flows.evaluate import evaluate
from flows.find_drift import find_drift
from flows.ingest import ingest
from flows.label import label
from flows.redeploy import gate, redeploy
from flows.retrain import retrain
from flows.suggest import suggest
from tasks.adapters.report.in_the_field import field_sentence, field_title
from tasks.allocate import draw_labels
from tasks.artifacts import tell_markdown, tell_table
from tasks.ask import asked_batches
from tasks.batching import sort_batches
from tasks.core.entities import STUB, Evaluation, Turn
from tasks.core.errors import ReviewUnavailable
from tasks.core.people.seeding import seeding_row, seeding_sentence
from tasks.core.settings import ProjectSettings
from tasks.evaluate import sync_review
from tasks.field_recall import recall_in_the_field
from tasks.people import is_twin, seeding
from tasks.redeploy import first_model, keep_signed, live_release, thresholds_in_force
from tasks.retrain import build_dataset, lacking_splits, new_training_images
from tasks.suggest import approved_suggestion, score_forecast
from tasks.turn import check_bucket, open_turn, read_evaluation, save_turn


@flow(name="loop", flow_run_name="turn of {project.project}")
def loop(project: ProjectSettings) -> Turn:
    """One turn. The answer says what was done and what the loop waits for."""
    check_bucket(project)
    turn = open_turn(project)
    turn = keep_releases_signed(project, turn)
    turn = start_devices(project, turn)
    turn = take_in_samples(project, turn)
    turn = draw_what_is_labelled(project, turn)
    turn = take_in_requests(project, turn)
    turn = hold_back(project, turn)
    known = turn.batches
    turn = ask_for_labels(project, turn)
    turn = compare_seeding(project, turn, known)
    turn = freeze_labels(project, turn)
    if turn.dataset_version:
        turn = evaluate_live_model(project, turn)
        turn = train_a_candidate(project, turn)
        turn = judge_the_candidate(project, turn)
        turn = propose_what_to_collect(project, turn)
        turn = release_what_is_decided(project, turn)
        turn = update_review(project, turn)
    turn = look_for_changes(project, turn)
    return close(project, turn)


def keep_releases_signed(project: ProjectSettings, turn: Turn) -> Turn:
    """Devices follow what is signed, for as long as the signatures are valid: each turn renews them."""
    kept = keep_signed(project)
    for sentence in kept.done:
        turn = did(turn, sentence)
    for sentence in kept.waits_for:
        turn = waiting(turn, sentence)
    return save_turn(project, turn) if kept.done else turn


def start_devices(project: ProjectSettings, turn: Turn) -> Turn:
    """Release 1: the model that there is, or none, with the project's own sampling settings."""
    live = live_release(project)
    if live is None:
        model = first_model(project)
        live = redeploy(project, model, {}, project.sampling, "The first release.")
        turn = did(turn, f"released {live.group}/{live.number}: model {model}, the project's own sampling settings")
    return save_turn(project, having(turn, live_model=live.model_version, release_number=live.number))


def take_in_samples(project: ProjectSettings, turn: Turn) -> Turn:
    """New segments become batches."""
    brought = [i for i in ingest(project) if i.samples]
    batches = {batch: 0 for i in brought for batch in i.batches}
    if brought:
        turn = did(turn, f"took in {sum(i.samples for i in brought)} samples from {counted(len(brought), 'device')}")
    return save_turn(
        project,
        having(
            turn,
            ingested=turn.ingested | {i.device: i.samples for i in brought},
            batches=batches | turn.batches,
            waiting_batches=(*turn.waiting_batches, *(b for b in batches if b not in turn.batches)),
        ),
    )


def draw_what_is_labelled(project: ProjectSettings, turn: Turn) -> Turn:
    """All that is new is offered, or what the week's draw chooses of it where there is a weekly number of labels."""
    undrawn = turn.waiting_batches
    if not undrawn:
        return turn
    if project.labels_a_week is None:
        return save_turn(project, having(turn, waiting_batches=(), open_batches=(*turn.open_batches, *undrawn)))
    drawn = draw_labels(project, undrawn)
    made = drawn.allocation
    if made is None:
        return waiting(turn, drawn.waits_for)
    tell_table("allocation", [{"labels": cell.labels, "why": cell.reason} for cell in made.cells], "A week's labels")
    turn = did(turn, f"drew {made.handed_out} of the samples that waited, allocation {made.number}")
    for sentence in made.warnings:
        turn = did(turn, sentence)
    return save_turn(
        project,
        having(
            turn,
            waiting_batches=tuple(batch for batch in undrawn if batch not in made.drawn_from),
            batches=dict.fromkeys(made.batches, 0) | turn.batches,
            open_batches=(*turn.open_batches, *(b for b in made.batches if b not in turn.batches)),
        ),
    )


def take_in_requests(project: ProjectSettings, turn: Turn) -> Turn:
    """Batches that people asked for by hand are offered, whatever the week's draw chooses."""
    asked = asked_batches(project, turn.batches)
    if not asked:
        return turn
    turn = did(turn, f"took in {counted(sum(asked.values()), 'image')} that somebody sent to labelling")
    batches = turn.batches | dict.fromkeys(asked, 0)
    return save_turn(project, having(turn, batches=batches, open_batches=(*turn.open_batches, *asked)))


def hold_back(project: ProjectSettings, turn: Turn) -> Turn:
    """Batches wait for the trial that they are behind, twins for the labels of their images."""
    unfinished = (*turn.open_batches, *turn.held_batches)
    if not unfinished:
        return turn
    found = sort_batches(project, unfinished, turn.batches)
    for sentence in found.done:
        turn = did(turn, sentence)
    for sentence in dict.fromkeys(found.held.values()):
        turn = waiting(turn, sentence)
    batches = turn.batches | ({found.opened: 0} if found.opened else {})
    return save_turn(
        project, having(turn, batches=batches, open_batches=found.ready, held_batches=tuple(sorted(found.held)))
    )


def ask_for_labels(project: ProjectSettings, turn: Turn) -> Turn:
    """Batches are offered once; what people have done since is pulled."""
    if not turn.open_batches and not turn.late_batches:
        return turn
    never_pulled = [batch for batch in turn.open_batches if not turn.batches[batch]]
    in_hand = {batch: turn.batches[batch] for batch in turn.open_batches}
    late = {batch: turn.batches[batch] for batch in turn.late_batches}
    pulled = label(project, never_pulled, in_hand, thresholds_in_force(project), late)
    still_open = tuple(p.batch_id for p in pulled if not p.ended)
    still_late = tuple(p.batch_id for p in pulled if p.ended and p.takes_later)
    for p in pulled:
        if p.ended and not p.status.complete and p.batch_id in turn.open_batches:
            turn = did(turn, f"waits no longer for batch {p.batch_id}: {p.ended}")
    new = [p for p in pulled if p.revision != turn.batches[p.batch_id]]
    if new:
        turn = did(
            turn, f"pulled labels of {sum(p.status.done for p in new)} images with {sum(p.boxes for p in new)} boxes"
        )
    revisions = {p.batch_id: p.revision for p in pulled}
    hands = {"open_batches": still_open, "late_batches": still_late}
    return save_turn(project, having(turn, batches=turn.batches | revisions, **hands))


def compare_seeding(project: ProjectSettings, turn: Turn, known: Mapping[str, int]) -> Turn:
    """What pre-annotations change, told when twins have new labels. known: the label revisions before the pull."""
    if all(revision == known.get(batch) for batch, revision in turn.batches.items() if is_twin(batch)):
        return turn
    found = seeding(project, turn)
    if not found:
        return turn
    tell_table("seeding", [seeding_row(one) for one in found], "Recall against labels made with and without seeds")
    sentence = seeding_sentence(found[0])
    return save_turn(project, having(did(turn, sentence), seeding=sentence))


def freeze_labels(project: ProjectSettings, turn: Turn) -> Turn:
    """The newest labels of all batches as a dataset version."""
    if not any(turn.batches.values()):
        return turn
    dataset = build_dataset(project, turn.batches, turn.dataset_version)
    if dataset.dataset_version == turn.dataset_version:
        return turn
    counts = ", ".join(f"{n} {split}" for split, n in sorted(dataset.counts.items()))
    turn = did(turn, f"froze dataset {dataset.dataset_version}: {counts}")
    stale = {"evaluation": "", "test_evaluation": ""}
    return save_turn(project, having(turn, dataset_version=dataset.dataset_version, **stale))


def evaluate_live_model(project: ProjectSettings, turn: Turn) -> Turn:
    """Where the live model's misses are now, and whether the last forecast came true."""
    if turn.live_model == STUB or turn.evaluation:
        return turn
    if lacking := lacking_splits(project, turn.dataset_version):
        return waiting(turn, lacking)
    field = recall_in_the_field(project, turn.live_model, turn.dataset_version)
    calibration, test = evaluate(project, turn.live_model, turn.dataset_version, field)
    turn = did(turn, f"evaluated the live model {turn.live_model}: {figures(test)}")
    for found in field[:1]:  # under the newest settings
        turn = did(turn, f"looked at the field: {field_title(found)}. {field_sentence(found)}")
    if turn.suggestion_release:
        score = score_forecast(project, turn.suggestion, turn.suggestion_release, turn.dataset_version)
        scored = {turn.suggestion: score}
        turn = having(turn, forecast_scores=turn.forecast_scores | scored, newly_scored=scored)
    return save_turn(project, having(turn, evaluation=calibration.evaluation, test_evaluation=test.evaluation))


def train_a_candidate(project: ProjectSettings, turn: Turn) -> Turn:
    """When there are enough new labels."""
    if turn.trained_on == turn.dataset_version:
        return turn
    if lacking := lacking_splits(project, turn.dataset_version):
        return waiting(turn, lacking)
    new = new_training_images(project, turn.dataset_version, turn.trained_on)
    needed = project.new_labels if turn.trained_on else project.minimum_labels
    if new < needed:
        return waiting(turn, f"{needed - new} more labelled training images before the next training")
    model = retrain(project, turn.dataset_version, turn.live_model)
    turn = did(turn, f"trained model {model.model_version} from {model.trained_from}")
    calibration, test = evaluate(project, model.model_version, turn.dataset_version)
    return save_turn(
        project,
        having(
            turn,
            trained_on=turn.dataset_version,
            candidate=model.model_version,
            candidate_evaluation=calibration.evaluation,
            candidate_test_evaluation=test.evaluation,
            verdict=None,
        ),
    )


def judge_the_candidate(project: ProjectSettings, turn: Turn) -> Turn:
    """The gate decides; an accepted candidate is live from the next release on."""
    if not turn.candidate or turn.verdict is not None:
        return turn
    verdict = gate(
        project,
        turn.candidate,
        turn.live_model,
        turn.dataset_version,
        read_evaluation(project, turn.candidate_evaluation).thresholds,
        read_evaluation(project, turn.evaluation).thresholds if turn.evaluation else {},
    )
    turn = did(having(turn, verdict=verdict), f"the gate found model {turn.candidate} {verdict.verdict}")
    if verdict.verdict == "accepted":
        turn = having(
            turn,
            live_model=turn.candidate,
            evaluation=turn.candidate_evaluation,
            test_evaluation=turn.candidate_test_evaluation,
            replaced_test_evaluation=turn.test_evaluation,
        )
    return save_turn(project, turn)


def propose_what_to_collect(project: ProjectSettings, turn: Turn) -> Turn:
    """Sampling settings fitted to the live model's newest evaluation."""
    if not turn.evaluation or turn.suggested_on == turn.evaluation:
        return turn
    suggestion = suggest(project, turn.live_model, turn.evaluation, turn.forecast_scores)
    by = "expected misses" if suggestion.strategy == "expected_misses" else counted(len(suggestion.rules), "rule")
    turn = did(turn, f"suggested settings {suggestion.suggestion}: {by} and exploration")
    fresh = {"suggestion": suggestion.suggestion, "suggested_on": turn.evaluation, "suggestion_release": 0}
    return save_turn(project, having(turn, **fresh))


def release_what_is_decided(project: ProjectSettings, turn: Turn) -> Turn:
    """An accepted model goes out, with the suggested settings as soon as they are approved, else the project's own."""
    if not turn.evaluation or turn.suggestion_release:
        return turn
    live = live_release(project)
    suggestion = approved_suggestion(project, turn.suggestion)
    if suggestion is None:
        turn = waiting(turn, f"approval of suggestion {turn.suggestion} (edgeloop approve)")
        if live is not None and live.model_version == turn.live_model:
            return turn
    settings = suggestion.settings if suggestion else project.sampling
    reason = f"Settings of suggestion {turn.suggestion}." if suggestion else "A new model, the project's own settings."
    release = redeploy(project, turn.live_model, read_evaluation(project, turn.evaluation).thresholds, settings, reason)
    turn = did(turn, f"released {release.group}/{release.number}: model {release.model_version}. {reason}")
    published = release.number if suggestion else 0
    return save_turn(project, having(turn, release_number=release.number, suggestion_release=published))


def update_review(project: ProjectSettings, turn: Turn) -> Turn:
    """FiftyOne in step with the newest dataset and the live model."""
    wanted = f"{turn.dataset_version} {turn.live_model} {turn.suggestion}"
    if not project.review or turn.reviewed == wanted:
        return turn
    try:
        views = sync_review(project, turn.dataset_version, turn.live_model, turn.evaluation, turn.suggestion)
    except ReviewUnavailable as error:
        return did(turn, f"FiftyOne was left as it is: {error}")
    turn = did(turn, f"brought FiftyOne into step: {len(views)} saved views")
    return save_turn(project, having(turn, reviewed=wanted, review_views=views))


def look_for_changes(project: ProjectSettings, turn: Turn) -> Turn:
    """What the cameras see now against what they saw when the live model was new; only drift is told."""
    found = find_drift(project) if turn.live_model != STUB else None
    return save_turn(project, did(turn, headline(found))) if found and found.found else turn


def close(project: ProjectSettings, turn: Turn) -> Turn:
    """Name what the loop waits for, and end the turn."""
    for batch in turn.open_batches:
        turn = waiting(turn, f"labels of batch {batch}")
    if not turn.open_batches:
        turn = waiting(turn, f"new samples from devices of group {project.group}")
    turn = save_turn(project, having(turn, finished_at=datetime.now(timezone.utc)))
    lines = [f"# Turn {turn.number}", "", "Done:", "", *(f"- {line}" for line in turn.done or ("nothing was new",))]
    lines += ["", "Waits for:", "", *(f"- {line}" for line in turn.waits_for)]
    tell_markdown(f"turn-{project.project}", "\n".join(lines), "What a turn did and what the loop waits for")
    return turn


def having(turn: Turn, **changes: Any) -> Turn:
    return turn.model_copy(update=changes)


def did(turn: Turn, sentence: str) -> Turn:
    return having(turn, done=(*turn.done, sentence))


def waiting(turn: Turn, sentence: str) -> Turn:
    return turn if sentence in turn.waits_for else having(turn, waits_for=(*turn.waits_for, sentence))


def figures(evaluation: Evaluation) -> str:
    return f"AP50 {evaluation.coco['AP50']:.3f}, recall {evaluation.recall or 0:.3f} on {evaluation.images} test images"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
