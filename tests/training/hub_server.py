"""A stand-in for the Hub: a local HTTP server that speaks the endpoints which the real `huggingface_hub` client calls.

It keeps repositories, commits, large files and jobs in memory, checks tokens and the hashes of what it is sent, and can
misbehave on request (`Fault`): an error status, or a connection that is cut in the middle of an upload. Large files may
come over plain LFS or over Xet, whose storage protocol (token, xorbs, shard) is spoken as far as an upload needs it.
"""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

WRITER, READER, STRANGER = "hf_writer_0123456789", "hf_reader_0123456789", "hf_stranger_0123456789"
PEOPLE = {
    WRITER: {"name": "ada", "role": "write"},
    READER: {"name": "ada", "role": "read"},
    STRANGER: {"name": "bob", "role": "write"},
}
LARGE = (".safetensors", ".gguf", ".zip", ".bin")
HARDWARE = [
    {
        "name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB", "accelerator": None,
        "unitCostMicroUSD": 167, "unitCostUSD": 0.000167, "unitLabel": "minute",
    },
    {
        "name": "a10g-small", "prettyName": "Nvidia A10G - small", "cpu": "4 vCPU", "ram": "15 GB",
        "accelerator": {"type": "gpu", "model": "A10G", "quantity": "1", "vram": "24 GB", "manufacturer": "Nvidia"},
        "unitCostMicroUSD": 16667, "unitCostUSD": 0.016667, "unitLabel": "minute",
    },
]  # fmt: skip


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD path" matches, `times` times.

    `status` answers with an error; `cut` reads that many bytes of the body and drops the connection; `lost` does the
    work and drops the connection instead of answering.
    """

    where: str
    status: int = 0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "made to fail"
    cut: int | None = None
    lost: bool = False


@dataclass
class Repository:
    private: bool
    commits: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    def files(self, revision: str) -> dict[str, Any]:
        return next((files for oid, files in self.commits if oid == revision), self.commits[-1][1])


@dataclass
class Seen:
    """One request: what came, and how many bytes of a body."""

    method: str
    path: str
    headers: dict[str, str]
    size: int
    body: bytes


class Hub:
    """The state of the server and what tests ask of it."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.xorbs: dict[str, bytes] = {}
        self.shards: list[bytes] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, list[str]] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.waits: list[float] = []
        self.hidden: set[str] = set()  # paths that the listing leaves out, as if the commit had lost them
        self.run_job: Callable[[dict[str, Any], dict[str, Any]], None] | None = None
        self.lock = threading.RLock()
        self.url = ""

    def count(self, where: str) -> int:
        """Requests whose "METHOD path" matches."""
        return sum(bool(re.search(where, f"{each.method} {each.path}")) for each in self.seen)

    def fail(self, where: str, **how: Any) -> None:
        self.faults.append(Fault(where, **how))

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.where, f"{method} {path}"):
                    fault.times -= 1
                    return fault
        return None

    def in_a_shard(self, oid: str) -> bool:
        """Whether Xet was told about a file with this hash; it writes hashes as four little-endian words."""
        digest = bytes.fromhex(oid)
        words = b"".join(digest[start : start + 8][::-1] for start in range(0, 32, 8))
        return any(words in shard for shard in self.shards)

    def text(self, repository: str, path: str) -> str:
        return self.content(repository, path).decode()

    def content(self, repository: str, path: str, revision: str = "main") -> bytes:
        entry = self.repositories[repository].files(revision)[path]
        return entry if isinstance(entry, bytes) else self.objects[entry["oid"]]

    def create(self, repository: str, private: bool, files: dict[str, bytes] | None = None) -> None:
        first = {".gitattributes": b"*.safetensors filter=lfs\n", **(files or {})}
        self.repositories[repository] = Repository(private, [(_oid(repository, 0), first)])


