"""Runs the transformers engine as a ZeroGPU Space would, in a process of its own; prints what happened as JSON.

Real: the package `spaces` with its decorator, its calls to the platform, its forked workers and their queues, and the
pretence of CUDA in which the model is put on "cuda" before there is a GPU. Stand-ins, because they need what isn't here:
the platform that lends GPUs (the HTTP server below, which notes what it is asked), and the moment when a worker puts the
tensors on a real GPU (they come back to the CPU).

    python tests/engines/standin_zero_gpu.py FOLDER_OF_RUNS
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

CASE = "A 45-year-old man has chest pain and shortness of breath."


class Platform(BaseHTTPRequestHandler):
    """Lends its only GPU at once, or refuses for want of quota."""

    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []
    refusing = False

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        self.asked.append((url.path, {name: values[0] for name, values in parse_qs(url.query).items()}))
        status, body = 200, {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "lent"}
        if url.path == "/schedule" and Platform.refusing:
            status, body = 429, {"left": 3, "wait": 100}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Standard error is for what goes wrong."""

    @classmethod
    def durations(cls) -> list[int]:
        return [int(query["durationSeconds"]) for path, query in cls.asked if path == "/schedule"]

    @classmethod
    def released(cls, count: int, patience: float = 60) -> bool:
        end = time.monotonic() + patience
        while sum(path == "/release" for path, _ in cls.asked) < count and time.monotonic() < end:
            time.sleep(0.05)
        return sum(path == "/release" for path, _ in cls.asked) == count


def _in_no_fork() -> bool:
    return False


def pretend() -> None:
    """What `spaces` expects of a torch built for CUDA, and what it does with a GPU."""
    import torch

    _in_no_fork.__module__, _in_no_fork.__qualname__, _in_no_fork.__name__ = "torch.cuda", *["_is_in_bad_fork"] * 2
    torch.version.cuda, torch._C._cuda_init, torch.cuda._is_in_bad_fork = "13.0", None, _in_no_fork
    from spaces.zero import torch as zero
    from spaces.zero.torch import patching

    def move(callback: object = None) -> None:
        for placed, original in patching.cuda_aliases.items():
            placed.data = original

    zero.init, zero.move = lambda uuid: None, move


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Platform)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{server.server_port}"}
    os.environ |= {"MEDGRPO_ENGINE": "transformers", "MEDGRPO_THREADS": "1", "MEDGRPO_RUNS": sys.argv[1]}
    pretend()
    from medgrpo.answers import compare
    from medgrpo.engines import Sampling, load_engine
    from medgrpo.errors import EngineError
    from medgrpo.prompts import build_messages
    from medgrpo.settings import Settings

    engine = load_engine(Settings.from_env())
    report: dict[str, object] = {"health": engine.health().detail}
    report["placed on"] = str(next(engine._model.parameters()).device)
    engine._device = "cpu"  # where the tensors come back to in the worker
    report["texts"] = [answer.text for answer in compare(engine, CASE, sampling=Sampling(max_tokens=12))]
    report["compare"], report["compare released"] = Platform.durations(), Platform.released(1)
    stream = engine.stream(build_messages(CASE), Sampling(max_tokens=400), "base")
    next(stream)
    stream.close()
    report["closed released"], report["durations"] = Platform.released(2), Platform.durations()
    Platform.refusing = True
    try:
        list(engine.stream(build_messages(CASE), Sampling(max_tokens=12), "base"))
    except EngineError as error:
        report["refusal"] = str(error)
    engine.close()
    print("REPORT", json.dumps(report))


if __name__ == "__main__":
    main()
