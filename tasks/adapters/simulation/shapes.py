"""Tenants and structures as boxes and flat polygons in metres, and the order in which they hide each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.simulation.layout import Structure
from tasks.adapters.simulation.textures import DARK, PAINT, Colour, Texture, texture, tinted
from tasks.adapters.simulation.world import Tenant

Face = Texture | Colour

# Corners of a box: 0 to 3 below, 4 to 7 above, counter-clockwise from front left. Each face as seen from outside,
# top left corner first: front, left, back, right, top.
FACES = ((7, 4, 0, 3), (4, 5, 1, 0), (5, 6, 2, 1), (6, 7, 3, 2), (5, 4, 7, 6))


@dataclass(frozen=True, slots=True)
class Solid:
    """A box on the ground plane's directions. faces: front, left, back, right, top; a texture or a plain colour."""

    corners: NDArray[np.float64]
    faces: tuple[Face, Face, Face, Face, Face]
    owner: int = 0


@dataclass(frozen=True, slots=True)
class Disc:
    """A wheel: a flat polygon (n, 3) with the direction that it faces."""

    points: NDArray[np.float64]
    normal: tuple[float, float]
    colour: Colour
    owner: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """What is drawn as one: its parts from the bottom up, and its footprint (4 ground points, counter-clockwise).

    A part's owner is 0 for the thing itself and 1 for its load. lamps: where its headlights are, metres. Compared by
    identity, so that pairs of things can be remembered.
    """

    parts: tuple[Solid | Disc, ...]
    footprint: tuple[tuple[float, float], ...]
    height: float
    tenant: Tenant | None = None
    lamps: tuple[tuple[float, float, float], ...] = ()


def box(
    x: float, y: float, yaw: float, size: tuple[float, float, float], z: float, faces: Sequence[Face], owner: int = 0
) -> Solid:
    """A box of size (length, width, height) whose bottom is at z, centred over (x, y)."""
    length, width, height = size
    sin, cos = math.sin(yaw), math.cos(yaw)
    local = ((length / 2, width / 2), (-length / 2, width / 2), (-length / 2, -width / 2), (length / 2, -width / 2))
    ground = [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in local]
    corners = np.array([(*p, z) for p in ground] + [(*p, z + height) for p in ground])
    front, left, back, right, top = faces
    return Solid(corners, (front, left, back, right, top), owner)


def _darker(colour: Colour, share: float) -> Colour:
    return int(colour[0] * share), int(colour[1] * share), int(colour[2] * share)


def _shifted(tenant: Tenant, forward: float, left: float = 0.0) -> tuple[float, float]:
    sin, cos = math.sin(tenant.yaw), math.cos(tenant.yaw)
    return tenant.x + forward * cos - left * sin, tenant.y + forward * sin + left * cos


def _footprint(x: float, y: float, yaw: float, length: float, width: float) -> tuple[tuple[float, float], ...]:
    sin, cos = math.sin(yaw), math.cos(yaw)
    local = ((length / 2, width / 2), (-length / 2, width / 2), (-length / 2, -width / 2), (length / 2, -width / 2))
    return tuple((x + a * cos - b * sin, y + a * sin + b * cos) for a, b in local)


def _container(tenant: Tenant, x: float, y: float, z: float, owner: int) -> Solid:
    style, variant, length = tenant.style, tenant.variant, tenant.length
    side, roof = texture("side", style, variant, length), texture("roof", style, variant, length)
    door, end = texture("door", style, variant, 2.44), texture("end", style, variant, 2.44)
    return box(x, y, tenant.yaw, (length, 2.44, 2.59), z, (end, side, door, side, roof), owner)


def _wheel(x: float, y: float, yaw: float, side: int, radius: float = 0.5) -> tuple[Disc, Disc]:
    """Tyre and rim on the left (+1) or right (-1) side of a vehicle."""
    sin, cos = math.sin(yaw), math.cos(yaw)
    normal = (-sin * side, cos * side)
    angles = np.linspace(0, 2 * math.pi, 10, endpoint=False)
    discs = []
    for size, colour in ((radius, (30, 30, 30)), (radius * 0.5, (120, 120, 120))):
        along, up = np.cos(angles) * size, np.sin(angles) * size + radius
        discs.append(Disc(np.stack([x + along * cos, y + along * sin, up], axis=1), normal, colour))
    return discs[0], discs[1]


