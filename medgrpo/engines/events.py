"""A streamed chat completion as plain dictionaries, over the connections of the openai package and with its errors.

The package itself spends more on a request and on an event than all below it, mostly to make typed objects of them. With 64
answers at once, which take turns in one Python process, the server waits for that.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from ssl import SSLError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from httpx2 import URL, Client, Request, Response


def send(http: "Client", url: "URL", headers: Mapping[str, str], body: Mapping[str, Any]) -> "Response":
    """The response to a request, open; it must be closed.

    Raises:
        OpenAIError: the server cannot be reached, is silent, or refuses.
    """
    from openai import APIStatusError

    request = http.build_request("POST", url, content=json.dumps(body).encode(), headers=headers)
    with _in_the_package_s_words(request):
        response = http.send(request, stream=True)
        if response.is_success:
            return response
        try:
            said: Any = response.read().decode(errors="replace")
        finally:
            response.close()
    with suppress(ValueError):
        said = json.loads(said)
    said = said.get("error", said) if isinstance(said, dict) else said
    raise APIStatusError(f"Error code: {response.status_code}", response=response, body=said)


def events(response: "Response", to_the_end: bool) -> Iterator[dict[str, Any]]:
    """What the server sends until it says that it is done; each event as soon as its line is there.

    Args:
        to_the_end: read what comes after it too, without which a connection isn't used again. Only for servers that are
            known to end their responses.

    Raises:
        OpenAIError: the connection broke, or the server told of an error.
        ValueError: something that is no JSON.
    """
    from httpx2 import RequestError
    from openai import APIError

    pieces, begun = response.iter_bytes(), b""
    with _in_the_package_s_words(response.request):
        for piece in pieces:
            *lines, begun = (begun + piece).split(b"\n")
            for line in lines:
                if not line.startswith(b"data:"):
                    continue
                if line[5:].lstrip().startswith(b"[DONE]"):
                    if to_the_end:
                        with suppress(RequestError):
                            deque(pieces, maxlen=0)
                    return
                event = json.loads(line[5:])
                if isinstance(event, dict) and (error := event.get("error")):
                    raise APIError("The server told of an error.", response.request, body=error)
                yield event


@contextmanager
def _in_the_package_s_words(request: "Request") -> Iterator[None]:
    """Failures of the connection as the openai package reports them."""
    from httpx2 import RequestError, TimeoutException
    from openai import APIConnectionError, APITimeoutError

    try:
        yield
    except TimeoutException as error:
        raise APITimeoutError(request) from error
    except (RequestError, SSLError) as error:
        raise APIConnectionError(request=request) from error
