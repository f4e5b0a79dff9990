"""The serial fraction of a measured speed-up, from any rank count that the speed-up starts from.

Let X(N) be the throughput of N ranks, M the rank count of the base, S = M·X(N) ÷ X(M) the speed-up and E = S ÷ N its
efficiency. Both metrics are the parameter of a law, solved for one measured ratio X(N) ÷ X(M). For M = 1 they are the
published ones; for M > 1 the law's value at M is divided out, so that an exact law gives the same fraction at each N.

    Karp–Flatt   X(N) ∝ N ÷ (1 + e(N−1))     e = (1 − E) ÷ (E(N−1) − (M−1))
    Gustafson    X(N) ∝ N − s(N−1)           s = (N − S) ÷ ((N−1) − S(M−1) ÷ M)

Karp and Flatt 1990, doi:10.1145/78607.78614, whose e is that of Amdahl's law, of the time of one rank. Gustafson 1988,
doi:10.1145/42411.42415, whose s is of the time of N ranks, where the work grows with them. The published formulas
assume S(1) = 1 and would count the loss up to M as none: with e = 1 % and M = 8, they give 0.5 % at 16 ranks.
"""

from __future__ import annotations


def karp_flatt(speedup: float, ranks: int, base_ranks: int = 1) -> float | None:
    """The serial fraction e of a speed-up by Karp and Flatt.

    Args:
        speedup: S, which is ``base_ranks`` at the base.
        ranks: N.
        base_ranks: M.

    Returns:
        e; ``None`` at the base, and where throughput falls by more than any e explains.
    """
    if ranks <= base_ranks:
        return None
    efficiency = speedup / ranks
    divisor = efficiency * (ranks - 1) - (base_ranks - 1)
    return (1 - efficiency) / divisor if divisor > 0 else None


def gustafson(scaled_speedup: float, ranks: int, base_ranks: int = 1) -> float | None:
    """The serial fraction s of a scaled speed-up by Gustafson, for weak scaling.

    Args:
        scaled_speedup: S, which is ``base_ranks`` at the base.
        ranks: N.
        base_ranks: M.

    Returns:
        s; ``None`` at the base, and where throughput rises by more than any s explains.
    """
    if ranks <= base_ranks:
        return None
    divisor = (ranks - 1) - scaled_speedup * (base_ranks - 1) / base_ranks
    return (ranks - scaled_speedup) / divisor if divisor > 0 else None
