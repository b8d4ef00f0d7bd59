"""Push an adapter to the Hub: weights, card with pictures, configuration, in one commit that is checked afterwards.

- Nothing half-pushed is called done: large files go first, one after another, and are invisible until the commit, which is
  atomic; then the Hub's own listing is compared with what was sent, by size and hash.
- A file that arrived is never sent twice within a push; a later push sends nothing that the Hub already has.
- A repository that holds somebody else's files, or is public when it was to be private, is left alone.
- The token is an argument of these functions and lives in no file, log, argument list or error text.

Transport is `huggingface_hub`: Xet where it is installed (it comes with the client), else plain LFS. If Xet breaks for a
reason that carries no status, the file is sent again over plain LFS, which some networks let through where they block Xet.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from medgrpo.errors import RunError
from medgrpo.training.card import card_files, licence_of, public, public_config
from medgrpo.training.config import RunConfig, read_config
from medgrpo.training.hub_errors import T, attempts, sleep
from medgrpo.training.run_directory import RunDirectory, is_whole_safetensors, read_record

MARK = "run.yaml"
"""The run's configuration; a repository that holds it was made by a push of ours."""
JOB_FILE = "job.zip"
OURS = ("adapter", "pictures/", MARK, JOB_FILE)
"""Beginnings of the paths that a push may replace or delete."""
SMALL = 256 * 1024
"""Bytes up to which a file travels inside the commit itself."""
Content = Path | bytes


@dataclass(frozen=True)
class Progress:
    """How far a push is: bytes of the files that arrived, of all, and what happens now."""

    done: int
    total: int
    says: str


@dataclass(frozen=True)
class PushReport:
    """What stands on the Hub now.

    Attributes:
        repository, url: where.
        commit: the revision that holds it.
        files: path -> bytes, as the Hub lists them.
        private: whether only its owner sees it.
    """

    repository: str
    url: str
    commit: str
    files: Mapping[str, int]
    private: bool


OnProgress = Callable[[Progress], None]


def find_token(signed_in: str | None, on_space: bool) -> str:
    """The visitor's own token if they signed in; off a Space else that of the environment or of `hf auth login`.

    Raises:
        RunError: there is none. On a Space the Space's own token is never taken for a visitor's push.
    """
    token = signed_in or (None if on_space else get_token())
    if token:
        return token
    if on_space:
        raise RunError("Nobody is signed in: press Sign in with Hugging Face above, then try again.")
    raise RunError("There is no token for the Hub: run `hf auth login`, or set HF_TOKEN, and try again.")


def push(
    run: RunDirectory,
    repository: str,
    *,
    token: str,
    private: bool = True,
    endpoint: str | None = None,
    on_progress: OnProgress = lambda progress: None,
    pause: Callable[[float], None] = sleep,
) -> PushReport:
    """Publish a run's adapter as OWNER/NAME; makes the repository if there is none.

    Raises:
        RunError: nothing was published; one sentence says why and what to do.
    """
    files = adapter_files(run, repository)
    return publish(
        repository, files, f"Adapter of the run {run.path.name}", token=token, private=private, endpoint=endpoint,
        on_progress=on_progress, pause=pause,
    )  # fmt: skip


def adapter_files(run: RunDirectory, repository: str) -> dict[str, Content]:
    """What a push sends: path in the repository -> file or content.

    Raises:
        RunError: the run has no whole adapter, or is still being trained.
    """
    status = run.status()
    if status.active:
        raise RunError(f"The run {run.path.name} is still {status.phase}: let it finish, or stop it, then push.")
    weights, settings = run.adapter / "adapter_model.safetensors", read_record(run.adapter / "adapter_config.json")
    if not weights.is_file() or not settings:
        raise RunError(f"The run {run.path.name} has no adapter to push: it ended as {status.phase}; resume it first.")
    if not is_whole_safetensors(weights):
        raise RunError(f"{weights.name} of the run {run.path.name} is cut off: resume the run, which saves it again.")
    config = read_config(run.config_file)
    base = str(settings.get("base_model_name_or_path") or config.model)
    files: dict[str, Content] = {weights.name: weights}
    gguf = run.adapter / "adapter.gguf"
    if gguf.is_file():
        files[gguf.name] = gguf
    files["adapter_config.json"] = _json({**settings, "base_model_name_or_path": public(base)})
    files[MARK] = yaml.safe_dump(public_config(config), sort_keys=False, allow_unicode=True).encode()
    return files | _card(run, config, base, repository)


