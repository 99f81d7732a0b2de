"""What the faces of containers, trucks and huts look like from straight ahead: small BGR pictures, 32 pixels a metre.

All names painted on the containers are invented.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Texture = NDArray[np.uint8]
Colour = tuple[int, int, int]

SCALE = 32  # pixels a metre
PAINT: dict[str, Colour] = {
    "oxide": (48, 58, 128),
    "blue": (138, 84, 32),
    "orange": (36, 104, 206),
    "teal": (122, 120, 40),
    "brown": (52, 74, 104),
    "grey": (142, 140, 134),
    "reefer": (226, 228, 226),
    "tank": (198, 196, 190),
    "olive": (46, 78, 66),
    "lime": (70, 178, 148),
    "red": (42, 40, 176),
    "white": (220, 220, 216),
    "yellow": (42, 178, 222),
    "dark-green": (40, 62, 28),
    "sand": (128, 168, 190),
}
NAMES = ("KORVA", "ALTAMAR", "OSTLIN", "BRIGGA", "MERIDA", "", "TRISK", "")
OWNER_CODES = ("EDGU", "TRKU", "BOXU", "YRDU")
DARK: Colour = (38, 36, 34)


def tinted(style: str, variant: int) -> Colour:
    """The paint of a style, a little lighter or darker and more or less faded for each of its 8 variants."""
    base = np.array(PAINT[style], float)
    faded = base * (0.9 + 0.03 * (variant % 5)) + (12.0 * (variant % 3) if style not in ("reefer", "white") else 0.0)
    blue, green, red = np.clip(faded, 0, 255).astype(int)
    return int(blue), int(green), int(red)


def _plate(width: float, height: float, colour: Colour) -> NDArray[np.float32]:
    picture = np.empty((max(8, round(height * SCALE)), max(8, round(width * SCALE)), 3), np.float32)
    picture[:] = colour
    return picture


def _corrugated(picture: NDArray[np.float32], pitch: float, depth: float) -> None:
    """Vertical ribs: a trapezoid profile, lit from one side."""
    x = np.arange(picture.shape[1], dtype=np.float32) / (pitch * SCALE)
    profile = np.clip(1.6 * np.sin(2 * np.pi * x), -1, 1) * depth
    picture *= (1 + profile)[None, :, None]


def _weathered(picture: NDArray[np.float32], variant: int, amount: float) -> None:
    """Dirt from below, rust that runs down from the top, faded patches."""
    random = np.random.default_rng(variant + 11)
    height, width = picture.shape[:2]
    picture *= np.linspace(1.05, 0.86, height, dtype=np.float32)[:, None, None]
    for _ in range(int(amount * width / 14)):
        x, top = int(random.integers(2, width - 3)), int(random.integers(0, height // 2))
        length, reach = int(random.integers(6, height // 2)), int(random.integers(1, 3))
        streak = picture[top : top + length, x : x + reach]
        streak[:] = streak * 0.72 + np.array((24, 42, 74), np.float32) * 0.28


def _framed(picture: NDArray[np.float32]) -> None:
    """Rails, corner posts and the four castings."""
    height, width = picture.shape[:2]
    picture[:4] *= 0.74
    picture[-5:] *= 0.6
    picture[:, :4] *= 0.8
    picture[:, -4:] *= 0.8
    for rows in (slice(0, 6), slice(height - 6, height)):
        for columns in (slice(0, 8), slice(width - 8, width)):
            picture[rows, columns] = (52, 52, 54)


def _lettered(
    picture: NDArray[np.float32], text: str, centre: tuple[float, float], size: float, colour: Colour
) -> None:
    """`text` around a centre given as shares of width and height; `size` is the share of the height."""
    height, width = picture.shape[:2]
    scale = height * size / 22.0
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, 2)
    corner = (int(width * centre[0] - w / 2), int(height * centre[1] + h / 2))
    cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_DUPLEX, scale, colour, 2 if size > 0.2 else 1, cv2.LINE_AA)


def _lettering(style: str) -> Colour:
    return (70, 60, 52) if style in ("grey", "reefer", "lime", "tank") else (226, 226, 222)


def _container_side(style: str, variant: int, length: float) -> NDArray[np.float32]:
    if style == "tank":
        return _tank_side(length)
    picture = _plate(length, 2.59, tinted(style, variant))
    _corrugated(picture, 0.55 if style == "reefer" else 0.28, 0.02 if style == "reefer" else 0.13)
    _weathered(picture, variant, 0.25 if style == "reefer" else 1.0)
    if variant % 4 == 1:
        picture[int(picture.shape[0] * 0.62) : int(picture.shape[0] * 0.74)] = _lettering(style)
    if NAMES[variant % 8]:
        _lettered(picture, NAMES[variant % 8], (0.42, 0.42), 0.34, _lettering(style))
    _lettered(
        picture,
        f"{OWNER_CODES[variant % 4]} {30417 + 911 * variant}",
        (0.84, 0.16),
        0.12,
        _lettering(style),
    )
    _framed(picture)
    return picture


def _tank_side(length: float) -> NDArray[np.float32]:
    """A tank container: a cylinder in a frame, dark gaps between them."""
    picture = _plate(length, 2.59, (58, 58, 56))
    height, width = picture.shape[:2]
    across = np.linspace(-1, 1, int(height * 0.78), dtype=np.float32)
    shine = 0.42 + 0.58 * np.sqrt(np.maximum(0, 1 - (across + 0.35) ** 2 / 1.9))
    top = int(height * 0.12)
    picture[top : top + len(across), int(width * 0.06) : int(width * 0.94)] = shine[:, None, None] * np.array(
        PAINT["tank"], np.float32
    )
    for x in (0.3, 0.5, 0.7):
        picture[top : top + len(across), int(width * x) : int(width * x) + 2] *= 0.7
    frame = (52, 72, 150)
    cv2.rectangle(picture, (1, 1), (width - 2, height - 2), frame, 6)
    for start, end in (((3, 3), (width // 5, height - 4)), ((width - 4, 3), (width * 4 // 5, height - 4))):
        cv2.line(picture, start, end, frame, 4)
    _lettered(picture, "CHEMOVA", (0.5, 0.48), 0.26, (92, 60, 30))
    return picture


def _container_door(style: str, variant: int, _: float) -> NDArray[np.float32]:
    if style == "tank":
        return _tank_end()
    picture = _plate(2.44, 2.59, tinted(style, variant))
    picture *= np.float32(0.97)
    _weathered(picture, variant, 0.6)
    height, width = picture.shape[:2]
    for row in (0.28, 0.5, 0.72):
        picture[int(height * row) : int(height * row) + 2] *= 0.84
    picture[:, width // 2 - 1 : width // 2 + 1] *= 0.45
    for x in (0.16, 0.36, 0.64, 0.84):
        cv2.line(picture, (int(width * x), 4), (int(width * x), height - 5), (168, 170, 170), 2)
        cv2.line(
            picture, (int(width * x), int(height * 0.66)), (int(width * x) + 9, int(height * 0.66)), (60, 60, 60), 3
        )
    _lettered(picture, "EDGU", (0.74, 0.17), 0.13, _lettering(style))
    _lettered(picture, "22G1", (0.74, 0.32), 0.12, _lettering(style))
    _framed(picture)
    return picture


def _container_end(style: str, variant: int, _: float) -> NDArray[np.float32]:
    """The blind end; of a reefer the cooling unit."""
    if style == "tank":
        return _tank_end()
    picture = _plate(2.44, 2.59, tinted(style, variant))
    if style != "reefer":
        _corrugated(picture, 0.3, 0.12)
        _weathered(picture, variant, 1.0)
        _framed(picture)
        return picture
    height, width = picture.shape[:2]
    picture[int(height * 0.1) : int(height * 0.94), int(width * 0.1) : int(width * 0.9)] = (142, 140, 136)
    cv2.circle(picture, (int(width * 0.36), int(height * 0.3)), int(height * 0.16), (50, 50, 50), -1, cv2.LINE_AA)
    cv2.circle(picture, (int(width * 0.36), int(height * 0.3)), int(height * 0.06), (150, 150, 150), -1, cv2.LINE_AA)
    for row in range(int(height * 0.56), int(height * 0.9), 5):
        picture[row : row + 2, int(width * 0.16) : int(width * 0.84)] *= 0.55
    _framed(picture)
    return picture


def _tank_end() -> NDArray[np.float32]:
    picture = _plate(2.44, 2.59, (58, 58, 56))
    height, width = picture.shape[:2]
    for radius, shade in ((0.42, 0.7), (0.34, 0.86), (0.2, 1.0)):
        colour = tuple(int(v * shade) for v in PAINT["tank"])
        cv2.circle(picture, (width // 2, height // 2), int(height * radius), colour, -1, cv2.LINE_AA)
    cv2.rectangle(picture, (1, 1), (width - 2, height - 2), (52, 72, 150), 6)
    return picture


def _container_roof(style: str, variant: int, length: float) -> NDArray[np.float32]:
    if style == "tank":
        picture = _tank_side(length)
        picture[int(picture.shape[0] * 0.44) : int(picture.shape[0] * 0.56)] = (120, 122, 124)
        return picture
    picture = _plate(length, 2.44, tinted(style, variant))
    _corrugated(picture, 0.3, 0.05)
    picture *= np.float32(0.94)
    _framed(picture)
    return picture


def _cab_front(style: str, variant: int, _: float) -> NDArray[np.float32]:
    picture = _plate(2.5, 2.9, tinted(style, variant))
    height, width = picture.shape[:2]
    cv2.rectangle(picture, (8, int(height * 0.16)), (width - 9, int(height * 0.48)), (70, 58, 48), -1)
    cv2.line(picture, (14, int(height * 0.44)), (width // 2, int(height * 0.2)), (128, 116, 104), 5, cv2.LINE_AA)
    picture[int(height * 0.58) : int(height * 0.8), int(width * 0.22) : int(width * 0.78)] = (52, 52, 52)
    for row in range(int(height * 0.6), int(height * 0.8), 5):
        picture[row : row + 2, int(width * 0.22) : int(width * 0.78)] = (120, 120, 120)
    picture[int(height * 0.84) :] = (60, 60, 60)
    for x in (0.1, 0.78):
        picture[int(height * 0.82) : int(height * 0.92), int(width * x) : int(width * (x + 0.12))] = (205, 236, 244)
    picture[:4] *= 0.8
    return picture


def _cab_side(style: str, variant: int, _: float) -> NDArray[np.float32]:
    """The side of a cab with its front at the picture's right edge."""
    picture = _plate(2.3, 2.9, tinted(style, variant))
    height, width = picture.shape[:2]
    cv2.rectangle(
        picture, (int(width * 0.42), int(height * 0.18)), (int(width * 0.92), int(height * 0.46)), (66, 56, 48), -1
    )
    cv2.rectangle(picture, (int(width * 0.38), int(height * 0.14)), (int(width * 0.96), int(height * 0.86)), DARK, 1)
    picture[int(height * 0.56) : int(height * 0.62)] *= 0.8
    picture[int(height * 0.88) :] = (56, 56, 56)
    picture[:, : int(width * 0.06)] *= 0.6
    return picture


