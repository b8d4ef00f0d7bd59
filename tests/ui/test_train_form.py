"""The start form: what is wrong is named beside its field, what can be mended is, and nothing starts before it is."""

import threading
import time

import gradio as gr
import pytest
import yaml

from medgrpo.training.config import problems
from medgrpo.training.manager import RunManager
from medgrpo.training.preflight import read_yaml
from medgrpo.ui import render_form, train_form
from medgrpo.ui.train_fields import KEYS

GOOD = """
stage: grpo
model: smollm2-135m
data: {source: calculations, split: validation, limit: 8}
evaluation: {limit: 0}
training: {max_steps: 2, per_device_train_batch_size: 4}
grpo: {num_generations: 4, max_completion_length: 48}
"""


@pytest.fixture
def manager(tmp_path):
    return RunManager(tmp_path / "runs", term_after=0.0, kill_after=0.3)


def changed(**sections):
    raw = yaml.safe_load(GOOD)
    for name, value in sections.items():
        raw[name] = {**raw[name], **value} if isinstance(value, dict) and isinstance(raw.get(name), dict) else value
    return yaml.safe_dump(raw)


def start(manager, text, name=""):
    *_, (found, doing, run_id) = train_form.begin(manager, text, name)
    assert doing == ""
    return found, run_id


def html_of(found):
    return "".join(found.beside(place) for place in (*KEYS, "")) + found.general


def test_a_good_configuration_shows_what_it_will_take_and_the_command(manager):
    found, config = train_form.examine(manager, GOOD)
    assert config is not None
    assert not html_of(found)
    assert "memory" in found.plan
    assert "passed their audit" in found.plan
    assert f"-m train.grpo --run-dir {manager.folder / 'RUN'} --config" in found.command
    assert not manager.folder.exists()


BAD = [
    ("stage: [", "The YAML cannot be read at line"),
    ("just words", "The YAML holds str"),
    ("\x00\x01", "The YAML cannot be read"),
    ("a: &a [*a]", "there is no such key"),
    (changed(training={"max_step": 3}), "did you mean training.max_steps"),
    (changed(training={"max_steps": -3}), "out of range"),
    (changed(training={"max_steps": "many"}), "whole number"),
    (changed(model="/nowhere/model.gguf"), "there is no model at this place"),
    (changed(model="smolm2-135m"), "there is no such model"),
    (changed(data={"source": "/nowhere/cases.csv"}), "/nowhere/cases.csv"),
    (changed(init_adapter="/nowhere/adapter"), "adapter_config.json"),
    (changed(grpo={"num_generations": 3}), "does not divide"),
    (changed(rewards={"profile": "format_only"}), "fail their audit"),
    (changed(rewards={"weights": {"correctnes": 1.0}}), "did you mean correctness"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_bad_input_is_a_sentence_and_nothing_is_started(manager, text, says):
    found, run_id = start(manager, text)
    assert says in html_of(found)
    assert run_id == ""
    assert manager.runs() == []
    assert not list(manager.folder.glob("2*"))


def test_a_file_without_a_usable_row_is_named_beside_the_data(manager, tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("question,answer\n,\n")
    found, run_id = start(manager, changed(data={"source": str(path), "split": "train"}))
    assert "cases.csv" in found.beside("source")
    assert run_id == ""


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "x" * 100, "né", "a b", "-rf"])
def test_a_name_that_leaves_the_folder_is_refused(manager, tmp_path, name):
    found, run_id = start(manager, GOOD, name)
    assert "The run name" in found.general
    assert run_id == ""
    assert manager.runs() == []
    assert not (tmp_path / "evil").exists()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "runs").write_text("a file in the place of the folder")
    found, run_id = start(RunManager(tmp_path / "runs"), GOOD)
    assert "is a file and no folder" in html_of(found)
    assert run_id == ""


def test_apply_puts_the_remedy_into_the_yaml(manager):
    text = changed(grpo={"num_generations": 3})
    found, config = train_form.examine(manager, text)
    assert config is None
    (problem,) = found.problems
    assert 'data-target="train-apply"' in found.beside("group")
    mended = train_form.mended(manager, text, problem.field)
    assert problems(read_yaml(mended)) == []
    assert train_form.mended(manager, mended, problem.field) == mended
    assert train_form.mended(manager, text, "no.such.key") == text


