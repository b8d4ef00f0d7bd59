"""Train on somebody else's GPU: Hugging Face Jobs, through `run_uv_job`, paid by whoever's token it is.

What runs there is this code and no other: sources and configuration travel as one archive into the private repository
that the adapter will be pushed to, and the job unpacks that revision. So the right to push is proved before a GPU costs
money, and a job needs no public copy of the code. The job's token goes through the API's `secrets`; it is in no argument,
environment variable or file of ours.

Nothing about a job is kept here: jobs carry a label, so the Hub's own list finds them again after a reload or restart.
"""

import dataclasses
import io
import re
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

from medgrpo.data.hub import find_adapter
from medgrpo.errors import RunError
from medgrpo.models import PROFILES
from medgrpo.training.card import OWN_SOURCES, is_hub_id
from medgrpo.training.config import RunConfig
from medgrpo.training.hub import JOB_FILE, OnProgress, Progress, publish
from medgrpo.training.hub_errors import attempts, sleep
from medgrpo.training.launching import ROOT

LABEL = {"medgrpo": "run"}
MINUTES = (10, 24 * 60)
"""Shortest and longest time limit that is offered."""
SPARE = 600.0
"""Seconds that a sign-in must outlast the time limit by, because the job pushes with it at its end."""
UNPACK = (
    "import sys,zipfile,runpy;from huggingface_hub import hf_hub_download as d;"
    f"zipfile.ZipFile(d(sys.argv[1],'{JOB_FILE}',revision=sys.argv[2])).extractall('job');"
    "sys.path.insert(0,'job');runpy.run_module('train.job',run_name='__main__')"
)
"""What the job executes first. Short, because the client takes each argument for a file name and asks the disk for it."""
SOURCES = (".py", ".yaml", ".css", ".js")
"""What travels: code and its data, and nothing that merely lies beside it."""
PAGE_ONLY = ("gradio", "xllamacpp", "openai", "pydantic", "pillow")
EXTRAS = {
    "vllm": ("vllm==0.29.0",),
    "unsloth": ("unsloth==2026.10.7", "unsloth-zoo==2026.10.7", "bitsandbytes==0.50.2"),
}
"""What a GPU run needs on top; these versions resolve together with requirements-train.txt."""
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")


@dataclass(frozen=True)
class Flavour:
    """A machine that can be rented: its name, what it is, and dollars an hour."""

    name: str
    title: str
    detail: str
    dollars_an_hour: float

    def cost(self, minutes: float) -> float:
        """Dollars for this many minutes."""
        return self.dollars_an_hour * minutes / 60


@dataclass(frozen=True)
class Job:
    """A job as the Hub describes it.

    Attributes:
        id, owner, url: which one, whose, and its page on the Hub.
        stage: SCHEDULING, RUNNING or one of `ENDED`.
        message: the Hub's own words, or "".
        flavour: name of its machine.
        repository: where it pushes to.
        created: when, as text.
        seconds: how long it has run, and so what it cost.
    """

    id: str
    owner: str
    url: str
    stage: str
    message: str
    flavour: str
    repository: str
    created: str
    seconds: float

    @property
    def ended(self) -> bool:
        return self.stage in ENDED


