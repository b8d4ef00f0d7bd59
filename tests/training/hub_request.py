"""What the stand-in for the Hub (`hub_server`) keeps, and how it takes a request: body, token, and faults on request."""

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

WRITER, READER, STRANGER = "hf_writer_0123456789", "hf_reader_0123456789", "hf_stranger_0123456789"
PEOPLE = {
    WRITER: {"name": "ada", "role": "write"},
    READER: {"name": "ada", "role": "read"},
    STRANGER: {"name": "bob", "role": "write"},
}
LARGE = (".safetensors", ".gguf", ".zip", ".bin")


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
        self.repositories[repository] = Repository(private, [(oid_of(repository, 0), first)])


def oid_of(*parts: object) -> str:
    return hashlib.sha1("/".join(map(str, parts)).encode()).hexdigest()


def git_oid(content: bytes) -> str:
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


class Request(BaseHTTPRequestHandler):
    """One request: its body, what goes wrong with it, who asks, and the way to its endpoint in `routes`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out in two writes
    hub: Hub
    routes: list[tuple[str, Any]]

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
        for pattern, action in self.routes:
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