def test_findings_are_painted_in_their_place_and_cleared(manager):
    found, _ = train_form.examine(manager, changed(training={"max_steps": -1}), quick=True)
    shown = train_form.paint(found)
    places = [*KEYS, ""]
    visible = [place for place, html in zip(places, shown, strict=False) if html.visible]
    assert visible == ["steps"]
    cleared = train_form.paint(train_form.examine(manager, GOOD, quick=True)[0])
    assert not any(html.visible for html in cleared[: len(places)])


def test_a_text_that_cannot_be_read_leaves_the_fields_alone():
    text, draft, *fields = train_form.fill("a: [")
    assert text == draft == "a: ["
    assert all(field == {"__type__": "update"} for field in fields)


def test_what_a_person_typed_is_never_markup(manager):
    found, _ = train_form.examine(manager, changed(model="<img src=x onerror=alert(1)>"))
    assert "<img" not in html_of(found) + found.plan + found.command
    assert "<img" not in render_form.sentence("<img>") + render_form.command(["<img>"])


def test_two_tabs_press_start_at_once_and_one_run_begins(manager):
    train_form.examine(manager, GOOD)  # so that both are quick
    gate = threading.Barrier(2)
    ids: list[str] = []

    def press():
        gate.wait()
        ids.append(start(manager, GOOD, "twice")[1])

    tabs = [threading.Thread(target=press) for _ in range(2)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    infos = manager.runs()
    try:
        assert sorted(ids) == sorted(info.id for info in infos)
        assert sum(info.active for info in infos) == 1
        assert [info.position for info in infos if not info.active] == [1]
    finally:
        for info in sorted(infos, key=lambda info: info.active):  # the waiting one first, or it would begin
            manager.cancel(info.id)
        end = time.monotonic() + 30
        while any(info.active for info in manager.runs()) and time.monotonic() < end:
            time.sleep(0.1)
    assert not any(info.active or info.position for info in manager.runs())


def test_what_start_says_is_not_painted_over_by_the_check_of_the_same_text(manager):
    checks = train_form.Checks()
    broken = changed(training={"max_steps": -1})
    assert len(list(checks.run(manager, "one", broken))) == 1
    checks.starting("one", broken)  # pressed before the browser asked for the check of what was typed last
    assert list(checks.run(manager, "one", broken)) == []
    assert len(list(checks.run(manager, "one", broken))) == 1  # a later one is shown again
    checks.starting("one", broken)
    assert len(list(checks.run(manager, "two", broken))) == 1
    assert len(list(checks.run(manager, "one", changed(training={"max_steps": -2})))) == 1


def test_a_check_under_way_shows_nothing_more_once_start_is_pressed(manager):
    checks = train_form.Checks()
    older = checks.run(manager, "one", GOOD)
    next(older)
    checks.starting("one", GOOD)
    assert nothing(list(older))


def nothing(shown: list[list[object]]) -> bool:
    """One last output that changes nothing: Gradio sends the last one again when a handler ends."""
    return len(shown) == 1 and all(each == gr.skip() for each in shown[0])


def test_an_older_check_ends_without_its_words(manager, monkeypatch):
    checks = train_form.Checks()
    older = checks.run(manager, "one", GOOD)
    next(older)
    (newer,) = checks.run(manager, "one", changed(training={"max_steps": -1}))
    assert not nothing([newer])
    assert nothing(list(older))
    whole = train_form.examine

    def overtaken(manager, text, quick=False):
        """While this text is looked at, the next one is typed and checked."""
        monkeypatch.setattr(train_form, "examine", whole)
        assert len(list(checks.run(manager, "one", changed(training={"max_steps": -1})))) == 1
        return whole(manager, text, quick)

    monkeypatch.setattr(train_form, "examine", overtaken)
    assert nothing(list(checks.run(manager, "one", GOOD)))
