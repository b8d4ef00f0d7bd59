"""The vLLM engine with vLLM itself, on a GPU or in its build for CPUs: what the stand-in of `test_vllm.py` cannot show."""

import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from medgrpo.engines import BASE, GRPO, Sampling, vllm
from medgrpo.engines.gguf_file import read_gguf
from medgrpo.engines.vllm import VLLMEngine
from medgrpo.errors import EngineError
from medgrpo.prompts import build_messages
from medgrpo.settings import Settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(vllm.unusable()), reason=vllm.unusable() or "-"),
]
MESSAGES = build_messages("A 45-year-old man with crushing chest pain and sweating.")
SHORT, LONG = Sampling(max_tokens=48), Sampling(max_tokens=3000)
COUNT = build_messages("Count from 1 to 2000, one number on each line.", structured=False)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(engine="vllm", runs=tmp_path_factory.mktemp("runs"), gpu_memory=0.3)


@pytest.fixture(scope="module")
def engine(settings: Settings) -> Iterator[VLLMEngine]:
    """The engine; its server keeps the statistics that it otherwise goes without, for `running`."""
    ours = vllm._Server._options
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm._Server, "_options", lambda server: [o for o in ours(server) if o != "--disable-log-stats"])
        engine = VLLMEngine(settings)
        yield engine
        engine.close()


def ask(engine: VLLMEngine, variant: str) -> str:
    return "".join(engine.stream(MESSAGES, SHORT, variant))


def running(engine: VLLMEngine) -> float:
    """Requests that vLLM is working on, from its metrics."""
    with urllib.request.urlopen(f"{engine._server.process.address(1)}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running{"))


def wait_until(condition, seconds: float) -> None:  # type: ignore[no-untyped-def]
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.1)


def test_the_shipped_adapter_answers_in_form(engine: VLLMEngine) -> None:
    grpo = "".join(engine.stream(MESSAGES, Sampling(), GRPO))
    assert grpo.startswith("<reasoning>")
    assert "<answer>" in grpo
    assert ask(engine, BASE) == ask(engine, BASE)
    assert not ask(engine, BASE).startswith("<reasoning>")
    assert engine.health().state == "ready"


def test_another_adapter_takes_effect_at_once(engine: VLLMEngine, settings: Settings, smollm2, save_adapter) -> None:  # type: ignore[no-untyped-def]
    folder = save_adapter(Path(settings.runs) / "other", read_gguf(smollm2))
    before = ask(engine, GRPO)
    begin = time.monotonic()
    other = VLLMEngine(replace(settings, adapter=str(folder)))
    changed = ask(other, GRPO)
    assert time.monotonic() - begin < 20, "no second server is started"
    assert changed != before
    assert ask(other, BASE) == ask(engine, BASE)
    other.close()
    assert ask(engine, GRPO) == before


def test_closing_the_stream_frees_the_server(engine: VLLMEngine) -> None:
    stream = engine.stream(COUNT, LONG, BASE)
    next(stream)
    assert running(engine) == 1
    stream.close()
    wait_until(lambda: running(engine) == 0, 5)


def test_a_killed_engine_core_is_followed_by_a_restart_with_the_adapter(engine: VLLMEngine) -> None:
    expected = ask(engine, GRPO)
    stream = engine.stream(COUNT, LONG, GRPO)
    next(stream)
    family = psutil.Process(engine._server.process.pid).children(recursive=True)
    core = next(process for process in family if "EngineCore" in " ".join([process.name(), *process.cmdline()]))
    core.kill()
    with pytest.raises(EngineError, match="stopped in the middle"):
        list(stream)
    wait_until(lambda: engine.health().state != "ready", 60)
    assert ask(engine, GRPO) == expected


@pytest.mark.skipif(vllm.built_for_cpus(), reason="memory of a GPU")
def test_memory_that_is_taken_or_too_small_is_said(engine: VLLMEngine, settings: Settings) -> None:
    ask(engine, BASE)
    for share, says in (
        (0.95, "GiB of the GPU are free and vLLM was to take 0.95"),
        (0.004, "MEDGRPO_GPU_MEMORY to a larger"),
    ):
        greedy = VLLMEngine(replace(settings, gpu_memory=share))
        try:
            wait_until(lambda log=greedy._server.process.log, says=says: log.is_file() and says in log.read_text(), 300)
        finally:
            greedy.close()
    assert ask(engine, BASE), "the other server doesn't notice"


def test_nothing_is_left_after_close(settings: Settings) -> None:
    engine = VLLMEngine(replace(settings, gpu_memory=0.2))
    ask(engine, BASE)
    child = psutil.Process(engine._server.process.pid)
    family = [child, *child.children(recursive=True)]
    engine.close()
    wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family), 10)
