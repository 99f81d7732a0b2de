"""Boxes and discs onto pixels: projection, faces with their textures, shadows, and the map of what is visible where.

Cameras never move, so what a thing looks like from one is worked out once (`view_of`); a frame shades and copies it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.simulation.layout import HEIGHT, WIDTH, Pose
from tasks.adapters.simulation.light import Light
from tasks.adapters.simulation.shapes import FACES, Disc, Solid, Thing
from tasks.adapters.simulation.textures import Colour, Texture

SUPERSAMPLING = 2  # pictures are painted at twice their size and averaged down
NEAR = 2.5  # metres: nothing closer is painted
OVERCAST = (0.86, 0.92, 0.88, 0.94, 1.06)  # brightness of front, left, back, right, top without sun

Direction = tuple[float, float, float]
Points = NDArray[np.int32]  # (n, 2) with 4 fractional bits, as OpenCV takes them


@dataclass(frozen=True, slots=True)
class Patch:
    """One face as it appears: plain (`colour`), or textured: `pixels` and their `mask` with the top left corner."""

    face: int
    normal: Direction
    outline: Points
    colour: Colour | None
    corner: tuple[int, int] = (0, 0)
    pixels: NDArray[np.uint8] | None = None
    mask: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A thing as one camera sees it. patches: supersampled, in the order to paint them.

    outlines: what each part covers, at the size of a frame, with its owner. areas: pixels inside the frame that the
    parts of (itself, its load, both) cover where nothing hides them. extents: their xyxy, the frame's border ignored.
    """

    patches: tuple[Patch, ...]
    outlines: tuple[tuple[int, Points], ...]
    areas: tuple[int, int, int]
    extents: tuple[NDArray[np.float64] | None, ...]


@lru_cache(maxsize=1024)
def view_of(pose: Pose, thing: Thing) -> View:
    """Everything about a thing that does not depend on the light."""
    patches: list[Patch] = []
    outlines = []
    points: dict[int, list[NDArray[np.float64]]] = {0: [], 1: []}
    for part in thing.parts:
        seen = pose.project(part.corners if isinstance(part, Solid) else part.points)
        if seen[:, 2].min() < NEAR:
            return View((), (), (0, 0, 0), (None, None, None))
        flat = seen[:, :2]
        points[part.owner].append(flat)
        outlines.append((part.owner, cv2.convexHull(_fixed(flat)).reshape(-1, 2).astype(np.int32)))
        patches.extend(_patches(pose, part, flat * SUPERSAMPLING))
    areas = tuple(_covered(outlines, owners) for owners in ((0,), (1,), (0, 1)))
    extents = tuple(_extent(p) for p in (points[0], points[1], points[0] + points[1]))
    return View(tuple(patches), tuple(outlines), (areas[0], areas[1], areas[2]), extents)


def _covered(outlines: list[tuple[int, Points]], owners: tuple[int, ...]) -> int:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for owner, outline in outlines:
        if owner in owners:
            cv2.fillConvexPoly(mask, outline, 1, cv2.LINE_8, 4)
    return int(np.count_nonzero(mask))


def _extent(points: list[NDArray[np.float64]]) -> NDArray[np.float64] | None:
    if not points:
        return None
    together = np.concatenate(points)
    return np.concatenate([together.min(axis=0), together.max(axis=0)])


def _patches(pose: Pose, part: Solid | Disc, points: NDArray[np.float64]) -> Iterator[Patch]:
    """The faces of a part that are turned to the camera and lie in the picture."""
    if isinstance(part, Disc):
        if part.normal[0] * part.points[0, 0] + part.normal[1] * part.points[0, 1] < 0:
            yield Patch(1, (*part.normal, 0.0), _fixed(points), part.colour)
        return
    for face, corners in enumerate(FACES):
        normal = _outward(part, face)
        x, y, z = part.corners[corners[0]]
        if -normal[0] * x - normal[1] * y + normal[2] * (pose.height - z) <= 0:
            continue
        skin, quad = part.faces[face], points[list(corners)]
        if isinstance(skin, tuple):
            yield Patch(face, normal, _fixed(quad), skin)
        else:
            yield from _textured(skin, quad, face, normal)


