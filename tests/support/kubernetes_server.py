"""A small stand-in for a Kubernetes API server, for the official client: what it accepts it checks as a real one does,
and the pods of a Job run their real commands, as processes on this machine.

It plays the API server (bearer token, schema, names, restart policies, watches), the Job controller (a pod an index,
garbage of deleted owners), the scheduler (node selectors, anti-affinity), the kubelet (images, ConfigMaps, empty
folders, signals, logs) and the DNS (a pod of a headless Service is found on the loopback address).
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

from bench.host.network import free_port
from tests.support.kubernetes_nodes import INDEX, LOOPBACK, TICK_S, Kubelet, Manifest

VERSION = "1.37"
NAMESPACE = "bench"
PATH = re.compile(
    r"/(?:api/v1|apis/\w+/v1)/namespaces/(?P<namespace>[^/]+)/(?P<kind>\w+)(?:/(?P<name>[^/]+))?(?P<log>/log)?"
)
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
RESTARTS = {"jobs": ("Never", "OnFailure"), "deployments": ("Always",)}


class Rejected(LookupError):
    """What the server answers instead."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason

    @property
    def status(self) -> Manifest:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": self.code,
            "reason": self.reason,
            "message": str(self),
        }


def admit(kind: str, one: Manifest) -> None:
    """Raises :class:`Rejected` as a real server would."""
    try:
        kubernetes_validate.validate(one, VERSION, strict=True)
    except kubernetes_validate.ValidationError as problem:
        raise Rejected(422, "Invalid", f"{kind}: {problem.message}") from None
    name = one["metadata"]["name"]
    if not NAME.fullmatch(name):
        raise Rejected(422, "Invalid", f'{kind} "{name}" is invalid: metadata.name: Invalid value')
    if kind in RESTARTS:
        policy = one["spec"]["template"]["spec"].get("restartPolicy", "Always")
        if policy not in RESTARTS[kind]:
            raise Rejected(
                422,
                "Invalid",
                f'{kind} "{name}" is invalid: spec.template.spec.restartPolicy: Unsupported value: "{policy}"',
            )


