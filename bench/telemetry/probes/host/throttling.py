"""How often the CPU quota of the job was used up. Without a quota there is nothing to read."""

from __future__ import annotations

from bench.core.telemetry import HOST, Sample
from bench.host.quota import CpuQuota, read_throttling

THROTTLING_QUANTITIES = ("cpu_quota_cores", "cpu_periods", "cpu_throttled_periods", "cpu_throttled_s")


class ThrottlingReader:
    """Reads the counters of the control group with the tightest quota.

    Args:
        quota: That of the job; ``None``: it has none.
    """

    def __init__(self, quota: CpuQuota | None) -> None:
        self.quota = quota

    def read(self) -> list[Sample]:
        """The quota in cores, and the periods, the throttled ones and the throttled time so far."""
        if self.quota is None:
            return []
        values = (self.quota.cores, *read_throttling(self.quota.group))
        return [Sample(HOST, name, float(value)) for name, value in zip(THROTTLING_QUANTITIES, values, strict=True)]
