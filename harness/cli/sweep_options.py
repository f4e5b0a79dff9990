"""The options of ``sweep`` that describe a suite, in the groups of its ``--help``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.completion import complete_backends, complete_workloads
from harness.planning.flags import parse_duration, parse_fault, parse_percent, parse_window, split_names
from harness.planning.variables import parse_variables

if TYPE_CHECKING:
    from harness.planning.script_flags import ScriptFlags


PriceOption = Annotated[
    str | None,
    typer.Option(
        "--price-per-hour",
        metavar="'2.50 EUR[/gpu]'",
        help="The price of an hour of a node, or of a GPU: the report tells what the work costs.",
    ),
]
Co2Option = Annotated[
    float | None,
    typer.Option("--co2", metavar="G_PER_KWH", help="Grams of CO₂ a kilowatt-hour: the report tells what is emitted."),
]
TargetOption = Annotated[
    float | None,
    typer.Option("--target", metavar="1e9", help="Samples (tokens, …) whose time and cost the report tells."),
]


@dataclass(frozen=True)
class CaseOptions:
    """What runs."""

    backends: Annotated[
        list[str] | None,
        typer.Option("--backends", metavar="A,B", help="Backends to run.", autocompletion=complete_backends),
    ] = None
    workloads: Annotated[
        list[str] | None,
        typer.Option("--workloads", metavar="A,B", help="Workloads to run.", autocompletion=complete_workloads),
    ] = None
    ranks: Annotated[
        list[str] | None,
        typer.Option("--ranks", metavar="1,2,4", help="Rank counts; default 1, 2, 4, … up to the cores."),
    ] = None
    nodes: Annotated[
        list[str] | None, typer.Option("--nodes", metavar="1,2,4", help="Counts of full nodes instead of --ranks.")
    ] = None
    ranks_per_node: Annotated[
        list[str] | None,
        typer.Option("--ranks-per-node", metavar="K,...", help="Ranks on a full node; default 1 beyond this machine."),
    ] = None
    scaling: Annotated[
        list[str] | None, typer.Option("--scaling", metavar="strong,weak", help="Kinds of scaling to measure.")
    ] = None
    batch: Annotated[
        list[str] | None,
        typer.Option(
            "--batch",
            metavar="64,128",
            help="Samples a step: of all ranks (strong) or of each rank (weak). Several sweep it.",
        ),
    ] = None
    threads: Annotated[
        int | None, typer.Option("--threads", help="Threads of each rank, the same at every rank count.")
    ] = None
    device: Annotated[
        str | None, typer.Option("--device", metavar="auto|cpu|cuda", help="The device of the ranks.")
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of data, weights and the order of trials.")] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SCOPE.NAME.OPTION=VALUE",
            help="An option of a workload, backend or site (see `list`). Several values, by commas or by repeating it, "
            'sweep it; a value with a comma is quoted: `"a,b"`. SCOPE may be left out where that is unambiguous.',
        ),
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="NAME=VALUE[,VALUE]",
            help="An environment variable of the ranks, set before they start. Several values, by commas or by "
            'repeating it, sweep it; a value with a comma is quoted: `"a,b"`; an empty one removes the variable.',
        ),
    ] = None
    net: Annotated[
        list[str] | None,
        typer.Option("--net", metavar="1gbit,100mbit,unshaped", help="Emulated links between ranks, of these rates."),
    ] = None
    inject: Annotated[
        str | None,
        typer.Option(
            "--inject",
            metavar="KIND:rank=R[,step=S][,ms=T]",
            help="Inject a fault into a rank: kill, stop, raise, slow, oom or exit.",
        ),
    ] = None

    def overrides(self) -> Mapping[str, Any]:
        """The options that were given, by the suite's field. Raises :class:`harness.errors.UsageError`."""
        return _given(
            backends=split_names(self.backends),
            workloads=split_names(self.workloads),
            ranks=split_names(self.ranks),
            nodes=split_names(self.nodes),
            ranks_per_node=split_names(self.ranks_per_node),
            scaling=split_names(self.scaling),
            batch=split_names(self.batch),
            threads=self.threads,
            device=self.device,
            seed=self.seed,
            env=parse_variables(self.env) if self.env else None,
            net=split_names(self.net),
            fault=None if self.inject is None else parse_fault(self.inject),
        )