def _card(run: RunDirectory, config: RunConfig, base: str, repository: str) -> dict[str, Content]:
    made = card_files(run, config, base, licence_of(base))
    return {path: text.replace("<this repository>", repository).encode() for path, text in made.items()}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def publish(
    repository: str,
    files: Mapping[str, Content],
    message: str,
    *,
    token: str,
    private: bool,
    endpoint: str | None = None,
    on_progress: OnProgress = lambda progress: None,
    pause: Callable[[float], None] = sleep,
) -> PushReport:
    """One commit with these files; a whole adapter replaces all files of an earlier push.

    Raises:
        RunError: nothing was published; one sentence says why and what to do.
    """
    upload = _Upload(repository, files, HfApi(endpoint=endpoint, token=token), token, on_progress, pause)
    upload.check_name()
    upload.check_token()
    present, is_private = upload.make_repository(private)
    with ExitStack() as opened:
        operations = upload.send(opened)
        whole = MARK in files  # a job's archive comes to what an earlier push left, and its own push replaces both
        stale = [path for path in present if whole and path.startswith(OURS) and path not in files]
        commit = upload.commit([*operations, *map(CommitOperationDelete, stale)], message)
    listed = upload.verify(commit)
    url = f"{upload.api.endpoint}/{repository}"
    return PushReport(repository, url, commit, listed, is_private)


