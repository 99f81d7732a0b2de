"""Reports: what the sentences say, that the plots show the same, and that the pages stand alone."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tasks.adapters import report
from tasks.adapters.report import (
    CameTrue,
    LabelCounts,
    LoopStory,
    RoundStory,
    Thumbnail,
    pages,
    plots,
    sentences,
    style,
)
from tasks.adapters.report.progress_plot import progress_plot
from tasks.adapters.report.story import seconds_text
from tasks.adapters.report.suggestion_plot import wilson
from tasks.core.bands import evaluate
from tasks.core.entities import (
    Band,
    ClassEvaluation,
    Detection,
    Detections,
    Estimate,
    Evaluation,
    Forecast,
    LabelBox,
    Rule,
    Suggestion,
    Verdict,
)
from tasks.core.matching import GroundTruths, ImageResult, Matches, match
from tasks.core.settings import RandomSampling, SamplingSettings

CLASSES = ("container", "pallet", "person")
MOMENT = datetime(2026, 3, 4, 10, tzinfo=timezone.utc)
CHROMIUM = Path("/usr/bin/chromium")


def fabricated(class_names=CLASSES, images=60, seed=0) -> tuple[Evaluation, Matches]:
    """An evaluation of made-up detections: hits, misses in all bands, blind objects of every kind, false alarms."""
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(images):
        count = int(rng.integers(0, 6))
        corner, size = rng.uniform(0, 800, (count, 2)), rng.uniform(40, 180, (count, 2))
        truths, classes = np.hstack([corner, corner + size]), rng.integers(0, len(class_names), count)
        boxes, scores, names = [], [], []
        for box, class_id, side in zip(truths, classes, size):
            kind = rng.choice(["seen", "unseen", "placed", "named"], p=[0.8, 0.08, 0.06, 0.06])
            if kind == "unseen":
                continue
            shift = np.tile(side, 2) * (0.45 if kind == "placed" else 0.02)
            boxes.append(box + shift)
            names.append((class_id + (kind == "named")) % len(class_names))
            scores.append(rng.beta(6, 2) if rng.random() < 0.6 else rng.beta(1, 6))
        for _ in range(int(rng.integers(0, 6))):
            point = rng.uniform(0, 800, 2)
            boxes.append(np.concatenate([point, point + rng.uniform(20, 90, 2)]))
            names.append(int(rng.integers(0, len(class_names))))
            scores.append(rng.beta(1, 8))
        order = np.argsort(-np.array(scores))
        found = Detections(
            np.array(boxes, np.float32).reshape(-1, 4)[order],
            np.array(scores, np.float32)[order],
            np.array(names, np.int64)[order],
            tuple(class_names),
        )
        results.append(ImageResult(found, GroundTruths(truths, classes, np.zeros(count, np.bool_))))
    matches = match(results)
    evaluation = evaluate(
        matches,
        [f"camera-{i % 2}/{i // 2}" for i in range(images)],
        class_names,
        created_at=MOMENT,
        model_version="9f3c1a77d0b24e51",
        dataset_version="51ab77c0de981122",
        split="calibration",
        coco={"AP": 0.41, "AP50": 0.62, "APs": -1.0},
        replicates=100,
    )
    return evaluation, matches


def estimate(value, low, high):
    return Estimate(value=value, low=low, high=high)


def suggested(rules=2, share=(0.6, 0.5, 0.7), at_random=(0.3, 0.2, 0.4)) -> Suggestion:
    return Suggestion(
        suggestion="0123456789abcdef",
        created_at=MOMENT,
        model_version="9f3c1a77d0b24e51",
        evaluation="aced5cb60250d9f1",
        budget_images_a_day=200,
        frames_a_day=2000,
        probability=0.4,
        rules=tuple(
            Rule(
                class_name=CLASSES[i % len(CLASSES)],
                low=0.05 * (i + 1),
                high=0.05 * (i + 3),
                minimum_objects=1 + i % 2,
                images=30,
                images_with_miss=20,
                new_images=24 - i,
                new_images_with_miss=18 - i,
            )
            for i in range(rules)
        ),
        settings=SamplingSettings(sampling_strategies=(RandomSampling(name="random", type="random"),)),
        forecast=Forecast(
            images_a_day=estimate(197, 144, 261),
            images_a_day_random=estimate(40, 28, 52),
            share_with_miss=estimate(*share),
            share_with_miss_random=estimate(*at_random),
            misses_an_image=estimate(1.18, 0.7, 1.65),
            misses_a_box=estimate(0.36, 0.24, 0.47),
            misses_reached=estimate(0.2, 0.1, 0.3),
            misses_blind=estimate(0.47, 0.38, 0.56),
        ),
        diff=("sampling_strategies.random.traffic_percentage: 0.1 -> 0.02",),
        warnings=("no traffic log of this model version: the calibration images stand for the traffic",),
    )


def told(rounds=2) -> LoopStory:
    """A story with everything in it."""
    evaluation, _ = fabricated()
    label = LabelBox(class_name="person", xyxy=(10, 10, 40, 60))
    one = RoundStory(
        number=1,
        title="Collecting where it misses",
        frames=2000,
        collected={"random": 38, "person 0.05 to 0.15": 81},
        labels=LabelCounts(images=117, boxes=402, skipped=2),
        model_before="9f3c1a77d0b24e51",
        model_after="51ab77c0de981122",
        ap50_before=estimate(0.47, 0.41, 0.53),
        ap50_after=estimate(0.55, 0.5, 0.6),
        recall_before=0.61,
        recall_after=0.68,
        evaluation=evaluation,
        suggestion=suggested(),
        came_true=(
            CameTrue("images a day", estimate(196, 150, 247), 184),
            CameTrue("share with a miss", estimate(0.62, 0.5, 0.7), 0.44, is_share=True),
        ),
        verdict=Verdict(
            verdict="accepted", mode="improve", candidate="x", reasons=("AP50: +6.0 points",), decided_at=MOMENT
        ),
        swaps=("frame 4000: release 4, model 51ab77c0",),
        seconds=241,
    )
    return LoopStory(
        title="Two rounds on a container yard",
        project="yard",
        rounds=[replace(one, number=n) for n in range(rounds)],
        live_model="51ab77c0de981122",
        base_checkpoint="backbone.pt",
        seed=7,
        seconds=498,
        annotator="Labels came from a simulated annotator.",
        links={"FiftyOne": "http://127.0.0.1:5151/datasets/yard"},
        thumbnails=(
            Thumbnail(
                tiny_png(),
                100,
                80,
                (Detection(class_name="person", confidence=0.27, xyxy=(8, 9, 41, 61)),),
                (label,),
                "gate",
            ),
        ),
        waits_for=("labels for batch yard-3",),
    )


def tiny_png() -> bytes:
    import cv2

    return cv2.imencode(".png", np.full((80, 100, 3), 200, np.uint8))[1].tobytes()


# --- sentences -------------------------------------------------------------------------------------------------------


def class_of(truths, bands, blind=0, threshold=0.5) -> ClassEvaluation:
    """Misses by band edges: `{(low, high): misses}`."""
    misses = sum(bands.values()) + blind
    return ClassEvaluation(
        ground_truths=truths,
        threshold=threshold,
        threshold_interval=(threshold, threshold),
        precision=0.9,
        recall=1 - misses / truths if truths else None,
        misses=misses,
        blind=blind,
        blind_localisation=0,
        blind_classification=0,
        blind_unseen=blind,
        bands=tuple(
            Band(low=low, high=high, misses=n, recall_lost=n / max(truths, 1), interval=(0, 1))
            for (low, high), n in bands.items()
        ),
    )


def test_a_class_is_told_in_one_sentence():
    """Missed, where most of the reachable misses lie, and blind: the counts and bands of the class, in plain words."""
    bands = {(0.05, 0.1): 3, (0.1, 0.2): 12, (0.2, 0.3): 11, (0.3, 0.5): 6}
    assert sentences.class_sentence("container", class_of(212, bands, blind=9), floor=0.05) == (
        "Of 212 labelled 'container' objects 41 are missed; 23 of them have a candidate between 0.10 and 0.30; "
        "9 are blind: no confidence rule can find them."
    )


def test_misses_below_the_floor_are_not_offered_to_a_rule():
    """Bands below the devices' floor are in no sentence about candidates, however many misses they hold."""
    told = sentences.class_sentence(
        "bus", class_of(20, {(0.005, 0.02): 7, (0.02, 0.05): 1, (0.05, 0.1): 1}, 1), floor=0.05
    )
    assert told == (
        "Of 20 labelled 'bus' objects 10 are missed; 1 of them have a candidate between 0.05 and 0.10; "
        "1 is blind: no confidence rule can find them."
    )


