"""Words to the service manager: systemd's notification protocol, one datagram a word (sd_notify(3)).

Without a service manager, that is without NOTIFY_SOCKET, nothing is said to anybody.
"""

from __future__ import annotations

import os
import socket


def notify(word: str) -> bool:
    """Send `READY=1`, `WATCHDOG=1`, `STOPPING=1` or `STATUS=...`; False when nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    path = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(1.0)
            channel.sendto(word.encode(), path)
    except OSError:
        return False  # a collector does not end because its manager is busy
    return True
