"""Queries to NVML, through the package ``nvidia-ml-py``: every failure becomes a short reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bench.host.logs import describe_exception

# By NVML's error codes: its own texts ("RM has detected an NVML/RM version mismatch.") name no remedy.
REASONS: Mapping[int, str] = {
    1: "NVML is not initialised",
    2: "not known to this driver",
    3: "not supported by this device",
    4: "no permission",
    6: "not found",
    9: "the NVIDIA driver is not loaded",
    10: "no answer in time",
    12: "libnvidia-ml.so.1 can't be loaded",
    13: "the driver's library lacks this call",
    15: "GPU is lost",
    16: "the GPU needs a reset",
    17: "the operating system refused",
    18: "the driver and its library are of different versions; reload the driver or restart the machine",
    20: "out of memory",
    21: "no data",
    25: "the driver's library lacks this version of the call",
    28: "no such GPU",
    999: "the driver met an unknown error",
}
DEVICE_LOST = frozenset(REASONS[code] for code in (15, 16))
"""Reasons after which a device answers no query any more."""
PACKAGE_TOO_OLD = "the package nvidia-ml-py is too old for this: update it"
PERMANENT = frozenset((PACKAGE_TOO_OLD, *(REASONS[code] for code in (2, 3, 4, 13, 25))))
"""Reasons for which a query is not repeated: it would never be answered."""

NEEDS_TWO_SAMPLES = "needs two samples"
MIN_SAMPLE_INTERVAL_S = 0.1
"""The least time between two samples that NVIDIA names for GPM, in seconds."""

GPM_METRICS = {
    "sm_activity": "NVML_GPM_METRIC_SM_UTIL",
    "tensor_activity": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "dram_activity": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}


class QueryResult(NamedTuple):
    """The value of a query, or the reason why there is none."""

    value: Any
    reason: str | None = None


def query(function: Callable[..., Any], *arguments: Any) -> QueryResult:
    """Call a function of NVML; an exception becomes a reason."""
    try:
        return QueryResult(function(*arguments))
    except ImportError:
        return QueryResult(None, "the package nvidia-ml-py is not installed")
    except AttributeError:
        return QueryResult(None, PACKAGE_TOO_OLD)
    except Exception as error:  # a library of another version than the package expects may fail in any way
        code = getattr(error, "value", None)
        if not isinstance(code, int):
            return QueryResult(None, describe_exception(error))
        return QueryResult(None, REASONS.get(code, f"NVML error {code}"))


class GpmSampler:
    """How busy the units of a GPU were between two samples of its counters (GPM, from Hopper on).

    Args:
        nvml: The module ``pynvml``.
        gpu: NVML's handle of the whole GPU.
        take_sample: Writes the counters of the GPU, or of a MIG slice, into a sample buffer.

    Raises:
        pynvml.NVMLError: If the GPU has no such counters.
    """

    def __init__(self, nvml: Any, gpu: Any, take_sample: Callable[[Any], Any]) -> None:
        if not nvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice:
            raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
        self._nvml, self._take_sample = nvml, take_sample
        self._samples = [nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()]
        self._taken_at: float | None = None
        self._latest = dict.fromkeys(GPM_METRICS, QueryResult(None, NEEDS_TWO_SAMPLES))

    def read(self) -> dict[str, QueryResult]:
        """The activity between the latest two samples; no new sample is taken within :data:`MIN_SAMPLE_INTERVAL_S`."""
        if self._taken_at is not None and time.monotonic() - self._taken_at < MIN_SAMPLE_INTERVAL_S:
            return self._latest
        older, newer = self._samples
        self._take_sample(newer)
        if self._taken_at is not None:
            self._latest = self._between(older, newer)
        self._samples, self._taken_at = [newer, older], time.monotonic()
        return self._latest

    def _between(self, older: Any, newer: Any) -> dict[str, QueryResult]:
        nvml = self._nvml
        request = nvml.c_nvmlGpmMetricsGet_t()
        request.version, request.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, len(GPM_METRICS)
        request.sample1, request.sample2 = older, newer
        for slot, metric in enumerate(GPM_METRICS.values()):
            request.metrics[slot].metricId = getattr(nvml, metric)
        nvml.nvmlGpmMetricsGet(request)
        return {name: query(self._fraction, request.metrics[slot]) for slot, name in enumerate(GPM_METRICS)}

    def _fraction(self, metric: Any) -> float:
        if metric.nvmlReturn:
            raise self._nvml.NVMLError(metric.nvmlReturn)
        return float(metric.value) / 100

    def close(self) -> None:
        """Free the sample buffers."""
        for sample in self._samples:
            query(self._nvml.nvmlGpmSampleFree, sample)