def test_classes_without_misses_or_objects_say_so():
    """No misses and no objects are said, not left out and not divided by."""
    assert sentences.class_sentence("bus", class_of(20, {}), 0.05) == "Of 20 labelled 'bus' objects none is missed."
    assert sentences.class_sentence("bus", class_of(0, {}), 0.05) == "No labelled bus is in these images."


@given(st.lists(st.integers(0, 6), min_size=1, max_size=7))
def test_the_named_run_of_bands_is_the_shortest_with_half_of_the_misses(counts):
    """No shorter run of neighbouring bands holds half of the misses, and none of its length holds more."""
    bands = [
        Band(low=i / 10, high=(i + 1) / 10, misses=n, recall_lost=0, interval=(0, 1)) for i, n in enumerate(counts)
    ]
    run = sentences.main_run(bands)
    if sum(counts) == 0:
        assert run == []
        return
    inside = sum(band.misses for band in run)
    assert inside * 2 >= sum(counts)
    assert [band.low for band in run] == [band.low for band in bands if run[0].low <= band.low <= run[-1].low]
    for size in range(1, len(run) + 1):
        for start in range(len(counts) - size + 1):
            other = sum(counts[start : start + size])
            assert other <= inside if size == len(run) else other * 2 < sum(counts)


def test_the_evaluation_sentence_adds_up():
    """Found + missed = labelled, and within reach + blind + below the floor = missed."""
    evaluation, matches = fabricated()
    numbers = [
        int(n.replace(",", ""))
        for n in re.findall(r"(?<![\d.])\d[\d,]*(?![\d%.])", sentences.evaluation_sentence(evaluation))
    ]
    images, found, labelled, missed, reachable, blind, below = numbers
    assert (images, labelled) == (60, len(matches.truths))
    assert found + missed == labelled
    assert reachable + blind + below == missed
    assert blind == (matches.truths.detection < 0).sum()


