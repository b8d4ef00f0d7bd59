"""The vLLM engine over a stand-in that speaks vLLM's protocol: one server, adapters that come and go, crashes, no orphans.

What only vLLM on a GPU can show is in `benchmarks/gpu`.
"""

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from medgrpo.answers import answer
from medgrpo.engines import BASE, GRPO, Sampling, choose, load_engine, vllm
from medgrpo.engines.base import tokens_of
from medgrpo.engines.gguf_file import read_gguf
from medgrpo.engines.vllm import VLLMEngine, check_adapter
from medgrpo.engines.vllm_server import _weights
from medgrpo.errors import EngineError, ModelError, SettingsError
from medgrpo.models import PROFILES
from medgrpo.prompts import build_messages
from medgrpo.settings import Settings
from medgrpo.ui.desk import Desk

from .test_vllm_reasons import NO_ROOM, TAKEN

MESSAGES = build_messages("A 45-year-old man with chest pain and shortness of breath.")
LONG = build_messages("Count from 1 to 2000, one number on each line.", structured=False)
SHORT = Sampling(max_tokens=12)
SHIPPED = PROFILES["smollm2-135m"].assets


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package called vllm, which is the stand-in."""
    folder = tmp_path_factory.mktemp("standin")
    (folder / "vllm/entrypoints/cli").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("standin_vllm.py"), folder / "vllm/entrypoints/cli/main.py")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as vLLM takes it, but without weights: the stand-in has its own."""
    folder = tmp_path_factory.mktemp("models") / "SmolLM2"
    folder.mkdir()
    sizes = {"num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536, "vocab_size": 49152}
    (folder / "config.json").write_text(json.dumps(sizes | {"num_attention_heads": 9, "num_key_value_heads": 3}))
    return folder


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, package: Path, model: Path, tmp_path: Path) -> Settings:
    monkeypatch.setenv("PYTHONPATH", str(package))
    monkeypatch.setenv("STANDIN_FOLDER", str(tmp_path))
    monkeypatch.setattr(vllm, "unusable", lambda: "")
    return Settings(engine="vllm", model=str(model), runs=tmp_path, gpu_memory=0.5)


@pytest.fixture
def started() -> Iterator[list[VLLMEngine]]:
    engines: list[VLLMEngine] = []
    yield engines
    for engine in engines:
        engine.close()
    assert vllm._running == {}


def open_engine(started: list[VLLMEngine], settings: Settings, adapter: Path | str = "") -> VLLMEngine:
    engine = load_engine(Settings(**{**vars(settings), "adapter": str(adapter)}))
    assert isinstance(engine, VLLMEngine)
    started.append(engine)
    return engine


def ask(engine: Any, variant: str, sampling: Sampling = SHORT) -> str:
    return "".join(engine.stream(MESSAGES, sampling, variant))


def served(engine: VLLMEngine) -> list[str]:
    address = engine._server.process.address(60)
    return engine._server.client(address).models()


def family(engine: VLLMEngine) -> list[psutil.Process]:
    """The child, vLLM, and vLLM's own child."""
    assert engine._server.process.pid
    child = psutil.Process(engine._server.process.pid)
    return [child, *child.children(recursive=True)]


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.02)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_both_variants_in_one_server_and_adapters_that_come_and_go(
    settings: Settings, started: list[VLLMEngine], adapter: Path
) -> None:
    first = open_engine(started, settings, adapter)
    assert (first.name, first.model, first.variants) == ("vLLM", "SmolLM2", (BASE, GRPO))
    texts = {variant: ask(first, variant) for variant in first.variants}
    assert texts[BASE] != texts[GRPO]
    assert first.health().state == "ready"
    assert "base and grpo in 50% of the GPU's memory" in first.health().detail
    assert served(first) == [BASE, "grpo-1"]

    second = open_engine(started, settings, SHIPPED)
    assert ask(second, GRPO) not in texts.values()
    assert ask(second, BASE) == texts[BASE]
    assert family(second) == family(first), "another adapter takes no second server"
    assert served(first) == [BASE, "grpo-1", "grpo-2"], "a name is never used twice: the prefix cache goes by names"
    assert ask(first, GRPO) == texts[GRPO]

    processes, folder = family(first), first._server._folder
    first.close()
    first.close()
    assert served(second) == [BASE, "grpo-2"]
    assert first.health().state == "down"
    with pytest.raises(EngineError, match="was stopped"):
        ask(first, BASE)
    assert ask(second, GRPO)
    second.close()
    until(lambda: not alive(processes), 2)
    assert not folder.exists()


