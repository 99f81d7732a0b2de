"""Setting a Label Studio up: what can be known without starting one."""

import hashlib
import json
import os
import sys

import pytest

from tasks.adapters.labelling import labelstudio_server as module
from tasks.adapters.labelling.labelstudio_server import (
    account_of,
    ensure_environment,
    held,
    server_environment,
    stop_server,
)
from tasks.core.errors import AlreadyRunning, LabellingUnavailable, SettingsError


def test_packages_that_cannot_be_had_are_one_line_and_are_tried_again(tmp_path, monkeypatch):
    """No network: what could not be installed, and no mark that says it was; with the mark nothing is installed."""
    pins = tmp_path / "pins.txt"
    pins.write_text(f"label-studio-that-is-not-there==1.0 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(module, "REQUIREMENTS", pins)
    monkeypatch.setenv("UV_OFFLINE", "1")
    target = tmp_path / "environment"
    for _ in range(2):
        with pytest.raises(LabellingUnavailable, match="could not install Label Studio") as caught:
            ensure_environment(target)
        assert "\n" not in str(caught.value)
    mark = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:16]
    (target / f"edgeloop-{mark}").touch()
    assert ensure_environment(target) == target / "bin" / "label-studio"
    pins.unlink()
    with pytest.raises(LabellingUnavailable, match="from a checkout"):
        ensure_environment(target)


def test_the_server_sees_no_telemetry_and_little_of_our_environment(tmp_path, monkeypatch):
    """Plain names that it would take for settings stay here, other tokens too; the bucket's credentials go along."""
    for name in ("HOST", "DEBUG", "USERNAME", "EDGELOOP_LABELSTUDIO_TOKEN", "PREFECT_API_KEY"):
        monkeypatch.setenv(name, "ours")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("LABEL_STUDIO_COLLECT_ANALYTICS", "true")
    seen = server_environment(tmp_path, {"user": "me", "password": "secret"}, loopback=True)
    assert "ours" not in seen.values()
    assert seen["AWS_ACCESS_KEY_ID"] == "key"
    assert seen["LABEL_STUDIO_COLLECT_ANALYTICS"] == "false"
    assert seen["LABEL_STUDIO_SENTRY_DSN"] == seen["LABEL_STUDIO_FRONTEND_SENTRY_DSN"] == ""
    assert seen["LABEL_STUDIO_SSRF_PROTECTION_ENABLED"] == "false"
    open_to_others = server_environment(tmp_path, {"user": "me", "password": "secret"}, loopback=False)
    assert "LABEL_STUDIO_SSRF_PROTECTION_ENABLED" not in open_to_others


def test_an_account_is_made_once_for_its_owners_eyes(tmp_path):
    """A password nobody else can read, the same one the next time; a damaged file is named."""
    account = account_of(tmp_path)
    assert account_of(tmp_path) == account
    assert len(account["password"]) >= 20
    assert (tmp_path / "account.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "account.json").write_text("{")
    with pytest.raises(SettingsError, match=r"account\.json"):
        account_of(tmp_path)


def test_a_folder_has_one_server_and_down_ends_no_stranger(tmp_path):
    """Who holds the folder is asked for its process; where nobody does an old number is nobody's."""
    (tmp_path / "server.json").write_text(json.dumps({"pid": os.getpid()}))
    assert stop_server(tmp_path) is False
    with held(tmp_path):
        with pytest.raises(AlreadyRunning, match="labelstudio down"), held(tmp_path):
            pass
        (tmp_path / "server.json").write_text("{}")
        with pytest.raises(LabellingUnavailable, match="does not say its process"):
            stop_server(tmp_path)
