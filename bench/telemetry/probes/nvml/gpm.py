"""How busy the units of a GPU are: GPM, from Hopper on, which compares two samples of the GPU's counters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from bench.telemetry.probes.nvml.query import QueryResult, query

NEEDS_TWO_SAMPLES = "needs two samples"
MIN_SPAN_S = 0.2
"""The least time between two samples that are compared, in seconds. NVIDIA names 0.1. On an H200 the counters changed
every 0.1 s: samples 0.1 s apart gave ±30 %, and less than 0.05 s apart 0 and NaN without an error."""
MAX_WAIT_S = 0.01
"""A tick that comes so little too early waits for the end of the span, in seconds."""

GPM_METRICS = {
    "sm_activity": "NVML_GPM_METRIC_SM_UTIL",
    "tensor_activity": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "dram_activity": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}


class GpmSampler:
    """How busy the units of a GPU were between two samples of its counters.

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
        self._older, self._newer = nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()
        self._taken_s: float | None = None

    def read(self) -> dict[str, QueryResult]:
        """The activity since the sample before, which is kept until :data:`MIN_SPAN_S` have passed."""
        if self._taken_s is None:
            self._take()
            return dict.fromkeys(GPM_METRICS, QueryResult(None, NEEDS_TWO_SAMPLES))
        passed_s = time.monotonic() - self._taken_s
        if passed_s < MIN_SPAN_S - MAX_WAIT_S:
            reason = f"{passed_s:.2f} s since the sample before: needs {MIN_SPAN_S:g} s"
            return dict.fromkeys(GPM_METRICS, QueryResult(None, reason))
        time.sleep(max(0.0, MIN_SPAN_S - passed_s))
        self._take()
        return self._compare()

    def _take(self) -> None:
        self._take_sample(self._older)
        self._older, self._newer = self._newer, self._older
        # After the call: from here on, no time that passes is missing in the next span.
        self._taken_s = time.monotonic()

    def _compare(self) -> dict[str, QueryResult]:
        nvml = self._nvml
        request = nvml.c_nvmlGpmMetricsGet_t()
        request.version, request.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, len(GPM_METRICS)
        request.sample1, request.sample2 = self._older, self._newer
        for slot, metric in enumerate(GPM_METRICS.values()):
            request.metrics[slot].metricId = getattr(nvml, metric)
        nvml.nvmlGpmMetricsGet(request)
        return {name: self._fraction(request.metrics[slot]) for slot, name in enumerate(GPM_METRICS)}

    def _fraction(self, metric: Any) -> QueryResult:
        def checked() -> float:
            if metric.nvmlReturn:
                raise self._nvml.NVMLError(metric.nvmlReturn)
            return float(metric.value) / 100

        answer = query(checked)
        if answer.value is None or math.isfinite(answer.value):
            return answer
        return QueryResult(None, f"NVML returned {answer.value} without an error")

    def close(self) -> None:
        """Free the sample buffers."""
        for sample in (self._older, self._newer):
            query(self._nvml.nvmlGpmSampleFree, sample)
