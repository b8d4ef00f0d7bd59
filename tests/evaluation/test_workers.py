"""Which engine an evaluation asks, and the promise that the number of workers changes no greedy answer."""

import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from medgrpo.data import load_cases
from medgrpo.engines import GRPO, Sampling
from medgrpo.engines.fake import FakeEngine, Script
from medgrpo.errors import ModelError, SettingsError
from medgrpo.evaluation.run import evaluate
from medgrpo.evaluation.workers import ELSEWHERE, Workers, fingerprint, open_engine
from medgrpo.models import ASSETS
from medgrpo.prompts import Message
from medgrpo.settings import Settings


class Alone(FakeEngine):
    """Fails if two requests are with it at once."""

    def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        assert self.running == 0
        yield from super().stream(messages, sampling, variant)


def test_a_request_waits_for_an_engine_of_its_own(tmp_path: Path) -> None:
    engines = [Alone({GRPO: Script("Gout")}, delay=0.001) for _ in range(2)]
    pool = Workers(engines)
    results = evaluate(pool, GRPO, load_cases("casebook", "test", 12), tmp_path, workers=4)
    assert len(results) == 12
    pool.close()
    assert all(engine.closed for engine in engines)
    assert pool.health().state == "down"


def test_a_closed_request_frees_its_engine() -> None:
    pool = Workers([Alone({GRPO: Script("one two three")})])
    asked = pool.stream([{"role": "user", "content": "x"}], Sampling(), GRPO)
    next(asked)
    asked.close()  # type: ignore[attr-defined]
    done = threading.Event()
    threading.Thread(target=lambda: (list(pool.stream([], Sampling(), GRPO)), done.set()), daemon=True).start()
    assert done.wait(5)


def test_other_engines_are_asked_a_few_things_at_once() -> None:
    engine, workers = open_engine(Settings(engine="fake"), GRPO)
    assert (engine.name, workers) == ("fake", ELSEWHERE)
    assert open_engine(Settings(engine="fake"), GRPO, 5)[1] == 5
    with pytest.raises(SettingsError, match="--workers -1"):
        open_engine(Settings(engine="fake"), GRPO, -1)
    with pytest.raises(ModelError):
        open_engine(Settings(model="/nowhere.gguf"), GRPO)


def test_the_fingerprint_is_of_the_weights(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    first = fingerprint(Settings(adapter=str(tmp_path)))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"other weights")
    assert len(first) == 16
    assert fingerprint(Settings(adapter=str(tmp_path))) != first
    assert fingerprint(Settings(engine="endpoint", endpoint="http://x")) == ""


@pytest.mark.slow
def test_the_number_of_workers_changes_no_answer(tmp_path: Path) -> None:
    cases = load_cases("casebook", "hard", 4)
    adapter = shutil.copy(ASSETS / "smollm2-135m" / "adapter.gguf", tmp_path)  # the same one for both
    texts = []
    for workers in (1, 2):
        engine, asked = open_engine(Settings(adapter=adapter, threads=2), GRPO, workers)
        try:
            assert asked == workers
            assert engine.variants == (GRPO,)
            assert all(list(each.servers) == [GRPO] for each in engine.engines)
            results = evaluate(
                engine, GRPO, cases, tmp_path / str(workers), sampling=Sampling(max_tokens=96), workers=asked
            )
        finally:
            engine.close()
        texts.append([result.text for result in results])
    assert texts[0] == texts[1]
