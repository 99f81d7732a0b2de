"""Secrets come from systemd or the environment, and addresses only name them."""

import pytest

from tasks.adapters.secrets import expanded, holds_password, known_secrets, names_in, secret
from tasks.core.errors import SettingsError


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    """A folder of credentials as systemd makes it."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def test_an_address_gets_the_secrets_that_it_names(monkeypatch):
    """`${NAME}` becomes the variable's value, percent-encoded, and everything else stays as it is."""
    monkeypatch.setenv("GATE_PASSWORD", "p@ss/w:rd")
    address = "rtsp://viewer:${GATE_PASSWORD}@192.0.2.10/stream?$x={y}"
    assert expanded(address) == "rtsp://viewer:p%40ss%2Fw%3Ard@192.0.2.10/stream?$x={y}"
    assert names_in(address) == {"GATE_PASSWORD"}
    assert expanded("clips/monday.mp4") == "clips/monday.mp4"


def test_a_secret_that_is_missing_is_one_line_that_names_it(monkeypatch):
    """The error holds the variable's name and no value."""
    monkeypatch.setenv("GATE_USER", "somebody")
    monkeypatch.delenv("GATE_PASSWORD", raising=False)
    with pytest.raises(SettingsError, match="there is no GATE_PASSWORD: set that") as raised:
        expanded("rtsp://${GATE_USER}:${GATE_PASSWORD}@192.0.2.10")
    assert "somebody" not in str(raised.value)


def test_a_credential_of_systemd_comes_before_the_environment(credentials, monkeypatch):
    """The file's content without its last newline; a name that leaves the folder is looked for nowhere but outside."""
    (credentials / "GATE_PASSWORD").write_text("from systemd\n")
    (credentials.parent / "other").write_text("not a credential")
    monkeypatch.setenv("GATE_PASSWORD", "from the environment")
    assert secret("GATE_PASSWORD") == "from systemd"
    assert secret("../other") is None
    (credentials / "GATE_PASSWORD").unlink()
    assert secret("GATE_PASSWORD") == "from the environment"


def test_what_is_named_like_a_secret_is_known_as_one(credentials, monkeypatch):
    """Variables that end in KEY, SECRET, PASSWORD or TOKEN, and every credential; empty ones are none."""
    (credentials / "anything").write_text("of systemd")
    for ending in ("KEY", "SECRET", "PASSWORD", "TOKEN"):
        monkeypatch.setenv(f"OUR_{ending}", f"value of {ending}")
    monkeypatch.setenv("OUR_NAME", "no secret")
    monkeypatch.setenv("EMPTY_TOKEN", "")
    values = known_secrets()
    assert {"of systemd", *(f"value of {e}" for e in ("KEY", "SECRET", "PASSWORD", "TOKEN"))} <= values
    assert not {"no secret", ""} & values


@pytest.mark.parametrize(
    ("address", "holds"),
    [
        ("rtsp://viewer:word@192.0.2.10/stream", True),
        ("rtsp://viewer:w@rd@192.0.2.10/stream", True),
        ("rtsp://viewer:${GATE_PASSWORD}@192.0.2.10/stream", False),
        ("rtsp://viewer:${GATE_PASSWORD}1@192.0.2.10/stream", True),
        ("rtsp://viewer@192.0.2.10/stream", False),
        ("rtsp://192.0.2.10/stream@home:1", False),
        ("clips/a:b@c.mp4", False),
        ("0", False),
    ],
)
def test_a_password_in_an_address_is_seen(address, holds):
    """One that is named only is none; neither is a user alone, nor what stands in the path."""
    assert holds_password(address) is holds
