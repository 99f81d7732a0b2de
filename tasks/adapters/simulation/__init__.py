"""A simulated container yard, photographs replayed as a stream, and simulated people who label: for demos and tests.

    with open_source("yard://?seed=3&camera=0", "north-gate") as source:
        for frame in source:
            ...

`camera` gives frames, `annotator` gives labels. The truth is recomputed from the seed and never stored, so that
nothing but the annotator can see it. Nothing here needs more than numpy and cv2.
"""

from tasks.adapters.simulation.annotator import FolderTruth, SimulatedAnnotator, Truth, YardTruth
from tasks.adapters.simulation.camera import ReplayedFolder, YardCamera, open_source
from tasks.adapters.simulation.clock import WorldClock
from tasks.adapters.simulation.light import light_at
from tasks.adapters.simulation.world import CAMERAS, CLASS_NAMES, YardWorld
from tasks.adapters.simulation.yard import FRAME_SIZE, ground_truth, render

__all__ = [
    "CAMERAS",
    "CLASS_NAMES",
    "FRAME_SIZE",
    "FolderTruth",
    "ReplayedFolder",
    "SimulatedAnnotator",
    "Truth",
    "WorldClock",
    "YardCamera",
    "YardTruth",
    "YardWorld",
    "ground_truth",
    "light_at",
    "open_source",
    "render",
]
