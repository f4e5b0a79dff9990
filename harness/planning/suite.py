"""A suite: what to sweep, as a TOML file or as flags. It says nothing about the machine; the plan does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, field_validator

from bench.core.case import Fault, FaultKind, Scalar, Scaling
from bench.core.frozen_model import FrozenModel
from bench.host.links import parse_rate
from harness.errors import UsageError, describe_validation_error, suggest_name

_PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
SUITES_FOLDER = next(
    location
    for location in (_PACKAGE_FOLDER.parent / "suites", _PACKAGE_FOLDER / "suites")
    if location.is_dir() or location.parent == _PACKAGE_FOLDER
)
"""At the top of a checkout; inside the package where it was installed as a wheel."""
DEFAULT_SUITE = "quick"


class FiniteModel(FrozenModel):
    """A value whose numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Axes = dict[str, dict[str, tuple[Scalar, ...]]]
"""``{"ddp": {"bucket_cap_mb": (1, 25)}}``: an option with several values is an axis of the sweep."""


class Suite(FiniteModel):
    """What to sweep. ``None`` leaves the choice to the plan, which knows the machine."""

    name: str = "flags"
    summary: str = ""
    backends: tuple[str, ...] = ("single", "ddp", "horovod", "dask")
    workloads: tuple[str, ...] = ("mnist", "synthetic")
    ranks: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    nodes: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Full nodes: with :attr:`ranks_per_node` another way to say :attr:`ranks`."""
    ranks_per_node: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """How many ranks a full node holds; ``None``: the site knows."""
    scaling: tuple[Scaling, ...] = ("strong",)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    repeats: int = Field(3, ge=1)
    batch: int = Field(128, ge=1)
    threads: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0, lt=2**62)
    steps: int | None = Field(None, ge=1)
    window_s: float = Field(1.0, gt=0)
    warmup: int | None = Field(None, ge=0)
    verify_steps: int = Field(4, ge=0)
    timeout_s: float = Field(120.0, gt=0)
    precision: float | None = Field(None, gt=0, lt=1)
    """Repeat rounds until each cell's 95 % interval of throughput is at most ± this fraction."""
    budget_s: float = Field(600.0, gt=0)
    """How long precision may take, from the start of the sweep."""
    decompose: bool = True
    own_cost: bool = True
    roofline: bool = True
    affinity: Literal["cores", "none"] = "cores"
    net: tuple[Annotated[str, AfterValidator(parse_rate)], ...] | None = None
    """Rates of the links between ranks in namespaces of their own (:mod:`bench.host.links`); ``None``: no such
    links."""
    telemetry: str = Field(
        "auto", pattern=r"^(auto|always|off|replay:.+)$", description="auto, always, off or replay:FILE"
    )
    fault: Fault | None = None
    """What goes wrong on purpose, on every case that has such a rank."""
    options: Axes = Field(default={})

    @field_validator("backends", "workloads", "ranks", "nodes", "ranks_per_node", "scaling", "net")
    @classmethod
    def _check_unique(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if values is None:
            return None
        if not values:
            raise ValueError("is empty")
        duplicates = sorted({str(value) for value in values if values.count(value) > 1})
        if duplicates:
            raise ValueError(f"names {', '.join(duplicates)} twice")
        return values


def suite_names() -> list[str]:
    """The suites that ship with the project."""
    return sorted(path.stem for path in SUITES_FOLDER.glob("*.toml"))


def find_suite(name: str) -> Path:
    """The file of a suite named by its stem or by a path. Raises :class:`UsageError`."""
    if name in suite_names():
        return SUITES_FOLDER / f"{name}.toml"
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    if path.suffix == ".toml":
        raise UsageError(f"suite {name}: no such file")
    raise UsageError(f"unknown suite '{name}'{suggest_name(name, suite_names())}")


def read_suite(name: str) -> Suite:
    """The named suite. Raises :class:`UsageError` with file and line."""
    path = find_suite(name)
    try:
        text = path.read_text()
        raw = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path}: cannot be read ({problem})") from None
    except tomllib.TOMLDecodeError as problem:
        raise UsageError(f"{path}: {problem}") from None
    raw.setdefault("name", path.stem)
    raw["options"] = _as_axes(raw.get("options", {}), path, text)
    try:
        return Suite.model_validate(raw)
    except ValidationError as problem:
        raise UsageError(
            explain_invalid_suite(problem, lambda location: f"{path}:{find_toml_line(text, location)}")
        ) from None


def apply_flags(suite: Suite, changes: dict[str, Any], options: Axes) -> Suite:
    """The suite with flags laid over it. Raises :class:`UsageError` that names the flag."""
    merged = {scope: dict(axes) for scope, axes in suite.options.items()}
    for scope, axes in options.items():
        merged.setdefault(scope, {}).update(axes)
    # Nodes that are asked for stand in the place of the suite's rank counts, and the other way round.
    other = {"nodes": "ranks", "ranks": "nodes"}
    changes = {**{other[name]: None for name in other if name in changes}, **changes}
    try:
        return Suite.model_validate({**suite.model_dump(), **changes, "options": merged})
    except ValidationError as problem:
        raise UsageError(
            explain_invalid_suite(problem, lambda location: f"--{location[0].replace('_s', '').replace('_', '-')}")
        ) from None


def explain_invalid_suite(problem: ValidationError, locate: Any) -> str:
    """The first of pydantic's complaints as one line: place, value, what is wrong, nearest name."""
    first = problem.errors()[0]
    location = tuple(str(part) for part in first["loc"])
    name = location[-1] if location else ""
    if first["type"] == "extra_forbidden":
        return f"{locate(location)}: unknown key '{name}'{suggest_name(name, Suite.model_fields)}"
    details = describe_validation_error(dict(first), Suite.model_fields)
    return f"{locate(location)}: {location[0] if location else ''} = {first['input']!r}: {details}"


def find_toml_line(text: str, location: tuple[str, ...]) -> int:
    """The line of a TOML text where the innermost named key of ``place`` is set (1 where it can't be found)."""
    key_path = tuple(part for part in location if not part.isdigit())
    best, line_number = 0, 1
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[+([^\]]+)\]", line)
        if header:
            table = found = _dotted(header.group(1))
        else:
            found = table + _dotted(line.split("=", 1)[0]) if "=" in line else ()
        if len(found) > best and found == key_path[: len(found)]:
            best, line_number = len(found), number
    return line_number


def _dotted(key: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in key.split("."))


def _as_axes(raw: Any, path: Path, text: str) -> Axes:
    if not isinstance(raw, dict) or not all(isinstance(axes, dict) for axes in raw.values()):
        where = f"{path}:{find_toml_line(text, ('options',))}"
        raise UsageError(f"{where}: options must be tables, for example [options.ddp] with bucket_cap_mb = [1, 25]")
    for scope, axes in raw.items():
        for name, value in axes.items():
            if value == []:
                where = f"{path}:{find_toml_line(text, ('options', scope, name))}"
                raise UsageError(f"{where}: options.{scope}.{name} is empty: name at least one value")
    return {
        scope: {name: tuple(value) if isinstance(value, list) else (value,) for name, value in axes.items()}
        for scope, axes in raw.items()
    }


def parse_percent(text: str) -> float:
    """``2%`` or ``0.02`` → 0.02. Raises :class:`UsageError`."""
    try:
        return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise UsageError(f"--precision {text}: expected a share, for example 2%") from None


def parse_duration(text: str) -> float:
    """``90``, ``90s``, ``10m`` or ``2h`` → seconds. Raises :class:`UsageError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None:
        raise UsageError(f"--budget {text}: expected a duration, for example 90s, 10m or 2h")
    return float(found.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600}[found.group(2)]


def parse_fault(text: str) -> Fault:
    """``kill:rank=1,step=3`` or ``slow:rank=1,ms=200``. Raises :class:`UsageError`."""
    kind, _, details = text.partition(":")
    location = f"--inject {text}"
    if kind not in get_args(FaultKind):
        raise UsageError(f"{location}: unknown kind '{kind}'{suggest_name(kind, get_args(FaultKind))}")
    settings: dict[str, Any] = {}
    for setting in filter(None, details.split(",")):
        name, _, value = setting.partition("=")
        if name not in ("rank", "step", "ms"):
            raise UsageError(f"{location}: unknown setting '{name}'{suggest_name(name, ('rank', 'step', 'ms'))}")
        number = float if name == "ms" else int
        try:
            settings[name] = number(value)
        except ValueError:
            raise UsageError(f"{location}: {name} = '{value}' is not a number") from None
    if "rank" not in settings:
        raise UsageError(f"{location}: which rank? for example --inject {kind}:rank=1")
    if (kind == "slow") != ("ms" in settings):
        raise UsageError(
            f"{location}: "
            + ("how late? for example --inject slow:rank=1,ms=200" if kind == "slow" else f"{kind} takes no ms")
        )
    negative = next((name for name, value in settings.items() if value < 0 or value == float("inf")), None)
    if negative:
        raise UsageError(f"{location}: {negative} must be 0 or more, and finite")
    return Fault(kind=cast(FaultKind, kind), **settings)


def parse_settings(settings: list[str]) -> Axes:
    """``["ddp.bucket_cap_mb=1,25"]`` → axes; several values are separated by commas. Raises :class:`UsageError`."""
    axes: Axes = {}
    for setting in settings:
        found = re.fullmatch(r"([\w-]+)\.([\w-]+)=(.+)", setting)
        if found is None:
            raise UsageError(f"--set {setting}: expected SCOPE.OPTION=VALUE, for example --set ddp.bucket_cap_mb=1,25")
        scope, name, values = found.groups()
        if name in axes.setdefault(scope, {}):
            raise UsageError(f"--set {setting}: {scope}.{name} is set twice; separate several values by commas")
        axes[scope][name] = tuple(values.split(","))
    return axes
