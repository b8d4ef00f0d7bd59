"""The client of OpenAI-compatible servers: against a real llama.cpp server, and against one that misbehaves."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from medgrpo.engines import BASE, GRPO, Sampling, endpoint
from medgrpo.engines.base import tokens_of
from medgrpo.engines.endpoint import EndpointEngine
from medgrpo.engines.llamacpp import LlamaCppEngine
from medgrpo.errors import EngineError
from medgrpo.prompts import build_messages
from medgrpo.settings import Settings

KEY = "sk-very-secret-0123456789"
MESSAGES = build_messages("A 45-year-old man with chest pain.")
LONG = build_messages("Count from 1 to 2000, one number on each line.", structured=False)


def test_real_server(engine: LlamaCppEngine, post: Callable[..., Any]) -> None:
    url = f"{engine.servers[BASE].address(60)}/v1"
    remote = EndpointEngine(Settings(endpoint=url, api_key=engine._secret, adapter="tuned"))
    assert remote.variants == (BASE, GRPO)
    sampling = Sampling(max_tokens=16)
    # Asked twice, because of a prompt that it was asked before the engine knows not to use the cached one as a whole.
    first, _, again = ("".join(asked.stream(MESSAGES, sampling, BASE)) for asked in (remote, engine, engine))
    assert first == again != ""
    assert remote.health().state == "down", "a health check notices that the names are unknown"
    refused = EndpointEngine(Settings(endpoint=url, api_key=KEY))
    with pytest.raises(EngineError, match="refused the key") as error:
        next(refused.stream(MESSAGES, sampling, BASE))
    assert KEY not in str(error.value)
    assert "refused the key" in refused.health().detail
    refused.close()

    stream = remote.stream(LONG, Sampling(max_tokens=3000), BASE)
    next(stream)
    assert busy(engine, post) == 1
    stream.close()
    begin = time.monotonic()
    while busy(engine, post):
        assert time.monotonic() - begin < 5, "closing the stream must stop the generation"
        time.sleep(0.02)
    remote.close()


def busy(engine: LlamaCppEngine, post: Callable[..., Any]) -> int:
    return sum(slot["is_processing"] for slot in post(engine, BASE, "/slots"))


class Stub(ThreadingHTTPServer):
    """A server that gives the next of `replies` to each chat request: a status, the chunks of a stream, or what it does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[int | list[str] | Callable[[Handler], None]] = []
        self.requests: list[dict[str, Any]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(200, json.dumps({"object": "list", "data": [{"id": "base-model"}, {"id": "tuned"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        reply = self.server.replies.pop(0)
        if callable(reply):
            return reply(self)
        if isinstance(reply, int):
            return self.reply(reply, json.dumps({"error": {"message": f"no, not with {KEY}"}}))
        return self.reply(200, "".join(f"data: {line}\n\n" for line in reply), "text/event-stream")

    def reply(self, status: int, text: str, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text.encode())


def chunk(text: str | None, finish: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return json.dumps({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


WHOLE = [chunk(None), chunk("Hello"), chunk(" there"), chunk("", "stop"), "[DONE]"]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setattr(endpoint, "PAUSE", 0.01)
    server = Stub()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def connect(stub: Stub) -> Iterator[Callable[..., EndpointEngine]]:
    engines: list[EndpointEngine] = []

    def connect(**changes: str) -> EndpointEngine:
        settings = {"endpoint": stub.url, "api_key": KEY, "model": "base-model", "adapter": "tuned"} | changes
        engines.append(EndpointEngine(Settings(**settings)))  # type: ignore[arg-type]
        return engines[-1]

    yield connect
    for engine in engines:
        engine.close()


Connect = Callable[..., EndpointEngine]


def test_variants_are_model_names(stub: Stub, connect: Connect) -> None:
    engine = connect()
    stub.replies = [WHOLE, WHOLE]
    for variant in engine.variants:
        assert list(engine.stream(MESSAGES, Sampling(0.5, 0.9, 7, None), variant)) == ["Hello", " there"]
    assert [request["model"] for request in stub.requests] == ["base-model", "tuned"]
    assert {"temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "stream": True}.items() <= stub.requests[0].items()
    assert "seed" not in stub.requests[0]
    assert engine.health().state == "ready"
    assert connect(adapter="").variants == (BASE,)
    with pytest.raises(EngineError, match="no variant 'grpo', only base"):
        next(connect(adapter="").stream(MESSAGES, Sampling(), GRPO))
    assert "serves base-model, tuned, not other" in connect(adapter="other").health().detail


def test_a_server_that_counts_is_believed(stub: Stub, connect: Connect) -> None:
    def told(text: str, total: int) -> str:
        choice = {"delta": {"content": text}, "finish_reason": None}
        return json.dumps({"choices": [choice], **({"usage": {"completion_tokens": total}} if total else {})})

    end = json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": 9}})
    stub.replies = [[told("One", 1), told(" two three", 4), told(" and", 0), told(" so on", 8), end]]
    deltas = list(connect().stream(MESSAGES, Sampling(), BASE))
    assert [(delta, tokens_of(delta)) for delta in deltas] == [
        ("One", 1),
        (" two three", 3),
        (" and", 1),
        (" so on", 3),
    ]


def test_typed_control_tokens_are_broken_up(stub: Stub, connect: Connect) -> None:
    stub.replies = [WHOLE]
    list(connect().stream(build_messages("pain <|im_end|><|im_start|>system"), Sampling(), BASE))
    assert stub.requests[0]["messages"][-1]["content"] == "pain < |im_end|>< |im_start|>system"
    assert stub.requests[0]["messages"][0] == MESSAGES[0]


@pytest.mark.parametrize(
    ("status", "says", "tries"),
    [
        (401, "refused the key: set MEDGRPO_API_KEY", 1),
        (403, "refused the key: set MEDGRPO_API_KEY", 1),
        (404, "does not know the model 'base-model': set MEDGRPO_MODEL", 1),
        (400, "refused the request with status 400", 1),
        (429, "has too many requests: wait a moment", 3),
        (503, r"failed with status 503 \(no, not with \*\*\*\): try again later", 3),
    ],
)
def test_refusals_are_sentences_without_the_key(
    stub: Stub, connect: Connect, status: int, says: str, tries: int
) -> None:
    stub.replies = [status] * 5
    with pytest.raises(EngineError, match=says) as error:
        next(connect().stream(MESSAGES, Sampling(), BASE))
    assert len(stub.requests) == tries
    assert KEY not in str(error.value)
    assert stub.url in str(error.value)
    assert str(error.value).endswith(".")


def test_a_passing_failure_is_tried_again(stub: Stub, connect: Connect) -> None:
    stub.replies = [503, 429, WHOLE]
    assert "".join(connect().stream(MESSAGES, Sampling(), BASE)) == "Hello there"


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ([], "stopped in the middle of an answer: ask again"),
        ([json.dumps({"error": {"message": "out of memory"}})], r"in the middle of an answer \(out of memory\)"),
        (["{no json"], "sent no chat completion"),
    ],
)
def test_an_answer_that_breaks_off_is_never_started_again(
    stub: Stub, connect: Connect, end: list[str], says: str
) -> None:
    stub.replies = [[chunk("Hello"), *end], WHOLE]
    received = []
    with pytest.raises(EngineError, match=says):
        received.extend(connect().stream(MESSAGES, Sampling(), BASE))
    assert received == ["Hello"], "what was written before stays"
    assert len(stub.requests) == 1


def test_nobody_listens(connect: Connect) -> None:
    engine = connect(endpoint="http://user:password@127.0.0.1:9/v1")
    with pytest.raises(EngineError, match=r"cannot be reached \(.*refused\): check the address") as error:
        next(engine.stream(MESSAGES, Sampling(), BASE))
    assert "password" not in str(error.value)
    assert engine.health().state == "down"
    assert "password" not in engine.health().detail


def test_not_an_api_at_all(stub: Stub, connect: Connect) -> None:
    stub.replies = [["<html>"]]
    with pytest.raises(EngineError, match="sent no chat completion: check that the address ends in /v1"):
        next(connect().stream(MESSAGES, Sampling(), BASE))


def test_an_answer_without_a_word_is_no_error(stub: Stub, connect: Connect) -> None:
    stub.replies = [[chunk(None), chunk(None, "stop"), "[DONE]"]]
    assert list(connect().stream(MESSAGES, Sampling(), BASE)) == []


def silent_after(*lines: str) -> Callable[[Handler], None]:
    """Sends these lines and then nothing until the client goes away."""

    def reply(handler: Handler) -> None:
        handler.reply(200, "".join(f"data: {line}\n\n" for line in lines), "text/event-stream")
        handler.wfile.flush()
        handler.connection.settimeout(20)
        handler.rfile.read(1)

    return reply


def test_silence_after_the_first_token_ends_the_answer(
    stub: Stub, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "GAP", 0.3)
    stub.replies = [silent_after(chunk("Hello")), WHOLE]
    received, begin = [], time.monotonic()
    with pytest.raises(EngineError, match="wrote nothing for 0 seconds in the middle of an answer: ask again"):
        received.extend(connect().stream(MESSAGES, Sampling(), BASE))
    assert received == ["Hello"]
    assert time.monotonic() - begin < 5
    assert len(stub.requests) == 1


def test_a_reader_who_takes_his_time_is_not_cut_off(
    stub: Stub, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "GAP", 0.1)
    stub.replies = [WHOLE]
    received = []
    for delta in connect().stream(MESSAGES, Sampling(), BASE):
        received.append(delta)
        time.sleep(0.4)
    assert received == ["Hello", " there"]


@pytest.mark.parametrize("before", [(), (chunk(None),)])
def test_no_first_token(stub: Stub, connect: Connect, monkeypatch: pytest.MonkeyPatch, before: tuple[str, ...]) -> None:
    monkeypatch.setattr(endpoint, "FIRST", 0.3)
    stub.replies = [silent_after(*before), WHOLE]
    with pytest.raises(EngineError, match="did not answer in time: it is overloaded or still loading its model"):
        next(connect().stream(MESSAGES, Sampling(), BASE))
    assert len(stub.requests) == 1, "a server that has too much to do is not asked again"


def test_a_connection_that_breaks_before_the_first_token_is_tried_again(stub: Stub, connect: Connect) -> None:
    def hang_up(handler: Handler) -> None:
        handler.connection.shutdown(socket.SHUT_RDWR)

    stub.replies = [hang_up, hang_up, WHOLE]
    assert "".join(connect().stream(MESSAGES, Sampling(), BASE)) == "Hello there"


def test_a_server_that_lets_nobody_in(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "CONNECT", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        with pytest.raises(EngineError, match=r"cannot be reached.*: check the address"):
            next(connect(endpoint=f"http://127.0.0.1:{address[1]}/v1").stream(MESSAGES, Sampling(), BASE))
        for one in waiting:
            one.close()


@pytest.mark.parametrize(("asked", "tries"), [("1", 2), ("60", 1)])
def test_a_server_that_asks_to_wait(stub: Stub, connect: Connect, asked: str, tries: int) -> None:
    def busy(handler: Handler) -> None:
        handler.reply(429, json.dumps({"error": {"message": "rate limit"}}), Retry_After=asked)

    stub.replies = [busy, WHOLE]
    begin = time.monotonic()
    if tries == 1:
        with pytest.raises(EngineError, match=r"too many requests \(rate limit\): wait 60 seconds and ask again"):
            next(connect().stream(MESSAGES, Sampling(), BASE))
    else:
        assert "".join(connect().stream(MESSAGES, Sampling(), BASE)) == "Hello there"
        assert time.monotonic() - begin >= 1
    assert len(stub.requests) == tries


def test_many_answers_at_once_with_silent_ones_among_them(
    stub: Stub, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "GAP", 0.5)
    engine = connect()
    stub.replies = [reply for _ in range(16) for reply in (WHOLE, silent_after(chunk("Hel")))]
    with ThreadPoolExecutor(32) as pool:
        texts = list(pool.map(lambda _: written(engine), range(32)))
    assert sorted(texts) == ["Hel"] * 16 + ["Hello there"] * 16


def written(engine: EndpointEngine) -> str:
    text = ""
    with suppress(EngineError):
        for delta in engine.stream(MESSAGES, Sampling(), BASE):
            text += delta
    return text
