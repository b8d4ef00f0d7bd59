"""Who may train here.

On a Space: its owner and the names in MEDGRPO_ADMINS, signed in. Elsewhere: whoever is at this machine, that is if the
page listens on loopback alone and was opened under a loopback name (another name means a proxy, a tunnel, or a foreign
web page behind a rebound name), or anybody once MEDGRPO_TRAINING=1 says so. A hidden tab is no lock: every handler that
starts, stops, reads or hands out a run of this machine calls `may_train` itself.
"""

import importlib.util
import ipaddress
import math
import time
from pathlib import Path

import gradio as gr
from gradio.context import LocalContext

from medgrpo.settings import Settings

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets")
"""What the training programs import beyond the page's own requirements."""
PROGRAMS = Path(__file__).parents[2] / "train"


def may_train(settings: Settings, request: gr.Request | None, profile: gr.OAuthProfile | None) -> None:
    """Pass if the visitor may train. Raises gr.Error with the reason otherwise."""
    if reason := refusal(settings, request, profile):
        raise gr.Error(reason, title="Not permitted", print_exception=False)


def check(settings: Settings, request: gr.Request | None) -> None:
    """`may_train` for the visitor who sent this request."""
    may_train(settings, request, signed_in(request))


def refusal(settings: Settings, request: gr.Request | None, profile: gr.OAuthProfile | None) -> str:
    """Why the visitor may not train, with what would change it; "" if they may."""
    if settings.training is False:
        return "Training is switched off here by MEDGRPO_TRAINING=0: start the page with MEDGRPO_TRAINING=1."
    if settings.on_space:
        return _on_space(settings, profile)
    if settings.training:
        return ""
    if not is_loopback(settings.host) or not is_loopback(_socket(request)):
        return (
            f"The page listens on {settings.host or 'an unknown address'}, where others can reach it, so training is "
            "off: bind it to 127.0.0.1, or set MEDGRPO_TRAINING=1 if everyone who can open it may train."
        )
    name = _asked_name(request)
    if not is_loopback(name):
        return (
            f"The page was opened as {name or 'an unnamed host'} and not from this machine, so training is off: open "
            "it at http://127.0.0.1, or set MEDGRPO_TRAINING=1 if everyone who can open it may train."
        )
    return ""


def _on_space(settings: Settings, profile: gr.OAuthProfile | None) -> str:
    who = "Only the owner of this Space and the names in MEDGRPO_ADMINS may train here"
    if profile is None:
        how = (
            "sign in above" if settings.sign_in else "set hf_oauth: true in the Space's README so that they can sign in"
        )
        return f"{who}: {how}, or duplicate the Space to train in your own."
    if profile.username not in settings.admins:
        return f"{who}, and {profile.username} is neither: duplicate the Space to train in your own."
    return ""


def incapable() -> str:
    """Why this machine cannot train whoever asks, with the remedy; "" if it can."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return f"This machine lacks {', '.join(missing)}: run `pip install -r requirements-train.txt` to train here."
    if not (PROGRAMS / "grpo.py").is_file():
        return f"The training programs are not at {PROGRAMS}: start the page from a checkout of the repository."
    return ""


def signed_in(request: gr.Request | None) -> gr.OAuthProfile | None:
    """The Hub user behind a request, from the session that the Space's sign-in keeps; None if nobody signed in."""
    raw = getattr(request, "request", None)
    found = (raw.scope.get("session") or {}).get("oauth_info") if raw is not None else None
    if not found or (found.get("expires_at") or math.inf) < time.time():
        return None
    return gr.OAuthProfile(found["userinfo"])


def current_request() -> gr.Request | None:
    """The request that the running handler serves, for functions that are not handed one."""
    request: gr.Request | None = LocalContext.request.get(None)
    return request


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine and nobody else."""
    host = host.strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _socket(request: gr.Request | None) -> str:
    """The address on which the connection was accepted."""
    raw = getattr(request, "request", None)
    server = raw.scope.get("server") if raw is not None else None
    return str(server[0]) if server else ""


def _asked_name(request: gr.Request | None) -> str:
    """The host that the visitor's browser asked for; a proxy's own name for it counts first."""
    raw = getattr(request, "request", None)
    if raw is None:
        return ""
    name = raw.headers.get("x-forwarded-host") or raw.headers.get("host") or ""
    if raw.headers.get("x-forwarded-for") and not raw.headers.get("x-forwarded-host"):
        return "a proxy"
    return str(name.rpartition(":")[0] if name.rpartition(":")[2].isdecimal() else name)
