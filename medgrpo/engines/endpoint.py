"""The one streaming client, for every engine that speaks the OpenAI chat-completions protocol.

`ChatClient` talks to one server; `EndpointEngine` is the engine over a server that somebody else runs: vLLM, SGLang,
TGI, a Hugging Face endpoint. A request is tried again only before its first token, so an answer is never stitched
together from two. Failures come out as `EngineError` sentences, and none of them contains the key.
"""

import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from medgrpo.engines.base import BASE, GRPO, Health, Piece, Sampling
from medgrpo.engines.control_tokens import without_control_tokens
from medgrpo.engines.events import events, send
from medgrpo.errors import EngineError
from medgrpo.models import PROFILES
from medgrpo.prompts import Message
from medgrpo.settings import Settings

TRIES, PAUSE = 3, 0.25
"""Attempts of a request until its first token, and seconds between them (twice that, then four times)."""
LONGEST_PAUSE = 5.0
"""Seconds that a server may ask to wait before another attempt; if it wants more, the person is told."""
CONNECT, FIRST, GAP = 5.0, 300.0, 120.0
"""Seconds to reach the server, to its first token (a long case on one CPU takes a while to read), and from one to the next."""
KEPT = 4.0
"""Seconds a connection is kept while nothing is asked: uvicorn, under vLLM, closes it after five."""

_REFUSALS = {
    401: "refused the key: set MEDGRPO_API_KEY to one that is valid there",
    403: "refused the key: set MEDGRPO_API_KEY to one that may use this model",
    404: "does not know the model {!r}: set MEDGRPO_MODEL (or MEDGRPO_ADAPTER, for the tuned one) to a name it serves, "
    "and check that the address ends in /v1",
    429: "has too many requests: wait a moment and ask again",
}


class Unreached(EngineError):
    """The server could not be reached or was too busy, and no token was lost: a new attempt may work.

    Attributes:
        pause: seconds the server asks to wait before it; None if it doesn't say.
    """

    pause: float | None = None


def with_retries(attempt: Callable[[], Iterator[str]]) -> Iterator[str]:
    """The deltas of the first of `TRIES` attempts that gets through to the server."""
    for number in range(1, TRIES):
        try:
            yield from attempt()
            return
        except Unreached as error:
            if error.pause is not None and error.pause > LONGEST_PAUSE:
                raise
            time.sleep(PAUSE * 2**number if error.pause is None else error.pause)
    yield from attempt()


