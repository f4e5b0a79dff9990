"""Logs in the form of several versions of NCCL, made up: no machine has written them."""

from __future__ import annotations

from collections.abc import Iterable


def info(message: str, *, rank: int = 0, pid: int = 4100, stamp: str = "") -> str:
    return f"{stamp}gpu-node-7:{pid + rank}:{pid + 90 + rank} [{rank}] NCCL INFO {message}"


def warn(message: str, *, rank: int = 0, place: str = "transport/net_ib.cc:310", stamp: str = "") -> str:
    return f"\n{stamp}gpu-node-7:{4100 + rank}:{4190 + rank} [{rank}] {place} NCCL WARN {message}"


def connections(rank: int, peer: int, ways: Iterable[str], channel: str = "Channel {:02d}/0") -> list[str]:
    return [
        info(f"{channel.format(number)} : {rank}[{rank}] -> {peer}[{peer}] via {way}", rank=rank)
        for number, way in enumerate(ways)
    ]


def log_2_18() -> str:
    """Rank 1 of two GPUs that exchange through the host's memory."""
    return "\n".join(
        [
            info("NET/IB : No device found.", rank=1),
            info("NET/Socket : Using [0]eno1:192.0.2.7<0>", rank=1),
            info("Using network Socket", rank=1),
            info("Pattern 4, crossNic 0, nChannels 2, bw 7.000000/7.000000, type PHB/PIX, sameChannels 1", rank=1),
            info("Trees [0] -1/-1/-1->1->0 [1] -1/-1/-1->1->0", rank=1),
            *connections(1, 0, ["SHM/direct/direct"] * 2, "Channel {:02d}"),
            info("Connected all rings", rank=1),
            info("Connected all trees", rank=1),
            info("2 coll channels, 0 nvls channels, 2 p2p channels, 2 p2p channels per peer", rank=1),
            info("comm 0x5581 rank 1 nranks 2 cudaDev 1 busId 65000 commId 0x77 - Init COMPLETE", rank=1),
        ]
    )


def log_2_21() -> str:
    """Rank 0 of eight GPUs on one node with NVLink and NVSwitch."""
    return "\n".join(
        [
            "NCCL version 2.21.5+cuda12.4",
            info("NET/Plugin: No plugin found (libnccl-net.so)"),
            info("Using network IB"),
            info("NVLS multicast support is available on dev 0 (NVLS_NCHANNELS 16)"),
            info("comm 0x91a0 rank 0 nRanks 8 nNodes 1 localRanks 8 localRank 0 MNNVL 0"),
            info("Pattern 1, crossNic 0, nChannels 12, bw 40.000000/40.000000, type SYS/SYS, sameChannels 0"),
            info("Pattern 4, crossNic 0, nChannels 12, bw 40.000000/40.000000, type NVL/PIX, sameChannels 1"),
            info("Channel 00/24 :    0   1   2   3   4   5   6   7"),
            info("Channel 01/24 :    0   7   6   5   4   3   2   1"),
            *connections(0, 1, ["P2P/CUMEM/read"] * 24),
            info("Connected all rings"),
            *connections(0, 1, ["P2P/CUMEM/read"] * 24, "Channel {:02d}/1"),
            info("Connected all trees"),
            info("Connected NVLS tree"),
            info("24 coll channels, 0 collnet channels, 16 nvls channels, 32 p2p channels, 32 p2p channels per peer"),
            info("ncclCommInitRank comm 0x91a0 rank 0 nranks 8 cudaDev 0 nvmlDev 0 busId 7000 - Init COMPLETE"),
        ]
    )


def log_2_28() -> str:
    """Rank 3 of four on two nodes with network cards that read the GPUs' memory; lines have the time."""
    stamp = "[2026-11-27 18:00:00] "
    lines = [
        "NCCL version 2.28.9 compiled with CUDA 13.0",
        "Using network IB",
        "comm 0x33 rank 3 nRanks 4 nNodes 2 localRanks 2 localRank 1 MNNVL 0",
        "Pattern 4, crossNic 0, nChannels 4, bw 24.0/24.0, type NVL/PIX, sameChannels 1",
        "Channel 00/0 : 2[0] -> 3[1] [receive] via P2P/CUMEM",
        "Channel 00/0 : 3[1] -> 0[0] [send] via NET/IB/1/GDRDMA",
        "Channel 01/0 : 3[1] -> 0[0] [send] via NET/IB/2/GDRDMA(PCI)/Shared",
        "Channel 00/0 : 1[1] -> 3[1] [receive] via NET/IB/1/GDRDMA",
        "Channel 00/1 : 3[1] -> 2[0] via P2P/CUMEM",
        "Connected all rings, use ring PXN 0 GDR 1",
        "4 coll channels, 4 collnet channels, 0 nvls channels, 4 p2p channels, 1 p2p channels per peer",
        "ncclCommInitRankConfig comm 0x33 rank 3 nranks 4 cudaDev 1 nvmlDev 1 busId 3b000 commId 0x1 - Init COMPLETE",
    ]
    return "\n".join(info(line, rank=3, stamp=stamp) for line in lines)
