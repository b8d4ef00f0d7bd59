"""The Train tab as a server: what it shows to whom, and that a raw request gets no further than a click."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from helpers import serving
from run_helpers import made_run
from test_access import request, signed_in

from medgrpo.errors import RunError
from medgrpo.settings import Settings
from medgrpo.training.manager import RunManager
from medgrpo.ui import access, render_form
from medgrpo.ui.train_tab import Runs

ROOT = Path(__file__).parents[2]
HARMLESS = {"train-pick", "train-preset", "train-yaml", "jobs-flavour", "jobs-minutes"} | {f"train-{field}" for field in (
    "model", "source", "profile", "weights", "steps", "group", "length", "rate", "rank", "held_out")}  # fmt: skip
"""What only turns text into text, or chooses among what the visitor may see anyway."""
EVENTS = ("click", "input", "submit", "change")
GUARDED = re.compile(r"(train|after|hub|job|jobs|adapter)-")


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A page where training is switched off, over a folder with a run."""
    runs = tmp_path_factory.mktemp("runs")
    made_run(runs, "secret")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDGRPO_")}
    environment |= {"MEDGRPO_RUNS": str(runs), "MEDGRPO_ENGINE": "fake", "MEDGRPO_TRAINING": "0"}
    with serving(command=[sys.executable, "app.py"], environment=environment) as url:
        yield url, runs


def raw_call(url, index, data):
    """What a private function answers to somebody who knows its number."""
    body = {"data": data, "fn_index": index, "session_hash": f"s{index}", "trigger_id": None, "event_data": None}
    post = urllib.request.Request(
        f"{url}gradio_api/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(post) as response:
        response.read()
    with urllib.request.urlopen(f"{url}gradio_api/queue/data?session_hash=s{index}", timeout=30) as response:
        for line in response:
            message = json.loads(line[6:]) if line.startswith(b"data: ") else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("no answer")


def test_every_handler_refuses_a_raw_request(closed):
    url, runs = closed
    with urllib.request.urlopen(f"{url}config") as response:
        config = json.load(response)
    ids = {each["id"]: each["props"].get("elem_id") or "" for each in config["components"]}
    before = sorted(str(path) for path in runs.rglob("*"))
    asked = set()
    for each in config["dependencies"]:
        names = {ids.get(target, "") for target, event in each["targets"] if event in EVENTS}
        names = {name for name in names if GUARDED.match(name)} - HARMLESS
        if any(ids.get(output) == "train-plan" for output in each["outputs"]):
            names.add("the check")
        if not names or not each["backend_fn"] or each["types"]["cancel"]:
            continue
        asked |= names
        answer = raw_call(url, each["id"], [None] * len(each["inputs"]))
        assert not answer["success"], names
        assert "MEDGRPO_TRAINING=0" in json.dumps(answer["output"]), (names, answer)
    must = {"train-start", "train-stop", "train-cancel", "train-resume", "train-look", "train-apply"}
    must |= {"the check", "after-chat", "after-fork", "after-export", "adapter-compare", "adapter-grpo", "hub-push"}
    assert must <= asked
    assert sorted(str(path) for path in runs.rglob("*")) == before


def test_a_run_of_this_machine_is_not_told_to_those_who_may_not(closed):
    url, _ = closed
    with urllib.request.urlopen(f"{url}config") as response:
        config = json.load(response)
    outputs = {each["id"]: each for each in config["components"]}
    told = []
    for each in config["dependencies"]:
        if each["targets"] and any(event in ("tick", "load") for _, event in each["targets"]) and each["backend_fn"]:
            data = [None if outputs[i]["type"] == "state" else "secret" for i in each["inputs"]]
            told.append(json.dumps(raw_call(url, each["id"], data)["output"]))
    assert len(told) > 3
    assert not any("casebook+out_of_scope" in text and "secret" in text for text in told)
    assert not any('data-run=\\"secret\\"' in text for text in told)


def runs_of(tmp_path, **settings):
    return Runs(Settings(runs=tmp_path, **settings), RunManager(tmp_path))


def test_who_may_sees_the_runs_and_others_the_recordings(tmp_path, monkeypatch):
    made_run(tmp_path, "one")
    here, space = runs_of(tmp_path), runs_of(tmp_path, on_space=True, admins=("ada",))
    mine, stranger = request(), request(session=signed_in("mallory"))
    assert [info.id for info in here.seen_by(mine)] == ["one"]
    assert space.seen_by(stranger) == []
    assert here.first("", mine) == "one"
    assert space.first("one", stranger).startswith("recorded:")
    assert space.first("one", request(session=signed_in("ada"))) == "one"
    monkeypatch.setattr(access, "current_request", lambda: stranger)
    assert space.find("recorded:smollm2-135m").metrics()
    for run_id in ("one", "../one", "recorded:../one", ""):
        with pytest.raises(RunError):
            space.find(run_id)
    assert not any(run_id == "one" for _, run_id in space.others())
    monkeypatch.setattr(access, "current_request", lambda: mine)
    assert here.find("one").metrics()
    assert here.others()[0] == ("one", "one")


def test_a_page_opens_on_the_run_in_its_address_else_on_the_newest(tmp_path):
    made_run(tmp_path, "old", started=1.0)
    made_run(tmp_path, "new", started=2.0)
    runs = runs_of(tmp_path)
    assert runs.first("", request()) == "new"
    assert runs.first("old", request()) == "old"
    assert runs.first("recorded:smollm2-135m", request()) == "recorded:smollm2-135m"
    assert runs.first("../old", request()) == "new"
    assert runs_of(tmp_path / "none").first("", request()).startswith("recorded:")


def test_the_list_says_where_each_run_stands(tmp_path):
    made_run(tmp_path, "one")
    made_run(tmp_path, "two", phase="training", pid=1, identity="gone")
    html = render_form.runs(RunManager(tmp_path).runs(), {"recorded:x": "X <b>"}, "two")
    assert html.count("<button") == 3
    assert 'data-run="two" aria-pressed="true"' in html
    assert "interrupted" in html
    assert "finished" in html
    assert "X &lt;b&gt;" in html
    assert "No run here yet" in render_form.runs([], {}, "")


@pytest.mark.parametrize("sign_in", [False, True])
def test_the_page_is_built_on_a_space_with_and_without_sign_in(tmp_path, sign_in):
    code = (
        "from medgrpo.settings import Settings; from medgrpo.ui.page import build_app\n"
        "page = build_app(Settings.from_env())\n"
        "print(sum(each['props'].get('elem_id') == 'train-sign-in' for each in page.config['components']))"
    )
    environment = os.environ | {"SYSTEM": "spaces", "SPACE_ID": "o/s", "SPACE_HOST": "o-s.hf.space"}
    environment |= {"MEDGRPO_ENGINE": "fake", "MEDGRPO_RUNS": str(tmp_path), "GRADIO_ANALYTICS_ENABLED": "False"}
    if sign_in:
        names = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES")
        environment |= dict.fromkeys(names, "x") | {"OPENID_PROVIDER_URL": "https://hub.example"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(int(sign_in))]