class ChatClient:
    """A connection pool to one OpenAI-compatible server; any number of threads may stream through it.

    Args:
        base_url: up to and including `/v1`.
        api_key: sent as bearer token.
        where: what a person calls this server in an error message.
        local: on this machine: proxies from the environment are not used.
        control_tokens: of the model's vocabulary, to keep typed text from steering the model.
        reuse: a connection is used again after an answer: for servers that end their responses, and whose connections
            occupy no one while nothing is asked (llama.cpp's do).
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        where: str,
        local: bool = False,
        control_tokens: Iterable[str] = (),
        reuse: bool = False,
    ) -> None:
        from httpx2 import Limits
        from openai import DefaultHttpxClient, OpenAI, Timeout

        self.where = where
        self._secret = api_key
        self._control_tokens = tuple(control_tokens)
        timeout = Timeout(FIRST, connect=CONNECT)
        key = api_key or "none"
        limits = Limits(keepalive_expiry=KEPT)
        self._http = DefaultHttpxClient(trust_env=not local, verify=not local, timeout=timeout, limits=limits)
        self._client = OpenAI(base_url=base_url, api_key=key, timeout=timeout, max_retries=0, http_client=self._http)
        path, mark, query = self._client.base_url.raw_path.partition(b"?")
        self._url = self._client.base_url.copy_with(raw_path=path + b"chat/completions" + mark + query)
        usual = {name: value for name, value in self._client.default_headers.items() if isinstance(value, str)}
        self._headers = {name: value for name, value in usual.items() if not name.startswith("X-Stainless")}
        self._headers["Authorization"] = f"Bearer {key}"
        self._reuse = reuse
        self._watch = _Watch()

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, model: str, extra: Mapping[str, Any] | None = None
    ) -> Iterator[str]:
        """Text deltas of one answer; a single attempt. `Piece`s where the server tells the tokens so far (`usage`).

        Args:
            messages: of the chat; typed control tokens are made harmless.
            sampling: see `Sampling`.
            model: its name on the server.
            extra: further fields of the request that this server understands.

        Raises:
            EngineError: in words, whatever went wrong; `Unreached` if a new attempt may mend it.
        """
        from openai import OpenAIError

        harmless = without_control_tokens(messages, self._control_tokens)
        answer, begun, finished, counted = _Answer(), False, False, 0
        try:
            response = send(self._http, self._url, self._headers, _body(harmless, sampling, model, extra))
            with closing(response), self._watch.over(answer, response.extensions["network_stream"]):
                for event in events(response, self._reuse):
                    usage = event.get("usage")
                    for choice in event.get("choices", [])[:1]:
                        finished = finished or choice.get("finish_reason") is not None
                        if content := choice["delta"].get("content"):
                            answer.since, begun = math.inf, True
                            new = usage["completion_tokens"] - counted if usage else 1
                            counted += new
                            yield content if new == 1 else Piece(content, new)
                            answer.since = time.monotonic()
        except OpenAIError as error:
            if not answer.cut:
                raise self._failure(error, model, begun) from error
        except (ValueError, KeyError, AttributeError, TypeError) as error:  # no JSON, or another kind of it
            raise EngineError(f"{self.where} sent no chat completion: check that the address ends in /v1.") from error
        if answer.cut and not finished:
            raise EngineError(
                f"{self.where} wrote nothing for {GAP:.0f} seconds in the middle of an answer: ask again."
            )
        if not finished:
            raise EngineError(f"{self.where} stopped in the middle of an answer: ask again.")

    def models(self) -> list[str]:
        """Names of the models the server offers ([] if it doesn't tell), asked with a second of patience.

        Raises:
            EngineError: it cannot be reached or refuses.
        """
        from openai import NotFoundError, OpenAIError

        try:
            return [model.id for model in self._client.models.list(timeout=1.0).data]
        except NotFoundError:  # some providers have no such list and answer all the same
            return []
        except OpenAIError as error:
            raise EngineError(self._sentence(error, "", False)) from error

    def command(self, path: str, body: Mapping[str, Any]) -> None:
        """Asks the server for something that isn't an answer, such as another adapter.

        Raises:
            EngineError: it refused or failed; `Unreached` if it could not be reached.
        """
        from openai import APIStatusError, OpenAIError

        try:
            self._client.post(path, body=dict(body), cast_to=str)
        except APIStatusError as error:
            raise EngineError(f"{self.where} refused it with status {error.status_code}{self._said(error)}.") from error
        except OpenAIError as error:
            raise self._failure(error, "", False) from error

    def close(self) -> None:
        """Closes the connections."""
        self._watch.end.set()
        self._client.close()

    def _failure(self, error: Exception, model: str, begun: bool) -> EngineError:
        sentence = self._sentence(error, model, begun)
        if begun or not _is_passing(error):
            return EngineError(sentence)
        unreached = Unreached(sentence)
        unreached.pause = _asked_pause(error)
        return unreached

    def _sentence(self, error: Exception, model: str, begun: bool) -> str:
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        said = self._said(error)
        if begun:
            return f"{self.where} stopped in the middle of an answer{said}: ask again."
        cause = error.__cause__
        if isinstance(error, APITimeoutError) and type(cause).__name__ != "ConnectTimeout":
            return f"{self.where} did not answer in time: it is overloaded or still loading its model. Try again in a moment."
        if isinstance(error, APIConnectionError):
            why = f" ({cause})" if isinstance(cause, Exception) and str(cause) else ""
            return f"{self.where} cannot be reached{why}: check the address, and that the server is running."
        if not isinstance(error, APIStatusError):
            return f"{self.where} could not answer{said}: try again."
        status = error.status_code
        if status == 400 and "context" in said:
            return (
                f"The case is too long for {self.where[0].lower()}{self.where[1:]}{self._lengths(error)}: shorten it."
            )
        if status >= 500:
            return f"{self.where} failed with status {status}{said}: try again later."
        pause = _asked_pause(error)
        if status == 429 and pause:
            return f"{self.where} has too many requests{said}: wait {math.ceil(pause)} seconds and ask again."
        return f"{self.where} {_REFUSALS.get(status, f'refused the request with status {status}').format(model)}{said}."

    def _lengths(self, error: Exception) -> str:
        body = getattr(error, "body", None)
        if isinstance(body, dict) and {"n_prompt_tokens", "n_ctx"} <= body.keys():  # llama.cpp says it in numbers
            return f": with the instructions it has {body['n_prompt_tokens']} tokens and {body['n_ctx']} is the limit"
        return self._said(error)

    def _said(self, error: Exception) -> str:
        """What the server itself said, in brackets, one line, without the key."""
        body = getattr(error, "body", None)
        text = body.get("message", "") if isinstance(body, dict) else ""
        text = " ".join(str(text).split())[:200]
        if self._secret:
            text = text.replace(self._secret, "***")
        return f" ({text.rstrip('.')})" if text else ""


def _body(messages: list[Message], sampling: Sampling, model: str, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """A request; without a seed the server draws one."""
    seed = {} if sampling.seed is None else {"seed": sampling.seed}
    body = {"model": model, "messages": messages, "stream": True, "temperature": sampling.temperature}
    return body | {"top_p": sampling.top_p, "max_tokens": sampling.max_tokens} | seed | dict(extra or {})


def _public(url: str) -> str:
    """The address without a user name and password in it."""
    return re.sub(r"//[^/@]*@", "//", url)


def _is_passing(error: Exception) -> bool:
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    if isinstance(error, APIStatusError):
        return error.status_code == 429 or error.status_code >= 500
    return isinstance(error, APIConnectionError) and not isinstance(error, APITimeoutError)


def _asked_pause(error: Exception) -> float | None:
    """Seconds of the header Retry-After, where it is a number."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
    return float(asked) if str(asked).isdecimal() else None


@dataclass(eq=False)
class _Answer:
    """Since when we wait for the next token (infinite while we don't), and whether its connection was cut."""

    since: float = math.inf
    cut: bool = False


class _Watch(threading.Thread):
    """Cuts the connections of answers that go silent after their first token; one thread for all of a client.

    The HTTP client has one read time-out for a whole response, and the first token may take much longer than the next.

    Attributes:
        end: set when the client is closed.
    """

    def __init__(self) -> None:
        super().__init__(name="watch-streams", daemon=True)
        self.end, self._sockets = threading.Event(), dict[_Answer, socket.socket]()
        self.start()

    @contextmanager
    def over(self, answer: _Answer, stream: Any) -> Iterator[None]:
        """Watches an answer that comes over this stream of the HTTP client."""
        self._sockets[answer] = stream.get_extra_info("socket")
        try:
            yield
        finally:
            del self._sockets[answer]

    def run(self) -> None:
        while not self.end.wait(GAP / 10):
            for answer, connection in self._sockets.copy().items():
                if time.monotonic() - answer.since > GAP and answer in self._sockets:
                    answer.cut = True
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)


