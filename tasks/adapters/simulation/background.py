"""The empty yard as a camera sees it by day: ground, markings, fence, horizon, sky; and how far everything is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.simulation.layout import HEIGHT, WIDTH, CameraLayout, Structure, layout_of
from tasks.adapters.simulation.painting import SUPERSAMPLING, draw_thing
from tasks.adapters.simulation.shapes import Thing, box, structure_thing

GROUND = {"asphalt": (92, 90, 88), "concrete": (146, 150, 150), "gravel": (112, 126, 136)}
SKY_DEPTH = 900.0  # metres


@dataclass(frozen=True, slots=True)
class Background:
    """pixels: supersampled day picture. depth: (H, W) metres. pools: (H, W) 0 to 1, ground lit by lamps at night.

    sky: (H, W) 0 to 1. vignette: (H, W) gain of the lens. things: fixed structures that may hide or be hidden.
    """

    pixels: NDArray[np.uint8]
    depth: NDArray[np.float32]
    pools: NDArray[np.float32]
    sky: NDArray[np.float32]
    vignette: NDArray[np.float32]
    things: tuple[Thing, ...]


@lru_cache(maxsize=64)
def background_of(seed: int, camera: int) -> Background:
    """Computed once for each camera: about 60 ms."""
    layout = layout_of(seed, camera)
    random = np.random.default_rng([seed, camera, 5])
    x, y, depth = _ground_points(layout, SUPERSAMPLING)
    painted = _ground(layout, x, y, depth, random)
    _mark(painted, layout, random)
    _sky(painted, depth, random)
    picture = np.clip(painted, 0, 255).astype(np.uint8)
    _horizon(picture, layout, random)
    _fence(picture, layout)
    near_x, near_y, near_depth = _ground_points(layout, 1)
    on_ground = np.isfinite(near_depth)
    pools = _pools(layout, near_x, near_y) * on_ground
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    radius = (u / WIDTH - 0.5) ** 2 + (v / HEIGHT - 0.5) ** 2
    return Background(
        picture,
        np.where(on_ground, np.minimum(near_depth, SKY_DEPTH), SKY_DEPTH).astype(np.float32),
        pools.astype(np.float32),
        (~on_ground).astype(np.float32),
        (1.04 - 0.36 * radius).astype(np.float32),
        tuple(structure_thing(s) for s in layout.structures if s.style != "fence"),
    )


def _ground_points(layout: CameraLayout, scale: int) -> tuple[NDArray[np.float32], ...]:
    """Ground coordinates and distance (m) that each pixel looks at; infinite distance above the horizon."""
    pose = layout.pose
    v, u = np.mgrid[0 : HEIGHT * scale, 0 : WIDTH * scale].astype(np.float32)
    right = (u / scale - WIDTH / 2) / pose.focal
    up = -(v / scale - HEIGHT / 2) / pose.focal
    sin, cos = math.sin(pose.pitch), math.cos(pose.pitch)
    down = sin - up * cos
    reach = np.where(down > 1e-3, pose.height / np.maximum(down, 1e-3), np.inf)
    reach = np.where(reach < SKY_DEPTH, reach, np.inf)
    finite = np.where(np.isfinite(reach), reach, 0)
    return finite * right, finite * (cos + up * sin), reach.astype(np.float32)


def _noise(random: np.random.Generator, size: int, blur: float) -> NDArray[np.float32]:
    """Seamless noise, zero mean, unit deviation, (size, size)."""
    tile = random.standard_normal((size, size)).astype(np.float32)
    smooth = cv2.GaussianBlur(np.tile(tile, (3, 3)), (0, 0), blur)[size : 2 * size, size : 2 * size]
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


def _ground(
    layout: CameraLayout,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    depth: NDArray[np.float32],
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Asphalt, concrete slabs or gravel: large stains, fine grain that fades with distance, tyre tracks."""
    sin, cos = math.sin(layout.yaw), math.cos(layout.yaw)
    forward = (x - layout.origin[0]) * cos + (y - layout.origin[1]) * sin
    left = -(x - layout.origin[0]) * sin + (y - layout.origin[1]) * cos
    shade = np.ones_like(forward)
    for size, blur, metres, strength in (
        (256, 9.0, 120.0, 0.06),
        (256, 2.0, 23.0, 0.03),
        (256, 0.8, 7.0, 0.045),
        (256, 0.6, 2.6, 0.04),
    ):
        tile, scale = _noise(random, size, blur), size / metres
        fade = np.clip(metres * 4 / np.maximum(depth, 1), 0, 1) if blur < 5 else 1.0
        shade += (
            strength
            * fade
            * cv2.remap(tile, np.mod(forward * scale, size - 1), np.mod(left * scale, size - 1), cv2.INTER_LINEAR)
        )
    for lane in layout.lanes:
        for wheel in (-1.0, 1.0):
            shade -= 0.1 * np.exp(-(((left - lane - wheel) / 0.35) ** 2))
    if layout.ground == "concrete":
        width = 0.02 + np.where(np.isfinite(depth), depth, 0) * 0.0016
        for along in (forward, left):
            joint = np.abs(np.mod(along, 7.0) - 3.5)
            shade -= (
                0.12 * np.clip(1 - joint / np.maximum(width, 0.05), 0, 1) * np.clip(60 / np.maximum(depth, 1), 0, 1)
            )
    return shade[:, :, None] * np.array(GROUND[layout.ground], np.float32)


