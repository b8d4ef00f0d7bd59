"""Why vLLM's server ended, in a sentence made of its log."""

import pytest

from medgrpo.engines.vllm_server import explain

NO_ROOM = (
    "(EngineCore pid=9) ERROR ValueError: No available memory for the cache blocks. Try increasing "
    "`gpu_memory_utilization` when initializing the engine (this flag also controls CPU memory reservation)."
)
TAKEN = (
    "ValueError: Free memory on device cuda:0 (8.13/79.18 GiB) on startup is less than desired GPU memory utilization "
    "(0.8, 63.34 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)

USUAL = (
    "(EngineCore pid=9) INFO Free memory on device (139.29/139.8 GiB) on startup. Desired GPU memory utilization is "
    "(0.3, 41.94 GiB). Actual usage is 0.3 GiB for consumed memory (weights + non-torch)."
)
"""vLLM 0.29 writes it at each start that goes well."""


@pytest.mark.parametrize(
    ("line", "says", "passing"),
    [
        (NO_ROOM, "leaves no room for answers in its share of the GPU: set MEDGRPO_GPU_MEMORY to a larger", False),
        (TAKEN, "end what else uses the GPU", True),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.", "too small for this model", False),
        ("RuntimeError: No CUDA GPUs are available", "finds no GPU it can use", False),
        ("RuntimeError: Failed to infer device type, please set ...", "finds no GPU it can use", False),
        ("ModuleNotFoundError: No module named 'vllm'", "pip install -r requirements-gpu.txt", False),
        ("OSError: a/b is not a local folder and is not a valid model identifier", "nor to be had from the Hub", False),
        ("OSError: [Errno 98] Address already in use", "port was taken", True),
        (
            "ValueError: User-specified max_model_len (4096) is greater than the derived max_model_len "
            "(max_position_embeddings=2048 or model_max_length=None in model's config.json).",
            "reads at most 2048 tokens and the instructions with a case need up to 4096",
            False,
        ),
    ],
)
def test_reasons_are_sentences_with_a_remedy(line: str, says: str, passing: bool) -> None:
    found = explain([line, "RuntimeError: Engine core initialization failed. See root cause above."])
    assert found is not None
    assert says in found[0]
    assert found[0].endswith(".")
    assert found[1] is passing


def test_the_root_cause_wins_and_the_unknown_is_not_guessed() -> None:
    assert explain(["CUDA out of memory", TAKEN]) == explain([TAKEN])
    assert explain(["Segmentation fault"]) is None
    assert explain([USUAL, "EngineDeadError: EngineCore encountered an issue."]) is None
