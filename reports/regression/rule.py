"""The numbers that trade false alarms for power and cost. `check --calibrate` measures what they are worth."""

from __future__ import annotations

from bench.core.frozen_model import FrozenModel


class Rule(FrozenModel):
    """Screen: nights against nights before. Confirm: interleaved pairs of head and base. Logs of times throughout."""

    windows: tuple[int, ...] = (1, 2, 3, 5)
    """Look-backs: the newest 1, 2, 3, 5 nights, each against those before it."""
    reference_nights: int = 14
    scale_nights: int = 30
    least_nights: int = 4
    """Fewer comparable nights give no screen."""
    suspicion_z: float = 1.5
    """The least z of a suspicion; raised where a suite's own past would have raised more than :attr:`suspects`."""
    suspects: float = 0.21
    """Share of a suite's unchanged series that a night may suspect: what extra trials cost."""
    improvement_z: float = 4.5
    """An improvement alarms nobody and needs no pairs, but as much evidence."""
    looks: tuple[int, ...] = (3, 4, 6, 8, 12, 18, 27, 40)
    """After how many pairs a decision may fall."""
    boundary_z: float = 3.3
    """At the last look; at the g-th pair × (last ÷ g) ** ¼: early looks need more."""
    doubt: float = 0.1
    """A suspicion is dropped when a slowdown worth finding has become this unlikely against none."""
    prior_pairs: float = 4.0
    """The scale of pairs that the history foretells counts as much as that many pairs."""

    def boundary(self, pairs: int) -> float:
        """The z that a difference needs at a look."""
        return self.boundary_z * float((self.looks[-1] / pairs) ** 0.25)


RULE = Rule()
