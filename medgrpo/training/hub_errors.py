"""What the Hub answers, in sentences, and when it is worth asking again.

A token must never reach an error text, whatever a server echoes: `explain` cuts it out.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from medgrpo.errors import RunError

T = TypeVar("T")
TRIES = 4
LONGEST_WAIT = 120.0
"""Seconds; a server that asks for a longer pause gets it from the person."""
RETRIED = (408, 409, 412, 425, 429, 500, 502, 503, 504)
SENTENCES = {
    401: "The Hub does not accept the token: sign in again, or set HF_TOKEN to a token that has not expired or been "
    "revoked (https://huggingface.co/settings/tokens).",
    402: "The Hub asks for payment: add credit to the account (https://huggingface.co/settings/billing), then try again.",
    403: "The token may not do this: use one with write access to {name}, or a repository under your own name.",
    404: "The Hub knows no {name} that this token may see: check the spelling, and that the token is of its owner.",
    409: "Something else is changing {name} at this moment: wait a minute, then try again.",
    412: "Somebody else changed {name} in the meantime: try again.",
    413: "The Hub finds the upload too large: leave out files, or ask its support for more room.",
}


def attempts(
    call: Callable[[int], T],
    doing: str,
    name: str,
    token: str,
    say: Callable[[str], None],
    pause: Callable[[float], None],
    tries: int = TRIES,
) -> T:
    """`call(attempt)` with attempts 0, 1, ..., again with growing pauses while the trouble may pass.

    Raises:
        RunError: one sentence with what to do.
    """
    for attempt in range(tries):
        try:
            return call(attempt)
        except RunError:
            raise
        except Exception as error:
            wait = asked_wait(error)
            wait = 2.0**attempt if wait is None else wait
            if attempt == tries - 1 or wait > LONGEST_WAIT or not may_pass(error):
                raise RunError(f"{doing} did not work. {explain(error, name, token)}") from None
            say(f"{doing}: {_short(error)}; trying again in {wait:.0f} s")
            pause(wait)
    raise AssertionError("unreachable")


def sleep(seconds: float) -> None:
    """The pause between two attempts."""
    time.sleep(seconds)


def may_pass(error: BaseException) -> bool:
    """Whether the same request may work later. Errors of the transfer libraries carry no type, so they count too."""
    status = _status(error)
    if status is not None:
        return status in RETRIED
    if isinstance(error, (OfflineModeIsEnabled, FileNotFoundError, PermissionError)):
        return False
    return isinstance(error, (httpx.TransportError, ConnectionError, TimeoutError, RuntimeError, OSError))


def asked_wait(error: BaseException) -> float | None:
    """Seconds the server asked to wait for (`Retry-After`, or the Hub's rate limit headers); None if it did not."""
    response = next((each.response for each in _chain(error) if isinstance(each, HfHubHTTPError)), None)
    if response is None:
        return None
    limit = re.search(r";\s*r=0\s*;\s*t=(\d+)", response.headers.get("RateLimit", ""))
    if limit:  # `"api";r=0;t=55`: none left, new ones in 55 s
        return float(limit[1])
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def explain(error: BaseException, name: str, token: str) -> str:
    """One sentence for a person: what happened, and what to do. `name` is the repository or job it was about."""
    status = _status(error)
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing may be sent: unset it, then try again."
    if status == 429:
        wait = asked_wait(error)
        when = f"wait {wait:.0f} s" if wait is not None else "wait a few minutes"
        sentence = f"The Hub has had too many requests: {when}, then try again."
    elif status is not None and status >= 500:
        sentence = (
            "The Hub has a problem of its own: try again in a few minutes; https://status.huggingface.co tells more."
        )
    elif status in SENTENCES:
        sentence = SENTENCES[status].format(name=name)
    elif status is not None:
        sentence = f"The Hub refused the request about {name}: mend what it says, then try again."
    elif any(isinstance(each, (httpx.TransportError, ConnectionError)) for each in _chain(error)):
        return (
            f"The connection broke ({_kind(error)}): check the network, then try again; what arrived is not sent twice."
        )
    else:
        return clean(
            f"{_kind(error)}: {_text(error)}. Try again; if it stays, the log of the Hub's client may help.", token
        )
    said = _said(error)
    return clean(f"{sentence} (HTTP {status}{f': {said}' if said else ''})", token)


def clean(text: str, token: str) -> str:
    """The text without the token."""
    return text.replace(token, "[token]") if token else text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it; upload threads wrap the cause."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _status(error: BaseException) -> int | None:
    return next((each.response.status_code for each in _chain(error) if isinstance(each, HfHubHTTPError)), None)


def _said(error: BaseException) -> str:
    """The server's own words, cut short."""
    found = next((each.server_message for each in _chain(error) if isinstance(each, HfHubHTTPError)), None)
    return " ".join((found or "").split())[:160].rstrip(".")


def _kind(error: BaseException) -> str:
    return type(list(_chain(error))[-1]).__name__


def _text(error: BaseException) -> str:
    return " ".join(str(list(_chain(error))[-1]).split())[:200].rstrip(".")


def _short(error: BaseException) -> str:
    status = _status(error)
    return f"HTTP {status}" if status is not None else _kind(error)
