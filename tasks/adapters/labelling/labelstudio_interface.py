"""The page that people label on in Label Studio, made from the class list: boxes in their colours, reasons to skip."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from tasks.adapters.labels.labelstudio_json import FROM_NAME, TO_NAME
from tasks.core.errors import SettingsError

IMAGE = "image"  # the key of a task's data
REASON = "reason"  # name of the choice of why an image is skipped
HOTKEYS = "1234567890qwetasdfgzxcvbyiopjklnm"  # in the order in which Label Studio gives them out itself
_GOLDEN = 0.618033988749895  # turns: neighbours in a list of hues of this step are far apart, however many there are


def labelling_interface(class_names: Sequence[str], skip_reasons: Sequence[str]) -> str:
    """Label Studio's labelling configuration (XML) for boxes of these classes, and reasons to skip an image.

    Raises SettingsError for a name that Label Studio would take for something else.
    """
    view = ElementTree.Element("View")
    boxes = ElementTree.SubElement(
        view, "RectangleLabels", name=FROM_NAME, toName=TO_NAME, canRotate="false", strokeWidth="2", opacity="0.2"
    )
    for number, name in enumerate(class_names):
        hotkey = {"hotkey": HOTKEYS[number]} if number < len(HOTKEYS) else {}
        label = {"value": checked_name(name, "class"), "background": colour(number), **hotkey}
        ElementTree.SubElement(boxes, "Label", label)
    if skip_reasons:
        add_reasons(view, skip_reasons)
    image = {"name": TO_NAME, "value": f"${IMAGE}", "zoom": "true", "zoomControl": "true"}
    ElementTree.SubElement(view, "Image", image, defaultZoom="auto")  # its "fit" cuts 2% off at every edge
    return ElementTree.tostring(view, encoding="unicode")


def add_reasons(view: ElementTree.Element, skip_reasons: Sequence[str]) -> None:
    """The choice of why an image is skipped."""
    ElementTree.SubElement(view, "Header", value="Cannot be labelled? Choose why, and press Skip:", size="6")
    choices = ElementTree.SubElement(
        view, "Choices", name=REASON, toName=TO_NAME, choice="single-radio", showInline="true"
    )
    for reason in skip_reasons:
        ElementTree.SubElement(choices, "Choice", value=checked_name(reason, "skip reason"))


def checked_name(name: str, what: str) -> str:
    """A name that comes back from Label Studio as it went there."""
    if name.startswith("$") or name != " ".join(name.split()):
        raise SettingsError(
            f"{what} {name!r}: Label Studio does not keep it as it is: leave out a $ at its beginning, spaces around "
            f"it and doubled ones"
        )
    return name


def colour(number: int) -> str:
    """The colour of a class by its place in the list, `#rrggbb`: hues a golden angle apart, lighter every third."""
    red, green, blue = colorsys.hls_to_rgb((number * _GOLDEN) % 1.0, (0.45, 0.6, 0.35)[number % 3], 0.9)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def reason_in(result: Iterable[Any]) -> str:
    """Why somebody skipped an image, as chosen in the interface; empty where nothing was chosen."""
    for region in result:
        if isinstance(region, Mapping) and region.get("from_name") == REASON:
            value = region.get("value")
            chosen = value.get("choices") if isinstance(value, Mapping) else None
            if isinstance(chosen, Sequence) and not isinstance(chosen, str):
                return ", ".join(str(choice) for choice in chosen)[:200]
    return ""


def instructions(class_names: Sequence[str]) -> str:
    """What people read before they begin (HTML, as Label Studio shows it)."""
    from html import escape

    names = ", ".join(escape(name) for name in class_names)
    return (
        f"<p>Draw a box around every object of these classes, as tightly as you can: <b>{names}</b>.</p>"
        "<p>Some images come with boxes that a model has drawn: correct them, and add what it overlooked. The others "
        "come without on purpose: they measure the model. An image with none of these objects is submitted without a "
        "box.</p><p>Cannot be labelled? Choose why, and press Skip.</p>"
    )