def _oid(*parts: object) -> str:
    return hashlib.sha1("/".join(map(str, parts)).encode()).hexdigest()


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def unpack(xorb: bytes) -> bytes:
    """What a xorb holds, as far as its chunks are uncompressed. A chunk: version, length (3), scheme, length (3), data."""
    parts, at = [], 0
    while at + 8 <= len(xorb):
        length, scheme = int.from_bytes(xorb[at + 1 : at + 4], "little"), xorb[at + 4]
        if scheme or xorb[at + 1 : at + 4] != xorb[at + 5 : at + 8]:
            break
        parts.append(xorb[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(parts)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out in two writes
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, OSError):
            return

    def do_any(self) -> None:
        split = urlsplit(self.path)
        self.route, self.query = unquote(split.path), parse_qs(split.query)
        fault = self.hub.fault_for(self.command, self.route)
        if fault and fault.cut is not None:
            self.rfile.read(fault.cut)
            self.note(b"", fault.cut)
            return self.hang_up()
        body = self.body()
        self.note(body, len(body))
        if fault and fault.status:
            return self.reply({"error": fault.message}, fault.status, fault.headers)
        self.muted = bool(fault and fault.lost)
        for pattern, action in ROUTES:
            method, _, path = pattern.partition(" ")
            match = re.fullmatch(path, self.route) if method in (self.command, "*") else None
            if match:
                action(self, body, *match.groups())
                return None
        return self.reply({"error": f"no such endpoint: {self.command} {self.route}"}, 404)

    do_GET = do_POST = do_PUT = do_HEAD = do_any

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def note(self, body: bytes, size: int) -> None:
        kept = body if size < 100_000 else b""
        self.hub.seen.append(Seen(self.command, self.route, dict(self.headers), size, kept))

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()

    def reply(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if getattr(self, "muted", False):
            return self.hang_up()
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
        for name, text in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return None

    # who asks

    def person(self) -> dict[str, str] | None:
        return PEOPLE.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def writer_of(self, owner: str) -> bool:
        """Whether the token may write there; answers with 401 or 403 if not."""
        who = self.person()
        if who is None:
            self.reply({"error": "Invalid credentials in Authorization header"}, 401,
                       {"X-Error-Message": "Invalid credentials in Authorization header"})  # fmt: skip
        elif who["name"] != owner or who["role"] == "read":
            self.reply({"error": f"You don't have the rights for {owner}"}, 403)
        else:
            return True
        return False

    def whoami(self, body: bytes) -> None:
        who = self.person()
        if who is None:
            return self.reply({"error": "Invalid username or password."}, 401)
        token = {"displayName": "test", "role": who["role"]}
        return self.reply({"type": "user", "name": who["name"], "orgs": [], "auth": {"accessToken": token}})

    # repositories

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        owner = asked["organization"] or (self.person() or {"name": ""})["name"]
        name = f"{owner}/{asked['name']}"
        if not self.writer_of(owner):
            return None
        url = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repositories:
            return self.reply({"error": "You already created this model repo", **url}, 409)
        self.hub.create(name, asked.get("visibility") == "private")
        return self.reply(url)

    def repository(self, name: str) -> Repository | None:
        """The repository if the token may see it; answers with 404 if not."""
        found = self.hub.repositories.get(name)
        owner = (self.person() or {}).get("name") == name.partition("/")[0]
        if found is None or (found.private and not owner):
            self.reply({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return None
        return found

    def info(self, body: bytes, name: str, revision: str | None = None) -> None:
        if found := self.repository(name):
            files = [{"rfilename": path} for path in found.files(revision or "main")]
            self.reply({"id": name, "modelId": name, "private": found.private, "sha": found.head, "siblings": files})

    def tree(self, body: bytes, name: str, revision: str) -> None:
        if found := self.repository(name):
            listing = []
            for path, entry in found.files(revision).items():
                if path in self.hub.hidden:
                    continue
                if isinstance(entry, bytes):
                    listing.append({"type": "file", "path": path, "size": len(entry), "oid": _git_oid(entry)})
                else:
                    lfs = {"oid": entry["oid"], "size": entry["size"], "pointerSize": 130}
                    listing.append({"type": "file", "path": path, "size": entry["size"], "oid": "0" * 40, "lfs": lfs})
            self.reply(listing)

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        if found := self.repository(name):
            if path not in found.files(revision):
                return self.reply({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            content = self.hub.content(name, path, revision)
            commit = revision if revision != "main" else found.head
            return self.reply(
                content, 200, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            )
        return None

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        if not self.writer_of(name.partition("/")[0]) or not (found := self.repository(name)):
            return
        answers = []
        for each in json.loads(body)["files"]:
            path, present = each["path"], found.files(revision).get(each["path"])
            mode = "lfs" if path.endswith(LARGE) or each["size"] > 10_000_000 else "regular"
            answer = {"path": path, "uploadMode": mode, "shouldIgnore": False}
            if present is not None:
                answer["oid"] = _git_oid(present) if isinstance(present, bytes) else present["oid"]
            answers.append(answer)
        self.reply({"files": answers})

    def validate(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        good = content.startswith("---\n") and "\n---\n" in content
        self.reply({"warnings": [], "errors": [] if good else [{"message": "no front matter"}]}, 200 if good else 400)

    def commit(self, body: bytes, name: str, revision: str) -> None:
        if not self.writer_of(name.partition("/")[0]) or not (found := self.repository(name)):
            return None
        with self.hub.lock:
            files = dict(found.files("main"))
            for line in map(json.loads, body.splitlines()):
                key, value = line["key"], line["value"]
                if key == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif key == "lfsFile":
                    if value["oid"] not in self.hub.objects and not self.hub.in_a_shard(value["oid"]):
                        return self.reply({"error": f"{value['path']}: the object was never uploaded"}, 400)
                    files[value["path"]] = {"oid": value["oid"], "size": value["size"]}
                elif key == "deletedFile":
                    del files[value["path"]]
            oid = _oid(name, len(found.commits))
            found.commits.append((oid, files))
        return self.reply({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid, "hookOutput": ""})

    # large files: plain LFS

    def batch(self, body: bytes, name: str) -> None:
        if not self.writer_of(name.partition("/")[0]):
            return
        answers = []
        for each in json.loads(body)["objects"]:
            answer = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.hub.objects:
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/storage/{each['oid']}"}}
            answers.append(answer)
        self.reply({"transfer": "basic", "objects": answers})

    def store(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self.reply({"error": "the content does not have this hash"}, 400)
        self.hub.objects[oid] = body
        return self.reply({})

    # large files: Xet

    def xet_token(self, body: bytes, name: str) -> None:
        if self.writer_of(name.partition("/")[0]):
            until = int(time.time()) + 3600
            headers = {
                "X-Xet-Cas-Url": self.hub.url, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(until)
            }  # fmt: skip
            self.reply({"casUrl": self.hub.url, "accessToken": "xet", "exp": until}, 200, headers)

    def xorb(self, body: bytes, digest: str) -> None:
        fresh = digest not in self.hub.xorbs
        self.hub.xorbs[digest] = body
        self.reply({"was_inserted": fresh})

    def shard(self, body: bytes) -> None:
        """A shard names files by the hash of their content; chunks that are stored uncompressed are checked against it."""
        self.hub.shards.append(body)
        for xorb in list(self.hub.xorbs.values()):
            content = unpack(xorb)
            self.hub.objects[hashlib.sha256(content).hexdigest()] = content
        self.reply({"type": "result", "result": 1})

    def no_chunk(self, body: bytes, digest: str) -> None:
        self.reply({"error": "unknown chunk"}, 404)

    # jobs

    def hardware(self, body: bytes) -> None:
        self.reply(HARDWARE)

    def start_job(self, body: bytes, owner: str) -> None:
        if not self.writer_of(owner):
            return
        spec = json.loads(body)
        secrets = spec.pop("secrets", {})
        identity = f"{len(self.hub.jobs):024x}"
        job = {
            "id": identity, "createdAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), **spec,
            "status": {"stage": "RUNNING", "message": None}, "owner": {"id": "1", "name": owner, "type": "user"},
            "secrets": dict.fromkeys(secrets, ""), "durations": {"runningSecs": 60},
        }  # fmt: skip
        self.hub.jobs[identity] = job
        self.hub.logs[identity] = ["===== Job started at now", "step 1 of 2"]
        if self.hub.run_job is not None:
            threading.Thread(target=self.hub.run_job, args=(job, secrets), daemon=True).start()
        self.reply(job)

    def list_jobs(self, body: bytes, owner: str) -> None:
        if self.writer_of(owner):
            wanted = {tuple(label.split("=", 1)) for label in self.query.get("label", [])}
            mine = [job for job in self.hub.jobs.values() if wanted <= set(job.get("labels", {}).items())]
            self.reply(mine)

    def job(self, identity: str) -> dict[str, Any] | None:
        found = self.hub.jobs.get(identity)
        if found is None:
            self.reply({"error": "Job not found"}, 404)
        return found

    def inspect_job(self, body: bytes, owner: str, identity: str) -> None:
        if self.writer_of(owner) and (found := self.job(identity)):
            self.reply(found)

    def cancel_job(self, body: bytes, owner: str, identity: str) -> None:
        if self.writer_of(owner) and (found := self.job(identity)):
            if found["status"]["stage"] != "RUNNING":
                return self.reply({"error": "the job has ended"}, 409)
            found["status"] = {"stage": "CANCELED", "message": None}
            return self.reply(found)
        return None

    def job_logs(self, body: bytes, owner: str, identity: str) -> None:
        if self.writer_of(owner) and self.job(identity):
            lines = self.hub.logs[identity]
            if "tail" in self.query:
                lines = lines[-int(self.query["tail"][0]) :]
            events = [f"data: {json.dumps({'timestamp': '2026', 'data': line})}\n\n" for line in lines]
            self.reply("".join([": keep-alive\n\n", *events]).encode(), 200, {"Content-Type": "text/event-stream"})


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES: list[tuple[str, Any]] = [
    (r"GET /api/whoami-v2", Handler.whoami),
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.validate),
    (rf"GET /api/models/{NAME}/tree/([\w.-]+)", Handler.tree),
    (rf"POST /api/models/{NAME}/preupload/([\w.-]+)", Handler.preupload),
    (rf"POST /api/models/{NAME}/commit/([\w.-]+)", Handler.commit),
    (rf"GET /api/models/{NAME}/xet-write-token/[\w.-]+", Handler.xet_token),
    (rf"GET /api/models/{NAME}/revision/([\w.-]+)", Handler.info),
    (rf"GET /api/models/{NAME}", Handler.info),
    (rf"POST /{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /storage/(\w+)", Handler.store),
    (r"POST /v1/xorbs/default/(\w+)", Handler.xorb),
    (r"POST /v\d/shards", Handler.shard),
    (r"GET /v1/chunks/default(?:-merkledb)?/(\w+)", Handler.no_chunk),
    (r"GET /api/jobs/hardware", Handler.hardware),
    (r"POST /api/jobs/([\w-]+)", Handler.start_job),
    (r"GET /api/jobs/([\w-]+)", Handler.list_jobs),
    (r"GET /api/jobs/([\w-]+)/(\w+)", Handler.inspect_job),
    (r"POST /api/jobs/([\w-]+)/(\w+)/cancel", Handler.cancel_job),
    (r"GET /api/jobs/([\w-]+)/(\w+)/logs", Handler.job_logs),
    (rf"* /{NAME}/resolve/([\w.-]+)/(.+)", Handler.resolve),
]


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A stand-in on a free port, while the block runs."""
    hub = Hub()
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