def _truck(tenant: Tenant) -> Thing:
    length, yaw = tenant.length, tenant.yaw
    paint = tinted(tenant.style, tenant.variant)
    front = texture("cab-front", tenant.style, tenant.variant, 2.5)
    right = texture("cab-side", tenant.style, tenant.variant, 2.3)
    left = texture("cab-side", tenant.style, tenant.variant, 2.3, mirrored=True)
    parts: list[Solid | Disc] = []
    parts.append(box(tenant.x, tenant.y, yaw, (length, 1.9, 0.3), 0.75, [(52, 50, 50)] * 4 + [(70, 68, 68)]))
    axles = (length / 2 - 1.2, *((-length / 2 + 0.9, -length / 2 + 2.1) if length > 5 else (-length / 2 + 0.8,)))
    for forward in axles:
        for side in (1, -1):
            parts.extend(_wheel(*_shifted(tenant, forward, side * 1.26), yaw, side))
    rear = _shifted(tenant, -1.25)
    if tenant.body == "box":
        skin = texture("curtain", tenant.style, tenant.variant, length - 2.6)
        doors, top = (164, 164, 163), (204, 206, 206)
        parts.append(box(*rear, yaw, (length - 2.6, 2.5, 2.7), 1.1, (skin, skin, doors, skin, top)))
    elif tenant.load is not None:
        parts.append(_container(tenant.load, *rear, 1.1, owner=1))
    cab = _shifted(tenant, length / 2 - 1.15)
    parts.append(box(*cab, yaw, (2.3, 2.5, 2.9), 0.45, (front, left, DARK, right, _darker(paint, 0.95))))
    lamps = tuple((*_shifted(tenant, length / 2 + 0.02, side * 0.9), 0.85) for side in (1, -1))
    return Thing(tuple(parts), _footprint(tenant.x, tenant.y, yaw, length, 2.5), 3.7, tenant, lamps)


def _stack(tenant: Tenant) -> Thing:
    parts = [_container(tenant, tenant.x, tenant.y, 0.0, 0)]
    if tenant.load is not None:
        parts.append(_container(tenant.load, tenant.load.x, tenant.load.y, 2.6, 1))
    outline = _footprint(tenant.x, tenant.y, tenant.yaw, tenant.length, 2.44)
    return Thing(tuple(parts), outline, 2.6 * len(parts), tenant)


def _clutter(tenant: Tenant) -> Thing:
    """Things that look a little like what is looked for, and are not."""
    x, y, yaw, variant = tenant.x, tenant.y, tenant.yaw, tenant.variant
    paints = ("white", "red", "blue", "grey", "yellow", "teal", "oxide", "orange")
    paint = PAINT[paints[variant]]
    if tenant.style == "crates":
        face = texture("crate", "", variant, 1.6)
        parts = [
            box(x + dx, y + dy, yaw, (1.6, 1.2, 1.2), dz, (face, face, face, face, (96, 134, 164)))
            for dx, dy, dz in ((0, 0, 0), (1.8, 0.4, 0), (0.2, 0.1, 1.2))
        ]
        return Thing(tuple(parts), _footprint(x + 0.9, y, yaw, 3.6, 1.8), 2.4, tenant)
    if tenant.style == "skip":
        dark = _darker(paint, 0.7)
        solid = box(x, y, yaw, (4.2, 1.9, 1.5), 0.1, (paint, paint, paint, paint, (46, 50, 56)))
        rim = box(x, y, yaw, (4.4, 2.0, 0.12), 1.5, (dark, dark, dark, dark, (52, 58, 64)))
        return Thing((solid, rim), _footprint(x, y, yaw, 4.4, 2.0), 1.6, tenant)
    if tenant.style == "generator":
        side = texture("fence", "", 0, 3.0)
        solid = box(x, y, yaw, (3.0, 1.4, 1.7), 0.2, (paint, side, paint, side, paint))
        return Thing((solid,), _footprint(x, y, yaw, 3.0, 1.4), 1.9, tenant)
    glass = (72, 60, 50)
    parts = [
        box(x, y, yaw, (4.9, 1.9, 0.9), 0.35, [paint] * 5),
        box(*_shifted(tenant, -0.5), yaw, (3.7, 1.8, 0.9), 1.25, (glass, paint, glass, paint, paint)),
    ]
    wheels = [d for f in (1.5, -1.5) for s in (1, -1) for d in _wheel(*_shifted(tenant, f, s * 0.96), yaw, s, 0.36)]
    return Thing((*parts, *wheels), _footprint(x, y, yaw, 4.9, 1.9), 2.15, tenant)