class EndpointEngine:
    """Engine over an OpenAI-compatible server that somebody else runs; a variant is a model name there.

    Args:
        settings: `endpoint`, `api_key`, and the names there of the base model (`model`) and the tuned one (`adapter`).
    """

    name = "endpoint"

    def __init__(self, settings: Settings) -> None:
        profile = PROFILES.get(settings.model)
        self.model = profile.base if profile else settings.model
        self.adapter = settings.adapter
        self._names = {BASE: self.model} | ({GRPO: settings.adapter} if settings.adapter else {})
        self.variants = tuple(self._names)
        self._client = ChatClient(settings.endpoint, settings.api_key, f"The server {_public(settings.endpoint)}")

    def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        """See `Engine.stream`."""
        if variant not in self._names:
            raise EngineError(
                f"This server has no variant {variant!r}, only {', '.join(self.variants)}: "
                "set MEDGRPO_ADAPTER to the name under which it serves the tuned model."
            )
        model = self._names[variant]
        yield from with_retries(lambda: self._client.stream(messages, sampling, model))

    def health(self) -> Health:
        """See `Engine.health`."""
        try:
            served = self._client.models()
        except EngineError as error:
            return Health("down", str(error))
        missing = [name for name in self._names.values() if name not in served]
        if missing and served:
            return Health(
                "down",
                f"{self._client.where} serves {', '.join(served[:5]) or 'no model'}, not {' or '.join(missing)}: "
                "set MEDGRPO_MODEL and MEDGRPO_ADAPTER to names it serves.",
            )
        return Health("ready", f"{self._client.where} serves {' and '.join(self._names.values())}.")

    def close(self) -> None:
        """See `Engine.close`."""
        self._client.close()
