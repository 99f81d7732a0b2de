"""`edgeloop labels` as an engineer meets it who sends a zip out and gets one back."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tasks.adapters.labels import yolo_text
from tasks.core.errors import LabelsInvalid, SettingsError
from tests.conftest import edgeloop
from tests.tasks.stages import HEIGHT, WIDTH, a_batch, a_labelled_month, a_project, box


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = a_project(tmp_path)
    Path("project.yaml").write_text(project.model_dump_json())
    return project


def run(*arguments) -> str:
    words = ["labels", *map(str, arguments), "--config", "project.yaml"]
    return CliRunner().invoke(app, words, catch_exceptions=False).output


def back(name: str, texts: dict[str, str]) -> Path:
    with zipfile.ZipFile(name, "w") as archive:
        for member, text in texts.items():
            archive.writestr(member, text)
    return Path(name)


def test_a_zip_goes_out_and_what_comes_back_is_told(project):
    """The numbers of the export, of the import, and of the same import again."""
    one, two, three = a_batch(project, range(3)).samples
    assert run("export", "today") == "today.zip: 3 images, 3 boxes to begin with in 3 of them\n"
    first = Path("today.zip").read_bytes()
    run("export", "today", "--to", "again.zip", "--format", "yolo", "--format", "coco")
    assert Path("again.zip").read_bytes() == first
    texts = {
        f"labels/{s.sample_id}.txt": yolo_text([box("car", 4, 4)], WIDTH, HEIGHT, ("car", "truck")) for s in (one, two)
    }
    said = run("import", "today", back("back.zip", texts | {"images/x.jpg": ""}), "--annotator", "acme")
    assert "today: 2 images with 2 boxes of acme" in said
    assert "1 images of the batch are not among them and keep what they have" in said
    assert "passed over: 1 images" in said
    assert said.endswith("revision 1: 2 images are new or changed\n")
    again = run("import", "today", "back.zip", "--annotator", "acme")
    assert again.endswith("nothing is new: revision 1 says the same\n")
    texts[f"labels/{three.sample_id}.txt"] = texts.pop(f"labels/{one.sample_id}.txt").replace("0 ", "1 ", 1)
    more = run("import", "today", back("more.zip", texts), "--annotator", "acme", "--rename", "truck=car")
    assert "renamed: 1 boxes of class 'truck'" in more
    assert more.endswith("revision 2: 1 images are new or changed; revision 1 stays as it was\n")
    assert run("export", "today", "--labelled").startswith("today-labels.zip: 3 images, 3 boxes")
    assert "today-labels.zip" in [p.name for p in Path().iterdir()]


def test_problems_are_shown_in_part_counted_and_written_beside_the_return(project):
    """Twenty lines on the terminal, all in the report; nothing usable is an error after them."""
    one, two, _ = a_batch(project, range(3)).samples
    wrong = {f"labels/{n:04}.txt": "" for n in range(30)}
    said = run("import", "today", back("back.zip", wrong | {f"{one.sample_id}.txt": ""}), "--annotator", "acme")
    assert said.count("image that is not in the batch") == 20
    assert "30 problems, 10 more than shown: back.zip.problems.txt" in said
    assert len(Path("back.zip.problems.txt").read_text().splitlines()) == 30
    back("back.zip", {f"{two.sample_id}.txt": "", f"{one.sample_id}.txt": ""})
    assert "problems" not in run("import", "today", "back.zip", "--annotator", "acme")
    assert not list(Path().glob("*.problems.*"))
    back("bad.zip", wrong)
    with pytest.raises(LabelsInvalid, match="nothing in it can be used: 30 x image"):
        run("import", "today", "bad.zip", "--annotator", "acme")
    assert Path("bad.zip.problems.csv").exists()


def test_a_dataset_goes_out_and_what_is_contradictory_is_told(project):
    """A version by its id; a batch and a dataset at once, or neither, is a mistake."""
    version = a_labelled_month(project, days=4).dataset_version
    assert run("export", "--dataset", version, "--no-images", "--to", "x.zip") == "x.zip: 4 images, 6 boxes\n"
    for words in ([], ["today", "--dataset", version], ["--dataset", version, "--labelled"]):
        with pytest.raises(SettingsError, match="name a batch, with --labelled or without, or a --dataset"):
            run("export", *words)


@pytest.mark.slow
def test_exit_codes_of_the_real_command(project, tmp_path):
    """0 when something was usable, however much was wrong; 2 with one line on stderr when nothing was."""
    one = a_batch(project, range(2)).samples[0]
    mixed = back("mixed.zip", {f"{one.sample_id}.txt": "", "strange.txt": "", "x.docx": ""})
    ended = edgeloop(
        "labels", "import", "today", mixed, "--annotator", "acme", "--config", "project.yaml", cwd=tmp_path
    )
    assert (ended.returncode, ended.stderr) == (0, "edgeloop: today was not exported from here: corrections are not "
                                                "counted, and what lies in pre_annotations is not taken\n")  # fmt: skip
    assert "2 problems: mixed.zip.problems.txt" in ended.stdout
    edgeloop("labels", "export", "today", "--config", "project.yaml", cwd=tmp_path)
    Path("bomb.zip").write_bytes(b"PK not a zip")
    ended = edgeloop(
        "labels", "import", "today", "bomb.zip", "--annotator", "a", "--config", "project.yaml", cwd=tmp_path
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "bomb.zip: cannot be unpacked" in ended.stderr
    shutil.unpack_archive("today.zip", "sent")
    ended = edgeloop("labels", "import", "today", "sent", "--annotator", "a", "--config", "project.yaml", cwd=tmp_path)
    assert ended.returncode == 2
    assert "everything in it is as it was sent" in ended.stderr