@dataclass(frozen=True)
class MeasurementOptions:
    """How it is measured."""

    repeats: Annotated[int | None, typer.Option("--repeats", help="Trials of each case, in shuffled rounds.")] = None
    steps: Annotated[
        int | None, typer.Option("--steps", help="Measured steps; default: as many as fill the window.")
    ] = None
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            metavar="SECONDS|auto",
            help="Length of the measured window: 1, on GPUs 2; auto: shorter from round 3 on where trials differ.",
        ),
    ] = None
    warmup: Annotated[int | None, typer.Option("--warmup", help="Steps before the measured window.")] = None
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Longest time of one trial.")
    ] = None
    tolerance: Annotated[
        float | None,
        typer.Option("--tolerance", metavar="0.01", help="Largest relative deviation that counts as the same work."),
    ] = None
    precision: Annotated[
        str | None,
        typer.Option("--precision", metavar="2%", help="Repeat rounds until each throughput is known this well."),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="10m", help="The longest time that --precision may take; default 10m."),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="decided",
            help="After the first round, repeat only what would decide an open question: which backend is fastest, "
            "where a curve peaks, whether its efficiency is above 75 %.",
        ),
    ] = None
    margin: Annotated[
        str | None,
        typer.Option("--margin", metavar="3%", help="With --until decided: what differs by less is equivalent."),
    ] = None
    max_repeats: Annotated[
        int | None,
        typer.Option("--max-repeats", help="With --until decided: most trials of each case; default --repeats."),
    ] = None
    price_per_hour: PriceOption = None
    co2: Co2Option = None
    target: TargetOption = None
    telemetry: Annotated[
        str | None,
        typer.Option("--telemetry", metavar="auto|always|off|replay:FILE", help="What is sampled during trials."),
    ] = None

    def overrides(self) -> Mapping[str, Any]:
        """The options that were given, by the suite's field. Raises :class:`harness.errors.UsageError`."""
        return _given(
            repeats=self.repeats,
            steps=self.steps,
            **({} if self.window is None else parse_window(self.window)),
            warmup=self.warmup,
            timeout_s=self.timeout,
            tolerance=self.tolerance,
            precision=None if self.precision is None else parse_percent(self.precision),
            budget_s=None if self.budget is None else parse_duration(self.budget),
            telemetry=self.telemetry,
            until=self.until,
            margin=None if self.margin is None else parse_percent(self.margin, "--margin"),
            max_repeats=self.max_repeats,
            price_per_hour=self.price_per_hour,
            co2_g_per_kwh=self.co2,
            target=self.target,
        )


@dataclass(frozen=True)
class ProgramOptions:
    """A program of your own."""

    script: Annotated[
        list[str] | None,
        typer.Option(
            "--script",
            metavar="'FILE.py ARGUMENTS'",
            help="Sweep a program of your own, unchanged. Its arguments may hold {ranks}, and axes: {batch=32,64}.",
        ),
    ] = None
    launcher: Annotated[
        list[str] | None,
        typer.Option(
            "--launcher",
            metavar="torchrun,horovod,mpi,plain",
            help="How its ranks are started; default torchrun.",
        ),
    ] = None
    whole: Annotated[bool, typer.Option("--whole", help="Let it end by itself; else it ends after its window.")] = False
    samples_per_step: Annotated[
        str | None,
        typer.Option(
            "--samples-per-step",
            metavar="64|64/rank",
            help="Samples of a step, of all ranks or of each; default: as its DataLoader yields.",
        ),
    ] = None
    unit: Annotated[str | None, typer.Option("--unit", metavar="tokens", help="What it counts.")] = None
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="'speed: ([0-9.]+) img/s'",
            help="The rate that it prints, as a regular expression with one group.",
        ),
    ] = None
    metric_scope: Annotated[
        str | None,
        typer.Option(
            "--metric-scope",
            metavar="rank|total",
            help="Whether that is the rate of one rank, or of all (default).",
        ),
    ] = None

    def flags(self) -> ScriptFlags:
        """What the options say of programs."""
        from harness.planning.script_flags import ScriptFlags

        values = {
            "whole": self.whole or None,
            "samples_per_step": self.samples_per_step,
            "unit": self.unit,
            "metric": self.metric,
            "metric_scope": self.metric_scope,
        }
        return ScriptFlags(self.script or (), split_names(self.launcher), values)


def _given(**values: Any) -> Mapping[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
