"""One namespace of a Kubernetes cluster through the official client: create, list, read logs, delete.

The client's exceptions may hold request headers, and with them a token: only the status and the server's own message
are passed on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from bench.host.bounded import READ_BYTES, bounded_lines
from bench.node.transfer import max_line_bytes
from harness.errors import SiteError
from harness.sites.kubernetes.manifests import CONTAINER, TRIAL_LABEL, Manifest
from harness.sites.kubernetes.options import KubernetesTimeouts
from harness.sites.kubernetes.pods import Pod, read_pod

TRANSIENT_STATUSES = (None, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed; ``None``: there was no answer."""
INVALID_STATUS, NO_API_STATUS = 400, 404
"""Of a request that the client refuses to send, and of an answer that is none of Kubernetes: as a server would answer.
"""
MAX_MESSAGE_LENGTH = 400
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Names the namespace of the pod that the harness runs in."""

PodList = tuple[list[Pod], str]
"""Pods, and the resource version of the list, from which it can be watched."""
ResultT = TypeVar("ResultT")


class KubernetesError(SiteError):
    """A request failed. ``status``: of the server's answer; ``None`` where there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def transient(self) -> bool:
        return self.status in TRANSIENT_STATUSES


class KubernetesClient:
    """One namespace, with the account of a kubeconfig or of the pod that the harness runs in."""

    def __init__(self, configuration: Any, namespace: str, timeouts: KubernetesTimeouts) -> None:
        from kubernetes import client

        self.configuration, self.namespace, self.timeouts = configuration, namespace, timeouts
        api = client.ApiClient(configuration)
        self.core, self.batch = client.CoreV1Api(api), client.BatchV1Api(api)

    @classmethod
    def connect(cls, context: str | None, namespace: str | None, timeouts: KubernetesTimeouts) -> Self:
        """Read the kubeconfig; sends no request.

        Args:
            context: A context of the kubeconfig; ``None``: its current one, or the account of the pod that the harness
                runs in.
            namespace: Where trials run; ``None``: the context's own.
            timeouts: Of requests and waits.

        Raises:
            SiteError: There is no usable kubeconfig.
        """
        from kubernetes import client, config

        configuration = client.Configuration()
        # The client itself reads the variable only once, at import.
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
            # Other messages may quote the file, which holds secrets.
            raise SiteError(f"kubernetes: the kubeconfig can't be read ({type(problem).__name__})") from None
        # Requests are repeated here, where it is known which may be.
        configuration.retries = False
        return cls(configuration, namespace or default_namespace, timeouts)

    def check(self) -> None:
        """Raises :class:`SiteError` where no cluster answers, or the account may not list jobs."""
        self._request("list jobs", self.batch.list_namespaced_job, self.namespace, limit=1)

    def create(self, objects: Sequence[Manifest]) -> None:
        """Create a trial's Job, then its other objects. The Job owns them, so that they are deleted with it; its pods
        wait for what they mount."""
        job = next(manifest for manifest in objects if manifest["kind"] == "Job")
        made = self._create(self.batch.create_namespaced_job, job)
        owner = {"apiVersion": job["apiVersion"], "kind": "Job", "name": made["name"], "uid": made["uid"]}
        creators: dict[str, Callable[..., Any]] = {
            "ConfigMap": self.core.create_namespaced_config_map,
            "Secret": self.core.create_namespaced_secret,
            "Service": self.core.create_namespaced_service,
        }
        for manifest in objects:
            if manifest is not job:
                metadata = {**manifest["metadata"], "ownerReferences": [owner]}
                self._create(creators[manifest["kind"]], {**manifest, "metadata": metadata})

    def _create(self, create: Callable[..., Any], manifest: Manifest) -> Mapping[str, Any]:
        """The metadata of the object that was created."""
        title = f"{manifest['kind']} {manifest['metadata']['name']}"
        try:
            answer = self._request(f"create {title}", create, self.namespace, manifest)
        except KubernetesError as error:
            # The answer to a first attempt was lost: the names are unique to us.
            if error.status != 409 or manifest["kind"] == "Job":
                raise
            return dict(manifest["metadata"])
        metadata: Mapping[str, Any] = answer["metadata"]
        return metadata

    def job_exists(self, name: str) -> bool:
        """Whether a trial's job is there, running or ended with its pods; what else is left of it is deleted."""
        try:
            job = self._request(f"read job {name}", self.batch.read_namespaced_job, name, self.namespace)
        except KubernetesError as error:
            if error.status == 404:
                return False
            raise
        conditions = job.get("status", {}).get("conditions") or ()
        ended = {condition["type"] for condition in conditions if condition["status"] == "True"}
        if ended & {"Complete", "Failed"} and not self.pods(name)[0]:
            self.delete(name)
            return False
        return True

    def pods(self, name: str) -> PodList:
        """A trial's pods."""
        answer = self._request(
            "list pods", self.core.list_namespaced_pod, self.namespace, label_selector=f"{TRIAL_LABEL}={name}"
        )
        return [read_pod(item) for item in answer["items"]], answer["metadata"].get("resourceVersion", "")

    def wait_for_change(self, name: str, version: str, within_s: float) -> None:
        """Return when something about a trial's pods has changed since ``version``, or after ``within_s``."""
        from kubernetes import watch

        whole_s = max(1, round(within_s))
        began = time.monotonic()
        with self._translated_errors("watch pods"):
            changes = watch.Watch().stream(
                self.core.list_namespaced_pod,
                self.namespace,
                label_selector=f"{TRIAL_LABEL}={name}",
                resource_version=version,
                timeout_seconds=whole_s,
                deserialize=False,
                _request_timeout=(self.timeouts.connect_s, whole_s + self.timeouts.read_s),
            )
            if next(iter(changes), None) is None and time.monotonic() - began < self.timeouts.retry_pause_s:
                # The server ended the watch early: do not start the next one at once.
                time.sleep(self.timeouts.retry_pause_s)

    def follow_log(self, pod: str, since_s: int | None = None) -> Iterator[str]:
        """The lines of a pod, from its first to its last; the connection is opened at once.

        Args:
            pod: The pod's name.
            since_s: Leave out what it printed longer ago than so many seconds.
        """
        with self._translated_errors(f"read the log of {pod}"):
            answer = self.core.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=CONTAINER,
                follow=True,
                **({} if since_s is None else {"since_seconds": since_s}),
                _preload_content=False,
                _request_timeout=(self.timeouts.connect_s, self.timeouts.read_s),
            )
            _raise_for_status(answer)
            return self._lines(answer)

    def _lines(self, answer: Any) -> Iterator[str]:
        with self._translated_errors("read a log"):
            yield from bounded_lines(answer.stream(READ_BYTES, decode_content=True), max_line_bytes)

    def last_warning(self, name: str) -> str:
        """The message of the last warning about a job; empty where there is none, or the account may not read it."""
        try:
            events = self._request(
                "list events",
                self.core.list_namespaced_event,
                self.namespace,
                field_selector=f"involvedObject.name={name},type=Warning",
            )
        except KubernetesError:
            return ""
        return " ".join(str(events["items"][-1].get("message", "")).split()) if events["items"] else ""

    def delete(self, name: str) -> None:
        """Delete those of a trial's objects that are still there; its pods are sent SIGTERM."""
        for delete in (
            self.batch.delete_namespaced_job,
            self.core.delete_namespaced_service,
            self.core.delete_namespaced_config_map,
        ):
            try:
                self._request(f"delete {name}", delete, name, self.namespace, propagation_policy="Background")
            except KubernetesError as error:
                if error.status != 404:
                    remedy = f"kubectl -n {self.namespace} delete job,service,configmap -l {TRIAL_LABEL}={name}"
                    raise KubernetesError(f"{error}; afterwards: {remedy}", error.status) from None

    def retry(self, function: Callable[..., ResultT], *arguments: Any, **named: Any) -> ResultT:
        """Call a function, again where it raises a transient :class:`KubernetesError`; the last one is raised."""
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_fixed

        retrying = Retrying(
            stop=stop_after_attempt(self.timeouts.attempts),
            wait=wait_fixed(self.timeouts.retry_pause_s),
            retry=retry_if_exception(lambda error: isinstance(error, KubernetesError) and error.transient),
            reraise=True,
        )
        return retrying(function, *arguments, **named)

    def _request(self, action: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The JSON document of the answer. Raises :class:`KubernetesError`."""
        return self.retry(self._request_once, action, call, *arguments, **named)

    def _request_once(self, action: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        timeouts = (self.timeouts.connect_s, self.timeouts.read_s)
        with self._translated_errors(action):
            answer = call(*arguments, **named, _preload_content=False, _request_timeout=timeouts)
            _raise_for_status(answer)
            return json.loads(answer.data)

    @contextmanager
    def _translated_errors(self, action: str) -> Iterator[None]:
        """Raise failures as a :class:`KubernetesError` of one line, without headers and bodies."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as problem:
            answer = f"{problem.status} {problem.reason}" + self._status_message(problem.body)
            raise KubernetesError(
                f"kubernetes: request to {action}: {self.server} answered {answer}", problem.status
            ) from None
        except (HTTPError, OSError) as problem:
            raise KubernetesError(
                f"kubernetes: request to {action}: {self.server} did not answer ({type(problem).__name__})"
            ) from None
        except json.JSONDecodeError:
            raise KubernetesError(
                f"kubernetes: request to {action}: {self.server} answered no JSON; name an API server in the "
                "kubeconfig",
                NO_API_STATUS,
            ) from None
        except (ValueError, TypeError) as problem:
            # The client checks a request before it sends it.
            reason = self._without_secrets(_first_error(problem)) or type(problem).__name__
            raise KubernetesError(
                f"kubernetes: request to {action}: was not sent, because it is not valid: {reason}", INVALID_STATUS
            ) from None

    def _status_message(self, body: str | None) -> str:
        """The message of a Status object; any other body may come from anywhere."""
        try:
            document = json.loads(body or "")
            message = document["message"] if document.get("kind") == "Status" else ""
        except (ValueError, TypeError, KeyError, AttributeError):
            return ""
        line = self._without_secrets(str(message))
        return f": {line}" if line else ""

    def _without_secrets(self, message: str) -> str:
        """One line of limited length; empty where it quotes one of our secrets."""
        secrets = [word for key in (self.configuration.api_key or {}).values() for word in str(key).split()[-1:]]
        line = " ".join(message.split())
        return "" if any(secret in line for secret in secrets) else line[:MAX_MESSAGE_LENGTH]

    @property
    def server(self) -> str:
        """Its URL, without a user and a password."""
        parts = urlsplit(self.configuration.host)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _first_error(problem: Exception) -> str:
    """What is wrong with an argument; the client checks arguments by pydantic."""
    if not isinstance(problem, ValidationError):
        return str(problem)
    first = problem.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _raise_for_status(answer: Any) -> None:
    from kubernetes.client import ApiException

    if not 200 <= answer.status < 300:
        raise ApiException(http_resp=answer, body=answer.data.decode(errors="replace"))


def _inside_a_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def _context_namespace(contexts: tuple[list[Mapping[str, Any]], Mapping[str, Any]], wanted: str | None) -> str:
    named, active = contexts
    chosen = active if wanted is None else next(context for context in named if context["name"] == wanted)
    return str(chosen["context"].get("namespace") or "default")
