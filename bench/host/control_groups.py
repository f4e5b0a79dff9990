"""The control groups of this process, which limit its processor time and its memory.

Groups above the root of a container's own view can't be seen. See ``Documentation/admin-guide/cgroup-v2.rst`` of the
kernel.
"""

from __future__ import annotations

from pathlib import Path


def own_groups(controller: str, root: Path = Path("/")) -> list[Path]:
    """The folders of this process's groups that may limit a resource, the innermost first.

    Args:
        controller: What limits it, as version 1 names it: ``cpu``, ``memory``.
        root: The folder that ``/`` is.

    Raises:
        OSError: If the system does not tell the groups of a process.
        ValueError, LookupError: If it tells them in another form.
    """
    paths = {}
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            paths[name] = path  # version 2 has no controllers here
    mounts = [line.partition(" - ") for line in (root / "proc/self/mountinfo").read_text().splitlines()]
    for before, _, after in mounts:
        kind, _, options = after.split(" ", 2)
        is_v1 = kind == "cgroup" and controller in options.split()[-1].split(",")
        # Where version 1 has the controller, version 2 can't.
        if is_v1 or (kind == "cgroup2" and controller not in paths):
            shown, mount_point = before.split()[3:5]
            path = paths[controller if is_v1 else ""]
            # A container may see its own group as the root, by another path than its process has.
            below = path[len(shown.rstrip("/")) :] if f"{path}/".startswith(f"{shown.rstrip('/')}/") else ""
            parts = [part for part in below.split("/") if part not in ("", "..")]
            mount = root / mount_point.lstrip("/")
            return [mount.joinpath(*parts[:length]) for length in range(len(parts), -1, -1)]
    return []
