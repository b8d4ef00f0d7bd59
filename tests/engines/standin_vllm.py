"""Stands in for `vllm serve`, which needs a GPU: its options, its routes and their answers as vLLM 0.29 has them.

The text comes from llama.cpp with SmolLM2, an adapter's from the same with that adapter. A child process plays vLLM's
engine core, which must not be left behind. `STANDIN_DIES` in the environment: print this and end; `STANDIN_WAITS`: print
this and take forever to start.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import xllamacpp

from medgrpo.engines.adapters import convert, find_converted
from medgrpo.models import find_gguf

BASE_GGUF = find_gguf("smollm2-135m", allow_download=False)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("vllm serve", allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model_tag")
    for name in ("--host", "--served-model-name", "--generation-config"):
        parser.add_argument(name)
    parser.add_argument("--max-lora-rank", type=int, choices=[1, 8, 16, 32, 64, 128, 256, 320, 512])
    for name in ("--port", "--max-loras", "--max-cpu-loras", "--max-model-len", "--stream-interval"):
        parser.add_argument(name, type=int)
    parser.add_argument("--gpu-memory-utilization", type=float)
    parser.add_argument("--allowed-origins", type=json.loads)
    parser.add_argument("--uvicorn-log-level", choices=["critical", "error", "warning", "info", "debug", "trace"])
    for name in ("--enable-lora", "--enable-prefix-caching", "--disable-uvicorn-access-log", "--disable-log-stats"):
        parser.add_argument(name, action="store_true")
    return parser.parse_args()


class Standin(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, chosen: argparse.Namespace) -> None:
        super().__init__((chosen.host, chosen.port), Handler)
        self.chosen = chosen
        self.key = os.environ["VLLM_API_KEY"]
        self.models = {chosen.served_model_name: start(None)}
        self.lock = threading.Lock()


def start(adapter: Path | None) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(BASE_GGUF)
    if adapter:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter))]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_ctx, params.n_parallel, params.fit_params = 8192, 2, False
    return xllamacpp.Server(params)


class Handler(BaseHTTPRequestHandler):
    server: Standin

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/health":
            self.reply(200, "")
        elif self.allowed():
            self.reply(200, json.dumps({"object": "list", "data": [{"id": name} for name in self.server.models]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return None
        with self.server.lock:
            if self.path == "/v1/load_lora_adapter":
                return self.load(body["lora_name"], Path(body["lora_path"]))
            if self.path == "/v1/unload_lora_adapter":
                self.server.models.pop(body["lora_name"])
                return self.reply(
                    200, f"Success: LoRA adapter '{body['lora_name']}' removed successfully.", "text/plain"
                )
            model = self.server.models.get(body["model"])
        if model is None:
            return self.refuse(404, f"The model `{body['model']}` does not exist.")
        return self.pass_on(model.listening_address, body)

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.server.key}":
            return True
        self.reply(401, json.dumps({"error": "Unauthorized"}))
        return False

    def load(self, name: str, folder: Path) -> None:
        if name in self.server.models:
            return self.refuse(400, f"The lora adapter '{name}' has already been loaded.")
        try:
            rank = json.loads((folder / "adapter_config.json").read_text())["r"]
        except OSError:
            return self.refuse(404, f"Loading lora {name} failed: No adapter found for {folder}")
        if rank > self.server.chosen.max_lora_rank:
            return self.refuse(
                500, f"LoRA rank {rank} is greater than max_lora_rank {self.server.chosen.max_lora_rank}."
            )
        gguf = find_converted(folder) or convert(folder, BASE_GGUF, Path(os.environ["STANDIN_FOLDER"]) / f"{name}.gguf")
        self.server.models[name] = start(gguf)
        return self.reply(200, f"Success: LoRA adapter '{name}' added successfully.", "text/plain")

    def pass_on(self, address: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(
            f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request) as answer:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for event in in_pieces(answer, self.server.chosen.stream_interval, body.get("stream_options", {})):
                    self.wfile.write(event)
                    self.wfile.flush()
        except BrokenPipeError:
            self.close_connection = True

    def refuse(self, status: int, message: str) -> None:
        self.reply(status, json.dumps({"error": {"message": message, "type": "x", "param": None, "code": status}}))

    def reply(self, status: int, text: str, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


def in_pieces(answer: Iterable[bytes], interval: int, options: dict[str, Any]) -> Iterator[bytes]:
    """llama.cpp's events as vLLM sends them: the first token alone, then `interval` at once, each with the count so far."""
    written, held = 0, ""
    for line in answer:
        if not line.startswith(b"data: {"):
            yield line
            continue
        chunk = json.loads(line[6:])
        for choice in chunk["choices"][:1]:
            text = choice["delta"].get("content") or ""
            written, held = written + bool(text), held + text
            if written > 1 and written % interval and choice["finish_reason"] is None:
                break
            choice["delta"]["content"], held = held, ""
            if options.get("continuous_usage_stats"):
                chunk["usage"] = {"prompt_tokens": 1, "completion_tokens": written, "total_tokens": written + 1}
            yield b"data: " + json.dumps(chunk).encode() + b"\n"


if __name__ == "__main__":
    chosen = options()
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # the engine core
    if last := os.environ.get("STANDIN_DIES"):
        sys.exit(last)
    if line := os.environ.get("STANDIN_WAITS"):
        print(line, flush=True)
        time.sleep(600)
    server = Standin(chosen)
    print(f"INFO 11-25 12:00:00 [entry.py:139] Starting vLLM server on http://{chosen.host}:{chosen.port}", flush=True)
    server.serve_forever()
