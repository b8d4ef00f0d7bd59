"""The page as Gradio will serve it: what is public, what it may load, and the three functions over HTTP."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from helpers import serving

from medgrpo.engines import load_engine
from medgrpo.settings import Settings
from medgrpo.ui import examples
from medgrpo.ui.desk import Desk
from medgrpo.ui.page import LATER, SOON, _looker, launch_options
from medgrpo.ui.security import POLICY
from medgrpo.ui.stream import CROWD

ROOT = Path(__file__).parents[2]
GOUT = "<reasoning>a red toe</reasoning><answer>Gout</answer>"
PUBLIC = {"ask", "compare", "score"}


@pytest.fixture(scope="module")
def url():
    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def config(url):
    with urllib.request.urlopen(f"{url}config") as response:
        return json.load(response)


def call(url: str, name: str, *arguments: object) -> tuple[str, object]:
    """Event and data with which a public function ends, over plain HTTP as curl would do it."""
    start = f"{url}gradio_api/call/{name}"
    body = json.dumps({"data": arguments}).encode()
    with urllib.request.urlopen(urllib.request.Request(start, body, {"Content-Type": "application/json"})) as response:
        event = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{start}/{event}", timeout=30) as response:
        lines = response.read().decode().split("\n\n")[-2].splitlines()
    data = json.loads(lines[1].removeprefix("data: "))
    return lines[0].removeprefix("event: "), data[0] if isinstance(data, list) else data


def test_only_three_endpoints_are_public(config):
    public = {d["api_name"] for d in config["dependencies"] if d["api_visibility"] != "private"}
    assert public == PUBLIC


def test_no_template_runs_text_of_a_model_as_code(config):
    for component in config["components"]:
        if component["type"] == "html":
            assert component["props"]["html_template"] == "${value}"
            assert not component["props"].get("js_on_load")


def test_nothing_is_shared_or_kept():
    options = launch_options(Settings())
    assert options["share"] is False
    assert options["run_history"] is False
    assert options["ssr_mode"] is False
    assert options["enable_monitoring"] is False


def test_what_gradio_asks_of_each_component_for_each_visitor_is_remembered():
    program = (
        "import inspect; from medgrpo.settings import Settings; from medgrpo.ui.page import build_app\n"
        "kinds = {type(block) for block in build_app(Settings(engine='fake')).blocks.values()}\n"
        "print(all(inspect.signature(kind.__init__) is inspect.signature(kind.__init__) for kind in kinds), len(kinds))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    same, kinds = done.stdout.split()
    assert (same, int(kinds) > 10) == ("True", True), done.stderr


def test_headers_keep_the_page_to_itself(url):
    with urllib.request.urlopen(url) as response:
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["referrer-policy"] == "no-referrer"


def test_public_functions_answer_with_records(url):
    question = "SHORT: a red toe. Diagnosis?"
    event, record = call(url, "ask", question, "grpo", 0.0, 1.0, 320, 0)
    assert event == "complete"
    assert record["answer"] == "Gout. Next: aspirate."
    assert record["format"] == "ok"
    assert record["disclaimer"]
    _, both = call(url, "compare", question, True, 0.0, 1.0, 320, 0)
    assert {name: both[name]["variant"] for name in both} == {"base": "base", "grpo": "grpo"}
    _, sheet = call(url, "score", GOUT, question, "Gout", "diagnosis", "medgrpo")
    assert sheet["total"] > 1
    assert set(sheet["scores"][0]) == {"name", "value", "weight", "why"}


@pytest.mark.parametrize(
    ("question", "variant", "says"),
    [("  ", "grpo", "empty"), ("A toe.", "x", "There is no variant 'x'"), ("CRASH", "grpo", "The model broke")],
)
def test_public_functions_refuse_in_a_sentence(url, question, variant, says):
    event, data = call(url, "ask", question, variant, 0.0, 1.0, 320, 0)
    assert event == "error"
    assert says in json.dumps(data)


def test_sampling_out_of_range_is_refused(url):
    event, data = call(url, "ask", "SHORT", "grpo", 0.0, 1.0, 10**9, 0)
    assert event == "error"
    assert "max_tokens takes 1 to" in json.dumps(data)


def test_examples_are_many_and_the_first_is_the_chest():
    assert len(examples.EXAMPLES) >= 8
    first = examples.EXAMPLES[0]
    assert first.text.startswith("A 45-year-old")
    assert "chest pain and shortness of breath" in first.text
    assert len({example.id for example in examples.EXAMPLES}) == len(examples.EXAMPLES)


def test_a_wrong_setting_is_one_sentence_and_exit_code_2():
    environment = os.environ | {"MEDGRPO_ENGINE": "llamacpp", "MEDGRPO_MODEL": "/nowhere/model.gguf"}
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "/nowhere/model.gguf" in done.stderr


def test_taken_ports_are_skipped(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from app import free_port

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert free_port(port, 20) > port


def test_the_head_is_looked_at_again_soon_while_a_few_answers_are_written_and_later_in_a_crowd():
    desk = Desk(Settings(engine="fake"), load_engine).open(wait=True)
    look = _looker(desk)
    assert look()[1].value == LATER
    tickets = [desk.line.join()]
    assert "busy" in look()[0]
    assert look()[1].value == SOON
    tickets += [desk.line.join() for _ in range(CROWD)]
    assert look()[1].value == LATER
    for ticket in tickets:
        desk.line.leave(ticket)
    assert look()[1].value == LATER
    desk.close()
