"""The child process of the vLLM engine: `vllm serve` on a free port of loopback, ended with its parent.

Started by `LocalServer` as `python -m medgrpo.engines.vllm_server --model MODEL ... [options of vllm serve]`. The secret
that requests must carry is the first line of standard input and reaches vLLM as `VLLM_API_KEY`, so it is in no argument
list. When standard input closes, vLLM gets SIGTERM and soon after everything it started is killed. vLLM's output goes on
to standard output; where it names a known reason for ending, that is the last line, as a sentence with a remedy.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from medgrpo.engines.server import UNUSABLE
from medgrpo.errors import MedGRPOError
from medgrpo.models import PROFILES, packaged_gguf

GRACE = 2.5
"""Seconds vLLM has to end by itself; less than the supervisor waits for this process."""
COMMAND = (sys.executable, "-m", "vllm.entrypoints.cli.main", "serve")
SERVING = "Starting vLLM "
"""vLLM writes it when the model is loaded: whatever ends it later, a new start may help."""
ENVIRONMENT = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONUNBUFFERED": "1"}
_BIGGER = "set MEDGRPO_GPU_MEMORY to a larger share, choose a smaller MEDGRPO_MODEL, or use MEDGRPO_ENGINE=llamacpp"
REASONS: tuple[tuple[str, str, bool], ...] = (
    (
        r"Free memory on device .*?\(([\d./]+) GiB\) on startup is less .*?\(([\d.]+),",
        "Only {0} GiB of the GPU are free and vLLM was to take {1} of it: end what else uses the GPU "
        "(`nvidia-smi` names it), or set MEDGRPO_GPU_MEMORY to a smaller share.",
        True,
    ),
    (
        r"No available memory for the cache blocks|larger than the available KV cache",
        f"The model leaves no room for answers in its share of the GPU: {_BIGGER}.",
        False,
    ),
    (r"CUDA out of memory|OutOfMemoryError", f"The GPU's memory is too small for this model: {_BIGGER}.", False),
    (
        r"No CUDA GPUs are available|Failed to infer device type|no NVIDIA driver|driver on your system is too old",
        "vLLM finds no GPU it can use: check that `nvidia-smi` lists one and that its driver fits the installed torch, "
        "or use MEDGRPO_ENGINE=llamacpp.",
        False,
    ),
    (
        r"No module named '?(vllm[\w.]*)",
        "vLLM cannot be imported ({0}): run `pip install -r requirements-gpu.txt`, or use MEDGRPO_ENGINE=llamacpp.",
        False,
    ),
    (
        r"is not a local folder|couldn't connect to|Repository Not Found|gated repo|offline mode is enabled|LocalEntryNotFound",
        "The weights are neither on this machine nor to be had from the Hub: check MEDGRPO_MODEL, the network and "
        "HF_TOKEN, or set MEDGRPO_MODEL to a folder with the weights.",
        False,
    ),
    (
        r"User-specified max_model_len \((\d+)\).*?=(\d+)",
        "This model reads at most {1} tokens and the instructions with a case need up to {0}: choose another MEDGRPO_MODEL.",
        False,
    ),
    (
        r"Address already in use",
        "The port was taken by another program: it is tried again on another one.",
        True,
    ),
)
"""A pattern in vLLM's output, the sentence for it, and whether a new start could help. The earlier wins."""


def explain(lines: Iterable[str]) -> tuple[str, bool] | None:
    """The best known reason among the lines, as a sentence, and whether a new start could help; None if there is none."""
    found: dict[int, tuple[str, bool]] = {}
    for line in lines:
        for rank, (pattern, sentence, passing) in enumerate(REASONS):
            if rank not in found and (match := re.search(pattern, line)):
                found[rank] = (sentence.format(*match.groups()), passing)
    return found[min(found)] if found else None


def main() -> int:
    """Serves until standard input closes; the exit status says whether a new start could help."""
    arguments, options = _arguments()
    secret = sys.stdin.readline().strip()
    signal.signal(signal.SIGTERM, lambda *_: None)  # the closing input ends this process, in order
    started: list[subprocess.Popen[bytes]] = []
    threading.Thread(target=_end_with_parent, args=(started,), daemon=True).start()
    try:
        location = _weights(arguments.model, arguments.cache)
    except (MedGRPOError, ImportError) as error:
        print(f"{error}", flush=True)
        return UNUSABLE
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen(
        [*COMMAND, location, "--host", "127.0.0.1", "--port", str(port), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **ENVIRONMENT, "VLLM_API_KEY": secret},
    )
    started.append(child)
    written = arguments.address_file.with_suffix(".new")
    written.write_text(f"http://127.0.0.1:{port}")
    written.replace(arguments.address_file)
    lines: dict[str, str] = {}
    reader = threading.Thread(target=_pass_on, args=(child, lines), daemon=True)
    reader.start()
    child.wait()
    reader.join(1.0)  # a process that vLLM left behind may hold the pipe open
    served = lines.pop(SERVING, None) is not None
    sentence, passing = explain(lines.values()) or ("", True)
    if sentence:
        print(sentence, flush=True)
    return 1 if passing or served else UNUSABLE


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    """Our own arguments, and those for vLLM."""
    parser = argparse.ArgumentParser("python -m medgrpo.engines.vllm_server", description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True, help="profile, Hub id, folder or GGUF file")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the converted weights of a GGUF file")
    parser.add_argument("--address-file", type=Path, required=True, help="where to write the address listened on")
    return parser.parse_known_args()


def _weights(model: str, cache: Path) -> str:
    """What vLLM loads: a Hub id, or a folder; a GGUF file is converted once."""
    profile = PROFILES.get(model)
    if not (model.endswith(".gguf") or (profile and packaged_gguf(profile))):
        return profile.base if profile else model
    print("Converting the GGUF file to a folder of weights, once.", flush=True)
    from medgrpo.engines.weights import find_base

    return find_base(model, cache).location


def _pass_on(child: "subprocess.Popen[bytes]", lines: dict[str, str]) -> None:
    """Output of the child goes to standard output; the first line of every telling pattern is kept."""
    patterns = {pattern: re.compile(pattern) for pattern in (SERVING, *(pattern for pattern, _, _ in REASONS))}
    assert child.stdout is not None
    for raw in child.stdout:
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
        line = raw.decode(errors="replace")
        lines.update({each: line for each, known in patterns.items() if each not in lines and known.search(line)})


def _end_with_parent(started: "list[subprocess.Popen[bytes]]") -> None:
    """Blocks until standard input closes, then ends vLLM and everything in this process group, this process too."""
    while os.read(0, 4096):
        pass
    for child in started:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
