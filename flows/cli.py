"""`edgeloop ...`: the flows from a terminal. Errors are one line on stderr, exit code 2.

Modules are imported inside the commands: `edgeloop explain` must not wait for Prefect, and the edge has no pandas.
"""

from __future__ import annotations

import getpass
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Optional

import typer

from flows import edge, keys, labels_cli, labelstudio, release
from flows.allocate import allocate
from flows.costs import ClassCost, FalseAlarmCost, MissCost, cost_of, costs_of
from flows.drift import drift
from flows.explain import explain
from flows.field_recall import field_recall
from flows.review import review
from flows.status import status
from flows.wait_cli import wait
from tasks.core.errors import EdgeloopError, SettingsError

USAGE_ERROR = 2
INTERRUPTED = 130  # as shells count a Ctrl-C

os.environ.setdefault("ULTRALYTICS_SAFE_LOAD", "1")  # no pickle that a checkpoint brings is ever executed
os.environ.setdefault(
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL"
)  # an error is one line: ours; runs keep theirs

app = typer.Typer(
    name="edgeloop",
    help="The self-hosted active-learning loop for edge computer vision.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(edge.app, name="edge")
app.add_typer(keys.app, name="keys")
app.add_typer(labels_cli.app, name="labels")
app.add_typer(release.app, name="release")
app.add_typer(labelstudio.app, name="labelstudio")


def main() -> None:
    """The console script."""
    for logger in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(logger).addFilter(without_traceback)
    try:
        app()
    except EdgeloopError as error:
        fail(error)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            warn("stopped; the same command goes on from here")
        leave_uploads_behind(ended.code)
        raise
    except BrokenPipeError:
        sys.exit(0)  # the reader has seen enough


def leave_uploads_behind(code: object) -> None:
    """End here where a drained collector's upload still waits for its bucket; Python would wait with it."""
    if any(thread.name.startswith("upload_") for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def without_traceback(record: logging.LogRecord) -> bool:
    """Runs log what ended them; an error that is meant for the user's eyes is told in its line, by `fail`."""
    if record.exc_info and isinstance(record.exc_info[1], EdgeloopError):
        record.exc_info = None
    return True


def fail(error: EdgeloopError) -> None:
    print(f"edgeloop: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(USAGE_ERROR)


def warn(line: str) -> None:
    print(f"edgeloop: {line}", file=sys.stderr)


SettingsFile = Annotated[Path, typer.Option("--settings", help="sampling settings, ours or Roboflow's (JSON or YAML)")]
ConfigFile = Annotated[Path, typer.Option("--config", help="the project, as in configs/project.yaml")]


app.command()(explain)


@app.command()
def evaluate(
    ground_truth: Annotated[Path, typer.Option(help="COCO file with images, categories and annotations")],
    predictions: Annotated[Path, typer.Option(help="COCO results: a list of boxes, masks, keypoints or classes")],
    out: Annotated[Path, typer.Option(help="folder for evaluation.json, matches.parquet, report.html and plots")],
    beta: Annotated[float, typer.Option(help="F-beta of the operating thresholds")] = 1.0,
    miss_cost: MissCost = None,
    false_alarm_cost: FalseAlarmCost = None,
    class_cost: ClassCost = None,
    task: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="detection, classification, segmentation or keypoints; else what the predictions show"),
    ] = None,
) -> None:
    """Find the confidence bands in which misses live, from two COCO files."""
    from tasks.evaluate import evaluate_files, task_named

    costs = costs_of(miss_cost, false_alarm_cost, class_cost)
    evaluation = evaluate_files(ground_truth, predictions, out, beta=beta, costs=costs, task=task_named(task))
    for warning in evaluation.warnings:
        warn(warning)
    for name, figures in evaluation.classes.items():
        print(
            f"{name}: {figures.ground_truths} labelled, {figures.misses} missed at threshold {figures.threshold:.3f}, "
            f"{figures.blind} of them blind"
        )
    print(f"thresholds: {evaluation.criterion}{cost_of(evaluation)}")
    shown = ("top1", "top5") if evaluation.task == "classification" else ("AP50", "AP")
    print(", ".join(f"{name} {evaluation.coco[name]:.3f}" for name in shown) + f"; report: {out / 'report.html'}")


@app.command()
def suggest(
    evaluation: Annotated[Path, typer.Option(help="folder that edgeloop evaluate wrote")],
    budget: Annotated[float, typer.Option(help="images a day that people can label")],
    frames: Annotated[float, typer.Option(help="frames a day, after duplicates")],
    out: Annotated[Path, typer.Option(help="where the sampling settings go (JSON)")],
    traffic: Annotated[Optional[Path], typer.Option(help="traffic log: JSON lines of confidences")] = None,  # noqa: UP045
    exploration: Annotated[float, typer.Option(help="share of the budget drawn at random")] = 0.2,
    seed: Annotated[int, typer.Option(help="seed of the settings")] = 0,
    strategy: Annotated[Optional[str], typer.Option(help="expected_misses, rules or random")] = None,  # noqa: UP045
    miss_cost: MissCost = None,
    false_alarm_cost: FalseAlarmCost = None,
    class_cost: ClassCost = None,
) -> None:
    """Turn an evaluation and a budget into sampling settings, with a forecast of what they will bring."""
    from flows.suggest import story
    from tasks.suggest import suggest_from_files

    costs = costs_of(miss_cost, false_alarm_cost, class_cost)
    suggestion = suggest_from_files(evaluation, budget, frames, traffic, exploration, seed, strategy, costs)
    for warning in suggestion.warnings:
        warn(warning)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(suggestion.settings.model_dump_json(indent=1))
    out.with_suffix(".suggestion.json").write_bytes(suggestion.to_json())
    print(story(suggestion))
    print(f"\nsettings: {out}    evidence: {out.with_suffix('.suggestion.json')}")


@app.command()
def collect(
    source: Annotated[
        list[str], typer.Option(help="video, folder, webcam number or rtsp://; several are several cameras")
    ],
    settings: SettingsFile,
    bucket: Annotated[str, typer.Option(help="file:///folder or s3://bucket/prefix")],
    model: Annotated[str, typer.Option(help="ONNX file, or stub")] = "stub",
    device: Annotated[str, typer.Option(help="name of this device")] = "device",
    project: Annotated[str, typer.Option(help="name of the project")] = "default",
    classes: Annotated[
        str, typer.Option(help="the project's classes, comma separated; empty: those of the model")
    ] = "",
    model_classes: Annotated[str, typer.Option(help="class names of a model without metadata: coco80 or a list")] = "",
    outbox: Annotated[Path, typer.Option(help="folder of the spool")] = Path("outbox"),
    max_frames: Annotated[Optional[int], typer.Option(help="stop after so many frames")] = None,  # noqa: UP045
) -> None:
    """Collect in the foreground, without any Prefect server. Ctrl-C drains and stops; the outbox keeps the rest."""
    from tasks.adapters.bucket import Bucket
    from tasks.adapters.config import bucket_url, read_sampling
    from tasks.collector import run_collector
    from tasks.core.settings import CameraSettings, DeviceSettings, validated

    sampling, warnings = read_sampling(settings)
    for line in warnings:
        warn(line)
    cameras = [{"name": f"camera-{n}" if len(source) > 1 else "camera", "source": s} for n, s in enumerate(source)]
    given = {
        "name": device,
        "project": project,
        "bucket": bucket_url(bucket),
        "cameras": [CameraSettings(**camera) for camera in cameras],
        "outbox": str(outbox),
    }
    settings_of_device = validated(DeviceSettings, given, "edgeloop collect")
    Bucket(settings_of_device.bucket, project).check_writable()  # a person waits here: tell at once, not in the outbox
    status = run_collector(
        settings_of_device,
        model=model,
        sampling=sampling,
        project_classes=tuple(classes.split(",")) if classes else None,
        model_classes=model_classes_of(model_classes),
        max_frames=max_frames,
        follow_releases=False,
    )
    kept = ", ".join(f"{n} by {name}" for name, n in status.kept_by_strategy.items()) or "none"
    print(f"{status.frames} frames decided, {status.kept} kept ({kept}), {status.uploaded} uploaded")
    for reason, number in status.drops.items():
        print(f"dropped {number}: {reason}")
    if status.last_error:
        warn(status.last_error)


def model_classes_of(text: str) -> str | tuple[str, ...] | None:
    """`coco80`, a list of names, or nothing."""
    if not text:
        return None
    return text if text == "coco80" else tuple(text.split(","))


@app.command()
def loop(config: ConfigFile = Path("configs/project.yaml")) -> None:
    """One central turn: everything whose inputs are in the bucket. Ends by naming what it waits for."""
    from flows.loop import loop as turn_flow
    from tasks.adapters.config import read_project

    turn = turn_flow(read_project(config))
    print(f"Turn {turn.number}")
    for line in turn.done or ("nothing was new",):
        print(f"  done: {line}")
    for line in turn.waits_for:
        print(f"  waits for: {line}")


@app.command()
def approve(
    suggestion: Annotated[str, typer.Argument(help="id, as edgeloop loop names it")],
    config: ConfigFile = Path("configs/project.yaml"),
) -> None:
    """Let suggested settings go out with the next turn."""
    from tasks.adapters.config import read_project
    from tasks.suggest import approve as approve_suggestion

    approval = approve_suggestion(read_project(config), suggestion, by=getpass.getuser())
    print(f"approved by {approval.approved_by}: edgeloop loop releases it")


@app.command(name="import")
def import_dataset(
    dataset: Annotated[Path, typer.Argument(help="folder in YOLO, COCO or VOC layout")],
    config: ConfigFile = Path("configs/project.yaml"),
    model: Annotated[Optional[Path], typer.Option(help="ONNX file to evaluate on it at once")] = None,  # noqa: UP045
    model_classes: Annotated[str, typer.Option(help="class names of a model without metadata: coco80 or a list")] = "",
    rename: Annotated[Optional[list[str]], typer.Option(help="class of the dataset = class of the project")] = None,  # noqa: UP045
) -> None:
    """Take a labelled dataset in, with its splits; with a model it is evaluated at once."""
    from flows.import_dataset import import_dataset as import_flow
    from tasks.adapters.config import read_project
    from tasks.adapters.project_file import project_for_import

    if not config.exists():
        project_for_import(config, dataset, renames_of(rename or []), model, model_classes_of(model_classes))
        print(f"wrote {config}: look at it before the first turn")
    project = read_project(config)
    if model_classes:
        project = project.model_copy(update={"model_classes": model_classes_of(model_classes)})
    for line in import_flow(project, dataset, model, renames_of(rename or [])):
        print(line)


def renames_of(pairs: list[str]) -> dict[str, str]:
    """`old=new` pairs."""
    for pair in pairs:
        if pair.count("=") != 1:
            raise SettingsError(f"--rename {pair!r}: write it as old=new")
    return dict(pair.split("=") for pair in pairs)


@app.command()
def upload(config: Annotated[Path, typer.Option(help="the device, as in configs/device.yaml")]) -> None:
    """Deliver what a device's outbox holds, when its collector does not run."""
    from flows.upload import upload as upload_flow
    from tasks.adapters.config import read_device

    print(f"{upload_flow(read_device(config))} samples delivered")


app.command()(status)
app.command()(wait)
app.command()(review)
app.command(name="field-recall")(field_recall)
app.command()(drift)


app.command()(allocate)


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="chooses the world")] = 0,
    folder: Annotated[Path, typer.Option(help="where the demo lives")] = Path("demo"),
    data: Annotated[Optional[Path], typer.Option(help="labelled photographs instead of the simulated yard")] = None,  # noqa: UP045
    model: Annotated[str, typer.Option(help="ONNX file that the device starts with, or stub")] = "stub",
    weights: Annotated[Optional[Path], typer.Option(help="checkpoint to train from")] = None,  # noqa: UP045
    quick: Annotated[
        bool, typer.Option(help="a fraction of the frames and epochs: shows the path, not the gain")
    ] = False,
    strategy: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="of its suggestions: rules, expected_misses or random"),
    ] = None,
) -> None:
    """The whole loop on this machine, people simulated, no network needed."""
    from flows.demo import run_demo

    run_demo(folder, seed=seed, data=data, model=model, weights=weights, quick=quick, strategy=strategy)


@app.command()
def ui(
    folder: Annotated[Path, typer.Option(help="folder of a demo")] = Path("demo"),
    prefect_port: Annotated[int, typer.Option(help="on 127.0.0.1")] = 4200,
    fiftyone_port: Annotated[int, typer.Option(help="on 127.0.0.1")] = 5151,
) -> None:
    """Open a demo's pages: the Prefect UI and the FiftyOne App, on loopback until Ctrl-C."""
    from flows.demo.ui import serve

    serve(folder, prefect_port=prefect_port, fiftyone_port=fiftyone_port)


if __name__ == "__main__":
    main()