class _Upload:
    """One publication: what is sent, and how far it is."""

    def __init__(
        self,
        repository: str,
        files: Mapping[str, Content],
        api: HfApi,
        token: str,
        on_progress: OnProgress,
        pause: Callable[[float], None],
    ) -> None:
        self.repository, self.files, self.api = repository, files, api
        self._token, self._on_progress, self._pause = token, on_progress, pause
        self._total, self._done = sum(map(_size, files.values())), 0
        self._plain = False

    def say(self, text: str) -> None:
        self._on_progress(Progress(self._done, self._total, text))

    def try_to(self, doing: str, call: Callable[[int], T]) -> T:
        return attempts(call, doing, self.repository, self._token, self.say, self._pause)

    def check_name(self) -> None:
        try:
            validate_repo_id(self.repository)
        except HFValidationError:
            good = False
        else:
            good = self.repository.count("/") == 1
        if not good:
            raise RunError(
                f"{self.repository!r:.100} is no name for a repository: write OWNER/NAME with letters, digits, -, _ and ., "
                "such as ada/medgrpo-smollm2."
            )

    def check_token(self) -> None:
        """Find out before anything is sent that a token can only read."""
        self.say("Asking the Hub whose token this is")
        who = self.try_to("Signing in", lambda _: self.api.whoami())
        access = (who.get("auth") or {}).get("accessToken") or {}
        if access.get("role") == "read":
            raise RunError(
                f"The token of {who.get('name')} can only read: make one with write access "
                "(https://huggingface.co/settings/tokens), or sign in again and grant it."
            )

    def make_repository(self, private: bool) -> tuple[list[str], bool]:
        """(files there, whether it is private) of the repository, made if there was none."""

        def look(attempt: int) -> Any:
            try:
                return self.api.model_info(self.repository)
            except RepositoryNotFoundError:
                return None

        self.say(f"Looking for {self.repository}")
        found = self.try_to(f"Looking for {self.repository}", look)
        if found is None:
            self.say(f"Making {self.repository}")
            self.try_to(
                f"Making {self.repository}",
                lambda _: self.api.create_repo(self.repository, private=private, exist_ok=True),
            )
            found = self.try_to(f"Looking for {self.repository}", lambda _: self.api.model_info(self.repository))
        return self._allowed(found, private)

    def _allowed(self, found: Any, private: bool) -> tuple[list[str], bool]:
        paths = [each.rfilename for each in found.siblings or []]
        foreign = [path for path in paths if path != ".gitattributes"]
        if private and not found.private:
            raise RunError(
                f"{self.repository} is there already and everyone can read it: choose another name, make it private on "
                "the Hub, or push it publicly on purpose."
            )
        if foreign and not {MARK, JOB_FILE} & set(paths):
            raise RunError(
                f"{self.repository} holds other files already, such as {foreign[0]}, and would be overwritten: choose a "
                "new name."
            )
        return paths, bool(found.private)

    def send(self, opened: ExitStack) -> list[CommitOperationAdd]:
        """Upload the large files one by one; the small ones travel with the commit, what is there already not at all."""
        listed = self.try_to(f"Reading {self.repository}", lambda _: self._listed("main"))
        operations = []
        for path, content in self.files.items():
            size = _size(content)
            if path in listed and _same(content, listed[path]):
                self._done += size
            elif size <= SMALL:
                operations.append(CommitOperationAdd(path, content))
                self._done += size
            else:
                self.say(f"Uploading {path}, {size / 1e6:.1f} MB")
                operations.append(self.try_to(f"Uploading {path}", self._sender(path, content, opened)))
                self._done += size
        return operations

    def _sender(self, path: str, content: Content, opened: ExitStack) -> Callable[[int], CommitOperationAdd]:
        def send(attempt: int) -> CommitOperationAdd:
            # Xet takes paths and bytes only, so an open file is how the client is told to use plain LFS for this one
            self._plain = self._plain or attempt > 0
            source: Any = content
            if self._plain:
                stream = content.open("rb") if isinstance(content, Path) else io.BytesIO(content)
                source = opened.enter_context(stream)
            operation = CommitOperationAdd(path, source)
            self.api.preupload_lfs_files(self.repository, [operation], free_memory=False)
            return operation

        return send

    def commit(self, operations: list[CommitOperationAdd | CommitOperationDelete], message: str) -> str:
        """The commit that shows everything at once; returns its hash."""

        def send(attempt: int) -> str:
            if attempt and (head := self._complete()):  # the answer to an earlier attempt may have been lost
                return head
            done = self.api.create_commit(self.repository, operations, commit_message=message)
            return str(done.oid)

        self.say(f"Publishing {len(self.files)} files in one commit")
        return self.try_to("Publishing", send)

    def _complete(self) -> str:
        """The head if it holds every file as it should be, else ""."""
        head = str(self.api.model_info(self.repository).sha)
        return "" if self._wrong(self._listed(head)) else head

    def _listed(self, revision: str) -> dict[str, Any]:
        tree = self.api.list_repo_tree(self.repository, recursive=True, revision=revision)
        return {entry.path: entry for entry in tree if hasattr(entry, "size")}

    def _wrong(self, listed: Mapping[str, Any]) -> list[str]:
        return [path for path, content in self.files.items() if path not in listed or not _same(content, listed[path])]

    def verify(self, commit: str) -> dict[str, int]:
        """What the Hub lists under the commit. Raises RunError if it is not what was sent."""
        self.say("Comparing what the Hub has with what was sent")
        listed = self.try_to("Checking the upload", lambda _: self._listed(commit))
        if wrong := self._wrong(listed):
            raise RunError(f"The Hub does not show {', '.join(wrong)} as it was sent: push again.")
        self._done = self._total
        self.say("Done")
        return {path: int(entry.size) for path, entry in listed.items()}


def _size(content: Content) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _same(content: Content, entry: Any) -> bool:
    """Whether the Hub's entry has our size and hash: SHA-256 of a large file, the Git blob's SHA-1 of a small one."""
    if entry.size != _size(content):
        return False
    if entry.lfs is not None:
        return _digest(hashlib.sha256(), content) == str(entry.lfs.sha256)
    return _digest(hashlib.sha1(b"blob %d\0" % _size(content)), content) == str(entry.blob_id)


def _digest(digest: Any, content: Content) -> str:
    for part in _parts(content):
        digest.update(part)
    return str(digest.hexdigest())


def _parts(content: Content) -> Iterable[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while part := file.read(1 << 20):
            yield part
