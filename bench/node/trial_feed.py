"""Runs the trials that are fed to a node one after another, each in fresh processes of one warm forkserver.

An agent that lives for a sweep, or for a round, loads the frameworks once. It reads one line of JSON for each trial
(:class:`FedTrial`) from standard input and answers with one line when its part has ended. It serves only as long as
all goes well: with the first trial that fails it ends, so that nothing of that trial can be left in the next one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.host.certificate import CERTIFICATE_FILE
from bench.node.control import NodeControl
from bench.node.guardian import set_deadline
from bench.node.node_trial import DEADLINE_MARGIN_S, AgentOptions, open_forkserver, run
from bench.node.rendezvous import read_rendezvous
from bench.node.transfer import encode_folder, result_folder

CASE_FILE = "case.json"
ENDED_LINE = "scaling-ended"
"""The first word of the answer: ``scaling-ended NAME ok``, or ``failed``."""
RENEWAL_S = 30.0
"""How often an agent that waits for a trial moves its deadline: one that is stopped by a signal does not."""


class FedTrial(FrozenModel):
    """A node's part of a trial, as an agent that outlives it is told."""

    name: str
    """Repeated in the answer."""
    out: str
    """The folder for what the processes leave."""
    fresh: bool = False
    """Create that folder for this trial only, transfer its files as lines, and remove it afterwards."""
    case: Case | None = None
    """``None``: it is in the folder, as is the certificate of the trial where it has one."""
    certificate: str | None = None
    """The certificate of the trial, as PEM text."""
    nodes: int | None = None
    """The number of nodes that take part, the first ones of all that are told; ``None``: this one does."""
    variables: Mapping[str, str] = {}
    """Of the environment, for this trial: which node this is, and where the others are."""


def serve(control: NodeControl, preload: tuple[str, ...] | None) -> int:
    """Run trials until standard input ends, an end is requested, or one of them has failed; returns the exit status.

    Args:
        control: Where the trials come from.
        preload: What :func:`bench.node.node_trial.open_forkserver` takes, for all of them.

    Raises:
        HarnessDisconnected: If standard input ends.
    """

    def renew() -> None:
        set_deadline(DEADLINE_MARGIN_S)

    renew()
    open_forkserver(preload)
    while (document := control.next_document(renew, RENEWAL_S)) is not None:
        trial = FedTrial.model_validate(document)
        if trial.nodes is not None and read_rendezvous(os.environ).node >= trial.nodes:
            continue
        succeeded = _run(trial, control)
        print(ENDED_LINE, trial.name, "ok" if succeeded else "failed", flush=True)
        if not succeeded:
            return 1
        renew()
    return 0


def _run(trial: FedTrial, control: NodeControl) -> bool:
    with result_folder(Path(trial.out).resolve(), fresh=trial.fresh) as out:
        case = trial.case or Case.model_validate_json((out / CASE_FILE).read_text())
        options = AgentOptions(out, certificate=trial.certificate or _read_certificate(out))
        status = run(case, {**os.environ, **trial.variables}, options, control)
        for line in encode_folder(out) if trial.fresh else ():
            print(line)
    return status == 0


def _read_certificate(folder: Path) -> str | None:
    file = folder / CERTIFICATE_FILE
    return file.read_text() if file.exists() else None