@lru_cache(maxsize=2048)
def thing_of(tenant: Tenant) -> Thing:
    """A tenant as boxes and discs."""
    if tenant.kind == "truck":
        return _truck(tenant)
    return _stack(tenant) if tenant.kind == "container" else _clutter(tenant)


@lru_cache(maxsize=1024)
def structure_thing(structure: Structure) -> Thing:
    """A fixed structure as boxes."""
    x, y, yaw, variant = structure.x, structure.y, structure.yaw, structure.variant
    if structure.style == "hut":
        side, end = texture("hut", "", variant, 6.0), texture("hut", "", variant, 2.5)
        solids = (box(x, y, yaw, (6.0, 2.5, 2.6), 0.15, (end, side, end, side, (150, 152, 150))),)
        return Thing(solids, _footprint(x, y, yaw, 6.0, 2.5), 2.75)
    if structure.style == "pole":
        mast = box(x, y, yaw, (0.22, 0.22, 11.0), 0.0, [(112, 114, 112)] * 5)
        head = box(x, y, yaw, (0.5, 2.2, 0.25), 10.9, [(150, 152, 150)] * 5)
        foot = box(x, y, yaw, (0.8, 0.8, 0.5), 0.0, [(150, 152, 150)] * 5)
        return Thing((foot, mast, head), _footprint(x, y, yaw, 0.8, 0.8), 11.0)
    if structure.style == "fence":
        mesh = texture("fence", "", 0, 12.0)
        return Thing(
            (box(x, y, yaw, (12.0, 0.08, 2.2), 0.0, (DARK, mesh, DARK, mesh, DARK)),),
            _footprint(x, y, yaw, 12.0, 0.08),
            2.2,
        )
    if structure.style == "barrier":
        colour = ((176, 178, 178), (60, 70, 190))[variant % 2]
        return Thing((box(x, y, yaw, (3.4, 0.5, 0.85), 0.0, [colour] * 5),), _footprint(x, y, yaw, 3.4, 0.5), 0.85)
    if structure.style == "sign":
        post = box(x, y, yaw, (0.12, 0.12, 2.0), 0.0, [(120, 120, 120)] * 5)
        plate = box(x, y, yaw, (0.1, 1.8, 1.1), 2.0, [(142, 88, 30), (90, 90, 90)] * 2 + [(90, 90, 90)])
        return Thing((post, plate), _footprint(x, y, yaw, 0.2, 1.8), 3.1)
    face = texture("crate", "", variant, 1.6)
    crates = [
        box(x + i * 1.9, y, yaw, (1.6, 1.2, 1.2), 0.0, (face, face, face, face, (96, 134, 164))) for i in range(3)
    ]
    return Thing(tuple(crates), _footprint(x + 1.9, y, yaw, 5.4, 1.3), 1.2)


@lru_cache(maxsize=16384)
def hides(near: Thing, far: Thing) -> bool:
    """Whether a line on the ground separates the two with the camera (the origin) on the side of `near`."""
    for thing, other, camera_outside in ((far, near, True), (near, far, False)):
        points = thing.footprint
        for (x1, y1), (x2, y2) in zip(points, (*points[1:], points[0])):
            nx, ny = y2 - y1, x1 - x2  # outward for counter-clockwise corners
            level = nx * x1 + ny * y1
            if (level < 0) == camera_outside and all(nx * x + ny * y >= level - 1e-6 for x, y in other.footprint):
                return True
    return False


def _distance(thing: Thing) -> float:
    return sum(math.hypot(x, y) for x, y in thing.footprint) / 4


def back_to_front(things: Sequence[Thing]) -> list[Thing]:
    """The order to draw in: whatever may be hidden by another comes before it."""
    waiting = sorted(things, key=_distance, reverse=True)
    ordered: list[Thing] = []
    while waiting:
        farthest = next(
            (
                t
                for t in waiting
                if not any(hides(t, other) and not hides(other, t) for other in waiting if other is not t)
            ),
            waiting[0],
        )
        waiting = [t for t in waiting if t is not farthest]
        ordered.append(farthest)
    return ordered