@pytest.mark.parametrize(
    ("share", "words"),
    [
        ((0.6, 0.5, 0.7), "2.0 times as many"),
        ((0.35, 0.25, 0.5), "not certain"),
        ((0.28, 0.1, 0.5), "no better than chance"),
    ],
)
def test_a_suggestion_is_not_praised_beyond_its_evidence(share, words):
    """Times as many only where the intervals are apart; else the sentence says that it is not certain, or no better."""
    assert words in sentences.suggestion_sentence(suggested(share=share))
    assert "drawn at random" in sentences.suggestion_sentence(suggested(rules=0))


def test_the_interval_of_a_share_is_wilsons():
    """The values of Wilson's interval for 18 of 24, 0 of 5 and 5 of 5, and the unknown for 0 of 0."""
    assert wilson(18, 24) == pytest.approx((0.5510, 0.8800), abs=1e-4)
    assert wilson(0, 5) == pytest.approx((0.0, 0.4345), abs=1e-4)
    assert wilson(5, 5) == pytest.approx((0.5655, 1.0), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_durations_are_said_as_people_say_them():
    """Seconds, minutes and hours, without parts that are zero."""
    assert [seconds_text(s) for s in (0.4, 48, 120, 200, 3600, 7500)] == [
        "0 s",
        "48 s",
        "2 min",
        "3 min 20 s",
        "1 h",
        "2 h 5 min",
    ]


# --- plots -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, newest last."""
    figures = []
    save = style.Figure.savefig

    def keep(figure, *args, **options):
        figures.append(figure)
        return save(figure, *args, **options)

    monkeypatch.setattr(style.Figure, "savefig", keep)
    return figures


def texts_of(figure):
    """Text and pixel rectangle of everything that is written in a figure, tick labels included."""
    import matplotlib.text
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = [t for t in figure.findobj(matplotlib.text.Text) if t.get_visible() and t.get_text().strip()]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts]