class Jobs:
    """The jobs of whoever's token this is. Every method raises RunError, one sentence, if the Hub says no."""

    def __init__(self, token: str, endpoint: str | None = None, pause: Callable[[float], None] = sleep) -> None:
        self._token, self._pause, self._endpoint = token, pause, endpoint
        self._api = HfApi(endpoint=endpoint, token=token)
        self._owner = ""

    def flavours(self) -> list[Flavour]:
        """Machines with their prices, cheapest first."""
        found = self._ask("Asking for the prices", "the list of machines", lambda _: self._api.list_jobs_hardware())
        return sorted(map(_flavour, found), key=lambda flavour: flavour.dollars_an_hour)

    def mine(self) -> list[Job]:
        """Jobs of this project, newest first."""
        owner = self._whose()
        asked = self._ask(
            "Listing the jobs",
            f"the jobs of {owner}",
            lambda _: list(self._api.list_jobs(namespace=owner, labels=LABEL)),
        )
        return sorted(map(_job, asked), key=lambda job: job.created, reverse=True)

    def look(self, job_id: str) -> Job:
        """How a job is."""
        owner = self._whose()
        return _job(
            self._ask(
                "Looking at the job", f"job {job_id}", lambda _: self._api.inspect_job(job_id=job_id, namespace=owner)
            )
        )

    def logs(self, job_id: str, lines: int = 200) -> list[str]:
        """The last lines of its log; empty while there is none. Takes up to five seconds while the job runs."""
        owner = self._whose()

        def read(attempt: int) -> list[str]:
            try:
                return list(self._api.fetch_job_logs(job_id=job_id, namespace=owner, tail=lines))
            except HfHubHTTPError as error:
                if error.response.status_code == 404:  # not started yet
                    return []
                raise

        return [line for part in self._ask("Reading the log", f"job {job_id}", read) for line in part.splitlines()]

    def cancel(self, job_id: str) -> Job:
        """End a job; what it has not pushed is lost. One that has ended already is left as it is."""
        owner = self._whose()
        found = self.look(job_id)
        if not found.ended:
            self._ask(
                "Cancelling the job", f"job {job_id}", lambda _: self._api.cancel_job(job_id=job_id, namespace=owner)
            )
            found = self.look(job_id)
        return found

    def launch(
        self,
        config: RunConfig,
        repository: str,
        flavour: str,
        minutes: float,
        *,
        expires: float | None = None,
        on_progress: OnProgress = lambda progress: None,
    ) -> Job:
        """Start a run there that pushes its adapter to `repository`, which becomes private if it is new.

        Args:
            minutes: time limit; the run is asked to save and push shortly before it.
            expires: when the token ends, in seconds since 1970; None if it does not.
        """
        _check(minutes, expires)
        archive = pack(config)
        report = publish(
            repository, {JOB_FILE: archive}, "Sources and configuration of a run", token=self._token, private=True,
            endpoint=self._endpoint, on_progress=on_progress, pause=self._pause,
        )  # fmt: skip
        on_progress(Progress(len(archive), len(archive), f"Starting the job on {flavour}"))
        return self._start(config, repository, report.commit, flavour, minutes)

    def _start(self, config: RunConfig, repository: str, revision: str, flavour: str, minutes: float) -> Job:
        """Asked once: a start whose answer got lost may have happened, and a second one would cost twice."""
        owner, seconds = self._whose(), int(minutes * 60)
        lost: list[bool] = []

        def post(attempt: int) -> Any:
            try:
                return self._api.run_uv_job(
                    "python",
                    script_args=["-c", UNPACK, repository, revision, str(seconds)],
                    dependencies=dependencies(config),
                    python="3.12",
                    secrets={"HF_TOKEN": self._token},
                    flavor=flavour,
                    timeout=seconds,
                    labels=LABEL,
                    namespace=owner,
                )
            except Exception as error:
                status = error.response.status_code if isinstance(error, HfHubHTTPError) else 500
                lost.append(status >= 500)
                raise

        try:
            return _job(self._ask("Starting the job", f"jobs of {owner}", post, tries=1))
        except RunError as error:
            unsure = " It may have started all the same: press Find my jobs before you start it again."
            raise RunError(f"{error}{unsure if any(lost) else ''}") from None

    def _whose(self) -> str:
        if not self._owner:
            self._owner = str(self._ask("Signing in", "this account", lambda _: self._api.whoami())["name"])
        return self._owner

    def _ask(self, doing: str, name: str, call: Callable[[int], Any], tries: int = 4) -> Any:
        return attempts(call, doing, name, self._token, lambda says: None, self._pause, tries)


def _check(minutes: float, expires: float | None) -> None:
    if not MINUTES[0] <= minutes <= MINUTES[1]:
        raise RunError(f"A time limit of {minutes:g} minutes is out of range: choose {MINUTES[0]} to {MINUTES[1]}.")
    if expires is not None and expires - time.time() < minutes * 60 + SPARE:
        left = max(0.0, (expires - time.time() - SPARE) / 60)
        raise RunError(
            f"Your sign-in ends before the job would push: sign out and in again, or choose at most {left:.0f} minutes."
        )
    if constants.HF_DEBUG:
        raise RunError("HF_DEBUG writes requests with the job's secrets to the log: unset it and start the page again.")