def _paint(
    picture: NDArray[np.float32],
    layout: CameraLayout,
    outline: list[tuple[float, float]],
    colour: tuple[int, int, int],
    cover: float,
) -> None:
    """A painted shape on the ground, given in yard coordinates; worn paint covers less."""
    ground = np.array([(*layout.place(*point), 0.0) for point in outline])
    seen = layout.pose.project(ground)
    if (seen[:, 2] < 2).any():
        return
    points = np.round(seen[:, :2] * SUPERSAMPLING * 16).astype(np.int32)
    low, high = points.min(axis=0) // 16 - 1, points.max(axis=0) // 16 + 2
    left, top = np.maximum(low, 0)
    right, bottom = np.minimum(high, (picture.shape[1], picture.shape[0]))
    if left >= right or top >= bottom:
        return
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillConvexPoly(mask, points - np.array((left, top)) * 16, 255, cv2.LINE_AA, 4)
    share = (mask.astype(np.float32) * (cover / 255))[:, :, None]
    region = picture[top:bottom, left:right]
    region[:] = region * (1 - share) + np.array(colour, np.float32) * share


def _strip(forward: float, left: float, length: float, width: float) -> list[tuple[float, float]]:
    a, b = length / 2, width / 2
    return [(forward - a, left - b), (forward + a, left - b), (forward + a, left + b), (forward - a, left + b)]


def _mark(picture: NDArray[np.float32], layout: CameraLayout, random: np.random.Generator) -> None:
    """Lane lines, bay corners, painted rectangles that look like roofs from afar, and oil."""
    white, yellow = (206, 210, 210), (56, 170, 208)
    for step in range(-24, 28):
        for left, dashed in ((-10.3, False), (-6.7, True), (-3.1, False), (7.9, False), (11.4, True), (15.0, False)):
            if not dashed or step % 2:
                _paint(picture, layout, _strip(step * 3.0, left, 3.0, 0.16), white, 0.6)
        if step % 5 == 0:
            for row in layout.rows:
                for side in (-1.6, 1.6):
                    _paint(picture, layout, _strip(step * 2.84, row + side, 2.4, 0.12), yellow, 0.55)
                _paint(picture, layout, _strip(step * 2.84, row, 0.12, 3.2), yellow, 0.55)
    colours = ((60, 70, 150), (150, 96, 40), (56, 150, 190), (70, 110, 70))
    for _ in range(5):
        place = random.uniform(-40, 40), float(random.choice([-18.0, -12.0, 7.0, 16.5, 23.0]))
        size = (random.uniform(3, 6.5), random.uniform(1.6, 2.6))
        _paint(picture, layout, _strip(*place, *size), colours[int(random.integers(4))], random.uniform(0.35, 0.7))
    for _ in range(14):
        centre, reach = (random.uniform(-30, 30), random.uniform(-16, 30)), random.uniform(0.3, 1.4)
        angles = np.linspace(0, 2 * math.pi, 12, endpoint=False)
        outline = [(centre[0] + 1.5 * reach * math.cos(a), centre[1] + reach * math.sin(a)) for a in angles]
        _paint(picture, layout, outline, (46, 46, 48), random.uniform(0.12, 0.4))