@pytest.mark.parametrize("names", [("car",), CLASSES, tuple(f"class number {i}" for i in range(24))])
def test_nothing_that_is_written_in_the_bands_plot_collides_or_is_cut(tmp_path, drawn, names):
    """With one class, with three and with 24 long names no two texts overlap and none leaves the picture."""
    evaluation, _ = fabricated(names, images=150)
    plots.bands_plot(evaluation, tmp_path / "bands.png")
    texts = texts_of(drawn[-1])
    width, height = drawn[-1].canvas.get_width_height()
    for i, (text, box) in enumerate(texts):
        assert box.x0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= height + 1, text
        for other, rectangle in texts[i + 1 :]:
            overlap_x = min(box.x1, rectangle.x1) - max(box.x0, rectangle.x0)
            overlap_y = min(box.y1, rectangle.y1) - max(box.y0, rectangle.y0)
            assert min(overlap_x, overlap_y) < 1.5, (text, other)


def test_the_bands_plot_shows_every_miss_once(tmp_path, drawn):
    """The numbers in the cells of a class add up to its misses, and the total at the end of the row says the same."""
    evaluation, matches = fabricated(images=150)
    plots.bands_plot(evaluation, tmp_path / "bands.png")
    for name, of_class in evaluation.classes.items():
        assert sum(plots.cell_counts(of_class)) == of_class.misses
        rows = matches.truths.class_id == CLASSES.index(name)
        s = np.nan_to_num(matches.truths.confidence[rows], nan=-1)
        assert of_class.misses == (s < of_class.threshold).sum() > 0
    written = [text.get_text() for text in drawn[-1].axes[0].texts]
    for of_class in evaluation.classes.values():
        assert str(of_class.misses) in written
        assert any(text.startswith(f"of {of_class.ground_truths},") for text in written)


def test_precision_and_recall_equal_a_plain_count():
    """Every point of the curve equals precision and recall counted one threshold at a time."""
    _, matches = fabricated()
    for class_id in range(len(CLASSES)):
        recall, precision, threshold = plots.precision_recall_curve(matches, class_id)
        of_class = matches.detections.class_id == class_id
        truths = (matches.truths.class_id == class_id).sum()
        assert len(threshold) == of_class.sum() > 10
        for r, p, t in zip(recall, precision, threshold):
            kept = of_class & (matches.detections.confidence >= t)
            true = (kept & matches.detections.is_true).sum()
            assert (r, p) == pytest.approx((true / truths, true / kept.sum()))


def test_the_same_figures_give_the_same_bytes(tmp_path):
    """A plot of the same evaluation is the same file, so that a repeated upload is no new object."""
    evaluation, _ = fabricated()
    first = plots.bands_plot(evaluation, tmp_path / "a.png").read_bytes()
    assert plots.bands_plot(evaluation, tmp_path / "b.png").read_bytes() == first