def test_tokens_come_in_pieces_and_are_counted(settings: Settings, started: list[VLLMEngine], adapter: Path) -> None:
    engine = open_engine(started, settings, adapter)
    deltas = list(engine.stream(LONG, Sampling(max_tokens=40), BASE))
    counts = [tokens_of(delta) for delta in deltas]
    assert counts[0] == 1, "the first words don't wait for others"
    assert counts[1:5] == [vllm.SENT_AT_ONCE - 1, *[vllm.SENT_AT_ONCE] * 3]
    last = answer(engine, "Count from 1 to 2000.", BASE, sampling=Sampling(max_tokens=40))
    assert last.tokens == 40, "a cut answer is known by its length"


def test_the_page_changes_the_adapter_without_another_server(settings: Settings, adapter: Path) -> None:
    desk = Desk(settings, load_engine).open()
    assert desk.line.slots == 64
    try:
        until(lambda: desk.health().state == "ready", 60)
        before = family(desk.engine)  # type: ignore[arg-type]
        assert desk.engine.variants == (BASE,)
        desk.use_adapter(str(adapter), "run-1")
        first = ask(desk.engine, GRPO)
        desk.use_adapter(str(SHIPPED), "run-2")
        assert desk.engine.adapter == "run-2"
        assert ask(desk.engine, GRPO) != first
        assert family(desk.engine) == before  # type: ignore[arg-type]
        until(lambda: served(desk.engine) == [BASE, "grpo-2"])  # type: ignore[arg-type]
        desk.rest("A run needs the GPU.")
        until(lambda: not alive(before), 2)
        desk.wake()
        until(lambda: desk.health().state == "ready", 60)
        assert ask(desk.engine, GRPO) != first
    finally:
        desk.close()


def test_a_crash_ends_the_answer_and_the_next_one_has_its_adapter_again(
    settings: Settings, started: list[VLLMEngine], adapter: Path
) -> None:
    engine = open_engine(started, settings, adapter)
    expected = ask(engine, GRPO)
    stream = engine.stream(LONG, Sampling(max_tokens=2000), GRPO)
    next(stream)
    child, server, core = family(engine)
    server.kill()
    with pytest.raises(EngineError, match="The vLLM server stopped in the middle of an answer"):
        list(stream)
    assert ask(engine, GRPO) == expected
    until(lambda: not alive([child, server, core]), 2)


def test_closing_an_answer_reaches_the_server(settings: Settings, started: list[VLLMEngine]) -> None:
    engine = open_engine(started, settings)
    for _ in range(3):  # the stand-in's llama.cpp has two slots: a third long answer would wait for the first
        stream = engine.stream(LONG, Sampling(max_tokens=7000), BASE)
        begin = time.monotonic()
        next(stream)
        stream.close()
        assert time.monotonic() - begin < 20


def test_only_those_with_the_secret_are_served(settings: Settings, started: list[VLLMEngine]) -> None:
    engine = open_engine(started, settings)
    ask(engine, BASE)
    for path in ("/v1/models", "/v1/load_lora_adapter"):
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(engine._server.process.address(1) + path)
        refused.value.close()
    words = [word for process in family(engine) for word in process.cmdline()]
    assert not [word for word in words if engine._server._secret in word]
    with pytest.raises(EngineError, match="no variant 'grpo', only base: set MEDGRPO_ADAPTER"):
        ask(engine, GRPO)