def _curtain(style: str, variant: int, length: float) -> NDArray[np.float32]:
    """The side of a box body: tarpaulin between posts."""
    colours = ((214, 212, 208), (176, 150, 120), (96, 92, 168), (206, 210, 214))
    colour = (64, 82, 52) if style == "dark-green" else colours[variant % 4]
    picture = _plate(length, 2.7, colour)
    height, width = picture.shape[:2]
    picture *= np.linspace(1.03, 0.9, height, dtype=np.float32)[:, None, None]
    for x in range(0, width, 26):
        picture[:, x : x + 1] *= 0.88
    if variant % 2:
        _lettered(picture, ("VELOX", "SPEDIRA")[variant % 4 // 2], (0.5, 0.45), 0.3, (60, 52, 120))
    picture[-6:] = (86, 86, 86)
    return picture


def _hut_side(_: str, variant: int, length: float) -> NDArray[np.float32]:
    """A site office: as long as a container, but smooth, with windows and a door."""
    picture = _plate(length, 2.6, ((190, 196, 198), (120, 150, 160), (196, 178, 150), (120, 116, 112))[variant % 4])
    height, width = picture.shape[:2]
    for joint in range(0, width, 38):
        picture[:, joint : joint + 1] *= 0.9
    for x in (0.14, 0.42, 0.84):
        cv2.rectangle(
            picture,
            (int(width * x) - 14, int(height * 0.22)),
            (int(width * x) + 14, int(height * 0.52)),
            (92, 80, 66),
            -1,
        )
        cv2.rectangle(
            picture,
            (int(width * x) - 14, int(height * 0.22)),
            (int(width * x) + 14, int(height * 0.52)),
            (232, 232, 232),
            2,
        )
    cv2.rectangle(
        picture, (int(width * 0.62) - 12, int(height * 0.2)), (int(width * 0.62) + 12, height), (88, 96, 110), -1
    )
    picture[:5] *= 0.7
    return picture


def _crate(_: str, variant: int, length: float) -> NDArray[np.float32]:
    picture = _plate(length, 1.3, ((84, 124, 158), (96, 138, 170), (70, 104, 140), (110, 130, 144))[variant % 4])
    height, width = picture.shape[:2]
    for row in range(0, height, 8):
        picture[row : row + 1] *= 0.62
    for column in (0, width // 2, width - 4):
        picture[:, column : column + 4] *= 0.8
    return picture


def _fence(_: str, __: int, length: float) -> NDArray[np.float32]:
    picture = _plate(length, 2.2, (124, 128, 126))
    picture[:, ::4] *= 0.72
    picture[::6] *= 0.82
    picture[:3] = (84, 88, 88)
    picture[:, :3] = (84, 88, 88)
    return picture


PAINTERS: dict[str, Callable[[str, int, float], NDArray[np.float32]]] = {
    "side": _container_side,
    "door": _container_door,
    "end": _container_end,
    "roof": _container_roof,
    "cab-front": _cab_front,
    "cab-side": _cab_side,
    "curtain": _curtain,
    "hut": _hut_side,
    "crate": _crate,
    "fence": _fence,
}


@lru_cache(maxsize=512)
def texture(face: str, style: str, variant: int, length: float, mirrored: bool = False) -> Texture:
    """The picture of one face: `face` is a key of PAINTERS, `length` its width in metres where that varies."""
    picture = np.clip(PAINTERS[face](style, variant, length), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture
