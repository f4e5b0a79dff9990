"""A suite: what to sweep, as a TOML file with flags laid over it. It knows nothing of the machine; the plan does."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, field_validator

from bench.core.case import Fault, Scaling
from bench.core.frozen_model import FrozenModel
from bench.core.text import printable
from bench.host.links import parse_rate
from bench.host.paths import from_home
from bench.host.running_code import ORIGIN
from harness.configuration import find_configuration
from harness.errors import UsageError, describe_validation_error, suggest_name
from harness.planning.limits import find_excess
from harness.planning.options import SCOPES, Axes
from harness.planning.python_files import suggest_option
from harness.toml_lines import find_toml_line

_PACKAGE_FOLDER = ORIGIN / "harness"
SUITES_FOLDER = next(
    location
    for location in (_PACKAGE_FOLDER.parent / "suites", _PACKAGE_FOLDER / "suites")
    if location.is_dir() or location.parent == _PACKAGE_FOLDER
)
"""At the top of a checkout; inside the package where it was installed as a wheel."""
DEFAULT_SUITE = "quick"
MAX_SHOWN_LENGTH = 80
"""Of a wrong value in a message, in characters."""


def _check_price(text: str) -> str:
    from reports.analysis.price import parse_price

    parse_price(text)
    return text


class FiniteModel(FrozenModel):
    """A value whose numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Suite(FiniteModel):
    """What to sweep. ``None`` leaves the choice to the plan, which knows the machine."""

    name: str = "flags"
    summary: str = ""
    backends: tuple[str, ...] = ("single", "ddp", "horovod", "dask")
    workloads: tuple[str, ...] = ("mnist", "synthetic")
    ranks: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    nodes: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Counts of full nodes, instead of :attr:`ranks`: ranks = nodes × :attr:`ranks_per_node`."""
    ranks_per_node: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Ranks on a full node; ``None``: the site's default."""
    scaling: tuple[Scaling, ...] | None = None
    """``None``: the usual one of each workload, strong where the global batch is divided among the ranks."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    repeats: int = Field(3, ge=1)
    batch: tuple[Annotated[int, Field(ge=1)], ...] = (128,)
    """Several are an axis."""
    threads: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0, lt=2**62)
    steps: int | None = Field(None, ge=1)
    window_s: float | None = Field(None, gt=0)
    """``None``: long enough for the readings of the device (:func:`harness.planning.plan.default_window_s`)."""
    adapt_window: bool = False
    """From the third round on, windows are as long as the spread of the trials before suggests
    (:mod:`reports.analysis.window_length`), and :attr:`window_s` in the first two."""
    warmup: int | None = Field(None, ge=0)
    verify_steps: int = Field(4, ge=0)
    tolerance: float | None = Field(None, gt=0)
    """Of the same-work check; ``None``: what each backend states."""
    timeout_s: float = Field(120.0, gt=0)
    precision: float | None = Field(None, gt=0, lt=1)
    """Repeat rounds until each cell's 95 % interval of throughput is at most ± this fraction."""
    price_per_hour: Annotated[str, AfterValidator(_check_price)] | None = None
    """Of a node or a GPU (:func:`reports.analysis.price.parse_price`); it changes nothing but the report."""
    co2_g_per_kwh: float | None = Field(None, gt=0)
    """The intensity of the electricity; it changes nothing but the report."""
    target: float | None = Field(None, gt=0)
    """An amount of work whose time and cost the report tells, in the workload's unit."""
    budget_s: float = Field(600.0, gt=0)
    """The longest time that :attr:`precision` may take, from the start of the sweep."""
    until: Literal["decided"] | None = None
    """``decided``: after the first round only those cases run again that an open question involves
    (:mod:`reports.analysis.decisions`)."""
    margin: float = Field(0.03, gt=0, lt=1)
    """Of :attr:`until`: cells whose throughputs differ by less are practically equivalent."""
    max_repeats: int | None = Field(None, ge=1)
    """Of :attr:`until`: the most trials of a case; ``None``: :attr:`repeats`."""
    decompose: bool = True
    own_cost: bool = True
    roofline: bool = True
    affinity: Literal["cores", "none"] | None = None
    """``None``: the ranks of this project's workloads are pinned to cores, a user's programs are not."""
    net: tuple[Annotated[str, AfterValidator(parse_rate)], ...] | None = None
    """Rates of emulated links between ranks in network namespaces (:mod:`bench.host.links`); ``None``: none."""
    telemetry: str = Field(
        "auto", pattern=r"^(auto|always|off|replay:.+)$", description="auto, always, off or replay:FILE"
    )
    env: dict[str, tuple[str, ...]] = Field(default={})
    """Values of environment variables of the ranks (:mod:`harness.planning.variables`), each an axis of the sweep."""
    fault: Fault | None = None
    """Injected into every case that has such a rank."""
    plugins: tuple[str, ...] = ()
    """Files with plugins (``--plugin``), as absolute paths; in a suite's file they are relative to its folder."""
    options: Axes = Field(default={})
    """By the plugin's name, full or short as it was written; :func:`resolve_options` gives full names."""

    @property
    def max_rounds(self) -> int:
        """The most trials of a case, but for further rounds of :attr:`precision`."""
        return self.max_repeats or self.repeats if self.until else self.repeats

    @field_validator("env", mode="before")
    @classmethod
    def _as_texts(cls, variables: Any) -> Any:
        """Variables are texts; a suite may give one value instead of a list, and numbers."""
        if not isinstance(variables, dict):
            return variables
        lists = {name: given if isinstance(given, list | tuple) else [given] for name, given in variables.items()}
        return {
            name: [str(value) if type(value) in (int, float) else value for value in values]
            for name, values in lists.items()
        }

    @field_validator("batch", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        """A single number, as in suites from before there could be several, is one of them."""
        return (value,) if isinstance(value, int) else value

    @field_validator("batch", "backends", "workloads", "ranks", "nodes", "ranks_per_node", "scaling", "net")
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


def shipped_suites() -> list[str]:
    """The names of the suites that ship with the project."""
    return sorted(path.stem for path in SUITES_FOLDER.glob("*.toml"))


def suite_names() -> list[str]:
    """The names of the suites that ship with the project, and of those of the user's configuration."""
    return sorted({*shipped_suites(), *find_configuration().suites})


def find_suite(name: str) -> Path:
    """The file of a suite named by its stem or by a path. Raises :class:`UsageError`."""
    if name in shipped_suites():
        return SUITES_FOLDER / f"{name}.toml"
    path = from_home(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    if path.suffix == ".toml":
        raise UsageError(f"suite {name}: no such file")
    raise UsageError(f"unknown suite '{name}'{suggest_option(name, suite_names())}")


class SuiteFile:
    """The text of a suite, read once, and where its keys are.

    Args:
        name: A suite that ships with the project or is in the user's configuration (``[tool.scaling.suites.NAME]``),
            or a TOML file.

    Raises:
        UsageError: There is no such suite, or its file can't be read as TOML.
    """

    def __init__(self, name: str) -> None:
        self._table: tuple[str, ...] = ()
        self.name = printable(name)
        configuration = find_configuration()
        if configuration.path is not None and name in configuration.suites:
            self.path, self.text = configuration.path, configuration.text
            self.content: dict[str, Any] = dict(configuration.suites[name])
            self._table = (*configuration.prefix, "suites", name)
            if name in shipped_suites():
                raise UsageError(f"{self.path}:{self._line(())}: a suite '{name}' ships with the project; rename yours")
        else:
            self._read_file(find_suite(name))
        if key := _key_with_nul(self.content):
            where = f"{self.path}:{self._line(key)}"
            raise UsageError(
                f"{where}: {'.'.join(key)} holds the character U+0000, which no name or path has; remove it"
            )

    def _read_file(self, path: Path) -> None:
        self.path, self.name = path, printable(path.stem)
        try:
            self.text = path.read_text()
            self.content = tomllib.loads(self.text)
        except (OSError, UnicodeDecodeError) as problem:
            raise UsageError(f"{path}: cannot be read ({problem})") from None
        except tomllib.TOMLDecodeError as problem:
            raise UsageError(f"{path}: {problem}") from None

    def read(self) -> Suite:
        """The suite. Raises :class:`UsageError` with file and line."""
        content = {name: value for name, value in self.content.items() if name not in SCOPES}
        content.setdefault("name", self.name)
        content["options"] = self._axes()
        try:
            suite = Suite.model_validate(content)
        except ValidationError as problem:
            raise UsageError(
                explain_invalid_suite(problem, lambda location: f"{self.path}:{self._line(location)}")
            ) from None
        if excess := find_excess(dict(suite)):
            raise UsageError(f"{self.path}:{self._line(excess[:1])}: {excess[1]}")
        plugins = tuple(str((self.path.parent / from_home(file)).resolve()) for file in suite.plugins)
        return suite.model_copy(update={"plugins": plugins})

    def locate(self, key: tuple[str, ...]) -> str:
        """``file:line: `` of a key of the suite; empty where the file does not set it."""
        if not key:
            return ""
        keys = [key]
        if key[0] == "options" and len(key) > 1:
            scope, _, name = key[1].rpartition(".")
            keys = [("options", name, *key[2:]), *((found, name, *key[2:]) for found in SCOPES if scope in ("", found))]
        written = [found for found in keys if len(found) == 1 or found[1] in self.content.get(found[0], ())]
        if not any(found[0] in self.content for found in written):
            return ""
        return f"{self.path}:{self._line(*written)}: "

    def _line(self, *keys: tuple[str, ...]) -> int:
        return find_toml_line(self.text, *((*self._table, *key) for key in keys))

    def _axes(self) -> Axes:
        """Options by the plugin's name: full from ``[backend.ddp]``, short from ``[options.ddp]``."""
        axes: Axes = {}
        for table in ("options", *SCOPES):
            plugins = self.content.get(table, {})
            if not isinstance(plugins, dict) or not all(isinstance(options, dict) for options in plugins.values()):
                example = "[backend.ddp] with bucket_cap_mb = [1, 25]"
                where = f"{self.path}:{self._line((table,))}"
                raise UsageError(f"{where}: {table} must hold tables, for example {example}")
            for plugin, options in plugins.items():
                full = plugin if table == "options" else f"{table}.{plugin}"
                values = {name: self._values((table, plugin, name), value) for name, value in options.items()}
                axes.setdefault(full, {}).update(values)
        return axes

    def _values(self, key: tuple[str, ...], value: Any) -> tuple[Any, ...]:
        if value == []:
            where = f"{self.path}:{self._line(key)}"
            raise UsageError(f"{where}: {'.'.join(key)} is empty: name at least one value")
        return tuple(value) if isinstance(value, list) else (value,)


def _key_with_nul(value: Any) -> tuple[str, ...] | None:
    """The key of the first text with a NUL, which would end a path or a variable; ``None`` where there is none."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in items:
        if "\0" in str(name) or (isinstance(item, str) and "\0" in item):
            return (str(name),)
        if isinstance(item, dict | list) and (inner := _key_with_nul(item)):
            return (str(name), *inner)
    return None


def read_suite(name: str) -> Suite:
    """The named suite. Raises :class:`UsageError` with file and line."""
    return SuiteFile(name).read()


def apply_flags(suite: Suite, changes: dict[str, Any], options: Axes) -> Suite:
    """The suite with flags laid over it.

    Args:
        suite: The suite of the file.
        changes: Values of flags by the name of their field.
        options: The options of ``--set``, under the same names of plugins as the suite's own.

    Raises:
        UsageError: A flag has a wrong value; the message names the flag.
    """
    merged = {plugin: dict(axes) for plugin, axes in suite.options.items()}
    for plugin, axes in options.items():
        merged.setdefault(plugin, {}).update(axes)
    # Node counts that are given replace the suite's rank counts, and the other way round.
    other = {"nodes": "ranks", "ranks": "nodes"}
    changes = {**{other[name]: None for name in other if name in changes}, **changes}
    changes["env"] = {**suite.env, **changes.get("env", {})}
    try:
        changed = Suite.model_validate({**suite.model_dump(), **changes, "options": merged})
    except ValidationError as problem:
        raise UsageError(explain_invalid_suite(problem, lambda location: _flag_of(location[0]))) from None
    if excess := find_excess(dict(changed)):
        raise UsageError(f"{_flag_of(excess[0])}: {excess[1]}")
    return changed


def _flag_of(field: str) -> str:
    """The flag that sets a field: ``--timeout`` of ``timeout_s``."""
    return f"--{field.removesuffix('_s').replace('_', '-')}"


def explain_invalid_suite(problem: ValidationError, locate: Callable[[tuple[str, ...]], str]) -> str:
    """The first of pydantic's errors as one line: place, value, what is wrong, nearest name."""
    first = problem.errors()[0]
    location = tuple(str(part) for part in first["loc"])
    name = location[-1] if location else ""
    if first["type"] == "extra_forbidden":
        return f"{locate(location)}: unknown key '{name}'{suggest_name(name, [*Suite.model_fields, *SCOPES])}"
    details = describe_validation_error(dict(first), Suite.model_fields)
    value = repr(first["input"])
    shown = value if len(value) <= MAX_SHOWN_LENGTH else f"{value[:MAX_SHOWN_LENGTH]}…"
    return f"{locate(location)}: {location[0] if location else ''} = {shown}: {details}"
