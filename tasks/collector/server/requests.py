"""What a request to `/infer` says, checked before its image is read, and its image, checked before it is decoded."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from pydantic import TypeAdapter, ValidationError

from tasks.adapters.camera import encoded_size
from tasks.core.entities import UtcTime
from tasks.core.errors import ImageUnreadable
from tasks.core.settings import Name
from tasks.core.settings.device import ServerSettings

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# Types that a page in a browser cannot send to another host without asking it first, which it does in vain here.
CONTENT_TYPES = ("image/jpeg", "image/png", "application/octet-stream")
_PARAMETERS = {"camera": "X-Camera", "captured_at": "X-Captured-At"}
_camera_name = TypeAdapter(Name)
_time = TypeAdapter(UtcTime)


class Refused(Exception):
    """A request that gets no detections. why: the reason that it is counted under."""

    def __init__(self, status: HTTPStatus, message: str, why: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.why = why
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Asked:
    """The head of a request. captured_at: none for now."""

    camera: str
    captured_at: datetime | None
    length: int


def bad_request(message: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, message, "bad request")


def behind(message: str) -> Refused:
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, message, "model behind", {"Retry-After": "1"})


# --- who asks --------------------------------------------------------------------------------------------------------


def check_key(headers: Message, key: str | None) -> None:
    """The key of the request is compared in a time that does not depend on it.

    Without a key only names of this machine are answered to, so that no web page can have its own name lead here.
    """
    if key is None:
        if not _is_this_machine(headers.get("Host") or ""):
            raise Refused(
                HTTPStatus.FORBIDDEN, "Host: without a key only this machine's own names are served", "no key"
            )
        return
    scheme, _, given = (headers.get("Authorization") or "").partition(" ")
    if not hmac.compare_digest(_digest(given.strip()), _digest(key)) or scheme.lower() != "bearer":
        message = "the key is missing or wrong: send it as 'Authorization: Bearer KEY'"
        raise Refused(HTTPStatus.UNAUTHORIZED, message, "no key", {"WWW-Authenticate": 'Bearer realm="edgeloop"'})


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or is_loopback(name)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


# --- what is asked ---------------------------------------------------------------------------------------------------


def read_head(query: str, headers: Message, settings: ServerSettings) -> Asked:
    """Raises Refused for a parameter, length or type that is not acceptable; nothing of the body has been read then."""
    length = _length(headers, settings)
    content_type = (headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if content_type not in CONTENT_TYPES:
        message = f"Content-Type: send a JPEG or PNG image as one of {', '.join(CONTENT_TYPES)}"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message, "no image")
    values = _parameters(query, headers)
    try:
        camera = _camera_name.validate_python(values.get("camera", settings.camera))
    except ValidationError:
        raise bad_request("camera: 1 to 63 of a-z, 0-9 and dashes") from None
    try:
        captured_at = _time.validate_python(values["captured_at"]) if "captured_at" in values else None
    except ValidationError:
        raise bad_request("captured_at: a time as 2026-05-01T12:00:00.000Z") from None
    return Asked(camera, captured_at, length)


def _length(headers: Message, settings: ServerSettings) -> int:
    given = headers.get("Content-Length")
    if len(headers.get_all("Content-Length", ())) > 1:  # a proxy in front of us might believe the other one
        raise bad_request("Content-Length: is there more than once")
    if headers.get("Transfer-Encoding") is not None or given is None:
        raise Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length: send the image with its length", "bad request")
    if not re.fullmatch(r"[0-9]{1,18}", given):
        raise bad_request("Content-Length: is no number")
    if int(given) > settings.megabytes * 1e6:
        message = f"the image has {int(given)} bytes, more than {settings.megabytes:g} MB: shrink it"
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, "too large")
    return int(given)


def _parameters(query: str, headers: Message) -> dict[str, str]:
    """From the address, else from headers."""
    try:
        given = parse_qs(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=8)
    except ValueError:
        raise bad_request("the address has no readable parameters: send ?camera=NAME&captured_at=TIME") from None
    unknown = sorted(set(given) - set(_PARAMETERS))
    if unknown or any(len(values) > 1 for values in given.values()):
        raise bad_request("the address takes camera and captured_at, each once")
    values = {name: headers[header] for name, header in _PARAMETERS.items() if headers.get(header) is not None}
    return {**values, **{name: value for name, (value,) in given.items()}}


def size_of(content: bytes, settings: ServerSettings) -> tuple[int, int]:
    """(width, height) as the header of the image says. Raises Refused for what is not to be decoded."""
    if not content.startswith((JPEG, PNG)):
        message = "the content is no JPEG or PNG image: convert it"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message, "no image")
    try:
        width, height = encoded_size(content, "the image")
    except ImageUnreadable as error:
        raise Refused(HTTPStatus.BAD_REQUEST, str(error), "no image") from None
    if width * height > settings.megapixels * 1e6:
        message = f"the image has {width} x {height} pixels, more than {settings.megapixels:g} million: shrink it"
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, "too large")
    return width, height
