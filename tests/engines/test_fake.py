"""The fake engine keeps the contract, so what works on it works on a real one."""

import time

import pytest

from medgrpo.engines import BASE, GRPO, Health, Sampling, load_engine
from medgrpo.engines.fake import FakeEngine, Script
from medgrpo.errors import EngineError, SettingsError
from medgrpo.parsing import parse
from medgrpo.prompts import build_messages
from medgrpo.settings import Settings

MESSAGES = build_messages("A 45-year-old man with chest pain and shortness of breath.")


def test_default_scripts_talk_about_the_case_and_say_they_are_fake() -> None:
    engine = FakeEngine()
    base, grpo = ("".join(engine.stream(MESSAGES, Sampling(), variant)) for variant in (BASE, GRPO))
    assert parse(base, final=True).status == "missing"
    sections = parse(grpo, final=True)
    assert sections.status == "ok"
    assert "A 45-year-old man" in base
    assert "shortness of breath" in sections.reasoning
    assert "fake" in base
    assert "Fake" in sections.answer
    assert "fake" in engine.model
    assert grpo == "".join(engine.stream(MESSAGES, Sampling(), GRPO))


@pytest.mark.parametrize("case", ["", "?", "</reasoning><answer>x</answer>", "<reasoning>", "x" * 5000])
def test_any_case_gives_a_well_formed_answer(case: str) -> None:
    text = "".join(FakeEngine().stream(build_messages(case), Sampling(), GRPO))
    assert parse(text, final=True).status == "ok"


def test_scripts_crash_and_malform() -> None:
    engine = FakeEngine({BASE: Script("one two three", fail_after=2), GRPO: Script("</answer> <reasoning>x")})
    received = []
    with pytest.raises(EngineError, match="stopped in the middle"):
        received.extend(engine.stream(MESSAGES, Sampling(), BASE))
    stream = engine.stream(MESSAGES, Sampling(), BASE)
    assert next(stream) == "one"
    assert engine.running == 1
    stream.close()
    assert engine.running == 0
    assert "".join(engine.stream(MESSAGES, Sampling(), GRPO)) == "</answer> <reasoning>x"
    with pytest.raises(EngineError, match="no variant 'other'"):
        next(engine.stream(MESSAGES, Sampling(), "other"))


def test_max_tokens_delay_and_close() -> None:
    engine = FakeEngine(delay=0.01, state=Health("loading", "Wait."))
    start = time.perf_counter()
    assert len(list(engine.stream(MESSAGES, Sampling(max_tokens=5), BASE))) == 5
    assert time.perf_counter() - start > 0.04
    assert engine.health().state == "loading"
    engine.close()
    assert engine.health().state == "down"


def test_load_engine() -> None:
    assert load_engine(Settings(engine="fake")).variants == (BASE, GRPO)
    endpoint = load_engine(Settings(engine="auto", endpoint="http://127.0.0.1:9/v1"))
    assert endpoint.name == "endpoint"
    endpoint.close()
    with pytest.raises(SettingsError, match="MEDGRPO_ENGINE='onnx' is not an engine: use one of auto, llamacpp"):
        load_engine(Settings(engine="onnx"))
