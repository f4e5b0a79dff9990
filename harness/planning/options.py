"""Options of workloads, backends and sites: their names on the command line and in suites, and their values.

An option's full name is SCOPE.NAME.OPTION (``backend.ddp.bucket_cap_mb``). The scope may be left out while one plugin
alone has such an option.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bench.core.case import Scalar
from harness.errors import UsageError, describe_validation_error, suggest_name
from harness.planning.limits import MAX_NUMBER, shorten_number, too_large

if TYPE_CHECKING:
    from bench.plugins.backend import Backend, Options
    from bench.plugins.workload import Workload

SCOPES = ("workload", "backend", "site")
SETTING_PATTERN = re.compile(rf"((?:(?:{'|'.join(SCOPES)})\.)?[\w-]+)\.([\w-]+)=(.+)")
SETTING_EXAMPLE = "expected SCOPE.NAME.OPTION=VALUE, for example --set backend.ddp.bucket_cap_mb=1,25"

Axes = dict[str, dict[str, tuple[Scalar, ...]]]
"""``{"backend.ddp": {"bucket_cap_mb": (1, 25)}}``: an option with several values is an axis of the sweep."""


def parse_settings(settings: Sequence[str]) -> Axes:
    """The values of ``--set``: ``["ddp.bucket_cap_mb=1,25"]`` → ``{"ddp": {"bucket_cap_mb": ("1", "25")}}``.

    Several values are separated by commas, or the setting is repeated. A value that holds a comma is quoted as in a
    CSV file: ``site.slurm.nodelist="n1,n2"``.

    Raises:
        UsageError: A setting has another form.
    """
    axes: Axes = {}
    for setting in settings:
        match = SETTING_PATTERN.fullmatch(setting)
        if match is None:
            raise UsageError(f"--set {redact_credentials(setting)}: {SETTING_EXAMPLE}")
        plugin, option, text = match.groups()
        try:
            (values,) = csv.reader([text], strict=True)
        except csv.Error:
            raise UsageError(
                f"--set {redact_credentials(setting)}: a quoted value ends with its quote, before a comma or the end"
            ) from None
        chosen = axes.setdefault(plugin, {})
        chosen[option] = (*chosen.get(option, ()), *values)
    return axes


def known_options(
    backends: Mapping[str, Backend], workloads: Mapping[str, Workload], sites: Mapping[str, type[Options] | None]
) -> dict[str, tuple[str, ...]]:
    """The options of each plugin by its full name; ``None`` for a site whose options are of no interest."""
    return {
        **{f"workload.{name}": tuple(workload.options.model_fields) for name, workload in workloads.items()},
        **{f"backend.{name}": (*backend.options.model_fields, "transport") for name, backend in backends.items()},
        **{f"site.{name}": tuple(options.model_fields) if options else () for name, options in sites.items()},
    }


def resolve_options(axes: Axes, known: Mapping[str, Collection[str]]) -> Axes:
    """The same axes under full names.

    Args:
        axes: By full name (``backend.ddp``) or by the plugin's name alone (``ddp``).
        known: The options of each plugin by its full name, from :func:`known_options`.

    Raises:
        UsageError: A name is unknown, belongs to several plugins, or is set under two of its names.
    """
    resolved: Axes = {}
    for plugin, options in axes.items():
        for option, values in options.items():
            owner = _owner_of(plugin, option, known)
            chosen = resolved.setdefault(owner, {})
            if option in chosen:
                short = owner.partition(".")[2]
                raise UsageError(
                    f"option {owner}.{option}: is set as {short}.{option} too; leave one of them out",
                    ("options", plugin, option),
                )
            chosen[option] = values
    return resolved


def _owner_of(plugin: str, option: str, known: Mapping[str, Collection[str]]) -> str:
    owners = [full for full in known if plugin in (full, full.partition(".")[2])]
    if not owners:
        names = known if "." in plugin else {full.partition(".")[2] for full in known}
        raise UsageError(
            f"option {plugin}.{option}: unknown workload, backend or site '{plugin}'{suggest_name(plugin, names)}",
            ("options", plugin),
        )
    having = [owner for owner in owners if option in known[owner]]
    if len(having) > 1:
        full_names = " or ".join(f"{owner}.{option}" for owner in having)
        raise UsageError(f"option {plugin}.{option} is ambiguous: write {full_names}", ("options", plugin, option))
    if not having:
        names = {name for owner in owners for name in known[owner]}
        verb = "has" if len(owners) == 1 else "have"
        raise UsageError(
            f"option {plugin}.{option}: {' and '.join(owners)} {verb} no option '{option}'"
            f"{suggest_name(option, names)}",
            ("options", plugin, option),
        )
    return having[0]


def option_combinations(
    plugin: str, options: type[Options], axes: Mapping[str, tuple[Scalar, ...]]
) -> list[dict[str, Scalar]]:
    """Every combination of the axes' values, checked, each as what differs from the defaults.

    Args:
        plugin: The full name that errors quote.
        options: The model that checks them.
        axes: The values of each option.

    Raises:
        UsageError: A value is refused, or two combinations are the same. It names the option and the value.
    """
    defaults = options().model_dump()
    combinations: list[dict[str, Scalar]] = []
    for values in itertools.product(*axes.values()):
        combination: dict[str, Any] = dict(zip(axes, values, strict=True))
        try:
            dumped = options(**combination).model_dump()
        except ValidationError as problem:
            first = problem.errors()[0]
            details = describe_validation_error(dict(first), options.model_fields)
            if not first["loc"] and len(combination) > 1:  # of several options together, which it names
                raise UsageError(f"option {plugin}: {details}", ("options", plugin, *combination)) from None
            name = str(first["loc"][0] if first["loc"] else next(iter(combination), ""))
            shown = redact_credentials(str(combination.get(name, "")))
            raise UsageError(f"option {plugin}.{name} = {shown}: {details}", ("options", plugin, name)) from None
        excessive = next((name for name in axes if too_large(dumped.get(name))), None)
        if excessive is not None:
            message = f"option {plugin}.{excessive} = {shorten_number(dumped[excessive])}: at most {MAX_NUMBER:,}"
            raise UsageError(message, ("options", plugin, excessive))
        overrides = {
            name: value
            for name, value in dumped.items()
            if name not in defaults or value != defaults[name] or name in options.always_named
        }
        if overrides in combinations:
            raise UsageError(f"option {plugin}: {combination} is named twice", ("options", plugin, *axes))
        combinations.append(overrides)
    return combinations


def single_options(plugin: str, options: type[Options], axes: Mapping[str, tuple[Scalar, ...]]) -> Options:
    """Options of a site, which have one value each.

    Raises:
        UsageError: An option has several values, or one that is refused.
    """
    for name, values in axes.items():
        if len(values) > 1:
            joined = redact_credentials(",".join(map(str, values)))
            raise UsageError(
                f"option {plugin}.{name} takes one value, {len(values)} are given; if that is one with commas in it, "
                f"quote it: --set '{plugin}.{name}=\"{joined}\"'",
                ("options", plugin, name),
            )
    return options(**option_combinations(plugin, options, axes)[0])


def redact_credentials(text: str) -> str:
    """``tcp://me:secret@host`` → ``***@host``: a refused value is shown, and may stay in a log."""
    return re.sub(r"(?s).*:.*@", "***@", text)