@pytest.mark.parametrize("rules", [0, 1, 7])
def test_the_suggestion_plot_takes_any_number_of_rules(tmp_path, drawn, rules):
    """None, one or many rules: each is named with its counts, and nothing leaves the picture."""
    evaluation, _ = fabricated()
    report.suggestion_plot(suggested(rules), evaluation, tmp_path / "suggestion.png")
    texts = texts_of(drawn[-1])
    width, height = drawn[-1].canvas.get_width_height()
    assert all(box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1 for _, box in texts)
    written = [text for text, _ in texts]
    assert sum(bool(re.fullmatch(r"\d+ of \d+", text)) for text in written) == rules
    assert ("no rule beats a random draw" in written) == (rules == 0)


def test_progress_needs_two_figures(tmp_path):
    """A run with a single known figure has no progress plot; with before and after there is one."""
    story = told(1)
    single = replace(story.rounds[0], ap50_before=None, recall_before=None)
    assert progress_plot(replace(story, rounds=[single]), tmp_path / "none.png") is None
    assert progress_plot(story, tmp_path / "progress.png") == tmp_path / "progress.png"


# --- pages -----------------------------------------------------------------------------------------------------------


def addresses_in(page: str) -> set[str]:
    """Everything that a browser would fetch to show a page; links that people click are not among it."""
    fetched = re.findall(
        r"""(?:src|href)\s*=\s*["']([^"']*)|url\(([^)]*)\)|@import\s+(\S+)""", re.sub(r"<a [^>]*>", "", page)
    )
    return {next(filter(None, found), "")[:5] for found in fetched}


