"""One namespace of a Kubernetes cluster through the official client: create, look, read logs, delete.

What the client says of a failure may hold headers and with them a token: only the status and the server's own words
are passed on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from harness.errors import SiteError
from harness.sites.kubernetes.manifests import CONTAINER, TRIAL_LABEL, Manifest
from harness.sites.kubernetes.pods import Pod, read_pod

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 30.0
MAX_ATTEMPTS, RETRY_PAUSE_S = 3, 1.0
TRANSIENT_STATUSES = (None, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed; ``None``: there was no answer."""
MAX_MESSAGE_LENGTH = 400
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Of the pod that the harness runs in."""

PodList = tuple[list[Pod], str]
"""Pods, and the version of the list, from which on it can be watched."""


class KubernetesError(SiteError):
    """What the cluster said, or that it said nothing."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def transient(self) -> bool:
        return self.status in TRANSIENT_STATUSES


class KubernetesClient:
    """One namespace, in the name of whoever the kubeconfig (or the pod the harness runs in) says."""

    def __init__(self, configuration: Any, namespace: str) -> None:
        from kubernetes import client

        self.configuration, self.namespace = configuration, namespace
        api = client.ApiClient(configuration)
        self.core, self.batch = client.CoreV1Api(api), client.BatchV1Api(api)

    @classmethod
    def connect(cls, context: str | None, namespace: str | None) -> Self:
        """Read the kubeconfig; nothing is asked of the cluster yet. Raises :class:`SiteError`."""
        from kubernetes import client, config

        configuration = client.Configuration()
        # Asked now: the client asked when it was loaded.
        path = os.environ.get("KUBECONFIG") or None
        try:
            if context is None and _inside_a_pod():
                config.load_incluster_config(client_configuration=configuration)
                default_namespace = NAMESPACE_FILE.read_text().strip()
            else:
                config.load_kube_config(config_file=path, context=context, client_configuration=configuration)
                default_namespace = _context_namespace(config.list_kube_config_contexts(config_file=path), context)
        except config.ConfigException as problem:
            remedy = "set KUBECONFIG, or name a context by --set kubernetes.context"
            raise SiteError(f"kubernetes: {str(problem).splitlines()[0]}; {remedy}") from None
        except Exception as problem:
            # Whatever else goes wrong in reading it may quote it.
            raise SiteError(f"kubernetes: the kubeconfig can't be read ({type(problem).__name__})") from None
        # Tries are counted here, where it is known what may be asked twice.
        configuration.retries = False
        return cls(configuration, namespace or default_namespace)

    def check(self) -> None:
        """Raises :class:`SiteError` where no cluster answers, or it does not let us look at jobs."""
        self._request("for jobs", self.batch.list_namespaced_job, self.namespace, limit=1)

    def create(self, objects: Sequence[Manifest]) -> None:
        """The Job first: what else there is then belongs to it, and goes with it whoever deletes it. Its pods wait for
        what they mount."""
        job = next(one for one in objects if one["kind"] == "Job")
        made = self._create(self.batch.create_namespaced_job, job)
        owner = {"apiVersion": job["apiVersion"], "kind": "Job", "name": made["name"], "uid": made["uid"]}
        creators: dict[str, Callable[..., Any]] = {
            "ConfigMap": self.core.create_namespaced_config_map,
            "Service": self.core.create_namespaced_service,
        }
        for one in objects:
            if one is not job:
                about = {**one["metadata"], "ownerReferences": [owner]}
                self._create(creators[one["kind"]], {**one, "metadata": about})

    def _create(self, make: Callable[..., Any], one: Manifest) -> Mapping[str, Any]:
        what = f"{one['kind']} {one['metadata']['name']}"
        try:
            answer = self._request(f"to create {what}", make, self.namespace, one)
        except KubernetesError as error:
            # The answer to a first try was lost: nobody else makes names like ours.
            if error.status != 409 or one["kind"] == "Job":
                raise
            return dict(one["metadata"])
        about: Mapping[str, Any] = answer["metadata"]
        return about

    def job_exists(self, name: str) -> bool:
        """Whether a trial's job is there, under way or ended with its pods; what else is left of it is deleted."""
        try:
            found = self._request(f"for job {name}", self.batch.read_namespaced_job, name, self.namespace)
        except KubernetesError as error:
            if error.status == 404:
                return False
            raise
        ended = {one["type"] for one in found.get("status", {}).get("conditions") or () if one["status"] == "True"}
        if ended & {"Complete", "Failed"} and not self.pods(name)[0]:
            self.delete(name)
            return False
        return True

    def pods(self, name: str) -> PodList:
        """A trial's pods."""
        found = self._request(
            "for pods", self.core.list_namespaced_pod, self.namespace, label_selector=f"{TRIAL_LABEL}={name}"
        )
        return [read_pod(one) for one in found["items"]], found["metadata"].get("resourceVersion", "")

    def wait_for_change(self, name: str, version: str, within_s: float) -> None:
        """Return when something about a trial's pods has changed since ``version``, or after ``within_s``."""
        from kubernetes import watch

        whole_s = max(1, round(within_s))
        began = time.monotonic()
        with self._translated_errors("to watch pods"):
            changes = watch.Watch().stream(
                self.core.list_namespaced_pod,
                self.namespace,
                label_selector=f"{TRIAL_LABEL}={name}",
                resource_version=version,
                timeout_seconds=whole_s,
                deserialize=False,
                _request_timeout=(CONNECT_TIMEOUT_S, whole_s + READ_TIMEOUT_S),
            )
            if next(iter(changes), None) is None and time.monotonic() - began < RETRY_PAUSE_S:
                # Nobody watched for as long as was asked: not to ask again at once.
                time.sleep(RETRY_PAUSE_S)

    def log(self, pod: str) -> Iterator[str]:
        """The lines of a pod that has ended."""
        return self._lines(self._open_log(pod, follow=False))

    def follow_log(self, pod: str) -> Iterator[str]:
        """The lines of a pod from its first to its last; it is listened to from now on."""
        return self._lines(self._open_log(pod, follow=True))

    def _open_log(self, pod: str, *, follow: bool) -> Any:
        with self._translated_errors(f"for the log of {pod}"):
            answer = self.core.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=CONTAINER,
                follow=follow,
                _preload_content=False,
                _request_timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            )
            self._raise_where_refused(answer)
            return answer

    def _lines(self, answer: Any) -> Iterator[str]:
        from kubernetes.watch.watch import iter_resp_lines

        with self._translated_errors("for a log"):
            yield from iter_resp_lines(answer)

    def last_warning(self, name: str) -> str:
        """The last word of the cluster's events about a job; empty where there is none, or it isn't ours to read."""
        try:
            found = self._request(
                "for events",
                self.core.list_namespaced_event,
                self.namespace,
                field_selector=f"involvedObject.name={name},type=Warning",
            )
        except KubernetesError:
            return ""
        return " ".join(str(found["items"][-1].get("message", "")).split()) if found["items"] else ""

    def delete(self, name: str) -> None:
        """Delete a trial's objects, whichever are still there; its pods are told to end."""
        for delete in (
            self.batch.delete_namespaced_job,
            self.core.delete_namespaced_service,
            self.core.delete_namespaced_config_map,
        ):
            try:
                self._request(f"to delete {name}", delete, name, self.namespace, propagation_policy="Background")
            except KubernetesError as error:
                if error.status != 404:
                    remedy = f"kubectl -n {self.namespace} delete job,service,configmap -l {TRIAL_LABEL}={name}"
                    raise KubernetesError(f"{error}; afterwards: {remedy}", error.status) from None

    def _request(self, what: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The JSON document of the answer. Raises :class:`KubernetesError`."""
        for left in reversed(range(MAX_ATTEMPTS)):
            try:
                with self._translated_errors(what):
                    timeouts = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
                    answer = call(*arguments, **named, _preload_content=False, _request_timeout=timeouts)
                    self._raise_where_refused(answer)
                    return json.loads(answer.data)
            except KubernetesError as error:
                if not left or not error.transient:
                    raise
                time.sleep(RETRY_PAUSE_S)
        raise AssertionError("the last try returns or raises")

    def _raise_where_refused(self, answer: Any) -> None:
        from kubernetes.client import ApiException

        if not 200 <= answer.status < 300:
            raise ApiException(http_resp=answer, body=answer.data.decode(errors="replace"))

    @contextmanager
    def _translated_errors(self, what: str) -> Iterator[None]:
        """Failures as one line without a header or a body."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as problem:
            said = f"{problem.status} {problem.reason}" + self._status_message(problem.body)
            raise KubernetesError(f"kubernetes: asked {what}, {self.server} answered {said}", problem.status) from None
        except (HTTPError, OSError, ValueError) as problem:
            raise KubernetesError(
                f"kubernetes: asked {what}, {self.server} did not answer ({type(problem).__name__})"
            ) from None

    def _status_message(self, body: str | None) -> str:
        """The message of a Status object; any other body may be anybody's. Should it quote a secret of ours, it is
        left out."""
        try:
            found = json.loads(body or "")
            message = found["message"] if found.get("kind") == "Status" else ""
        except (ValueError, TypeError, KeyError, AttributeError):
            return ""
        secrets = [word for key in (self.configuration.api_key or {}).values() for word in str(key).split()[-1:]]
        line = " ".join(str(message).split())[:MAX_MESSAGE_LENGTH]
        return f": {line}" if line and not any(secret in line for secret in secrets) else ""

    @property
    def server(self) -> str:
        """Without what may stand before the host's name."""
        parts = urlsplit(self.configuration.host)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _inside_a_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def _context_namespace(contexts: tuple[list[Mapping[str, Any]], Mapping[str, Any]], wanted: str | None) -> str:
    named, active = contexts
    chosen = active if wanted is None else next(one for one in named if one["name"] == wanted)
    return str(chosen["context"].get("namespace") or "default")