class State:
    """All objects, every change of them in order, and whoever waits for the next."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.changes: list[tuple[int, str, str, Manifest]] = []
        self.changed = threading.Condition(threading.RLock())

    def put(self, kind: str, one: Manifest, change: str = "MODIFIED") -> None:
        with self.changed:
            version = len(self.changes) + 1
            one["metadata"]["resourceVersion"] = str(version)
            if change == "DELETED":
                self.objects.pop((kind, one["metadata"]["name"]), None)
            else:
                self.objects[kind, one["metadata"]["name"]] = one
            self.changes.append((version, change, kind, json.loads(json.dumps(one))))
            self.changed.notify_all()

    def get(self, kind: str, name: str) -> Manifest:
        with self.changed:
            if (kind, name) not in self.objects:
                raise Rejected(404, "NotFound", f'{kind} "{name}" not found')
            return self.objects[kind, name]

    def of(self, kind: str, labels: dict[str, str] | None = None) -> list[Manifest]:
        with self.changed:
            found = [one for (its, _), one in self.objects.items() if its == kind]
            return [one for one in found if (labels or {}).items() <= one["metadata"].get("labels", {}).items()]


class StandIn:
    """The cluster behind the API: nodes by name with their labels, images that can be pulled."""

    def __init__(self, folder: Path, images: tuple[str, ...], marks: dict[str, str]) -> None:
        self.folder, self.images, self.marks = folder, images, marks
        self.nodes = {f"worker-{number}": {"disk": "ssd"} for number in range(4)}
        self.token = f"sha256~{uuid.uuid4().hex}"
        self.state = State()
        self.kubelets: dict[str, Kubelet] = {}
        self.made: list[str] = []
        """Every pod there ever was."""
        self.ports: dict[str, int] = {}
        self.failures = {"pods": 0, "log": 0}
        """How many of the next requests for these fail, as those to a server that is restarted."""
        self.server = ThreadingHTTPServer((LOOPBACK, 0), type("Bound", (Api,), {"cluster": self}))
        self.server.daemon_threads = True

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.server.server_port}"

    def kubeconfig(self, path: Path, token: str | None = None) -> Path:
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "clusters": [{"name": "here", "cluster": {"server": self.address}}],
                    "users": [{"name": "me", "user": {"token": token or self.token}}],
                    "contexts": [
                        {"name": "here", "context": {"cluster": "here", "user": "me", "namespace": NAMESPACE}}
                    ],
                }
            )
        )
        return path

    def create(self, kind: str, one: Manifest) -> Manifest:
        admit(kind, one)
        with self.state.changed:
            if (kind, one["metadata"]["name"]) in self.state.objects:
                raise Rejected(409, "AlreadyExists", f'{kind} "{one["metadata"]["name"]}" already exists')
            one["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now()}
            self.state.put(kind, one, "ADDED")
            if kind == "jobs":
                for index in range(one["spec"]["completions"]):
                    self._make_pod(one, index)
        return one

    def _make_pod(self, job: Manifest, index: int) -> None:
        template, name = job["spec"]["template"], job["metadata"]["name"]
        about = {
            "name": f"{name}-{index}-{uuid.uuid4().hex[:5]}",
            "labels": {**template["metadata"]["labels"], "job-name": name, INDEX: str(index)},
            "annotations": {INDEX: str(index)},
            "ownerReferences": [{"kind": "Job", "uid": job["metadata"]["uid"]}],
        }
        spec = {**json.loads(json.dumps(template["spec"])), "hostname": f"{name}-{index}"}
        pod = {"kind": "Pod", "metadata": about, "spec": spec, "status": {"phase": "Pending"}}
        self.state.put("pods", pod, "ADDED")
        self.made.append(about["name"])
        self.kubelets[about["name"]] = Kubelet(self, pod)
        self.kubelets[about["name"]].start()

    def settle(self, name: str) -> None:
        """The job controller, after a pod's end."""
        with suppress(Rejected):
            job = self.state.get("jobs", name)
            phases = [one["status"]["phase"] for one in self.state.of("pods", {"job-name": name})]
            if "Failed" in phases and "backoffLimitPerIndex" not in job["spec"]:
                for one in self.state.of("pods", {"job-name": name}):
                    self.delete("pods", one["metadata"]["name"])
            if set(phases) <= {"Succeeded", "Failed"}:
                ended = "Failed" if "Failed" in phases else "Complete"
                job["status"] = {"conditions": [{"type": ended, "status": "True"}]}
                self.state.put("jobs", job)

    def delete(self, kind: str, name: str, propagation: str = "Background") -> Manifest:
        found = self.state.get(kind, name)
        if kind == "pods":
            found["metadata"]["deletionTimestamp"] = _now()
            self.state.put(kind, found)
            self.kubelets[name].told_to_end.set()
            return found
        self.state.put(kind, found, "DELETED")
        for its, owned in list(self.state.objects):
            owners = self.state.objects[its, owned]["metadata"].get("ownerReferences", ())
            if propagation != "Orphan" and any(one["uid"] == found["metadata"]["uid"] for one in owners):
                self.delete(its, owned)
        return found

    def port_of(self, job: str, wanted: str) -> int:
        assert wanted.isdigit()
        with self.state.changed:
            return self.ports.setdefault(job, free_port(LOOPBACK))

    def pod(self, index: int) -> Kubelet:
        """The kubelet of the pod with this number that was made last."""
        return self.kubelets[
            next(name for name in reversed(self.made) if self.kubelets[name].about["annotations"][INDEX] == str(index))
        ]

    def left(self) -> list[tuple[str, str]]:
        with self.state.changed:
            return sorted(self.state.objects)


