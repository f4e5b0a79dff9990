"""The nodes of the stand-in for a cluster: a pod's command runs as a process, with the pod's variables, its volumes as
folders, and the names of other pods resolved to the loopback address.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.support.kubernetes_server import StandIn

LOOPBACK = "127.0.0.1"
INDEX = "batch.kubernetes.io/job-completion-index"
TICK_S = 0.02

Manifest = dict[str, Any]


class Kubelet(threading.Thread):
    """Brings one pod from its making to its end."""

    def __init__(self, cluster: StandIn, pod: Manifest) -> None:
        super().__init__(daemon=True)
        self.cluster, self.pod, self.about = cluster, pod, pod["metadata"]
        self.folder = cluster.folder / self.about["name"]
        self.log = self.folder / "log"
        self.process: subprocess.Popen | None = None
        self.told_to_end = threading.Event()
        self.reason: str | None = None

    def run(self) -> None:
        self.folder.mkdir(parents=True)
        self.log.touch()
        if self._placed() and self._image_is_there():
            self._execute()
        while not self.told_to_end.wait(TICK_S):
            pass
        self.cluster.state.put("pods", self.pod, "DELETED")

    def _say(self, phase: str, **status: Any) -> None:
        self.pod["status"] = {"phase": phase, **status}
        self.cluster.state.put("pods", self.pod)

    def _placed(self) -> bool:
        """Find a node with the labels that are asked for, and without another pod of the trial."""
        spec = self.pod["spec"]
        apart = "requiredDuringSchedulingIgnoredDuringExecution" in str(spec.get("affinity"))
        with self.cluster.state.changed:
            taken = {one["spec"].get("nodeName") for one in self.cluster.state.of("pods", self.about["labels"])}
            for node, labels in self.cluster.nodes.items():
                if spec.get("nodeSelector", {}).items() <= labels.items() and not (apart and node in taken):
                    spec["nodeName"] = node
                    return True
        count = len(self.cluster.nodes)
        message = f"0/{count} nodes are available: {count} node(s) didn't match Pod's node affinity/selector."
        self._say(
            "Pending",
            conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
        )
        return False

    def _image_is_there(self) -> bool:
        image = self.pod["spec"]["containers"][0]["image"]
        if image in self.cluster.images:
            return True
        waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}
        self._say("Pending", containerStatuses=[{"name": "node", "image": image, "state": {"waiting": waiting}}])
        return False

    def _execute(self) -> None:
        container = self.pod["spec"]["containers"][0]
        mounted = {mount["mountPath"]: self._volume(mount["name"]) for mount in container["volumeMounts"]}
        command = [self._inside(word, mounted) for word in container["command"]]
        command[0] = sys.executable if command[0] == "python" else command[0]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env=self._environment(container),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._say("Running", containerStatuses=[{"name": "node", "state": {"running": {}}}])
        deadline = None
        while self.process.poll() is None:
            if self.told_to_end.wait(TICK_S) and deadline is None:
                self.process.send_signal(signal.SIGTERM)
                deadline = time.monotonic() + self.pod["spec"]["terminationGracePeriodSeconds"]
            if deadline is not None and time.monotonic() > deadline:
                self.kill()
            time.sleep(TICK_S)
        status = self.process.returncode if self.process.returncode >= 0 else 128 - self.process.returncode
        terminated = {"exitCode": status, "reason": self.reason or ("Error" if status else "Completed")}
        self._say(
            "Failed" if status else "Succeeded",
            containerStatuses=[{"name": "node", "state": {"terminated": terminated}}],
        )
        self.cluster.settle(self.about["labels"]["job-name"])

    def kill(self, reason: str | None = None) -> None:
        """As the kernel would: all processes of the container at once."""
        assert self.process is not None
        self.reason = reason
        with suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self.process.pid)
            for one in (leader, *leader.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    one.kill()

    def _volume(self, name: str) -> str:
        volume = next(one for one in self.pod["spec"]["volumes"] if one["name"] == name)
        if volume.get("emptyDir", {}).get("medium") == "Memory":
            return "/dev/shm"
        folder = self.folder / name
        folder.mkdir()
        if "configMap" in volume:
            # As a real one: it is tried again until the ConfigMap is there.
            for file, text in self._awaited("configmaps", volume["configMap"]["name"])["data"].items():
                (folder / file).write_text(text)
        if "secret" in volume:
            for file, text in self._awaited("secrets", volume["secret"]["secretName"])["stringData"].items():
                (folder / file).write_text(text)
        return str(folder)

    def _awaited(self, kind: str, name: str) -> Manifest:
        for _ in range(250):
            with suppress(LookupError):
                return self.cluster.state.get(kind, name)
            time.sleep(TICK_S)
        raise AssertionError(f"{kind} {name} never came")

    def _inside(self, word: str, mounted: dict[str, str]) -> str:
        for path, folder in mounted.items():
            if word == path or word.startswith(f"{path}/"):
                return folder + word[len(path) :]
        return word

    def _environment(self, container: Manifest) -> dict[str, str]:
        """What the image sets, what the controller sets, and what the manifest says: nothing of the harness's own."""
        own = {one["name"]: self._resolved(one["value"]) for one in container["env"]}
        # The network of a pod is its own: the port is free there.
        own["MASTER_PORT"] = str(self.cluster.port_of(self.about["labels"]["job-name"], own["MASTER_PORT"]))
        image = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self.folder)}
        return {**image, **self.cluster.marks, "JOB_COMPLETION_INDEX": self.about["annotations"][INDEX], **own}

    def _resolved(self, value: str) -> str:
        """The address of a pod that is named as the DNS would name it."""
        host, _, domain = value.partition(".")
        if not domain or domain != self.pod["spec"].get("subdomain"):
            return value
        spec = self._awaited("services", domain)["spec"]
        pods = self.cluster.state.of("pods", spec["selector"])
        found = any(one["spec"]["hostname"] == host for one in pods)
        return LOOPBACK if found and spec["clusterIP"] == "None" else value
