"""The fields of the start form as a view of the YAML."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medgrpo.rewards import PROFILES
from medgrpo.training.config import RunConfig, parse_config, problems
from medgrpo.training.presets import presets
from medgrpo.ui.train_fields import BESIDE, KEYS, beside, read_weights, to_yaml, values, weights_text, with_values

RAW = RunConfig().as_mapping()


def edit(raw, **changes):
    return with_values(raw, values(raw) | changes)


def test_the_form_has_at_most_twelve_fields_and_a_place_for_each():
    assert len(KEYS) + 2 <= 12  # and preset and name
    assert set(BESIDE) == set(KEYS)
    assert all(beside(key) == field for field, key in KEYS.items())


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_goes_through_the_form_unchanged(name):
    raw = yaml.safe_load(presets()[name].read_text())
    assert with_values(raw, values(raw)) == raw
    assert parse_config(yaml.safe_load(to_yaml(raw))) == parse_config(raw)


def test_a_field_changes_its_key_and_nothing_else():
    after = edit(RAW, steps=7.0)
    assert after["training"]["max_steps"] == 7
    assert isinstance(after["training"]["max_steps"], int)
    assert after | {"training": RAW["training"]} == RAW
    assert edit(RAW, source="cases.csv")["data"] == RAW["data"] | {"source": "cases.csv"}
    assert edit({}, rate=2e-5) == {"training": {"learning_rate": 2e-5}}


def test_another_rank_keeps_the_scale_of_the_update():
    after = edit(RAW, rank=RAW["lora"]["r"] * 2)
    assert after["lora"]["alpha"] / after["lora"]["r"] == RAW["lora"]["alpha"] / RAW["lora"]["r"]


def test_another_profile_brings_its_own_weights():
    after = edit(edit(RAW, weights="correctness 3"), profile="format_only")
    assert after["rewards"]["weights"] == {}
    assert values(after)["weights"] == "format 1, tags 0.25"


def test_weights_are_what_differs_from_the_profile():
    usual = weights_text("medgrpo", {})
    assert read_weights("medgrpo", usual) == {}
    assert read_weights("medgrpo", usual.replace("correctness 2", "correctness: 3")) == {"correctness": 3.0}
    others = {name: 0.0 for name in PROFILES["medgrpo"] if name != "correctness"}
    assert read_weights("medgrpo", "correctness=2") == others  # what is left out weighs nothing
    assert weights_text("medgrpo", {"length": 0.0}).endswith("length 0")


@pytest.mark.parametrize("text", ["much", "format", "format 0.5 tags", "format 1..2", "0.5"])
def test_weights_that_cannot_be_read_are_named_by_the_check(text):
    after = edit(RAW, weights=text)
    found = problems(after)
    assert [beside(each.field) for each in found] == ["weights"]
    assert values(after)["weights"] == text


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", None), ("steps", -3), ("steps", 1.5), ("group", 1), ("rate", -1), ("rank", 0), ("held_out", -1)],
)
def test_a_value_that_cannot_be_used_is_named_beside_its_field(field, value):
    found = problems(edit(RAW, **{field: value}))
    assert field in {beside(each.field) for each in found}


def test_a_supervised_run_has_no_rewards_to_set():
    raw = {"stage": "sft", "model": "smollm2-135m"}
    shown = values(raw)
    assert shown["profile"] is shown["weights"] is shown["group"] is shown["length"] is None
    assert with_values(raw, shown | {"group": 4.0, "profile": "legacy"}) == raw


WORDS = [*(part for key in KEYS.values() for part in key.split(".")), "stage", "x"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from(WORDS), inner) | st.lists(inner)))
def test_no_mapping_breaks_the_view(value):
    raw = value if isinstance(value, dict) else {"training": value, "rewards": value, "model": value}
    shown = values(raw)
    assert set(shown) == set(KEYS)
    assert repr(with_values(raw, shown)) == repr(raw)
