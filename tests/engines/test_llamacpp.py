"""The llama.cpp engine on the embedded model: two variants, many requests, Stop, crashes, and no orphans."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from medgrpo.engines import BASE, GRPO, Sampling, load_engine
from medgrpo.engines.llamacpp import LlamaCppEngine, available_cpus
from medgrpo.errors import EngineError
from medgrpo.prompts import build_messages
from medgrpo.settings import Settings

MESSAGES = build_messages("A 45-year-old man with chest pain and shortness of breath.")
LONG = build_messages("Count from 1 to 2000, one number on each line.", structured=False)
SHORT = Sampling(max_tokens=24)


def ask(engine: LlamaCppEngine, variant: str, sampling: Sampling = SHORT) -> str:
    return "".join(engine.stream(MESSAGES, sampling, variant))


def busy_slots(engine: LlamaCppEngine, post: Callable[..., Any], variant: str) -> int:
    return sum(slot["is_processing"] for slot in post(engine, variant, "/slots"))


def until(condition: Callable[[], object], seconds: float = 20) -> float:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "it took too long"
        time.sleep(0.02)
    return time.monotonic() - begin


def test_variants_differ_and_repeat_themselves(engine: LlamaCppEngine) -> None:
    assert engine.variants == (BASE, GRPO)
    assert (engine.name, engine.model) == ("llama.cpp", "SmolLM2-135M-Instruct")
    assert engine.adapter.endswith("random-lora")
    first = {variant: ask(engine, variant) for variant in engine.variants}
    assert first[BASE] != first[GRPO]
    assert {variant: ask(engine, variant) for variant in engine.variants} == first
    assert engine.health().state == "ready"
    with pytest.raises(EngineError, match="no variant 'other', only base, grpo"):
        next(engine.stream(MESSAGES, SHORT, "other"))


def test_base_is_the_same_without_an_adapter_and_after_a_new_start(engine: LlamaCppEngine, smollm2: Path) -> None:
    alone = LlamaCppEngine(Settings(model=str(smollm2), threads=1))
    try:
        assert (alone.variants, alone.adapter) == ((BASE,), "")
        assert ask(alone, BASE) == ask(engine, BASE)
    finally:
        alone.close()


def test_the_adapter_at_scale_zero_is_the_base(adapter: Path, engine: LlamaCppEngine, post: Callable[..., Any]) -> None:
    assert post(engine, BASE, "/lora-adapters") == [], "the base process never sees the adapter"
    assert [adapter["scale"] for adapter in post(engine, GRPO, "/lora-adapters")] == [1.0]
    other = LlamaCppEngine(Settings(adapter=str(adapter), threads=2))
    try:
        post(other, GRPO, "/lora-adapters", [{"id": 0, "scale": 0.0}])
        assert ask(other, GRPO) == ask(engine, BASE) != ask(engine, GRPO)
    finally:
        other.close()


@pytest.mark.parametrize("variant", [BASE, GRPO])
def test_greedy_text_does_not_depend_on_earlier_questions(engine: LlamaCppEngine, variant: str) -> None:
    """Neither on a shared beginning that is cached, nor on the same question asked before."""
    cases = [f"A {age}-year-old {who} with fever and cough." for age, who in ((9, "boy"), (31, "nurse"), (80, "man"))]

    def answers(cases: list[str]) -> dict[str, str]:
        sampling = Sampling(max_tokens=40)
        return {case: "".join(engine.stream(build_messages(case), sampling, variant)) for case in cases}

    first = answers(cases)
    assert answers(cases[::-1]) == first
    assert answers([cases[0]]) == answers([cases[0]]) == {cases[0]: first[cases[0]]}


def test_seed_and_temperature(engine: LlamaCppEngine) -> None:
    hot = [ask(engine, BASE, Sampling(1.0, 1.0, 24, seed)) for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]
    drawn = {ask(engine, BASE, Sampling(1.5, 1.0, 24, None)) for _ in range(3)}
    assert len(drawn) > 1


def test_one_delta_a_token(engine: LlamaCppEngine) -> None:
    deltas = list(engine.stream(LONG, Sampling(max_tokens=20), BASE))
    assert len(deltas) == 20
    assert all(deltas)


def test_closing_stops_the_generation(engine: LlamaCppEngine, post: Callable[..., Any]) -> None:
    for variant in engine.variants:
        stream = engine.stream(LONG, Sampling(max_tokens=3000), variant)
        next(stream)
        assert busy_slots(engine, post, variant) == 1
        stream.close()
        assert until(lambda v=variant: busy_slots(engine, post, v) == 0) < 5


def test_both_variants_at_once_write_what_they_write_alone(engine: LlamaCppEngine) -> None:
    expected = {variant: ask(engine, variant) for variant in engine.variants}
    assert together(engine, list(engine.variants)) == list(expected.values())


def test_six_users_at_once_all_get_an_answer(engine: LlamaCppEngine) -> None:
    # No equality here: answers written in one batch may differ where two tokens are nearly as likely.
    assert all(len(text) > 20 for text in together(engine, [BASE, GRPO] * 3))


def together(engine: LlamaCppEngine, variants: list[str]) -> list[str]:
    with ThreadPoolExecutor(len(variants)) as pool:
        return list(pool.map(lambda variant: ask(engine, variant), variants))


def test_two_answers_of_one_variant_stream_side_by_side(engine: LlamaCppEngine) -> None:
    first, second = (engine.stream(LONG, Sampling(max_tokens=3000), BASE) for _ in range(2))
    assert next(first)
    assert next(second), "the second must not wait for the first to end"
    assert next(first)
    first.close()
    second.close()


def test_too_long_a_case_says_how_long(engine: LlamaCppEngine) -> None:
    with pytest.raises(EngineError, match=r"too long for the base model: .* has \d+ tokens and 4096 is the limit"):
        next(engine.stream(build_messages("pain " * 6000), SHORT, BASE))
    assert ask(engine, BASE)


def test_crash_in_the_middle_then_the_next_request_works(engine: LlamaCppEngine) -> None:
    expected = ask(engine, BASE)
    stream = engine.stream(LONG, Sampling(max_tokens=3000), BASE)
    next(stream)
    pid = engine.servers[BASE].pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="The base model stopped in the middle of an answer"):
        list(stream)
    assert ask(engine, BASE) == expected
    assert engine.health().state == "ready"


def test_a_request_right_after_a_crash_waits_for_the_restart(engine: LlamaCppEngine) -> None:
    expected = ask(engine, BASE)
    for _ in range(2):
        pid = engine.servers[BASE].pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        assert ask(engine, BASE) == expected


def test_close_leaves_nothing() -> None:
    engine = LlamaCppEngine(Settings(threads=1))
    stream = engine.stream(LONG, Sampling(max_tokens=3000), BASE)
    next(stream)
    pids, folder = [server.pid for server in engine.servers.values()], engine._folder
    engine.close()
    engine.close()
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)
    assert not folder.exists()
    with pytest.raises(EngineError):
        list(stream)
    with pytest.raises(EngineError, match="was stopped"):
        next(engine.stream(MESSAGES, SHORT, BASE))
    assert engine.health().state == "down"


PARENT = """
import sys, time
from medgrpo.engines.llamacpp import LlamaCppEngine
from medgrpo.settings import Settings
engine = LlamaCppEngine(Settings(adapter=sys.argv[1], threads=1))
if sys.argv[2] == "ready":
    [server.address(60) for server in engine.servers.values()]
