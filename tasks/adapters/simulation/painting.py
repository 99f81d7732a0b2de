"""Boxes and discs onto pixels: projection, faces with their textures, shadows, and the map of what is visible where."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.simulation.layout import Pose
from tasks.adapters.simulation.light import Light
from tasks.adapters.simulation.shapes import FACES, Disc, Solid, Thing

SUPERSAMPLING = 2  # pictures are painted at twice their size and averaged down
NEAR = 2.5  # metres: nothing closer is painted
OVERCAST = (0.82, 0.88, 0.84, 0.9, 1.04)  # brightness of front, left, back, right, top without sun


def _in_view(pose: Pose, part: Solid | Disc) -> NDArray[np.float64] | None:
    points = part.corners if isinstance(part, Solid) else part.points
    seen = pose.project(points)
    return None if seen[:, 2].min() < NEAR else seen[:, :2]


def _outward(part: Solid, face: int) -> tuple[float, float, float]:
    """The direction that a face looks in."""
    if face == 4:
        return 0.0, 0.0, 1.0
    front = part.corners[0] - part.corners[1] if face in (0, 2) else part.corners[0] - part.corners[3]
    sign = 1.0 if face in (0, 1) else -1.0
    length = math.hypot(front[0], front[1])
    return sign * float(front[0]) / length, sign * float(front[1]) / length, 0.0


def visible_faces(pose: Pose, part: Solid) -> Iterator[int]:
    """The faces that are turned to the camera."""
    for face, corners in enumerate(FACES):
        nx, ny, nz = _outward(part, face)
        x, y, z = part.corners[corners[0]]
        if -nx * x - ny * y + nz * (pose.height - z) > 0:
            yield face


def _shade(light: Light | None, normal: tuple[float, float, float], face: int) -> float:
    if light is None:
        return OVERCAST[face]
    azimuth, elevation = light.sun
    towards = (math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation))
    facing = max(0.0, sum(a * b for a, b in zip(normal, towards)))
    return OVERCAST[face] * (1 - 0.28 * light.shadow) + 0.42 * light.shadow * facing


def draw_thing(picture: NDArray[np.generic], pose: Pose, thing: Thing, light: Light | None) -> None:
    """Paint all parts of a thing, in their order, onto a supersampled BGR picture."""
    for part in thing.parts:
        seen = _in_view(pose, part)
        if seen is None:
            continue
        points = seen * SUPERSAMPLING
        if isinstance(part, Disc):
            if part.normal[0] * part.points[0, 0] + part.normal[1] * part.points[0, 1] < 0:
                cv2.fillConvexPoly(picture, _fixed(points), part.colour, cv2.LINE_AA, 4)  # type: ignore[call-overload]
            continue
        for face in visible_faces(pose, part):
            _draw_face(picture, points[list(FACES[face])], part, face, _shade(light, _outward(part, face), face))


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Coordinates with 4 fractional bits, as OpenCV takes them."""
    return np.round(np.clip(points, -4000, 4000) * 16).astype(np.int32)


def _draw_face(picture: NDArray[np.generic], quad: NDArray[np.float64], part: Solid, face: int, shade: float) -> None:
    left, top = np.maximum(np.floor(quad.min(axis=0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(quad.max(axis=0)).astype(int) + 1, (picture.shape[1], picture.shape[0]))
    if left >= right or top >= bottom:
        return
    skin = part.faces[face]
    if isinstance(skin, tuple):
        colour = tuple(min(255.0, v * shade) for v in skin)
        cv2.fillConvexPoly(picture, _fixed(quad), colour, cv2.LINE_8, 4)  # type: ignore[call-overload]
        return
    size = (int(right - left), int(bottom - top))
    corners = np.array([(0, 0), (skin.shape[1], 0), (skin.shape[1], skin.shape[0]), (0, skin.shape[0])], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, (quad - (left, top)).astype(np.float32))
    warped = cv2.warpPerspective(skin, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    warped = cv2.convertScaleAbs(warped, alpha=shade)
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillConvexPoly(mask, _fixed(quad - (left, top)), 255, cv2.LINE_8, 4)
    region = picture[top:bottom, left:right]
    cv2.copyTo(warped.astype(picture.dtype, copy=False), mask, region)


def draw_shadows(picture: NDArray[np.uint8], pose: Pose, things: Iterable[Thing], light: Light) -> None:
    """Darken the ground under every thing, and where the sun does not reach."""
    for reach, strength in ((0.35, 0.35), (None, 0.5 * light.shadow)):
        if strength < 0.05:
            continue
        mask = np.zeros(picture.shape[:2], np.uint8)
        for thing in things:
            ground = _inflated(thing, reach) if reach is not None else _cast(thing, light)
            seen = pose.project(ground)
            if seen[:, 2].min() >= NEAR:
                hull = cv2.convexHull(np.round(np.clip(seen[:, :2] * SUPERSAMPLING, -4000, 4000)).astype(np.int32))
                cv2.fillConvexPoly(mask, hull, 255)
        cv2.copyTo(cv2.convertScaleAbs(picture, alpha=1 - strength), mask, picture)


def _inflated(thing: Thing, by: float) -> NDArray[np.float64]:
    points = np.array(thing.footprint)
    outward = points - points.mean(axis=0)
    return np.column_stack([points + outward / np.linalg.norm(outward, axis=1, keepdims=True) * by, np.zeros(4)])


def _cast(thing: Thing, light: Light) -> NDArray[np.float64]:
    """The footprint and where the sun throws the upper edge."""
    azimuth, elevation = light.sun
    length = min(3.0, 1 / math.tan(elevation)) * thing.height
    points = np.array(thing.footprint)
    thrown = points - length * np.array((math.cos(azimuth), math.sin(azimuth)))
    return np.column_stack([np.concatenate([points, thrown]), np.zeros(8)])


def draw_outline(target: NDArray[np.uint8], pose: Pose, thing: Thing, values: tuple[int, int]) -> None:
    """Fill what a thing covers in an unsupersampled map: `values[0]` for itself, `values[1]` for its load."""
    for part in thing.parts:
        seen = _in_view(pose, part)
        if seen is None:
            continue
        value = values[part.owner]
        if isinstance(part, Disc):
            cv2.fillConvexPoly(target, _fixed(seen), value, cv2.LINE_8, 4)
            continue
        hull = cv2.convexHull(_fixed(seen))
        cv2.fillConvexPoly(target, hull, value, cv2.LINE_8, 4)


def extent(pose: Pose, thing: Thing, owners: tuple[int, ...]) -> NDArray[np.float64] | None:
    """xyxy of a thing's parts as if nothing hid them and the picture had no border; None when it is too close."""
    corners = [_in_view(pose, part) for part in thing.parts if part.owner in owners]
    seen = [c for c in corners if c is not None]
    if len(seen) < len(corners) or not seen:
        return None
    points = np.concatenate(seen)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