def test_close_while_it_starts_leaves_nothing(
    settings: Settings, started: list[VLLMEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "STANDIN_WAITS", "(EngineCore pid=7) INFO 11-25 Model loading took 0.27 GiB memory and 1.2 seconds"
    )
    engine = open_engine(started, settings)
    until(lambda: "compiling the model" in engine.health().detail)
    assert engine.health().state == "loading"
    processes = family(engine)
    assert len(processes) == 3
    begin = time.monotonic()
    engine.close()
    assert time.monotonic() - begin < 6
    until(lambda: not alive(processes), 2)


PARENT = """
import sys, time
from medgrpo.engines import vllm
from medgrpo.settings import Settings
vllm.unusable = lambda: ""
engine = vllm.VLLMEngine(Settings(model=sys.argv[1]))
while not engine._server.process.log.is_file() or not engine._server.process.log.read_text():
    time.sleep(0.02)
print(engine._server.process.pid, flush=True)
time.sleep(600)
"""


def test_nothing_outlives_a_killed_parent(settings: Settings, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_WAITS", "waits")
    command = [sys.executable, "-c", PARENT, str(model)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout:
        child = psutil.Process(int(parent.stdout.readline()))
    processes = [child, *child.children(recursive=True)]
    assert len(processes) == 3
    parent.kill()
    parent.wait()
    until(lambda: not alive(processes))


def test_a_model_that_does_not_fit_is_said_at_once(
    settings: Settings, started: list[VLLMEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_DIES", f"{NO_ROOM}\nRuntimeError: Engine core initialization failed.")
    engine = open_engine(started, settings)
    with pytest.raises(EngineError, match=r"leaves no room for answers.*set MEDGRPO_GPU_MEMORY to a larger share"):
        ask(engine, BASE)
    assert engine.health().state == "down"
    assert engine._server.process.log.read_text().count("No available memory") == 1, "a new start could not help"
    monkeypatch.delenv("STANDIN_DIES")
    again = open_engine(started, settings)
    assert ask(again, BASE), "another engine gets a new server"


def test_a_gpu_that_is_taken_is_tried_again(
    settings: Settings, started: list[VLLMEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    from medgrpo.engines import server

    monkeypatch.setattr(server, "FIRST_DELAY", 0.01)
    monkeypatch.setenv("STANDIN_DIES", TAKEN)
    engine = open_engine(started, settings)
    until(lambda: engine.health().state == "down", 60)
    assert "Only 8.13/79.18 GiB of the GPU are free and vLLM was to take 0.8 of it" in engine.health().detail
    assert "is tried again in" in engine.health().detail


def test_vllm_is_missing_or_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="package vllm is not installed: run `pip install -r requirements-gpu"):
        load_engine(Settings(engine="vllm"))
    monkeypatch.setattr(vllm.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(vllm.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert vllm.unusable() == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SettingsError, match=r"needs an NVIDIA GPU.*use MEDGRPO_ENGINE=llamacpp"):
        load_engine(Settings(engine="vllm"))
    monkeypatch.setattr(vllm.importlib.metadata, "version", lambda name: "0.27.1+cpu")
    assert vllm.unusable() == "", "a build for CPUs needs no GPU"


def test_what_auto_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "unusable", lambda: "")
    assert choose(Settings(model="qwen2.5-3b")) == "llamacpp", "there is a GGUF of it, which answers at once"
    assert choose(Settings(model="/models/some.gguf")) == "llamacpp"
    assert choose(Settings(model="someone/model")) == "vllm"
    assert choose(Settings(model="someone/model", endpoint="http://127.0.0.1:1/v1")) == "endpoint"
    assert choose(Settings(model="qwen2.5-3b", engine="vllm")) == "vllm"
    monkeypatch.setattr(vllm, "unusable", lambda: "no GPU")
    assert choose(Settings(model="someone/model")) == "llamacpp"


def test_adapters_that_cannot_work_are_refused_before_they_are_loaded(
    model: Path, tmp_path: Path, adapter: Path, smollm2: Path, save_adapter: Callable[..., Path]
) -> None:
    assert check_adapter(adapter, str(model)) == 4
    assert check_adapter(SHIPPED, "smollm2-135m") == json.loads((SHIPPED / "adapter_config.json").read_text())["r"]
    with pytest.raises(ModelError, match=r"does not fit the model qwen2.5-3b: it was trained on random/test\. Set"):
        check_adapter(adapter, "qwen2.5-3b")
    base = read_gguf(smollm2)
    for changes, says in (
        ({"r": 1024}, "has rank 1024 and vLLM takes up to 512"),
        ({"use_dora": True}, "has use_dora, which vLLM does not apply"),
        ({"rank_pattern": {"q_proj": 2}}, "has rank_pattern, which vLLM does not apply"),
    ):
        with pytest.raises(ModelError, match=says):
            check_adapter(save_adapter(tmp_path / "changed", base, **changes), str(model))
    (tmp_path / "changed/adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"takes a folder with adapter_config.json and adapter_model.safetensors"):
        check_adapter(tmp_path / "changed", str(model))
    with pytest.raises(ModelError, match="takes a folder with"):
        check_adapter(SHIPPED / "adapter.gguf", str(model))


def test_an_adapter_larger_than_the_running_server_takes(
    settings: Settings, started: list[VLLMEngine], tmp_path: Path, smollm2: Path, save_adapter: Callable[..., Path]
) -> None:
    large = save_adapter(tmp_path / "large", read_gguf(smollm2), rank=72)
    running = open_engine(started, settings)
    with pytest.raises(
        ModelError, match=r"rank 72 and the running vLLM server takes up to 64: start the program again"
    ):
        open_engine(started, settings, large)
    running.close()
    assert ask(open_engine(started, settings, large), GRPO), "started with it, the server has room for it"


def test_an_adapter_that_the_server_refuses(
    settings: Settings, started: list[VLLMEngine], tmp_path: Path, adapter: Path
) -> None:
    folder = tmp_path / "gone"
    shutil.copytree(adapter, folder)
    running = open_engine(started, settings)
    ask(running, BASE)
    vanishing = open_engine(started, settings, folder)
    until(lambda: vanishing.health().state == "ready")
    shutil.rmtree(folder)
    vanishing._loaded = ("", "")
    says = r"The adapter .*gone cannot be used. The vLLM server refused it with status 404 \(.*No adapter found.*Set MEDGRPO"
    with pytest.raises(EngineError, match=says):
        ask(vanishing, GRPO)
    assert vanishing.health().state == "down"
    assert ask(running, BASE), "the others don't notice"


def test_which_weights_vllm_gets(tmp_path: Path, model: Path) -> None:
    assert _weights("qwen2.5-3b", tmp_path) == "Qwen/Qwen2.5-3B-Instruct"
    assert _weights("someone/model", tmp_path) == "someone/model"
    assert _weights(str(model), tmp_path) == str(model)


@pytest.mark.slow
def test_a_gguf_file_is_converted_for_vllm(tmp_path: Path, tiny: Callable[[str], Any]) -> None:
    folder = Path(_weights(str(tiny("llama").gguf), tmp_path))
    assert folder.parent == tmp_path
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_two_that_convert_a_gguf_file_at_once_leave_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgrpo.engines import weights

    class Loaded:
        def save_pretrained(self, folder: Path) -> None:
            (folder / "config.json").write_text("{}")

    def meanwhile(tokenizer: Any, model: Any) -> None:
        monkeypatch.setattr(weights, "end_turns_properly", lambda *_: None)
        others.append(weights.dequantise(gguf, cache))

    others, gguf, cache = list[Path](), tmp_path / "x.gguf", tmp_path / "cache"
    gguf.write_bytes(b"GGUF")
    for name in ("AutoTokenizer", "AutoModelForCausalLM"):
        monkeypatch.setattr(getattr(weights, name), "from_pretrained", lambda *_, **__: Loaded())
    monkeypatch.setattr(weights, "_forget_quantisation", lambda model: None)
    monkeypatch.setattr(weights, "end_turns_properly", meanwhile)
    assert weights.dequantise(gguf, cache) == others[0]
    assert list(cache.iterdir()) == others
