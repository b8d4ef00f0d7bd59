"""The vLLM server that writes the completions when they are not written in the training process itself.

TRL talks to it and sends it the weights after each step; it only says late, and in a traceback, that the server is not
there, serves another model, or was started without the endpoints that take weights.
"""

import json
import time
import urllib.error
import urllib.request
from typing import Any

from medgrpo.errors import SettingsError
from medgrpo.training.config import Grpo

WAIT_SECONDS = 300.0
"""A server that was started together with the training needs a minute or two."""


def server_command(model: str, grpo: Grpo) -> str:
    """What starts the server that TRL needs, as a person types it (TRL's documentation, "vLLM integration")."""
    return (
        f"VLLM_SERVER_DEV_MODE=1 VLLM_WORKER_MULTIPROC_METHOD=spawn vllm serve {model} --host {grpo.vllm_server_host} "
        f"--port {grpo.vllm_server_port} --dtype bfloat16 --max-model-len 4096 --gpu-memory-utilization 0.85 "
        """--weight-transfer-config '{"backend": "nccl"}' --logprobs-mode processed_logprobs --max-logprobs -1"""
    )


def await_server(grpo: Grpo, model: str, seconds: float = WAIT_SECONDS) -> None:
    """Return once the server answers, serves `model` and can take its weights.

    Raises:
        SettingsError: it does not within `seconds`; the sentence holds the command that starts it.
    """
    url, deadline = f"http://{grpo.vllm_server_host}:{grpo.vllm_server_port}", time.monotonic() + seconds
    start = f"Start it on another GPU (CUDA_VISIBLE_DEVICES): {server_command(model, grpo)}"
    while (served := _get(f"{url}/v1/models")) is None:
        if time.monotonic() >= deadline:
            raise SettingsError(f"grpo.vllm_mode is 'server' and no vLLM server answers at {url}. {start}")
        time.sleep(min(2.0, seconds / 10))
    names = [str(each.get("id")) for each in served.get("data", [])]
    if model not in names:
        raise SettingsError(f"The server at {url} serves {', '.join(names) or 'nothing'} and not {model}. {start}")
    if "world_size" not in (_get(f"{url}/get_world_size") or {}):
        raise SettingsError(f"The server at {url} cannot take weights: it has no /get_world_size. {start}")


def _get(url: str) -> dict[str, Any] | None:
    """The JSON object at an address; None if nobody answers, or not with one."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)
    except (OSError, ValueError, urllib.error.URLError):
        return None
    return found if isinstance(found, dict) else None