def pack(config: RunConfig) -> bytes:
    """An archive of medgrpo/, train/, the configuration and the adapter that it goes on from.

    Raises:
        RunError: the run needs something that only this machine has, or there are no sources here.
    """
    if not (ROOT / "train" / "job.py").is_file():
        raise RunError(
            "The training programs are not installed here: start the page from a checkout of the repository."
        )
    _check_reachable(config)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in ("medgrpo", "train"):
            for path in sorted((ROOT / folder).rglob("*")):
                inside = path.relative_to(ROOT)
                if path.suffix in SOURCES and path.is_file() and inside.parts[:2] != ("medgrpo", "assets"):
                    _add(archive, inside.as_posix(), path.read_bytes())
        sent = dataclasses.replace(config, init_adapter=_add_start(archive, config.init_adapter))
        _add(archive, "config.yaml", yaml.safe_dump(sent.as_mapping(), sort_keys=False, allow_unicode=True).encode())
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """With a fixed date, so that the same sources are the same archive and are not sent twice."""
    entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _add_start(archive: zipfile.ZipFile, init_adapter: str) -> str:
    if not init_adapter:
        return ""
    folder = Path(init_adapter).expanduser()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise RunError(f"init_adapter {folder} has no {name}: give the adapter folder of a run, or leave it empty.")
        _add(archive, f"start/{name}", (folder / name).read_bytes())
    return "start"


def _check_reachable(config: RunConfig) -> None:
    """A job sees the Hub and the archive, no disk of this machine."""
    if config.model not in PROFILES and not is_hub_id(config.model):
        raise RunError(
            f"model is {Path(config.model).name!r}, a file of this machine: a job needs a profile or a Hub id."
        )
    for part in f"{config.data.source}+{config.evaluation.source}".split("+"):
        name = part.strip()
        if find_adapter(name) is None and (Path(name).suffix or "/" in name):
            raise RunError(
                f"The data source {Path(name).name!r} is a file of this machine, which a job cannot see, and cases are not "
                f"sent along unasked: use {', '.join(OWN_SOURCES)} or a data set of the Hub."
            )


def dependencies(config: RunConfig) -> list[str]:
    """Pinned requirements of training, without what only the page needs, with what a GPU run needs on top."""
    found = []
    for name in ("requirements.txt", "requirements-train.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            requirement = line.partition("#")[0].strip()
            known = re.match(r"[A-Za-z0-9_.-]+", requirement)
            if known and not requirement.startswith("-") and known[0].lower() not in PAGE_ONLY:
                found.append(requirement)
    if config.stage == "grpo" and config.grpo.use_vllm:
        found += EXTRAS["vllm"]
    if config.backend == "unsloth":
        found += EXTRAS["unsloth"]
    return found


def _flavour(found: Any) -> Flavour:
    accelerator = found.accelerator
    parts = [found.cpu, found.ram]
    if accelerator:
        parts.append(f"{accelerator.quantity} × {accelerator.model} {accelerator.vram}")
    an_hour = {"second": 3600, "minute": 60, "hour": 1, "day": 1 / 24}.get(found.unit_label)
    if an_hour is None:
        raise RunError(f"The Hub gives prices by {found.unit_label!r}, which is not known here: look at its web page.")
    return Flavour(found.name, found.pretty_name, ", ".join(parts), float(found.unit_cost_usd) * an_hour)


def _job(info: Any) -> Job:
    words = [*(info.command or []), *(info.arguments or [])]
    repository = words[words.index(UNPACK) + 1] if UNPACK in words[:-1] else ""
    return Job(
        id=str(info.id),
        owner=str(info.owner.name),
        url=str(info.url),
        stage=str(info.status.stage),
        message=str(info.status.message or ""),
        flavour=str(info.flavor or ""),
        repository=repository,
        created=f"{info.created_at:%Y-%m-%d %H:%M}" if info.created_at else "",
        seconds=float((info.durations.running_secs if info.durations else 0) or 0),
    )
