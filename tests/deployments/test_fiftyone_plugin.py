"""The plugin in FiftyOne's App: operators without a browser, and everything that a person clicks in a real one."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.adapters import review
from tasks.adapters.review import mongod
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Approval, Release, Turn
from tasks.core.errors import ReviewUnavailable
from tasks.core.settings import CloseToThreshold, RandomSampling, SamplingSettings
from tasks.evaluate import evaluate_split
from tasks.label import offer_batch
from tasks.suggest import make_suggestion
from tasks.turn import save_turn
from tests.adapters.test_review import wait_for
from tests.flows.app_person import Person, browser_page
from tests.tasks.stages import NOON, a_batch, a_labelled_month, a_model, a_project, a_sample, put_images

PLUGIN = "@edgeloop/loop"
SETTINGS = SamplingSettings(
    sampling_strategies=(
        RandomSampling(name="some", type="random", traffic_percentage=0.02),
        CloseToThreshold(
            name="doubtful",
            type="close_to_threshold",
            threshold=0.3,
            epsilon=0.1,
            probability=0.5,
            only_top_classes=False,
        ),
    ),
    thresholds={"car": 0.5},
)


@pytest.fixture
def project(tmp_path, database, monkeypatch, request):
    """A project whose people label in the App, in a database of its own name, that the App knows."""
    name = "plug-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[-40:].strip("-")
    labelling = {"folder": str(tmp_path / "labelling"), "interface": "fiftyone"}
    made = a_project(tmp_path, project=name, labelling=labelling, approval="manual")
    path = tmp_path / "project.json"
    path.write_text(made.model_dump_json())
    monkeypatch.setenv(review.PROJECT_VARIABLE, str(path))
    monkeypatch.setenv("EDGELOOP_REVIEWER", "kim")
    review.bring_plugin(Path(os.environ[mongod.PLUGINS_VARIABLE]))
    yield made
    import fiftyone as fo

    for dataset in fo.list_datasets(f"{name}*"):
        fo.delete_dataset(dataset)


def a_loop(project, tmp_path, **changes) -> Turn:
    """A labelled month with a measured model, its suggestion, and a batch of three that people have in the App."""
    model = a_model(project, tmp_path)
    dataset = a_labelled_month(project)
    evaluation = evaluate_split.fn(project, model, dataset.dataset_version, "calibration")
    suggestion = make_suggestion.fn(project, model, evaluation.evaluation)
    Central(project).bucket.create_record(
        layout.release("all", 1),
        Release(
            group="all", number=1, created_at=NOON, model_version=model, class_names=project.classes, settings=SETTINGS
        ),
    )
    numbers = range(100, 103)
    samples = tuple(
        a_sample(n, captured_at=NOON + timedelta(days=n), strategy="doubtful", matched=("doubtful",), probability=0.51)
        for n in numbers
    )
    put_images(project, samples, numbers)
    a_batch(project, (), batch_id="newest", samples=samples)
    offer_batch.fn(project, "newest", {"car": 0.5})
    turn = Turn(
        number=1,
        started_at=NOON,
        finished_at=NOON,
        batches={"today": 1, "newest": 0},
        open_batches=("newest",),
        dataset_version=dataset.dataset_version,
        live_model=model,
        release_number=1,
        evaluation=evaluation.evaluation,
        suggestion=suggestion.suggestion,
        forecast_scores={suggestion.suggestion: {"share_with_miss": 0.5, "images_a_day": 12.0}},
    ).model_copy(update=changes)
    save_turn.fn(project, turn)
    return turn


def app_dataset(project):
    """The dataset of the batch that people have."""
    import fiftyone as fo

    dataset = fo.load_dataset(f"{project.project}.newest")
    dataset.reload()
    return dataset


def run(operator, dataset, **context):
    """What an operator says, and whether it was done."""
    import fiftyone.operators as foo

    result = foo.execute_operator(f"{PLUGIN}/{operator}", {"dataset": dataset, **context})
    assert result.error is None, result.error
    return result.result


@pytest.mark.slow
def test_labels_are_submitted_from_their_dataset(project, tmp_path, database):
    """Done images become a label revision; what the check refuses is named; the same again says nothing is new."""
    a_loop(project, tmp_path)
    dataset = app_dataset(project)
    assert "Nothing was new" in run("submit_labels", dataset)["said"]
    one, two, _ = dataset
    one["review_status"] = "done"
    one.save()
    two["review_status"] = "done"
    two.human.detections[0].label = "Bogus"
    two.save()
    said = run("submit_labels", dataset)["said"]
    assert "Batch newest: 1 of 3 images done, 2 to do." in said
    assert "label revision 1" in said
    assert "1 not taken" in said
    assert "Bogus" in said
    batch = Central(project).batch("newest")
    stored = Central(project).labels(batch, 1)
    assert list(stored) == [one.sample_id]
    assert stored[one.sample_id].origin == "human"
    assert "Nothing was new" in run("submit_labels", dataset)["said"]


@pytest.mark.slow
def test_a_suggestion_is_accepted_once(project, tmp_path, database):
    """The operator writes the approval that `edgeloop approve` writes; the second time it says who was first."""
    turn = a_loop(project, tmp_path)
    said = run("accept_suggestion", app_dataset(project))["said"]
    assert f"Suggestion {turn.suggestion} is accepted by kim." in said
    kept = Central(project).bucket.read_record(layout.approval(turn.suggestion), Approval)
    assert kept.approved_by == "kim"
    assert "was approved by kim already" in run("accept_suggestion", app_dataset(project))["problem"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"suggestion": ""}, "there is no suggestion yet"),
        ({"live_model": "f" * 16}, f"{'f' * 16} is live now"),
        ({"suggestion_release": 7}, "went out with release 7 already"),
    ],
)
def test_what_cannot_be_accepted_is_one_line(project, tmp_path, database, changes, words):
    """No suggestion, a model that changed since, and one that is out: nothing is approved."""
    a_loop(project, tmp_path, **changes)
    problem = run("accept_suggestion", app_dataset(project))["problem"]
    assert words in problem
    assert "\n" not in problem
    assert not [key for key in Central(project).bucket.list("suggestions/") if "approved" in key]


@pytest.mark.slow
def test_selected_images_go_to_labelling_and_a_frame_is_explained(project, tmp_path, database):
    """Two selected images are a batch of two; an open image says its strategy, value, limit and probability."""
    a_loop(project, tmp_path)
    dataset = app_dataset(project)
    ids = dataset.values("id")
    assert "no image is selected" in run("send_to_labelling", dataset)["problem"]
    assert "2 images sent to labelling" in run("send_to_labelling", dataset, selected=ids[:2])["said"]
    (sent,) = [name for name in Central(project).bucket.children("batches") if name.startswith("asked-")]
    assert [s.sample_id for s in Central(project).batch(sent).samples] == dataset.values("sample_id")[:2]
    assert "sent to labelling today already" in run("send_to_labelling", dataset, selected=ids[:2])["problem"]

    assert "no frame is chosen" in run("explain_frame", dataset)["problem"]
    said = run("explain_frame", dataset, current_sample=ids[0])["said"]
    assert "Kept by 'doubtful', under settings all/1." in said
    assert "'doubtful': saw 1 of at least 1 within 0.1 of 0.3; its draw keeps 0.5" in said
    assert "Inclusion probability 0.51" in said


@pytest.mark.slow
def test_an_app_without_its_project_and_an_unknown_batch_say_so(project, tmp_path, database, monkeypatch):
    """Each operator answers with the line that names the variable, and an unknown batch with the batch."""
    import fiftyone as fo

    dataset = fo.Dataset(f"{project.project}-plain")
    assert "no batch is named" in run("submit_labels", dataset)["problem"]
    assert "'gone' is none that the loop knows" in run("submit_labels", dataset, params={"batch": "gone"})["problem"]
    monkeypatch.delenv(review.PROJECT_VARIABLE)
    for operator in ("submit_labels", "accept_suggestion", "send_to_labelling", "explain_frame"):
        assert review.PROJECT_VARIABLE in run(operator, dataset)["problem"]
    monkeypatch.setenv(review.PROJECT_VARIABLE, str(tmp_path / "gone.yaml"))
    assert "there is no such file" in run("accept_suggestion", dataset)["problem"]


def test_the_link_to_the_plugin_stays_and_is_not_forced(tmp_path):
    """Bringing it twice is once, a stale link is mended, and a folder of somebody's own is not replaced."""
    for _ in range(2):
        review.bring_plugin(tmp_path / "plugins")
    (link,) = (tmp_path / "plugins").iterdir()
    assert (link / "fiftyone.yml").is_file()
    link.unlink()
    link.symlink_to(tmp_path / "elsewhere")
    review.bring_plugin(tmp_path / "plugins")
    assert (link / "fiftyone.yml").is_file()
    link.unlink()
    link.mkdir()
    with pytest.raises(ReviewUnavailable, match="in the place of our plugin"):
        review.bring_plugin(tmp_path / "plugins")


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_person_clicks_every_operator_and_opens_the_panel(project, tmp_path, database):
    """In the real App: the panel shows batches, suggestion and forecast; each operator says what came of it."""
    turn = a_loop(project, tmp_path)
    dataset = app_dataset(project)
    one, *_ = dataset
    one["review_status"] = "done"
    one.save()
    port = mongod.free_port(0)
    command, variables = review.launch_command(tmp_path, port, tmp_path / "project.json")
    with (tmp_path / "app.log").open("w") as log:
        app = subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(port, app, tmp_path / "app.log")
        with browser_page() as page:
            person = Person(page, 64, 48)
            person.open(review.app_url(dataset.name, "", port))
            person.show_panel("Loop")
            for words in ("Live model", turn.live_model, "0 of 3", "Forecast against truth"):
                page.get_by_text(words).first.wait_for()
            page.get_by_role("img", name="What the suggestion is made from").first.wait_for()
            person.shot("6-panel")
            person.show_tab("Samples")
            person.operate("Submit labels", "Taken in as label revision 1", "7-submit")
            person.operate("Accept suggestion", "is accepted by kim", "8-accept")
            person.operate("Accept suggestion", "was approved by kim already", "9-accept-again")
            person.select(0)
            person.operate("Explain this frame", "Inclusion probability 0.51", "10-explain")
            person.operate("Send to labelling", "1 image sent to labelling", "11-send")
    finally:
        app.terminate()
        app.wait(30)
    assert list(Central(project).labels(Central(project).batch("newest"), 1)) == [one.sample_id]
    assert Central(project).bucket.exists(layout.approval(turn.suggestion))
    assert [name for name in Central(project).bucket.children("batches") if name.startswith("asked-")]