def _textured(skin: Texture, quad: NDArray[np.float64], face: int, normal: Direction) -> Iterator[Patch]:
    """A texture pulled over four corners; nothing where these lie outside the picture."""
    left, top = (int(v) for v in np.maximum(np.floor(quad.min(axis=0)), 0))
    limit = (WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING)
    right, bottom = (int(v) for v in np.minimum(np.ceil(quad.max(axis=0)) + 1, limit))
    if left >= right or top >= bottom:
        return
    height, width = skin.shape[:2]
    sides = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)  # top, right, bottom, left
    across, down = int(max(sides[0], sides[2])), int(max(sides[1], sides[3]))
    size = (max(2, min(width, across)), max(2, min(height, down)))
    skin = np.asarray(cv2.resize(skin, size, interpolation=cv2.INTER_AREA), np.uint8)  # no moire where it gets small
    corners = np.array([(0, 0), (size[0], 0), size, (0, size[1])], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, (quad - (left, top)).astype(np.float32))
    frame = (right - left, bottom - top)
    pixels = cv2.warpPerspective(skin, matrix, frame, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros((frame[1], frame[0]), np.uint8)
    cv2.fillConvexPoly(mask, _fixed(quad - (left, top)), 255, cv2.LINE_8, 4)
    yield Patch(face, normal, _fixed(quad), None, (left, top), np.asarray(pixels, np.uint8), mask)


def _fixed(points: NDArray[np.float64]) -> Points:
    return np.round(np.clip(points, -4000, 4000) * 16).astype(np.int32)


def _outward(part: Solid, face: int) -> Direction:
    """The direction that a face looks in."""
    if face == 4:
        return 0.0, 0.0, 1.0
    front = part.corners[0] - part.corners[1] if face in (0, 2) else part.corners[0] - part.corners[3]
    sign = 1.0 if face in (0, 1) else -1.0
    length = math.hypot(front[0], front[1])
    return sign * float(front[0]) / length, sign * float(front[1]) / length, 0.0


def _shade(light: Light | None, patch: Patch) -> float:
    """How bright a face is: from the sky everywhere, from the sun where it is turned to it."""
    if light is None:
        return OVERCAST[patch.face]
    azimuth, elevation = light.sun
    towards = (math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation))
    facing = max(0.0, sum(a * b for a, b in zip(patch.normal, towards)))
    return OVERCAST[patch.face] * (1 - 0.26 * light.shadow) + 0.46 * light.shadow * facing


def draw_thing(picture: NDArray[np.uint8], pose: Pose, thing: Thing, light: Light | None) -> None:
    """Paint a thing onto a supersampled BGR picture; without a light, as under an overcast sky."""
    for patch in view_of(pose, thing).patches:
        shade = _shade(light, patch)
        if patch.pixels is None or patch.mask is None:
            colour = tuple(min(255.0, v * shade) for v in patch.colour or (0, 0, 0))
            cv2.fillConvexPoly(picture, patch.outline, colour, cv2.LINE_8, 4)
            continue
        (left, top), (height, width) = patch.corner, patch.mask.shape
        region = picture[top : top + height, left : left + width]
        cv2.copyTo(cv2.convertScaleAbs(patch.pixels, alpha=shade), patch.mask, region)


def draw_outline(target: NDArray[Any], pose: Pose, thing: Thing, values: tuple[float, float]) -> None:
    """Fill what a thing covers in a map of the frame's size: `values[0]` for itself, `values[1]` for its load."""
    for owner, outline in view_of(pose, thing).outlines:
        cv2.fillConvexPoly(target, outline, values[owner], cv2.LINE_8, 4)


def draw_shadows(picture: NDArray[np.uint8], pose: Pose, things: Iterable[Thing], light: Light) -> None:
    """Darken the ground under every thing, and where the sun does not reach."""
    for cast, strength in ((False, 0.35), (True, 0.52 * light.shadow)):
        if strength < 0.05:
            continue
        mask = np.zeros(picture.shape[:2], np.uint8)
        for thing in things:
            hull = _shadow(pose, thing, light.sun) if cast else _foot(pose, thing)
            if hull is not None:
                cv2.fillConvexPoly(mask, hull, 255)
        left, top, width, height = cv2.boundingRect(mask)
        if width:
            region = picture[top : top + height, left : left + width]
            darker = cv2.convertScaleAbs(region, alpha=1 - strength)
            cv2.copyTo(darker, mask[top : top + height, left : left + width], region)


@lru_cache(maxsize=1024)
def _foot(pose: Pose, thing: Thing) -> Points | None:
    """The footprint, a little larger."""
    points = np.array(thing.footprint)
    outward = points - points.mean(axis=0)
    return _hull(pose, points + outward / np.linalg.norm(outward, axis=1, keepdims=True) * 0.35)


def _shadow(pose: Pose, thing: Thing, sun: tuple[float, float]) -> Points | None:
    """The footprint and where the sun throws the upper edge."""
    azimuth, elevation = sun
    length = min(3.0, 1 / math.tan(elevation)) * thing.height
    points = np.array(thing.footprint)
    thrown = points - length * np.array((math.cos(azimuth), math.sin(azimuth)))
    return _hull(pose, np.concatenate([points, thrown]))


def _hull(pose: Pose, ground: NDArray[np.float64]) -> Points | None:
    seen = pose.project(np.column_stack([ground, np.zeros(len(ground))]))
    if seen[:, 2].min() < NEAR:
        return None
    points = np.round(np.clip(seen[:, :2] * SUPERSAMPLING, -4000, 4000)).astype(np.int32)
    return cv2.convexHull(points).reshape(-1, 2).astype(np.int32)
