"""Where `edgeloop review` listens."""

from __future__ import annotations

import socket

import pytest

from flows.review import port_for, refuse_public
from tasks.core.errors import SettingsError


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_the_app_is_not_opened_where_others_reach_it(host):
    """It has no accounts: any address but loopback is refused, unless an authenticating proxy stands in front."""
    with pytest.raises(SettingsError, match="behind-proxy"):
        refuse_public(host, behind_proxy=False)
    refuse_public(host, behind_proxy=True)
    for own in ("127.0.0.1", "localhost"):
        refuse_public(own, behind_proxy=False)


def test_a_port_that_is_taken_is_named_and_another_is_found():
    """Two reviewers on one machine: the port that was asked for is refused when taken, else the next free one is."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {taken} of 127.0.0.1 cannot be listened on"):
            port_for(taken, "127.0.0.1")
    with pytest.raises(SettingsError, match="port 70000"):
        port_for(70000, "127.0.0.1")
    assert port_for(None, "127.0.0.1") >= 5151
