"""Hints that hurry a wait: who may give one, what bad callers cause, and that looks follow them."""

from __future__ import annotations

import socket
import threading
import time

import httpx
import pytest

from flows import wait_cli
from flows.wait import Look
from flows.wait_listen import LARGEST, hints
from tasks.adapters.labelling.labelstudio_webhook import HEADER, TOKEN_VARIABLE
from tasks.core.errors import SettingsError

TOKEN = "0123456789abcdef"


@pytest.fixture
def address(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def call(address, token=TOKEN, **fields):
    return httpx.post(f"http://{address}/", headers={HEADER: token}, trust_env=False, **fields).status_code


def test_only_who_has_the_token_gives_a_hint(address):
    """A wrong or no token, or a body beyond the limit, is refused and sets nothing; the next caller is heard."""
    with hints(address) as heard:
        assert call(address, "") == call(address, TOKEN[:-1]) == call(address, "größer".encode()) == 401
        assert call(address, content=b"x" * (LARGEST + 1)) == 413
        assert not heard.is_set()
        assert call(address, json={"action": "anything"}) == 204
        assert heard.is_set()


def test_a_caller_who_says_nothing_does_not_hold_the_line(address):
    """An open connection without a word is dropped after its patience, and the one behind it is heard."""
    host, port = address.split(":")
    with hints(address) as heard, socket.create_connection((host, int(port))):
        assert call(address, timeout=20) == 204
        assert heard.is_set()


@pytest.mark.parametrize("listen", ["8099", "127.0.0.1:many", "127.0.0.1:99999", "127.0.0.1:-1"])
def test_an_address_that_is_none_is_one_line(address, listen):
    """With how to write it; a host is always named, so that nobody listens everywhere by mistake."""
    with pytest.raises(SettingsError, match="write a free HOST:PORT"), hints(listen):
        pass


@pytest.mark.parametrize("token", ["", "short", "größer als sechzehn"])
def test_a_token_that_can_be_guessed_is_refused(address, monkeypatch, token):
    """Without showing it."""
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with pytest.raises(SettingsError, match=f"set {TOKEN_VARIABLE} to 16 or more"), hints(address):
        pass


def test_a_hint_hurries_the_next_look(monkeypatch):
    """With ten minutes between looks, the second comes at once; many hints together cause one look."""
    looks, heard = [], threading.Event()

    def tried(*_):
        looks.append(time.monotonic())
        if len(looks) == 2:
            return Look(ended={"b": "all"})
        for _ in range(50):
            heard.set()
        return Look(problems=("b: away",))

    monkeypatch.setattr(wait_cli, "tried", tried)
    wait_cli.look_until(None, 600, None, "", heard)
    assert len(looks) == 2
    assert looks[1] - looks[0] < 30
    assert not heard.is_set()
