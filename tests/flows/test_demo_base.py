"""The base checkpoint of the demo: what it was made of, and that it can be made again."""

import json
from hashlib import sha256

import pytest

from flows.demo_base import ASSETS, FIRST_SEED, BaseTraining, scenes, train_base
from tasks.adapters.simulation import CLASS_NAMES, ground_truth, light_at

SHIPPED = ASSETS / "yard_base.pt"
FACTS = json.loads(SHIPPED.with_suffix(".json").read_text())


def test_the_shipped_checkpoint_is_the_one_that_is_described():
    """Its bytes have the digest that the description names; it is small, and says nothing of who made it where."""
    content = SHIPPED.read_bytes()
    assert sha256(content).hexdigest() == FACTS["file_sha256"]
    assert len(content) <= 3_000_000
    for path in (b"/home/", b"/root/", b"/tmp/", b"/work/"):
        assert path not in content


@pytest.mark.slow
def test_the_shipped_checkpoint_knows_the_yard_as_it_is_now():
    """The scenes that it was trained on hold as many boxes today: who changes the yard trains the base again."""
    recipe = BaseTraining(**{name: FACTS[name] for name in BaseTraining.__annotations__})
    assert recipe == BaseTraining()
    used = [*scenes(FIRST_SEED, recipe.seeds, recipe.images)]
    used += scenes(FIRST_SEED + recipe.seeds, recipe.seeds, recipe.validation_images)
    assert sum(len(ground_truth(*scene)) for scene in used) == FACTS["boxes"]


def test_the_base_has_seen_clear_days_of_other_yards_only():
    """No scene of a demo's world, none at dusk, at night or in fog, none after a drift; and none twice."""
    used = [*scenes(FIRST_SEED, 24, 120)]
    assert len(set(used)) == 120
    assert len({camera for _, camera, _ in used}) == 4
    for world, camera, index in used:
        assert world.seed >= FIRST_SEED
        assert world.drift_from is None
        light = light_at(world, camera, index)
        assert light.daylight > 0.9
        assert light.fog < 0.01


@pytest.mark.slow
def test_the_shipped_checkpoint_loads_without_running_anything_and_finds_the_classes():
    """It opens under safe loading, and names what the yard asks for."""
    from tasks.adapters.trainer.library import load_checkpoint

    model = load_checkpoint(SHIPPED)
    assert tuple(model.names.values()) == CLASS_NAMES
    assert sum(p.numel() for p in model.model.parameters()) < 1_000_000


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_file(tmp_path):
    """Trained twice, a small base is equal to the byte, wherever it is written."""
    recipe = BaseTraining(seeds=2, images=16, validation_images=8, epochs=1)
    outs = [tmp_path / name / "base.pt" for name in ("a", "another-folder")]
    for out in outs:
        train_base(out, recipe)
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert outs[0].with_suffix(".json").read_text() == outs[1].with_suffix(".json").read_text()
