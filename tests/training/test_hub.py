"""Pushing to the Hub, through the real client against a local server."""

import hashlib
import json
import logging
import os
import re
from pathlib import Path

import pytest
import yaml
from hub_runs import change_settings, finished_run
from hub_server import READER, STRANGER, WRITER, Hub

from medgrpo.cli import main
from medgrpo.errors import RunError
from medgrpo.safety import DISCLAIMER
from medgrpo.training.hub import Progress, PushReport, find_token, push
from medgrpo.training.run_directory import RunDirectory

# the client's own plain uploads call httpx in a way that httpx deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
NAME = "ada/medgrpo-test"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return finished_run(tmp_path / "run")


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Xet were not installed: the client uploads over plain LFS."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


class Pushes:
    """Push and remember what was said and waited for."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.said, self.waited = hub, [], []

    def __call__(self, run: RunDirectory, name: str = NAME, token: str = WRITER, private: bool = True) -> PushReport:
        return push(
            run, name, token=token, private=private, endpoint=self.hub.url, on_progress=self.said.append,
            pause=self.waited.append,
        )  # fmt: skip


@pytest.fixture
def pushes(hub: Hub) -> Pushes:
    return Pushes(hub)


def commits(server: Hub, name: str = NAME) -> int:
    """Commits after the first one, which makes the repository."""
    return len(server.repositories[name].commits) - 1 if name in server.repositories else 0


@pytest.mark.parametrize("transport", ["xet", "plain"])
def test_everything_arrives_in_one_private_commit(
    transport: str, pushes: Pushes, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if transport == "plain":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    report = pushes(run)
    server = pushes.hub
    assert server.repositories[NAME].private
    assert report.private
    assert commits(server) == 1
    assert report.commit == server.repositories[NAME].head
    assert report.url == f"{server.url}/{NAME}"
    assert server.content(NAME, WEIGHTS) == (run.adapter / WEIGHTS).read_bytes()
    assert server.content(NAME, "adapter.gguf") == (run.adapter / "adapter.gguf").read_bytes()
    assert json.loads(server.text(NAME, "adapter_config.json"))["r"] == 16
    assert yaml.safe_load(server.text(NAME, "run.yaml"))["training"]["max_steps"] == 100
    assert (server.count("PUT /storage") == 2) == (transport == "plain")
    assert (server.count("POST /v1/xorbs") == 2) == (transport == "xet")
    assert pushes.said[-1] == Progress(pushes.said[-1].total, pushes.said[-1].total, "Done")
    done = [each.done for each in pushes.said]
    assert done == sorted(done)


def test_the_card_says_what_the_run_was(pushes: Pushes, run: RunDirectory) -> None:
    pushes(run)
    card = pushes.hub.text(NAME, "README.md")
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert front["license"] == "apache-2.0"
    assert DISCLAIMER in card
    for heading in (
        "Intended use",
        "Limits",
        "Data",
        "Training",
        "Curves",
        "Held-out cases, before and after",
        "Versions",
    ):
        assert f"## {heading}\n" in card
    assert "| correctness | 2 |" in card
    assert "| | step 0 | step 100 |" in card
    assert "| Right and well-formed | 82.2% (77.6% to 86.0%) | 86.2% (82.0% to 89.6%) |" in card
    assert "34 became right and 21 became wrong (exact McNemar test p = 0.105)" in card
    assert "torch 2.11.0" in card
    assert f'from_pretrained("{NAME}")' in card
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", card)
    assert len(pictures) == 5
    assert all("<svg" in pushes.hub.text(NAME, path) for path in pictures)


def test_the_token_is_nowhere_but_in_the_headers(
    pushes: Pushes,
    run: RunDirectory,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    pushes(run)
    server = pushes.hub
    assert all(WRITER.encode() not in each.body and WRITER not in each.path for each in server.seen)
    assert any(WRITER in each.headers.get("authorization", "") for each in server.seen)
    assert WRITER not in caplog.text
    assert WRITER not in "".join(capfd.readouterr())
    assert WRITER not in "".join(each.says for each in pushes.said)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and WRITER.encode() in path.read_bytes()]
    assert WRITER not in json.dumps(dict(os.environ))


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "does not accept the token"),
        (402, "add credit"),
        (403, "write access to ada/medgrpo-test"),
        (404, "knows no ada/medgrpo-test"),
        (409, "changing ada/medgrpo-test"),
        (412, "changed ada/medgrpo-test"),
        (429, "too many requests"),
        (500, "problem of its own"),
        (503, "problem of its own"),
    ],
)
@pytest.mark.parametrize(
    "where", ["GET /api/whoami", "POST /api/repos/create", "/preupload/", "objects/batch", "PUT /storage", "/commit/"]
)
@pytest.mark.usefixtures("_plain")
def test_an_answer_that_stays_is_one_sentence_and_nothing_is_published(
    status: int, says: str, where: str, pushes: Pushes, run: RunDirectory
) -> None:
    server = pushes.hub
    if status == 409 and "create" in where:
        pytest.skip("409 there means that the repository exists")
    server.fail(where, status=status, times=1000, message=f"no, {WRITER}")
    with pytest.raises(RunError, match=says) as caught:
        pushes(run)
    text = str(caught.value)
    assert f"HTTP {status}" in text
    assert WRITER not in text
    assert "\n" not in text
    assert commits(server) == 0


@pytest.mark.parametrize("status", [408, 409, 412, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("where", ["GET /api/whoami", "/preupload/", "PUT /storage", "/commit/", "GET .*/tree/"])
@pytest.mark.usefixtures("_plain")
def test_an_answer_that_passes_is_waited_out(status: int, where: str, pushes: Pushes, run: RunDirectory) -> None:
    pushes.hub.fail(where, status=status, times=2)
    pushes(run)
    assert commits(pushes.hub) == 1
    assert pushes.waited or pushes.hub.waits
    assert pushes.waited in ([], [1.0, 2.0])


@pytest.mark.usefixtures("_plain")
def test_the_pause_that_the_hub_asks_for_is_kept(pushes: Pushes, run: RunDirectory) -> None:
    pushes.hub.fail("/commit/", status=429, headers={"Retry-After": "7"})
    pushes.hub.fail("GET /api/whoami", status=429, headers={"RateLimit": '"api";r=0;t=55'})
    pushes(run)
    assert pushes.waited == [55.0, 7.0]
    assert any("trying again in 7 s" in each.says for each in pushes.said)


def test_a_pause_too_long_to_wait_is_left_to_the_person(pushes: Pushes, run: RunDirectory) -> None:
    pushes.hub.fail("GET /api/whoami", status=429, headers={"Retry-After": "900"})
    with pytest.raises(RunError, match="wait 900 s"):
        pushes(run)
    assert pushes.waited == []


@pytest.mark.usefixtures("_plain")
def test_a_connection_cut_in_the_middle_of_an_upload_is_resumed(pushes: Pushes, run: RunDirectory) -> None:
    server = pushes.hub
    server.fail("PUT /storage", cut=100_000)
    pushes(run)
    assert commits(server) == 1
    assert server.content(NAME, WEIGHTS) == (run.adapter / WEIGHTS).read_bytes()
    assert server.waits == [1]


@pytest.mark.usefixtures("_plain")
def test_after_a_broken_push_nothing_is_published_and_what_arrived_is_not_sent_again(
    pushes: Pushes, run: RunDirectory
) -> None:
    server = pushes.hub
    second = f"PUT /storage/{hashlib.sha256((run.adapter / 'adapter.gguf').read_bytes()).hexdigest()}"
    first = f"PUT /storage/{hashlib.sha256((run.adapter / WEIGHTS).read_bytes()).hexdigest()}"
    server.fail(second, cut=100_000, times=1000)
    with pytest.raises(RunError, match="connection broke"):
        pushes(run)
    assert commits(server) == 0
    assert set(server.repositories[NAME].files("main")) == {".gitattributes"}
    assert server.count(first) == 1
    server.faults.clear()
    pushes(run)
    assert commits(server) == 1
    assert server.count(first) == 1
    assert server.content(NAME, WEIGHTS) == (run.adapter / WEIGHTS).read_bytes()


def test_xet_goes_on_after_a_cut_connection(pushes: Pushes, run: RunDirectory) -> None:
    pushes.hub.fail("POST /v1/xorbs", cut=300_000)
    pushes(run)
    assert commits(pushes.hub) == 1
    assert pushes.hub.content(NAME, WEIGHTS) == (run.adapter / WEIGHTS).read_bytes()


def test_where_xet_stays_blocked_plain_lfs_takes_over(pushes: Pushes, run: RunDirectory) -> None:
    pushes.hub.fail("POST /v1/xorbs", cut=300_000, times=1000)
    pushes(run)
    assert commits(pushes.hub) == 1
    assert pushes.hub.count("PUT /storage") == 2
    assert pushes.waited == [1.0]


def test_a_commit_whose_answer_was_lost_is_not_made_twice(pushes: Pushes, run: RunDirectory) -> None:
    pushes.hub.fail("/commit/", lost=True)
    report = pushes(run)
    assert commits(pushes.hub) == 1
    assert report.commit == pushes.hub.repositories[NAME].head


def test_the_hub_must_show_what_was_sent(pushes: Pushes, run: RunDirectory) -> None:
    pushes.hub.hidden = {WEIGHTS}
    with pytest.raises(RunError, match=f"does not show {WEIGHTS}"):
        pushes(run)


def test_a_second_push_sends_nothing_that_is_there(pushes: Pushes, run: RunDirectory) -> None:
    first = pushes(run)
    sent = pushes.hub.count("POST /v1/xorbs")
    second = pushes(run)
    assert pushes.hub.count("POST /v1/xorbs") == sent
    assert commits(pushes.hub) == 1
    assert second.commit == first.commit


def test_another_run_leaves_no_file_of_the_first(pushes: Pushes, run: RunDirectory, tmp_path: Path) -> None:
    pushes(run)
    other = finished_run(tmp_path / "other", seed=1)
    (other.adapter / "adapter.gguf").unlink()
    report = pushes(other)
    assert commits(pushes.hub) == 2
    assert "adapter.gguf" not in report.files
    assert pushes.hub.content(NAME, WEIGHTS) == (other.adapter / WEIGHTS).read_bytes()


def test_public_only_on_purpose(pushes: Pushes, run: RunDirectory) -> None:
    assert not pushes(run, "ada/open", private=False).private
    with pytest.raises(RunError, match="everyone can read it"):
        pushes(run, "ada/open")
    pushes(run, "ada/closed")
    assert pushes(run, "ada/closed", private=False).private  # a push never opens what is closed


def test_a_repository_with_other_files_is_left_alone(pushes: Pushes, run: RunDirectory) -> None:
    pushes.hub.create(NAME, True, {"README.md": b"my life's work"})
    with pytest.raises(RunError, match=r"other files already, such as README\.md"):
        pushes(run)
    assert pushes.hub.text(NAME, "README.md") == "my life's work"


@pytest.mark.parametrize(
    ("token", "says"),
    [(READER, "can only read"), (STRANGER, "write access"), ("hf_nobody", "does not accept the token")],
)
def test_a_token_without_the_right_ends_before_any_upload(
    token: str, says: str, pushes: Pushes, run: RunDirectory
) -> None:
    with pytest.raises(RunError, match=says) as caught:
        pushes(run, token=token)
    assert token not in str(caught.value)
    assert pushes.hub.count("preupload") == 0
    assert NAME not in pushes.hub.repositories


@pytest.mark.parametrize("name", ["", "ada", "a/b/c", "../x", "ada/", "ada/x y", "ada/..", "ada/" + "x" * 200, "a\n/b"])
def test_a_bad_name_is_refused_without_a_request(name: str, pushes: Pushes, run: RunDirectory) -> None:
    with pytest.raises(RunError, match="OWNER/NAME"):
        pushes(run, name)
    assert pushes.hub.seen == []


def test_a_run_without_a_whole_adapter_is_refused(pushes: Pushes, run: RunDirectory) -> None:
    weights = run.adapter / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RunError, match="cut off"):
        pushes(run)
    weights.unlink()
    with pytest.raises(RunError, match="no adapter"):
        pushes(run)
    assert pushes.hub.seen == []


def test_a_server_that_is_not_there_is_one_sentence(run: RunDirectory) -> None:
    waited: list[float] = []
    with pytest.raises(RunError, match="connection broke"):
        push(run, NAME, token=WRITER, endpoint="http://127.0.0.1:1", pause=waited.append)
    assert waited == [1.0, 2.0, 4.0]


def test_offline_mode_is_named(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RunError, match="HF_HUB_OFFLINE"):
        push(run, NAME, token=WRITER, endpoint="http://127.0.0.1:1", pause=pytest.fail)


def test_no_path_of_this_machine_is_published(pushes: Pushes, run: RunDirectory, tmp_path: Path) -> None:
    secret = tmp_path / "clinic-of-dr-x"
    text = run.config_file.read_text()
    text = text.replace("source: practice+out_of_scope", f"source: {secret}/cases.csv")
    text = text.replace("init_adapter: runs/smollm2_sft/adapter", f"init_adapter: {secret}/sft/adapter")
    run.config_file.write_text(text)
    change_settings(run, base_model_name_or_path=f"{secret}/base.gguf")
    pushes(run)
    for path in ("README.md", "run.yaml", "adapter_config.json"):
        assert str(tmp_path) not in pushes.hub.text(NAME, path)
    assert "`cases.csv`: a file of the author's" in pushes.hub.text(NAME, "README.md")
    assert "base_model" not in yaml.safe_load(pushes.hub.text(NAME, "README.md").split("---")[1])


def test_a_token_is_the_visitors_own_on_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgrpo.training.hub.get_token", lambda: "hf_of_the_space")
    assert find_token("hf_visitor", on_space=True) == "hf_visitor"
    assert find_token(None, on_space=False) == "hf_of_the_space"
    with pytest.raises(RunError, match="Sign in"):
        find_token(None, on_space=True)
    monkeypatch.setattr("medgrpo.training.hub.get_token", lambda: None)
    with pytest.raises(RunError, match="HF_TOKEN"):
        find_token(None, on_space=False)


def test_the_command_line_pushes_a_run(
    hub: Hub,
    run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    monkeypatch.setenv("MEDGRPO_RUNS", str(run.path.parent))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.url)
    assert main(["push", "run", "--to", NAME]) == 0
    out = capsys.readouterr()
    assert f"{hub.url}/{NAME}" in out.out
    assert "private" in out.out
    assert WRITER not in out.out + out.err
    assert main(["push", "nope", "--to", NAME]) == 2
    assert main(["push", "../run", "--to", "ada"]) == 2
    assert "Traceback" not in capsys.readouterr().err
