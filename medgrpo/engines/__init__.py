"""Engines turn chat messages into streams of text; `load_engine` picks one by the settings.

Each engine's own libraries are imported only when it is picked.
"""

import os

from medgrpo.engines.base import BASE, GRPO, Engine, Health, Sampling
from medgrpo.errors import SettingsError
from medgrpo.models import PROFILES
from medgrpo.settings import ENGINES, Settings

__all__ = ["AT_ONCE", "BASE", "GRPO", "Engine", "Health", "Sampling", "choose", "load_engine"]

AT_ONCE = {"llamacpp": 2, "vllm": 64, "endpoint": 64}
"""Questions to hand to an engine at the same time, where it isn't two. A server batches them; a CPU doesn't gain."""


def choose(settings: Settings) -> str:
    """Name of the engine that the settings ask for, "auto" resolved.

    An endpoint, if one is set, goes first. What llama.cpp has the weights of, it answers: at once, on any machine, with
    the whole GPU left to training. A model that only exists in full precision goes to vLLM where that can run.
    """
    if settings.engine != "auto":
        return settings.engine
    if settings.endpoint:
        return "endpoint"
    if settings.model in PROFILES or settings.model.endswith(".gguf"):
        return "llamacpp"
    from medgrpo.engines.vllm import unusable

    return "llamacpp" if unusable() else "vllm"


def load_engine(settings: Settings) -> Engine:
    """The engine of `choose`.

    It returns at once: a model may still be loading, which `health` tells and `stream` waits for. Only `transformers`
    loads its weights before it returns.

    Raises:
        SettingsError: there is no such engine here.
        ModelError: a model or adapter file is missing, damaged or unfit.
    """
    choice = choose(settings)
    if choice == "llamacpp":
        from medgrpo.engines.llamacpp import LlamaCppEngine

        return LlamaCppEngine(settings)
    if choice == "vllm":
        from medgrpo.engines.vllm import VLLMEngine

        return VLLMEngine(settings)
    if choice == "endpoint":
        from medgrpo.engines.endpoint import EndpointEngine

        return EndpointEngine(settings)
    if choice == "transformers":
        from medgrpo.engines.llamacpp import ENVIRONMENT

        for name, value in ENVIRONMENT.items():  # before torch is loaded: 9 tokens/s on two busy cores instead of 2
            os.environ.setdefault(name, value)
        try:
            from medgrpo.engines.transformers import TransformersEngine
        except ImportError as error:
            raise SettingsError(
                f"MEDGRPO_ENGINE=transformers needs torch, transformers and peft ({error}): "
                "run `pip install -r requirements-train.txt`."
            ) from error
        return TransformersEngine(settings)
    if choice == "fake":
        from medgrpo.engines.fake import TOKENS_PER_SECOND, FakeEngine

        return FakeEngine(delay=1 / TOKENS_PER_SECOND)
    raise SettingsError(f"MEDGRPO_ENGINE={choice!r} is not an engine: use one of {', '.join(ENGINES)}.")
