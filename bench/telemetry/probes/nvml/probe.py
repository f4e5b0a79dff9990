"""The probe of GPUs and MIG slices, which reads them through NVML."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import psutil

from bench.core.case import Case
from bench.core.telemetry import Device, GpuProcess, Sample
from bench.plugins.probe import Probe, ProbePlugin
from bench.telemetry.probes.nvml.device import NvmlDevice
from bench.telemetry.probes.nvml.find_timings import find_timings
from bench.telemetry.probes.nvml.gpm import GpmSampler
from bench.telemetry.probes.nvml.query import query
from bench.telemetry.probes.nvml.visible_devices import GpuInfo, MigSlice, choose_devices


class GpuProbe(Probe):
    """Reads the GPUs and MIG slices that ``CUDA_VISIBLE_DEVICES`` selects, or all of the node.

    Args:
        environment: The environment variables.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._nvml: Any = None
        self._handles: dict[str, Any] = {}
        self._nvml_devices: list[NvmlDevice] = []
        nvml, reason = query(importlib.import_module, "pynvml")
        reason = reason or query(nvml.nvmlInit).reason
        if reason:
            self.problems = (f"NVML: {reason}",)
            return
        self._nvml = nvml
        gpus, problems = self._list_gpus()
        choice = choose_devices(environment.get("CUDA_VISIBLE_DEVICES"), gpus, environment.get("CUDA_DEVICE_ORDER"))
        devices_by_id = {
            mig_slice.id if mig_slice else gpu.id: (gpu, mig_slice) for gpu in gpus for mig_slice in (None, *gpu.slices)
        }
        self._nvml_devices = [self._make_device(*devices_by_id[name]) for name in choice.ids]
        self.devices = tuple(nvml_device.device for nvml_device in self._nvml_devices)
        self.problems = (*problems, *choice.problems)

    def prepare(self, interrupted: Callable[[], bool]) -> None:
        if self._nvml is not None:
            driver = query(lambda: _text(self._nvml.nvmlSystemGetDriverVersion())).value or "unknown"
            self.update_timings = find_timings(self._nvml_devices, driver, interrupted)

    def read(self) -> list[Sample]:
        return [reading for nvml_device in self._nvml_devices for reading in nvml_device.read()]

    def due_s(self, near_edge: bool) -> float:
        return min((nvml_device.energy_due_s(near_edge) for nvml_device in self._nvml_devices), default=math.inf)

    def poll(self, near_edge: bool) -> list[Sample]:
        now_s = time.monotonic()
        due = [nvml_device for nvml_device in self._nvml_devices if nvml_device.energy_due_s(near_edge) <= now_s]
        return [reading for nvml_device in due for reading in nvml_device.poll_energy()]

    def processes(self) -> tuple[list[GpuProcess], list[str]]:
        """The processes on each whole GPU: those on other slices share its power and its memory bandwidth."""
        processes, problems = [], []
        for gpu in dict.fromkeys(device.part_of or device.id for device in self.devices):
            computing, reason = query(self._list_processes, "nvmlDeviceGetComputeRunningProcesses", gpu)
            if reason:
                problems.append(f"processes of {gpu}: {reason}")
            # The clients of an MPS server are listed apart. An older driver knows no such list.
            clients = query(self._list_processes, "nvmlDeviceGetMPSComputeRunningProcesses", gpu).value or {}
            drawing = query(self._list_processes, "nvmlDeviceGetGraphicsRunningProcesses", gpu).value or {}
            for pid, memory_bytes in {**clients, **(computing or {})}.items():
                name, draws = self._process_name(pid), pid in drawing
                processes.append(GpuProcess(device=gpu, pid=pid, name=name, memory_bytes=memory_bytes, draws=draws))
        return processes, problems

    def _list_processes(self, function: str, gpu: str) -> dict[int, int | None]:
        """The memory of the processes on a GPU, in bytes, by process id."""
        return {process.pid: process.usedGpuMemory for process in getattr(self._nvml, function)(self._handles[gpu])}

    def _process_name(self, pid: int) -> str | None:
        with contextlib.suppress(psutil.Error):
            return psutil.Process(pid).name()
        # Ended, hidden, or in another container: the driver may know its path.
        path = query(lambda: _text(self._nvml.nvmlSystemGetProcessName(pid))).value
        return path.rpartition("/")[2] or None if path else None

    def close(self) -> None:
        for nvml_device in self._nvml_devices:
            nvml_device.close()
        if self._nvml is not None:
            query(self._nvml.nvmlShutdown)
        self._nvml, self._nvml_devices, self.devices = None, [], ()

    def _list_gpus(self) -> tuple[list[GpuInfo], list[str]]:
        count, reason = query(self._nvml.nvmlDeviceGetCount)
        answers = [query(self._describe_gpu, index) for index in range(count or 0)]
        problems = [f"NVML: GPU {index}: {answer.reason}" for index, answer in enumerate(answers) if answer.reason]
        if not answers:
            problems.append(f"NVML: {reason or 'no GPU here'}")
        return [answer.value for answer in answers if answer.value], problems

    def _describe_gpu(self, index: int) -> GpuInfo:
        nvml = self._nvml
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        name = _text(nvml.nvmlDeviceGetUUID(gpu))
        self._handles[name] = gpu
        mode = query(nvml.nvmlDeviceGetMigMode, gpu).value  # most GPUs have no such mode
        mig = bool(mode) and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE
        slots = range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)) if mig else ()
        slices = [query(self._describe_slice, gpu, slot).value for slot in slots]  # slots may be empty
        return GpuInfo(
            name, _text(nvml.nvmlDeviceGetName(gpu)), mig, tuple(mig_slice for mig_slice in slices if mig_slice)
        )

    def _describe_slice(self, gpu: Any, slot: int) -> MigSlice:
        nvml = self._nvml
        mig_slice = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, slot)
        name = _text(nvml.nvmlDeviceGetUUID(mig_slice))
        self._handles[name] = mig_slice
        instances = nvml.nvmlDeviceGetGpuInstanceId(mig_slice), nvml.nvmlDeviceGetComputeInstanceId(mig_slice)
        return MigSlice(name, _text(nvml.nvmlDeviceGetName(mig_slice)), *instances)

    def _make_device(self, gpu: GpuInfo, mig_slice: MigSlice | None) -> NvmlDevice:
        nvml, gpu_handle = self._nvml, self._handles[gpu.id]
        device = Device(id=gpu.id, name=gpu.name)
        if mig_slice:
            device = Device(id=mig_slice.id, name=mig_slice.name, part_of=gpu.id)

        # Its functions are looked up when it is called: packages before 11.525 know no GPM.
        def take_sample(sample: Any) -> None:
            if mig_slice:  # sampled through its GPU, by the number of its instance
                nvml.nvmlGpmMigSampleGet(gpu_handle, mig_slice.gpu_instance, sample)
            else:
                nvml.nvmlGpmSampleGet(gpu_handle, sample)

        return NvmlDevice(nvml, device, self._handles[device.id], partial(GpmSampler, nvml, gpu_handle, take_sample))


def _text(value: str | bytes) -> str:
    """A text of NVML, which packages before 11.515 return as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def open_probe(case: Case) -> GpuProbe | None:
    """GPUs are sampled where the ranks compute on them, and where ``case.telemetry`` is ``always``."""
    return GpuProbe() if case.device == "cuda" or case.telemetry == "always" else None


PROBE = ProbePlugin("NVIDIA GPUs and MIG slices, through NVML", open_probe)