class Api(BaseHTTPRequestHandler):
    """The HTTP side of it."""

    cluster: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(lambda found, query: self.cluster.create(found["kind"], self._body()))

    def do_DELETE(self) -> None:
        def delete(found: re.Match[str], query: dict[str, str]) -> Manifest:
            options = self._body()
            propagation = options.get("propagationPolicy") or query.get("propagationPolicy", "Background")
            return self.cluster.delete(found["kind"], found["name"], propagation)

        self._answer(delete)

    def _answer(self, act: Any) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            if self.headers.get("Authorization") != f"Bearer {self.cluster.token}":
                raise Rejected(401, "Unauthorized", "Unauthorized")
            asked = parts.path.rpartition("/")[2]
            if self.cluster.failures.get(asked):
                self.cluster.failures[asked] -= 1
                raise Rejected(503, "ServiceUnavailable", "the server is currently unable to handle the request")
            found = PATH.fullmatch(parts.path)
            if found is None:
                raise Rejected(404, "NotFound", "the server could not find the requested resource")
            if found["namespace"] != NAMESPACE:
                raise Rejected(404, "NotFound", f'namespaces "{found["namespace"]}" not found')
            answer = act(found, query)
            if answer is not None:
                self._send(200, answer)
        except Rejected as rejected:
            self._send(rejected.code, rejected.status)
        except BrokenPipeError:
            return

    def _get(self, found: re.Match[str], query: dict[str, str]) -> Manifest | None:
        kind, state = found["kind"], self.cluster.state
        if found["log"]:
            return self._send_log(self.cluster.kubelets.get(found["name"]), follow=query.get("follow") == "true")
        if found["name"]:
            return state.get(kind, found["name"])
        labels = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        if query.get("watch") == "true":
            return self._send_changes(kind, labels, int(query["resourceVersion"]), float(query["timeoutSeconds"]))
        with state.changed:
            listed = json.loads(json.dumps(state.of(kind, labels)))
            return {"kind": "List", "metadata": {"resourceVersion": str(len(state.changes))}, "items": listed}

    def _send_changes(self, kind: str, labels: dict[str, str], since: int, seconds: float) -> None:
        self._stream("application/json")
        state, deadline = self.cluster.state, time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with state.changed:
                if len(state.changes) <= since:
                    state.changed.wait(left)
                fresh, since = state.changes[since:], len(state.changes)
            for _, change, its, one in fresh:
                if its == kind and labels.items() <= one["metadata"].get("labels", {}).items():
                    self._chunk(json.dumps({"type": change, "object": one}).encode() + b"\n")
        self._chunk(b"")

    def _send_log(self, kubelet: Kubelet | None, *, follow: bool) -> None:
        if kubelet is None or kubelet.process is None:
            raise Rejected(400, "BadRequest", "container is waiting to start")
        self._stream("text/plain")
        with kubelet.log.open("rb") as log:
            while True:
                over = kubelet.process.poll() is not None
                if text := log.read():
                    self._chunk(text)
                if over or not follow:
                    return self._chunk(b"")
                time.sleep(TICK_S)

    def _body(self) -> Manifest:
        size = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(size)) if size else {}

    def _send(self, code: int, answer: Manifest) -> None:
        text = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _stream(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, text: bytes) -> None:
        """An empty one is the last."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


@contextmanager
def stand_in(folder: Path, images: tuple[str, ...] = ("scaling-harness:latest",), **marks: str) -> Iterator[StandIn]:
    """A cluster for as long as the block lasts. ``marks``: variables of every pod, by which a test finds them again."""
    cluster = StandIn(folder, images, marks)
    serving = threading.Thread(target=cluster.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    serving.start()
    try:
        yield cluster
    finally:
        for kubelet in cluster.kubelets.values():
            kubelet.told_to_end.set()
            if kubelet.process is not None and kubelet.process.poll() is None:
                kubelet.kill()
        for kubelet in cluster.kubelets.values():
            kubelet.join(10)
        cluster.server.shutdown()
        cluster.server.server_close()
        serving.join(5)
