"""Drift: false alarms a window and power, on simulated streams and on real detections of degraded photographs.

python -m tests.benchmarks.bench_drift

The real part runs YOLOX-nano once over the photographs of `vehicles`, as they are, darkened and blurred, and keeps
what it saw in .benchmarks; without the photographs it is left out.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from tasks.adapters.detector import open_detector
from tasks.core.drift import ALPHA, CONFIDENCE_FIGURES, Series, kolmogorov_smirnov, stability_index
from tests.benchmarks.tables import Table
from tests.core.drift_streams import START, THRESHOLD, look, plain_alarms, split, stream
from tests.real.shared_data import VEHICLE_CLASSES, VEHICLES, YOLOX_NANO

WINDOWS = 400  # simulated, of each kind
REAL_WINDOWS = 200
CACHE = Path(__file__).resolve().parents[2] / ".benchmarks" / "drift-detections.json"
FLOOR = 0.05
DARK = 0.25  # of the light that is left
NOISE = 6.0  # grey levels, standard deviation
BLUR = 1 / 160  # of the longer side, sigma

Pixels = np.ndarray
Confidences = list[list[float]]  # of each photograph


def tables() -> Iterator[Table]:
    yield false_alarms()
    yield folklore()
    yield from real_power()


def false_alarms() -> Table:
    """Nothing changes: how many windows raise an alarm."""
    kinds = [
        ("independent frames", 2000, 500, 0.0),
        ("independent frames", 500, 500, 0.0),
        ("video, remembers 10 s", 4000, 1000, 10.0),
        ("video, remembers 20 s", 12_000, 3000, 20.0),
        ("video, remembers 60 s", 12_000, 3000, 60.0),
    ]
    rows = []
    for name, reference, now, correlation in kinds:
        certain = alarms = none = plain = 0
        for seed in range(WINDOWS):
            figures = split(stream(reference + now, seed, correlation=correlation), now)
            found = list(look(figures, minimum_change=0.0).values())
            changed = [c for c in found if c.answer == "changed"]
            certain += bool(changed)
            alarms += any(c.test is not None and c.test.statistic >= 0.1 for c in changed)
            none += all(c.answer == "too few" for c in found)
            plain += plain_alarms(figures)
        shares = (alarms, certain, plain, none)
        rows.append((name, f"{reference:,}", f"{now:,}", *(f"{100 * n / WINDOWS:.1f}%" for n in shares)))
    columns = ("", "reference", "now", "alarms", "any size of change", "plain KS", "no answer")
    return Table(
        f"Drift: false alarms a window, {WINDOWS} windows",
        columns,
        rows,
        [
            f"Three figures of one camera at {ALPHA:.0%} a window, a frame a second; target at most 1%. Alarms ask for "
            "a change of 10% of the frames; beside them those of any size. Plain KS takes frames for independent."
        ],
    )


def folklore() -> Table:
    """PSI's own critical value against PSI > 0.1."""
    random = np.random.default_rng(0)
    rows = []
    for frames in (100, 200, 500, 2000):
        found = [
            stability_index(random.random(frames), random.random(frames), alpha=0.01, bins=10) for _ in range(2000)
        ]
        tenth = np.mean([f.statistic > 0.1 for f in found])
        own = np.mean([f.statistic > f.critical for f in found])
        rows.append((f"{frames:,} frames against {frames:,}", f"{tenth:.1%}", f"{own:.1%}", f"{found[0].critical:.3f}"))
    return Table(
        "Drift: PSI where nothing changed, share of windows",
        ("", "PSI > 0.1", "PSI > its own value at 1%", "that value"),
        rows,
    )


def real_power() -> Iterator[Table]:
    """Detections of degraded photographs, drawn independently."""
    if not (VEHICLES.exists() and YOLOX_NANO.exists()):
        yield Table("Drift: power on real detections", (), (), ["Left out: the photographs are not there."])
        return
    columns = {name: figures_of(seen) for name, seen in detections().items()}
    rows = []
    for name in columns:
        for reference, now in ((2000, 500), (500, 500)):
            alarms, plain = real_windows(columns["clean"], columns[name], reference, now)
            rows.append((name, f"{reference:,}", f"{now:,}", f"{alarms:.1%}", f"{plain:.1%}"))
    yield Table(
        f"Drift: alarms on real detections of YOLOX-nano, {REAL_WINDOWS} windows",
        ("now is", "reference", "now", "alarms", "plain KS"),
        rows,
        [
            f"{len(columns['clean'][CONFIDENCE_FIGURES[0]])} photographs drawn with replacement, the reference as they "
            f"are. dark: {DARK:.0%} of the light, noise of {NOISE:g} grey levels; blurred: sigma 1/{1 / BLUR:.0f} of "
            "the longer side. Target at least 90% at 500 frames; clean is the false alarm, target at most 1%."
        ],
    )


def real_windows(clean: dict, now: dict, frames: int, frames_now: int) -> tuple[float, float]:
    alarms = plain = 0
    for seed in range(REAL_WINDOWS):
        random = np.random.default_rng(seed)
        photographs = len(clean[CONFIDENCE_FIGURES[0]])
        before, after = random.integers(0, photographs, frames), random.integers(0, photographs, frames_now)
        figures = {
            name: (series(clean[name][before], START), series(now[name][after], START + frames))
            for name in CONFIDENCE_FIGURES
        }
        alarms += any(found.answer == "changed" for found in look(figures).values())
        plain += any(
            kolmogorov_smirnov(a.values, b.values).p_value <= ALPHA / len(figures) for a, b in figures.values()
        )
    return alarms / REAL_WINDOWS, plain / REAL_WINDOWS


def series(values: np.ndarray, start: float) -> Series:
    return Series(start + np.arange(len(values), dtype=float), values, np.ones(len(values)))


def figures_of(seen: Confidences) -> dict[str, np.ndarray]:
    found = [np.array(confidences) for confidences in seen]
    return {
        CONFIDENCE_FIGURES[0]: np.array([c.max(initial=0) for c in found]),
        CONFIDENCE_FIGURES[1]: np.array([float((c >= THRESHOLD).sum()) for c in found]),
        CONFIDENCE_FIGURES[2]: np.array([c[c < THRESHOLD].sum() for c in found]),
    }


def detections() -> dict[str, Confidences]:
    """What the model sees in every photograph, as it is and degraded; from the cache where it has been asked before."""
    if CACHE.exists():
        return json.loads(CACHE.read_text())
    detector = open_detector(
        YOLOX_NANO, project_classes=VEHICLE_CLASSES, model_classes="coco80", threads=1, confidence_floor=FLOOR
    )
    kinds: dict[str, Callable[[Pixels], Pixels]] = {"clean": lambda pixels: pixels, "dark": dark, "blurred": blurred}
    seen: dict[str, Confidences] = {name: [] for name in kinds}
    for path in sorted(VEHICLES.glob("images/*/*")):
        pixels = cv2.imread(str(path))
        for name, degrade in kinds.items():
            seen[name].append([round(float(c), 4) for c in detector.detect(degrade(pixels)).confidence])
    CACHE.parent.mkdir(exist_ok=True)
    CACHE.write_text(json.dumps(seen))
    return seen


def dark(pixels: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, NOISE, pixels.shape)
    return np.clip(pixels * DARK + noise, 0, 255).astype(np.uint8)


def blurred(pixels: Pixels) -> Pixels:
    return cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape[:2]) * BLUR)


if __name__ == "__main__":
    for table in tables():
        print(table, flush=True)
