"""`edgeloop keys` and `edgeloop release` as an operator meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import Publisher, read_keys
from tasks.core.errors import ReleaseRefused, SettingsError
from tests.conftest import edgeloop
from tests.tasks.collecting import unpublished


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A command in a folder with a project's file; what it printed."""
    monkeypatch.chdir(tmp_path)
    content = {"project": "yard", "bucket": str(tmp_path / "bucket"), "classes": ["car", "truck"]}
    Path("project.yaml").write_text(json.dumps(content))

    def run(*arguments: str, with_config: bool = True) -> str:
        words = [*arguments, "--config", "project.yaml"] if with_config else list(arguments)
        return CliRunner().invoke(app, words, catch_exceptions=False).output

    return run


def publish(reason: str) -> None:
    bucket = Bucket(Path("bucket").absolute().as_uri(), "yard")
    Publisher(bucket, read_keys(Path("keys"), "yard")).publish(unpublished(reason=reason))


def test_keys_are_made_shown_and_replaced(run):
    """init, show, rotate-root and sign on one project; keys that are there are never overwritten."""
    made = run("keys", "init", "--project", "yard", with_config=False)
    assert "keys/root.json is for devices" in made
    with pytest.raises(SettingsError, match="never overwritten"):
        run("keys", "init", "--project", "yard", with_config=False)
    shown = run("keys", "show")
    assert "root 1 of project yard" in shown
    assert "targets: 1 of 1 keys are here, 1 needed" in shown
    publish("one")
    assert "root 2, valid until" in run("keys", "rotate-root", "--replace", "root", "--replace", "timestamp")
    assert "what they signed is still among them" in run("keys", "rotate-root", "--replace", "targets")
    with pytest.raises(SettingsError, match="everything: is no role: use root, targets"):
        run("keys", "rotate-root", "--replace", "everything")
    assert "root 3 of project yard" in run("keys", "show")
    assert "nothing had to be signed" in run("keys", "sign")
    for path in Path("keys").glob("root-*.pem"):
        path.rename(path.name)
    assert "root: 0 of 1 keys are here" in run("keys", "show")
    assert "root 4" in run("keys", "rotate-root", "--root-folder", ".")


def test_a_release_is_shown_and_taken_back(run):
    """`edgeloop release back` publishes the orders before; `show` lists what was signed, newest first."""
    run("keys", "init", "--project", "yard", with_config=False)
    assert "group all: no release yet" in run("release", "show")
    with pytest.raises(ReleaseRefused, match="group dock: has no release yet"):
        run("release", "back", "--group", "dock")
    publish("one")
    publish("two")
    back = run("release", "back", "--group", "all")
    assert back.startswith("all/3")
    assert "orders of 1" in back
    assert [line.split()[0] for line in run("release", "show").splitlines()] == ["all/3", "all/2", "all/1"]
    assert [line.split()[0] for line in run("release", "show", "--last", "1").splitlines()] == ["all/3"]


@pytest.mark.slow
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path):
    """The real command without keys says which command makes them."""
    config = tmp_path / "project.yaml"
    config.write_text(json.dumps({"project": "yard", "bucket": str(tmp_path / "bucket"), "classes": ["car"]}))
    ended = edgeloop("release", "back", "--config", config, cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "edgeloop keys init" in ended.stderr