while not all(server.pid for server in engine.servers.values()):
    time.sleep(0.01)
print(engine._folder, *[server.pid for server in engine.servers.values()], flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("moment", ["ready", "loading"])
def test_children_die_with_a_killed_parent(adapter: Path, moment: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(adapter), moment], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout:
        _, *pids = parent.stdout.readline().split()
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    until(lambda: not any(_runs(int(pid)) for pid in pids))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_works_from_another_folder_and_with_a_proxy_set(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    engine = load_engine(Settings(adapter=os.path.relpath(adapter), engine="llamacpp"))
    try:
        assert next(engine.stream(MESSAGES, SHORT, GRPO))
    finally:
        engine.close()


def test_threads_are_divided(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[LlamaCppEngine] = []

    def threads(**settings: Any) -> Iterator[int]:
        engine = LlamaCppEngine(Settings(adapter=str(adapter), **settings))
        started.append(engine)
        yield from {int(s._command[s._command.index("--threads") + 1]) for s in engine.servers.values()}
        engine.close()

    assert list(threads(threads=8)) == [4]
    assert list(threads(threads=1)) == [1]
    assert list(threads()) == [max(1, available_cpus() // 2)]
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)


def test_only_those_with_the_secret_are_served(engine: LlamaCppEngine) -> None:
    import urllib.error
    import urllib.request

    for path in ("/slots", "/v1/models?x", "/props"):
        request = urllib.request.Request(
            engine.servers[BASE].address(60) + path, headers={"Origin": "http://evil.example"}
        )
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(request)
        with refused.value as answer:
            assert answer.headers.get("Access-Control-Allow-Origin") in (None, "")
    assert engine._secret not in " ".join(psutil.Process(engine.servers[BASE].pid).cmdline())