def _sky(picture: NDArray[np.float32], depth: NDArray[np.float32], random: np.random.Generator) -> None:
    above = ~np.isfinite(depth)
    rows = int(above[:, 0].sum())
    if rows == 0:
        return
    height = np.linspace(1, 0, rows, dtype=np.float32)[:, None, None]
    sky = np.array((222, 214, 206), np.float32) * (1 - height) + np.array((210, 176, 142), np.float32) * height
    clouds = cv2.resize(_noise(random, 64, 3.0), (picture.shape[1], max(8, rows * 2)), interpolation=cv2.INTER_CUBIC)
    picture[:rows] = sky + 9 * np.clip(clouds[:rows], -1, 2)[:, :, None]


def _horizon(picture: NDArray[np.uint8], layout: CameraLayout, random: np.random.Generator) -> None:
    """Hills, warehouses and the silhouettes of cranes."""
    pose = layout.pose
    line = (HEIGHT / 2 - pose.focal * math.tan(pose.pitch)) * SUPERSAMPLING
    if line < 2:
        return
    width = picture.shape[1]
    xs = np.arange(0, width + 16, 16)
    waves = sum(random.uniform(3, 7) * np.sin(xs / random.uniform(40, 150) + random.uniform(0, 6)) for _ in range(3))
    ridge = np.stack([xs, line - 12 - np.maximum(waves, -8)], axis=1)
    hills = np.concatenate([ridge, [(width + 16, line + 6), (0, line + 6)]]).round().astype(np.int32)
    cv2.fillPoly(picture, [hills], (150, 146, 134))
    for _ in range(3):
        _crane(picture, int(random.uniform(0, width)), int(line), int(random.uniform(16, 34)))
    for _ in range(5):
        wall = ((176, 172, 166), (150, 140, 128), (130, 138, 150), (160, 166, 160))[int(random.integers(4))]
        gable = (int(wall[0] * 0.82), int(wall[1] * 0.82), int(wall[2] * 0.82))
        x, y = random.uniform(-110, 110), random.uniform(115, 190)
        size = (random.uniform(30, 60), 24, random.uniform(7, 12))
        shed = box(x, y, layout.yaw * 0.2, size, 0, (gable, wall, gable, wall, (170, 170, 168)))
        draw_thing(picture, pose, Thing((shed,), (), 0.0), None)


def _crane(picture: NDArray[np.uint8], x: int, line: int, tall: int) -> None:
    """The silhouette of a ship-to-shore crane: two legs, a boom, a stay."""
    strokes = (
        ((x - 8, line + 4), (x - 8, line - tall), 2),
        ((x + 8, line + 4), (x + 8, line - tall), 2),
        ((x - 24, line - tall), (x + 44, line - tall), 3),
        ((x, line - tall - 9), (x + 44, line - tall), 1),
    )
    for start, end, thickness in strokes:
        cv2.line(picture, start, end, (128, 128, 140), thickness, cv2.LINE_AA)


def _fence(picture: NDArray[np.uint8], layout: CameraLayout) -> None:
    for segment in layout.structures:
        if segment.style == "fence":
            draw_thing(picture, layout.pose, structure_thing(segment), None)


def _pools(layout: CameraLayout, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much of the lamps' light falls on each ground point, 0 to 1; two lamps hang beside the camera itself."""
    poles: list[Structure] = [s for s in layout.structures if s.style == "pole"]
    centres = [(s.x, s.y) for s in poles] + [layout.place(-14, -3), layout.place(12, 8)]
    lit = np.zeros_like(x)
    for px, py in centres:
        lit += np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 9.0**2))
    return np.minimum(lit, 1.0)
