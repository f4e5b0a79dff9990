"""The node agent: starts the processes of a case on a machine, supervises them and reports how they ended.

    python -m bench.node.agent --case case.json --out FOLDER
    python -m bench.node.agent --feed
    python -m bench.node.agent --trials trials.json --out FOLDER

Every site runs its nodes through it: the local site inside the harness (:mod:`bench.node.node_agent`), the others as
this command, on each node: for one trial, or for all that are fed to it or listed (:mod:`bench.node.trial_feed`). The
agent finds out from the environment which node it is (:mod:`bench.node.rendezvous`), keeps the time limit of the trial,
so that waiting in a queue does not count, and writes ``node-<n>.json`` as its very last act.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.core.case import Case
from bench.core.exit_report import TORCHRUN
from bench.host.running_code import CODE
from bench.host.scratch import close_scratch
from bench.node.control import HarnessDisconnected, NodeControl
from bench.node.forked import continue_resource_tracker, end_forkserver
from bench.node.node_trial import AgentOptions, run
from bench.node.transfer import encode_folder, result_folder
from bench.node.trial_feed import StandardInput, TrialList, serve


def _read_certificate(source: str | None, control: NodeControl) -> str | None:
    if source is None:
        return None
    return str(control.read_first_line()) if source == "-" else Path(source).read_text()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.node.agent", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--case",
        type=Path,
        help="file with the case as JSON; with --stdio the case is written there, for ranks that another program "
        "starts",
    )
    parser.add_argument("--out", type=Path, help="folder for what the processes leave")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="create that folder for this trial only, inaccessible to other users, and remove it afterwards",
    )
    parser.add_argument(
        "--ranks",
        choices=("own", TORCHRUN, "elsewhere"),
        default="own",
        help="who starts the ranks of this node: the agent, torchrun, or another program (default: own)",
    )
    parser.add_argument(
        "--services-provided",
        action="store_true",
        help="start ranks only: the site keeps the services that the backend needs, such as a Dask cluster",
    )
    parser.add_argument("--transfer", action="store_true", help="print the files that the processes left, as lines")
    parser.add_argument("--stdio", action="store_true", help="read the case, and commands, from standard input")
    parser.add_argument(
        "--certificate",
        metavar="FILE",
        help="the trial's certificate with its private key, where its nodes need the same; -: with --stdio, the line "
        "before the case, as a JSON string",
    )
    parser.add_argument(
        "--feed",
        action="store_true",
        help="run trials one after another, each a line of standard input, until that ends or one has failed",
    )
    parser.add_argument(
        "--trials",
        type=Path,
        metavar="FILE",
        help="run the trials of a JSON list, one after another, until one has failed; each has a folder in that of "
        "--out, and its files are printed as lines",
    )
    parser.add_argument(
        "--archives",
        type=Path,
        metavar="FOLDER",
        help="with --trials: put each trial's files there as an archive when it has ended, instead of printing them",
    )
    parser.add_argument(
        "--preload",
        metavar="MODULES",
        help="with --feed and --trials: modules of backends, separated by commas, that are imported once beside the "
        "frameworks (default: neither)",
    )
    chosen = parser.parse_args(arguments)
    if not chosen.feed and chosen.out is None:
        parser.error("--out FOLDER, or --feed")
    if not chosen.feed and not chosen.stdio and chosen.case is None and chosen.trials is None:
        parser.error("--case FILE, --trials FILE, --stdio or --feed")
    if not chosen.stdio and chosen.certificate == "-":
        parser.error("--certificate -: with --stdio only")
    control = NodeControl(listen=chosen.stdio or chosen.feed)
    # The processes of the node import nothing from the folder in which they happen to be started.
    os.environ["PYTHONSAFEPATH"] = "1"
    if not {"site-packages", "dist-packages"}.intersection(CODE.parts):
        # This package may have been found in that folder only.
        paths = [str(CODE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, dict.fromkeys(paths)))
    try:
        return _serve(chosen, control) if chosen.feed or chosen.trials else _run_one(chosen, control)
    except HarnessDisconnected:
        return 1
    finally:
        end_forkserver()
        continue_resource_tracker()
        close_scratch()


def _serve(chosen: argparse.Namespace, control: NodeControl) -> int:
    preload = None if chosen.preload is None else tuple(filter(None, chosen.preload.split(",")))
    if chosen.feed:
        return serve(StandardInput(control), control, preload)
    certificate = _read_certificate(chosen.certificate, control)
    chosen.out.mkdir(parents=True, exist_ok=True)
    source = TrialList(chosen.trials, chosen.out, control, certificate, chosen.archives)
    return serve(source, control, preload)


def _run_one(chosen: argparse.Namespace, control: NodeControl) -> int:
    certificate = _read_certificate(chosen.certificate, control)
    text = json.dumps(control.read_first_line()) if chosen.stdio else chosen.case.read_text()
    case_file = chosen.case if chosen.stdio else None
    with result_folder(chosen.out, fresh=chosen.fresh) as out:
        options = AgentOptions(out, chosen.ranks, case_file, chosen.services_provided, certificate)
        status = run(Case.model_validate_json(text), os.environ, options, control)
        if chosen.transfer or chosen.stdio:
            for line in encode_folder(out):
                print(line)
            sys.stdout.flush()
    return status


if __name__ == "__main__":
    code = main()
    # Helper threads of frameworks and the forkserver are not waited for: everything that counts is written.
    sys.stdout.flush()
    os._exit(code)
