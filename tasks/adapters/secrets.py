"""Secrets of a device: from systemd's credentials or the environment, never from a file of settings.

    cameras:
      - {name: gate, source: "rtsp://viewer:${GATE_PASSWORD}@192.0.2.10/stream"}

An address names the variable; its value is put in where the camera is opened, so that no settings, parameter, state or
status ever holds it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

from tasks.core.errors import SettingsError

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ENDINGS = ("KEY", "SECRET", "PASSWORD", "TOKEN", "AUTH_STRING", "ACCESS_KEY_ID")
_CREDENTIALS = "CREDENTIALS_DIRECTORY"  # where systemd puts what LoadCredential= names, a file each
_LARGEST = 64 * 2**10  # bytes of a credential


def secret(name: str) -> str | None:
    """The secret of that name: a credential of systemd, else an environment variable; None when there is none."""
    folder = os.environ.get(_CREDENTIALS)
    if folder and "/" not in name and (text := _content(Path(folder) / name)):
        return text
    return os.environ.get(name) or None


def expanded(address: str) -> str:
    """An address with the secrets that it names by `${NAME}`, percent-encoded.

    Raises SettingsError that names the variable, never a value, when one is missing.
    """

    def value_of(reference: re.Match[str]) -> str:
        value = secret(reference[1])
        if value is None:
            raise SettingsError(
                f"{address}: there is no {reference[1]}: set that environment variable or a systemd credential"
            )
        return quote(value, safe="")

    return _REFERENCE.sub(value_of, address)


def known_secrets() -> set[str]:
    """The values of all secrets: variables whose name ends in KEY, SECRET, PASSWORD, TOKEN..., and credentials."""
    values = {value for name, value in os.environ.items() if name.upper().endswith(_ENDINGS)}
    folder = os.environ.get(_CREDENTIALS)
    if folder and Path(folder).is_dir():
        values.update(_content(path) for path in Path(folder).iterdir())
    return {value for value in values if value}


def names_in(address: str) -> set[str]:
    """The names of the secrets that an address refers to."""
    return set(_REFERENCE.findall(address))


def holds_password(address: str) -> bool:
    """Does a password stand in an address itself, where it should only be named?"""
    user, at, _ = address.partition("://")[2].partition("/")[0].rpartition("@")
    return bool(at) and bool(_REFERENCE.sub("", user.partition(":")[2]))


def _content(path: Path) -> str:
    """One credential; systemd keeps the newline that an editor put at its end."""
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode(errors="replace").strip()
    except OSError:
        return ""