def test_the_report_stands_alone_beside_its_plots(tmp_path):
    """report.html holds its plots as data and fetches nothing; the plots lie beside it as files of their own."""
    evaluation, matches = fabricated()
    page = report.evaluation_report(evaluation, matches, tmp_path / "out", suggestion=suggested()).read_text()
    assert addresses_in(page) == {"data:"}
    names = {"report.html", "bands.png", "precision_recall.png", "confidences.png", "suggestion.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "out").glob("*.png"))
    for name, of_class in evaluation.classes.items():
        told = sentences.class_sentence(name, of_class, evaluation.confidence_floor)
        assert told.replace("'", "&#39;") in page
    assert "traffic_percentage: 0.1 -&gt; 0.02" in page


def test_names_from_outside_are_text_not_markup(tmp_path):
    """A class called like a script tag is shown as it is called, and runs nothing."""
    evaluation, matches = fabricated(("<script>alert(1)</script>", "a $\\frac{1$ & b"))
    page = report.evaluation_report(evaluation, matches, tmp_path).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_an_evaluation_without_objects_or_images_has_a_page(tmp_path):
    """No labelled objects, or no images at all: a page that says so instead of an error."""
    nothing = ImageResult(Detections.empty(CLASSES), GroundTruths.empty())
    for images in (5, 1):
        matches = match([nothing] * images)
        evaluation = evaluate(matches, ["a"] * images, CLASSES, created_at=MOMENT, replicates=100)
        page = report.evaluation_report(evaluation, matches, tmp_path / str(images)).read_text()
        assert "nothing can be missed" in page
        assert "Without a labelled object in these images: container, pallet, person." in page


def test_the_page_of_a_run_tells_all_of_it(tmp_path):
    """Rounds, strategies, labels, models, verdicts, forecasts that came true, swaps and links are on the page."""
    page = report.loop_page(told(), tmp_path / "deep" / "loop.html").read_text()
    assert addresses_in(page) == {"data:"}
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for fact in (
        "Two rounds on a container yard",
        "4,000 frames and sent 238 of them; 234 were labelled. AP50 on test images rose from 0.47 to 0.55.",
        "119 of 2,000 frames (6%), by strategy:",
        "117 images with 402 boxes; 2 skipped.",
        "0.55 (0.50 to 0.60)",
        "AP50: +6.0 points",
        "196 (150 to 247) 184",
        "62% (50 to 70) 44%",
        "frame 4000: release 4, model 51ab77c0",
        "from backbone.pt",
        "seed 7",
        "Labels came from a simulated annotator.",
        "labels for batch yard-3",
    ):
        assert fact in text
    assert (
        page.count('class="range out"') == page.count('class="range"') == 2
    )  # one of two figures of each round is out
    assert 'href="http://127.0.0.1:5151/datasets/yard"' in page
    assert re.search(r'<rect class="label" x="10.0" y="10.0" width="30.0" height="50.0">', page)


def test_a_run_of_which_little_is_known_has_a_page_too(tmp_path):
    """A story without models, labels, forecasts or pictures gives a page and a summary without gaps or errors."""
    story = LoopStory(
        title="Begun", project="yard", rounds=[RoundStory(number=0, title="Waiting for labels", frames=10)]
    )
    page = report.loop_page(story, tmp_path / "loop.html").read_text()
    assert "None of 10 frames." in page
    assert "Did it get better?" not in page
    assert "none yet" in shown(story)
    assert "In 0 rounds" in report.loop_page(replace(story, rounds=[]), tmp_path / "loop.html").read_text()


def shown(story: LoopStory, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(report.loop_summary(story))
    return console.file.getvalue()


@pytest.mark.parametrize("rounds", [1, 2, 12])
def test_the_summary_fits_a_terminal(rounds):
    """Fewer than 60 lines of 100 columns however many rounds, with the newest round's figures among them."""
    lines = shown(told(rounds)).splitlines()
    assert len(lines) < 60
    assert max(map(len, lines)) <= 100
    text = " ".join(" ".join(lines).split())
    assert "AP50 on test images rose from 0.47 to 0.55." in text
    assert f"Round {rounds - 1}: Collecting where it misses" in text
    assert "62% (50 to 70) 44%" in text


def test_came_true_lies_where_the_scale_puts_it():
    """Positions are shares of a scale that holds forecast and outcome; an outcome outside its interval is marked."""
    inside = pages.came_true_values(CameTrue("n", estimate(100, 80, 120), 110))
    outside = pages.came_true_values(CameTrue("n", estimate(100, 80, 120), 240))
    assert inside["inside"]
    assert not outside["inside"]
    assert inside["came_true"] / inside["value"] == pytest.approx(1.1)
    assert outside["came_true"] == pytest.approx(100 / 1.08)
    assert pages.came_true_values(CameTrue("n", estimate(0, 0, 0), 0))["came_true"] == 0


def test_tables_hold_the_figures_of_the_records():
    """One row a class, band, rule and forecast figure, with intervals in columns of their own."""
    evaluation, _ = fabricated()
    classes, bands = report.class_table(evaluation), report.band_table(evaluation)
    assert list(classes.index) == list(CLASSES)
    assert classes.loc["pallet", "recall_low"] == evaluation.classes["pallet"].recall_interval[0]
    assert (bands.groupby("class").misses.sum() + classes.blind == classes.misses).all()
    assert bands.within_reach.equals(bands.low >= 0.05)
    assert len(report.rule_table(suggested(3))) == 3
    assert tuple(report.forecast_table(suggested()).loc["misses_a_box"]) == (0.36, 0.24, 0.47)


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs a browser at {CHROMIUM}")
@pytest.mark.parametrize("width", [390, 1100])
def test_pages_show_whole_in_a_browser(tmp_path, width):
    """Narrow or wide, no page scrolls sideways, every picture loads, and nothing but the page is fetched."""
    from playwright.sync_api import sync_playwright

    evaluation, matches = fabricated()
    files = [
        report.evaluation_report(evaluation, matches, tmp_path, suggestion=suggested()),
        report.loop_page(told(), tmp_path / "loop.html"),
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        for file in files:
            page = browser.new_page(viewport={"width": width, "height": 900})
            fetched, problems = [], []
            page.on("request", lambda request, fetched=fetched: fetched.append(request.url))
            page.on("pageerror", lambda error, problems=problems: problems.append(error))
            page.goto(file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
            assert len(widths) >= 4
            assert min(widths) > 0
            assert {url for url in fetched if not url.startswith("data:")} == {file.as_uri()}
            assert problems == []
        browser.close()
