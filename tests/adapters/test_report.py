"""Reports: what the sentences and tables say, and that the pages stand alone."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tasks.adapters import report
from tasks.adapters.report import CameTrue, LoopStory, RoundStory, pages, sentences
from tasks.adapters.report.story import seconds_text
from tasks.core.bands import evaluate
from tasks.core.entities import Band, ClassEvaluation, Detections
from tasks.core.matching import GroundTruths, ImageResult, match
from tasks.core.suggestion.track_record import FigureRecord
from tests.adapters.report_figures import CLASSES, MOMENT, by_expected_misses, estimate, fabricated, suggested, told

CHROMIUM = Path("/usr/bin/chromium")


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


def test_a_suggestion_of_expected_misses_is_told_as_one():
    """By its own name, with what it is worth against chance; an old one without a rule is a random draw."""
    sentence = sentences.suggestion_sentence(by_expected_misses())
    assert sentence.startswith("The frames with most expected misses and random draws would make up about 197 images")
    assert "2.0 times as many" in sentence
    assert "rule" not in sentence
    assert "drawn at random" in sentences.suggestion_sentence(by_expected_misses(strategy="random"))


def test_the_forecasts_of_all_ways_stand_beside_each_other():
    """Each figure once, the suggested way first; a figure that another way has not is left empty."""
    made = by_expected_misses()
    rows = {row["name"]: row["texts"] for row in pages.forecast_rows(made)}
    assert rows["images a day"] == ["197 (144 to 261)", "197 (144 to 261)"]
    assert rows["share of all misses that would be collected"] == ["31% (20 to 40)", ""]


@pytest.mark.slow
def test_how_forecasts_came_true_is_on_the_page(tmp_path):
    """Once for the whole run, with the score of the base rate; without a scored forecast there is no such table."""
    records = (FigureRecord("share_with_miss", 4, 3, 0.41, 1.7), FigureRecord("images_a_day", 4, 4, 31.0))
    page = report.loop_page(replace(told(), track_record=records), tmp_path / "page.html").read_text()
    assert "How forecasts came true so far" in page
    assert '<td class="strong">3 of 4</td><td>0.41</td><td>1.7</td>' in page
    assert '<td class="strong">4 of 4</td><td>31</td><td></td>' in page
    assert "How forecasts came true" not in report.loop_page(told(), tmp_path / "page.html").read_text()


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


# --- pages -----------------------------------------------------------------------------------------------------------


def addresses_in(page: str) -> set[str]:
    """Everything that a browser would fetch to show a page; links that people click are not among it."""
    fetched = re.findall(
        r"""(?:src|href)\s*=\s*["']([^"']*)|url\(([^)]*)\)|@import\s+(\S+)""", re.sub(r"<a [^>]*>", "", page)
    )
    return {next(filter(None, found), "")[:5] for found in fetched}


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_page_of_a_run_tells_all_of_it(tmp_path):
    """Rounds, strategies, labels, models, verdicts, forecasts that came true, swaps and links are on the page."""
    page = report.loop_page(told(), tmp_path / "deep" / "loop.html").read_text()
    assert addresses_in(page) == {"data:"}
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for fact in (
        "Two rounds on a container yard",
        "4,000 frames and sent 238 of them; 234 were labelled.",
        "In round 1 AP50 on the same test images rose from 0.47 to 0.55.",
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
    assert "AP50 on the same test images rose from 0.47 to 0.55." in text
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
