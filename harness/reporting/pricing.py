"""What a suite, or the options of a report, say about prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from harness.errors import UsageError
from harness.planning.suite import Suite
from reports.analysis.price import Pricing, parse_price

OPTIONS = {"price_per_hour": "--price-per-hour", "co2_g_per_kwh": "--co2", "target": "--target"}
"""The options of ``report``, by the suite's field."""


def pricing_of(suite: Suite, given: Mapping[str, Any] | None = None) -> Pricing:
    """The prices of a suite, with those laid over it that were given now.

    Args:
        suite: The suite of a sweep.
        given: Values by the suite's field; ``None`` leaves the suite's.

    Raises:
        UsageError: A given value is none.
    """
    chosen = {name: value for name, value in (given or {}).items() if value is not None}
    for name, value in chosen.items():
        try:
            # The field's own check; the rest of the suite was checked when it was stored.
            Suite.model_validate({name: value})
        except ValidationError as problem:
            message = str(problem.errors()[0]["msg"]).removeprefix("Value error, ").lower()
            raise UsageError(f"{OPTIONS[name]} {value}: {message}") from None
    fields = {name: chosen.get(name, getattr(suite, name)) for name in OPTIONS}
    price = fields.pop("price_per_hour")
    return Pricing(price=None if price is None else parse_price(price), **fields)
