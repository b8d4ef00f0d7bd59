"""What is wrong with the vLLM server of `grpo.vllm_mode: server` is said before anything is trained, with its command.

vLLM needs a GPU; the server here is a plain HTTP server with the addresses of vLLM that are asked first.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from medgrpo.errors import SettingsError
from medgrpo.training.config import Grpo
from train.rollout_server import await_server, server_command

MODEL = "Qwen/Qwen2.5-3B-Instruct"
PAGES: dict[str, object] = {}


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = PAGES.get(self.path)
        self.send_response(404 if found is None else 200)
        self.end_headers()
        self.wfile.write(b"" if found is None else json.dumps(found).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Grpo]:
    PAGES.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Grpo(use_vllm=True, vllm_mode="server", vllm_server_port=listener.server_port)
        listener.shutdown()
        thread.join()


def test_a_server_that_can_take_weights_is_enough(server: Grpo) -> None:
    PAGES.update({"/v1/models": {"data": [{"id": MODEL}]}, "/get_world_size": {"world_size": 1}})
    await_server(server, MODEL, 0.1)


def test_a_server_that_comes_late_is_waited_for(server: Grpo) -> None:
    PAGES["/get_world_size"] = {"world_size": 1}
    threading.Timer(0.3, PAGES.update, [{"/v1/models": {"data": [{"id": MODEL}]}}]).start()
    await_server(server, MODEL, 10.0)


@pytest.mark.parametrize(
    ("pages", "says"),
    [
        ({}, "no vLLM server answers at"),
        ({"/v1/models": {"data": [{"id": "other/model"}]}}, "serves other/model and not Qwen/Qwen2.5-3B-Instruct"),
        ({"/v1/models": {"data": [{"id": MODEL}]}}, "cannot take weights"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_the_command(server: Grpo, pages: dict[str, object], says: str) -> None:
    PAGES.update(pages)
    with pytest.raises(SettingsError) as error:
        await_server(server, MODEL, 0.1)
    assert says in str(error.value)
    assert server_command(MODEL, server) in str(error.value)


def test_nobody_there() -> None:
    with pytest.raises(SettingsError, match=r"no vLLM server answers at http://127\.0\.0\.1:9"):
        await_server(Grpo(vllm_server_port=9), MODEL, 0.0)


def test_the_command_serves_at_the_port_that_is_asked() -> None:
    command = server_command(MODEL, Grpo(vllm_server_port=8123))
    assert (
        f"VLLM_SERVER_DEV_MODE=1 VLLM_WORKER_MULTIPROC_METHOD=spawn vllm serve {MODEL} --host 127.0.0.1 --port 8123 "
        in command
    )
    assert """--weight-transfer-config '{"backend": "nccl"}' --logprobs-mode processed_logprobs""" in command
