"""Events of a streamed answer however the bytes come, and connections that are used again."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from openai import APIError

from medgrpo.engines import Sampling
from medgrpo.engines.endpoint import ChatClient
from medgrpo.engines.events import events
from medgrpo.prompts import build_messages

MESSAGES = build_messages("A 45-year-old man with chest pain.")
SENT = 'data: {"a": "über"}\r\n\r\n: still here\n\nevent: x\ndata:{"a": 2}\n\ndata: [DONE]\n\n'.encode()


def response(pieces: list[bytes]) -> httpx2.Response:
    return httpx2.Response(200, content=iter(pieces), request=httpx2.Request("POST", "http://127.0.0.1/"))


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("to_the_end", [False, True])
def test_an_event_is_found_however_it_is_cut(size: int, to_the_end: bool) -> None:
    pieces = [SENT[at : at + size] for at in range(0, len(SENT), size)]
    assert list(events(response(pieces), to_the_end)) == [{"a": "über"}, {"a": 2}]


def test_an_event_does_not_wait_for_the_next() -> None:
    asked = []

    def pieces() -> Iterator[bytes]:
        for piece in (b'data: {"a": 1}\n', b'\ndata: {"a": 2}\n\n'):
            asked.append(piece)
            yield piece

    assert next(events(httpx2.Response(200, content=pieces(), request=response([]).request), False)) == {"a": 1}
    assert len(asked) == 1


def test_an_error_among_the_events_is_raised() -> None:
    with pytest.raises(APIError) as error:
        list(events(response([b'data: {"error": {"message": "out of memory"}}\n\n']), False))
    assert error.value.body == {"message": "out of memory"}


class Server(ThreadingHTTPServer):
    """Ends its answers as uvicorn does, what follows [DONE] in a piece of its own, and waits for more on the connection."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ports: list[int] = []
        self.gone = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.ports.append(self.client_address[1])
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number in range(asked["max_tokens"]):
                finish = "length" if number + 1 == asked["max_tokens"] else None
                self.send({"choices": [{"delta": {"content": f" {number}"}, "finish_reason": finish}]})
            self.chunk(b"data: [DONE]\n\n")
            time.sleep(0.01)
            self.chunk(b"")
        except OSError:
            self.server.gone.set()
            self.close_connection = True

    def send(self, event: object) -> None:
        self.chunk(b"data: %s\n\n" % json.dumps(event).encode())

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[[bool], ChatClient]]:
    clients: list[ChatClient] = []

    def connect(reuse: bool) -> ChatClient:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        clients.append(ChatClient(url, "key", "The server", local=True, reuse=reuse))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.mark.parametrize(("reuse", "connections"), [(True, 1), (False, 3)])
def test_a_connection_is_used_again_where_the_server_ends_its_answers(
    server: Server, connect: Callable[[bool], ChatClient], reuse: bool, connections: int
) -> None:
    client = connect(reuse)
    for _ in range(3):
        assert "".join(client.stream(MESSAGES, Sampling(max_tokens=3), "m")) == " 0 1 2"
    assert len(set(server.ports)) == connections


def test_an_answer_that_is_closed_early_takes_its_connection_along(
    server: Server, connect: Callable[[bool], ChatClient]
) -> None:
    client = connect(True)
    stream = client.stream(MESSAGES, Sampling(max_tokens=1_000_000), "m")
    assert next(stream) == " 0"
    stream.close()  # type: ignore[attr-defined]
    assert server.gone.wait(10), "the server must notice"
    assert "".join(client.stream(MESSAGES, Sampling(max_tokens=2), "m")) == " 0 1"
    assert len(set(server.ports)) == 2


def test_many_answers_at_once_have_one_watch(server: Server, connect: Callable[[bool], ChatClient]) -> None:
    others = {thread for thread in threading.enumerate() if thread.name == "watch-streams"}
    client = connect(True)
    with ThreadPoolExecutor(16) as pool:
        streams = [client.stream(MESSAGES, Sampling(max_tokens=40), "m") for _ in range(16)]
        assert list(pool.map(next, streams)) == [" 0"] * 16
        watches = {thread for thread in threading.enumerate() if thread.name == "watch-streams"}
        assert watches - others == {client._watch}
        assert len(client._watch._sockets) == 16
        assert {len(rest) for rest in pool.map(list, streams)} == {39}
    assert client._watch._sockets == {}
    client.close()
    client._watch.join(5)
    assert not client._watch.is_alive()
