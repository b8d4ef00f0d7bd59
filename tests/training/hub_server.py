"""A stand-in for the Hub: a local HTTP server that speaks the endpoints which the real `huggingface_hub` client calls.

It keeps repositories, commits, large files and jobs in memory, checks tokens and the hashes of what it is sent, and can
misbehave on request (`Fault`): an error status, or a connection that is cut in the middle of an upload. Large files may
come over plain LFS or over Xet, whose storage protocol (token, xorbs, shard) is spoken as far as an upload needs it.
"""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from typing import Any

from hub_request import LARGE, READER, STRANGER, WRITER, Fault, Hub, Repository, Request, git_oid, oid_of, unpack

__all__ = ["READER", "STRANGER", "WRITER", "Fault", "Hub", "hub_server"]

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


class Handler(Request):
    """The endpoints."""

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
                    listing.append({"type": "file", "path": path, "size": len(entry), "oid": git_oid(entry)})
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
                answer["oid"] = git_oid(present) if isinstance(present, bytes) else present["oid"]
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
            oid = oid_of(name, len(found.commits))
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
    handler = type("BoundHandler", (Handler,), {"hub": hub, "routes": ROUTES})
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
