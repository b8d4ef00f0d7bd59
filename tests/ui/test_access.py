"""Who may train: settings, the address of the page, the name it was opened under, and the signed-in visitor."""

import time

import gradio as gr
import pytest
from starlette.requests import Request

from medgrpo.settings import Settings
from medgrpo.ui import access

ADMIN = {"name": "Ada", "preferred_username": "ada", "profile": "", "picture": ""}


def request(server="127.0.0.1", host="127.0.0.1:7860", session=None, **headers):
    raw = [(b"host", host.encode())] + [(key.replace("_", "-").encode(), str(v).encode()) for key, v in headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": raw,
        "server": (server, 7860),
        "query_string": b"",
    }
    return gr.Request(Request(scope | ({} if session is None else {"session": session})))


def signed_in(username="ada", expires=3600):
    user = ADMIN | {"preferred_username": username}
    return {"oauth_info": {"userinfo": user, "access_token": "t", "scope": "", "expires_at": time.time() + expires}}


def refusal(settings, asked):
    return access.refusal(settings, asked, access.signed_in(asked))


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "localhost"])
def test_whoever_sits_at_the_machine_may(host):
    assert refusal(Settings(), request(host=host)) == ""
    access.check(Settings(), request(host=host))


@pytest.mark.parametrize(
    ("settings", "asked", "says"),
    [
        (Settings(host="0.0.0.0"), request(), "listens on 0.0.0.0"),
        (Settings(host="192.168.0.7"), request(server="192.168.0.7"), "MEDGRPO_TRAINING=1"),
        (Settings(), request(server="10.0.0.3"), "MEDGRPO_TRAINING=1"),  # launched on another address than was said
        (Settings(), request(host="evil.example:7860"), "opened as evil.example"),  # a name rebound to 127.0.0.1
        (Settings(), request(x_forwarded_host="demo.example"), "opened as demo.example"),
        (Settings(), request(x_forwarded_for="203.0.113.9"), "opened as a proxy"),
        (Settings(), request(host=""), "unnamed host"),
        (Settings(), None, "listens on"),
        (Settings(training=False), request(), "MEDGRPO_TRAINING=0"),
        (Settings(training=False, on_space=True, admins=("ada",)), request(session=signed_in()), "MEDGRPO_TRAINING=0"),
    ],
)
def test_others_may_not_and_are_told_what_would_change_it(settings, asked, says):
    assert says in refusal(settings, asked)
    with pytest.raises(gr.Error, match=says.replace(".", r"\.")):
        access.may_train(settings, asked, access.signed_in(asked))


def test_the_switch_opens_it_to_everyone_elsewhere_than_on_a_space():
    assert refusal(Settings(training=True, host="0.0.0.0"), request(server="10.0.0.3", host="lab:7860")) == ""
    assert refusal(Settings(training=True, on_space=True, host="0.0.0.0"), request()) != ""


def test_on_a_space_only_the_admins():
    space = Settings(on_space=True, admins=("ada", "owner"), host="0.0.0.0", sign_in=True)
    assert refusal(space, request(session=signed_in("ada"))) == ""
    assert refusal(space, request(session=signed_in("owner"))) == ""
    assert "mallory is neither" in refusal(space, request(session=signed_in("mallory")))
    assert "sign in above" in refusal(space, request())
    assert "sign in above" in refusal(space, request(session={}))
    assert "sign in above" in refusal(space, request(session=signed_in("ada", expires=-1)))
    assert refusal(Settings(on_space=True, sign_in=True), request(session=signed_in(""))) != ""
    assert "hf_oauth: true" in refusal(Settings(on_space=True, admins=("ada",)), request())


def test_a_machine_without_the_packages_says_so(monkeypatch):
    assert access.incapable() == ""
    monkeypatch.setattr(access, "PACKAGES", ("torch", "no_such_package_here"))
    assert "lacks no_such_package_here" in access.incapable()
    assert "requirements-train.txt" in access.incapable()
    monkeypatch.setattr(access, "PACKAGES", ())
    monkeypatch.setattr(access, "PROGRAMS", access.PROGRAMS / "nowhere")
    assert "checkout" in access.incapable()
