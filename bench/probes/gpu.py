"""The GPUs and MIG slices of this node, read through NVML."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import psutil

from bench.probes import Probe
from bench.probes.nvml import Activity, ask
from bench.probes.visible import GpuFound, SliceFound, choose_devices
from bench.probes.watched import Watched
from bench.telemetry import Device, Process, Reading


class GpuProbe(Probe):
    """The GPUs and MIG slices that ``CUDA_VISIBLE_DEVICES`` names, or all there are."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._nvml: Any = None
        self._handles: dict[str, Any] = {}
        self._watched: list[Watched] = []
        nvml, reason = ask(importlib.import_module, "pynvml")
        reason = reason or ask(nvml.nvmlInit).reason
        if reason:
            self.problems = (f"NVML: {reason}",)
            return
        self._nvml = nvml
        found, problems = self._find()
        choice = choose_devices(environment.get("CUDA_VISIBLE_DEVICES"), found, environment.get("CUDA_DEVICE_ORDER"))
        known = {part.id if part else gpu.id: (gpu, part) for gpu in found for part in (None, *gpu.slices)}
        self._watched = [self._watch(*known[name]) for name in choice.ids]
        self.devices = tuple(watched.device for watched in self._watched)
        self.problems = (*problems, *choice.problems)

    def read(self) -> list[Reading]:
        return [reading for watched in self._watched for reading in watched.read()]

    def processes(self) -> tuple[list[Process], list[str]]:
        """By whole GPU: what runs on another slice of it shares its power and its way to memory."""
        processes, problems = [], []
        for gpu in dict.fromkeys(device.part_of or device.id for device in self.devices):
            found, reason = ask(self._nvml.nvmlDeviceGetComputeRunningProcesses, self._handles[gpu])
            if reason:
                problems.append(f"processes of {gpu}: {reason}")
            for one in found or ():
                name = None
                with contextlib.suppress(psutil.Error):  # gone meanwhile, or of another container
                    name = psutil.Process(one.pid).name()
                processes.append(Process(device=gpu, pid=one.pid, name=name, memory_bytes=one.usedGpuMemory))
        return processes, problems

    def close(self) -> None:
        for watched in self._watched:
            watched.close()
        if self._nvml is not None:
            ask(self._nvml.nvmlShutdown)
        self._nvml, self._watched, self.devices = None, [], ()

    def _find(self) -> tuple[list[GpuFound], list[str]]:
        count, reason = ask(self._nvml.nvmlDeviceGetCount)
        answers = [ask(self._look_at, index) for index in range(count or 0)]
        problems = [f"NVML: GPU {index}: {answer.reason}" for index, answer in enumerate(answers) if answer.reason]
        if not answers:
            problems.append(f"NVML: {reason or 'no GPU here'}")
        return [answer.value for answer in answers if answer.value], problems

    def _look_at(self, index: int) -> GpuFound:
        nvml = self._nvml
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        name = nvml.nvmlDeviceGetUUID(gpu)
        self._handles[name] = gpu
        mode = ask(nvml.nvmlDeviceGetMigMode, gpu).value  # most GPUs know no such mode
        mig = bool(mode) and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE
        places = range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)) if mig else ()
        slices = [ask(self._look_at_slice, gpu, place).value for place in places]  # places may be empty
        return GpuFound(name, nvml.nvmlDeviceGetName(gpu), mig, tuple(found for found in slices if found))

    def _look_at_slice(self, gpu: Any, place: int) -> SliceFound:
        nvml = self._nvml
        part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place)
        name = nvml.nvmlDeviceGetUUID(part)
        self._handles[name] = part
        instances = nvml.nvmlDeviceGetGpuInstanceId(part), nvml.nvmlDeviceGetComputeInstanceId(part)
        return SliceFound(name, nvml.nvmlDeviceGetName(part), *instances)

    def _watch(self, gpu: GpuFound, part: SliceFound | None) -> Watched:
        nvml, whole = self._nvml, self._handles[gpu.id]
        take = partial(nvml.nvmlGpmSampleGet, whole)
        device = Device(id=gpu.id, name=gpu.name)
        if part:  # sampled through its GPU, by the number of its instance
            take = partial(nvml.nvmlGpmMigSampleGet, whole, part.gpu_instance)
            device = Device(id=part.id, name=part.name, part_of=gpu.id)
        return Watched(nvml, device, self._handles[device.id], partial(Activity, nvml, whole, take))
