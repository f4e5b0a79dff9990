"""Numbers, names and sentences, the same in the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.case import Case, Scalar
from bench.links import UNSHAPED
from bench.machine import NodeFacts
from bench.records import Link
from reports.analysis.communication import NEGLIGIBLE
from reports.analysis.curve import Curve
from reports.analysis.scaling import Parameter, Prediction
from reports.analysis.stats import Estimate
from reports.cells import Cell
from reports.placement import Place, Placement

MODEL_TITLES = {"usl": "USL", "amdahl": "Amdahl", "linear": "linear"}
SI_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float) -> str:
    """Three significant digits, with k, M, G or T from 10,000 on: ``15.8k``, ``3.41``, ``980``."""
    factor, prefix = _si_prefix(value)
    return f"{_three_digits(value / factor)}{prefix}"


def _si_prefix(value: float) -> tuple[float, str]:
    if abs(value) < 1e4 or not math.isfinite(value):
        return 1.0, ""
    return next(found for found in SI_PREFIXES if abs(value) >= found[0])


def _three_digits(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 6)}f}" if abs(value) < 1000 else f"{value:,.0f}"


def estimate(found: Estimate | None, *, unit: bool = True) -> str:
    """``15.8k (15.1k–16.5k) samples/s``; without an interval just the value; ``–`` for none."""
    if found is None:
        return "–"
    factor, prefix = _si_prefix(found.value)
    shown = f"{_three_digits(found.value / factor)}{prefix}"
    if found.low is not None and found.high is not None:
        shown += f" ({_three_digits(found.low / factor)}–{_three_digits(found.high / factor)})"
    if not unit or found.unit in ("1", "×"):
        return shown
    if found.unit == "B/s":
        return f"{shown.replace(prefix, '', 1) if prefix else shown} {prefix}B/s"
    return f"{shown} {found.unit}"


def parameter_percent(found: Parameter | None) -> str:
    """``3.1 % (2.9–3.3)`` of a fitted σ or κ."""
    if found is None or (found.value == 0 and found.high is None):
        return "–"
    span = "" if found.low is None or found.high is None else f" ({100 * found.low:.2g}–{100 * found.high:.2g})"
    return f"{100 * found.value:.2g} %{span}"


def model_title(name: str) -> str:
    """``USL`` for ``usl``; what is said in words already stays as it is."""
    return MODEL_TITLES.get(name, name)


def prediction(found: Prediction) -> str:
    """``15.8k (14.9k–16.7k)``: throughput with the interval of one further measurement."""
    span = "" if found.low is None or found.high is None else f" ({number(found.low)}–{number(found.high)})"
    return f"{number(found.throughput)}{span}"


def latency(found: Parameter) -> str:
    """``355 µs (301–419)``"""
    if found.low is None or found.high is None:
        return f"{number(found.value * 1e6)} µs (can't be told apart from 0)"
    return f"{number(found.value * 1e6)} µs ({number(found.low * 1e6)}–{number(found.high * 1e6)})"


def bandwidth(found: Parameter) -> str:
    """``763MB/s (640M–910M)`` of a fitted time per byte."""
    if found.value < NEGLIGIBLE:
        return "too high to be told: latency is all"
    if found.low is None or found.high is None:
        return f"{number(1 / found.value)}B/s (can't be told apart from none)"
    return f"{number(1 / found.value)}B/s ({number(1 / found.high)}–{number(1 / found.low)})"


def path_title(case: Case) -> str:
    """``ddp/gloo · cpu``: how gradients travel."""
    return f"{backend_site_title(case)} · {case.device}{f' · {net_title(case.net)}' if case.net else ''}"


def serial_fraction(curve: Curve) -> str:
    """At the largest rank count: Gustafson's under weak scaling, Karp–Flatt's under strong."""
    last = curve.points[-1]
    found = last.gustafson or last.karp_flatt
    return "–" if found is None else f"{percent(found)} at {ranks(last.ranks)}"


def reading_title(name: str) -> str:
    """``GPU memory peak``"""
    return name.replace("_", " ").replace("gpu", "GPU").replace("cpu", "CPU")


def reading(found: Estimate | None) -> str:
    """A reading without its interval: ``1.62 cores``, ``71 %`` for a share, ``412 MB``."""
    if found is None:
        return "–"
    return quantity(found.value, found.unit)


def quantity(value: float, unit: str) -> str:
    """``1.62 cores``, ``71 %`` for a share, ``412 MB``."""
    if unit == "1":
        return f"{value * 100:.0f} %"
    factor, prefix = _si_prefix(value)
    gap = "" if prefix and unit[0] not in "BHW" else " "
    return f"{_three_digits(value / factor)}{gap}{prefix}{unit}"


def with_range(mean: float, least: float, most: float, unit: str) -> str:
    """``468 (300–585) MB/s``, ``71 (68–74) %``: all three in the unit that suits the mean."""
    if unit == "1":
        return f"{100 * mean:.0f} ({100 * least:.0f}–{100 * most:.0f}) %"
    factor, prefix = _si_prefix(mean)
    return f"{_three_digits(mean / factor)} ({_three_digits(least / factor)}–{_three_digits(most / factor)}) {prefix}{unit}"


def percent(found: Estimate | None) -> str:
    """``71 % (68–74)``; ``0.4 % (0.2–0.7)`` where a whole one is much."""
    if found is None:
        return "–"
    digits = 1 if 0 < found.value < 0.01 else 0
    low, high = found.low, found.high
    span = "" if low is None or high is None else f" ({low * 100:,.{digits}f}–{high * 100:,.{digits}f})"
    return f"{found.value * 100:,.{digits}f} %{span}"


def duration_estimate(found: Estimate | None) -> str:
    """``18.6 ms``; ``4.50 µs`` below a tenth of a millisecond."""
    return "–" if found is None else duration(found.value)


def duration(time_s: float) -> str:
    """``18.6 ms``; ``4.50 µs`` below a tenth of a millisecond."""
    if 0 < abs(time_s) < 1e-4:
        return f"{number(time_s * 1e6)} µs"
    return f"{number(time_s * 1e3)} ms"


def overhead(found: Estimate | None) -> str:
    """``0.3 % of throughput (-0.2 to 0.8), from 12 trials``: of an estimate of throughput watched ÷ unwatched."""
    if found is None:
        return "not measured"
    span = ""
    if found.low is not None and found.high is not None:
        span = f" ({100 - 100 * found.high:.1f} to {100 - 100 * found.low:.1f})"
    trials = f"{found.n} trial{'s' * (found.n != 1)}"
    return f"step timing and sampling take {100 - 100 * found.value:.1f} % of throughput{span}, from {trials}"


def message_size(size: int) -> str:
    """``1 KiB``, ``64 MiB``."""
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} B"


def options(options_text: dict[str, Scalar]) -> str:
    """``compute_ms=400, model=emulated``"""
    text = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in options_text.items()}
    return ", ".join(f"{name}={value}" for name, value in sorted(text.items()))


def workload_title(case: Case) -> str:
    """``synthetic (model=cnn)``, *emulated compute* where the compute was a wait, and the links between the ranks."""
    options_text = f" ({options(case.workload_options)})" if case.workload_options else ""
    emulated = ", emulated compute" if "emulated_compute" in case.flags else ""
    net = f", {net_title(case.net)}" if case.net else ""
    return f"{case.workload}{options_text}{emulated}{net}"


def net_title(net: str) -> str:
    """``1 Gbit/s links``; ``unshaped links``"""
    if net == UNSHAPED:
        return "unshaped links"
    unit = {"gbit": "Gbit/s", "mbit": "Mbit/s", "kbit": "kbit/s"}[net[-4:]]
    return f"{net[:-4]} {unit} links"


def link_summary(found: Link) -> str:
    """``1 Gbit/s links: 119 MB/s of payload each way at once (95 % of the rate), round trip 15.0 µs``"""
    target_bytes_s, achieved = found.wanted_bytes_s, found.achieved_bytes_s
    rate = estimate(Estimate(value=achieved, low=None, high=None, n=1, unit="B/s"))
    share = f" ({100 * achieved / target_bytes_s:.0f} % of the rate)" if target_bytes_s else ""
    return (
        f"{net_title(found.net)}: {rate} of payload each way at once{share}, "
        f"round trip {number(found.round_trip_s * 1e6)} µs"
    )


def host_summaries(found: Sequence[NodeFacts]) -> list[str]:
    """``n1, n2: Intel Xeon, 8 cores, 16 GiB, GPUs: none; Linux 6.1, Python 3.12; torch 2.8.0``: alike ones together."""
    alike: dict[str, list[str]] = {}
    for one in found:
        packages = ", ".join(f"{name} {version}" for name, version in one.packages.items())
        text = (
            f"{one.cpu}, {one.cores} cores, {one.memory_bytes / 2**30:.0f} GiB, GPUs: {', '.join(one.gpus) or 'none'}; "
            f"{one.system}, Python {one.python}; {packages}"
        )
        alike.setdefault(text, []).append(one.host)
    return [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in alike.items()]


def backend_title(case: Case) -> str:
    """``ddp/gloo (bucket_cap_mb=1)``, and what tells its curve from others: ranks a node, the sweep, the site."""
    ranks_per_node = f", {case.ranks_per_node} a node" if case.ranks_per_node else ""
    return f"{_backend_transport(case)}{ranks_per_node}{_label_and_site(case)}"


def backend_site_title(case: Case) -> str:
    """``ddp/gloo on slurm``: however many ranks a node holds."""
    return f"{_backend_transport(case)}{_label_and_site(case)}"


def _backend_transport(case: Case) -> str:
    transport = "" if case.transport == "none" else f"/{case.transport}"
    options_text = f" ({options(case.backend_options)})" if case.backend_options else ""
    return f"{case.backend}{transport}{options_text}"


def _label_and_site(case: Case) -> str:
    """`` · B on slurm``"""
    site = f" on {case.site}" if case.site != "local" else ""
    return f" · {case.label}{site}" if case.label else site


def case_title(case: Case) -> str:
    """``synthetic · ddp/gloo · 2 ranks · strong``, and the fault that was injected."""
    fault = f" · injected {case.fault.label}" if case.fault else ""
    return f"{workload_title(case)} · {backend_site_title(case)} · {ranks_on_nodes(case)} · {case.scaling}{fault}"


def case_conditions(case: Case) -> str:
    """``strong scaling · global batch 128 · 1 thread per rank · cpu``"""
    batch = "global batch" if case.scaling == "strong" else "batch per rank"
    size = "" if case.batch == 1 else f"{batch} {case.batch} · "
    return f"{case.scaling} scaling · {size}{case.threads} thread{'s' * (case.threads > 1)} per rank · {case.device}"


def ranks(count: int) -> str:
    return f"{count} rank{'s' * (count != 1)}"


def nodes(count: int) -> str:
    return f"{count:,} node{'s' * (count != 1)}"


def ranks_on_nodes(case: Case) -> str:
    """``4 ranks on 2 nodes``, where it was said how many a node holds."""
    return f"{ranks(case.ranks)} on {nodes(case.nodes)}" if case.ranks_per_node else ranks(case.ranks)


def backend_and_ranks(case: Case) -> str:
    """``ddp/gloo, 4 ranks on 2 nodes``"""
    return f"{backend_site_title(case)}, {ranks_on_nodes(case)}"


def backend_at_ranks(case: Case) -> str:
    """``ddp/gloo at 4 ranks on 2 nodes``"""
    return f"{backend_site_title(case)} at {ranks_on_nodes(case)}"


def case_rank_count(case: Case) -> str:
    """``4 on 2 nodes``: the ranks, in a column of that name."""
    return rank_count(Placement(case.ranks, case.ranks_per_node))


def rank_count(found: Placement) -> str:
    """``512 on 64 nodes``; ``8`` where nobody said how many a node holds."""
    return f"{found.ranks:,} on {nodes(found.nodes)}" if found.ranks_per_node else f"{found.ranks}"


PLACE_TITLES: dict[Place, str] = {
    "inside": "inside a node",
    "across": "across nodes",
    "both": "several ranks on each of several nodes",
}


def group_key(cell: Cell) -> tuple[str, ...]:
    """Cells of one group belong into one figure: the same workload with the same options and scaling."""
    case = cell.case
    return (workload_title(case), case.scaling, case.device, f"batch={case.batch}", f"seed={case.seed}")


def group_title(cells: Sequence[Cell]) -> str:
    """The workload of a group, its largest message where it is a collective, and that a stand-in is one."""
    sizes = [message.message_bytes for cell in cells for message in cell.messages]
    size = f" of {message_size(max(sizes))}" if sizes else ""
    return f"{workload_title(cells[0].case)}{size}{stand_in_note(cells[0].case)}"


def stand_in_note(case: Case) -> str:
    """`` (digits standing in for MNIST)``; empty for the data itself."""
    data = case.data
    return f" ({data.name.split(',')[0]} standing in for {data.stands_for})" if data and data.stands_for else ""
