"""What a training job was billed, and the share of each of its trials (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from harness.sites.sagemaker.client import TrainingJobDescription

Cost = tuple[float | None, str | None]
"""In the unit of the price, or ``None`` with the reason."""


def cost_of(billable_s: float | None, instances: int, price_per_hour: float | None) -> Cost:
    """The cost of a job.

    Args:
        billable_s: The billable seconds of one instance; with spot they are fewer than the job ran.
        instances: How many instances it had.
        price_per_hour: Of one instance.
    """
    if price_per_hour is None:
        return None, "no price is set: --set sagemaker.price_per_hour=PRICE"
    if billable_s is None:
        return None, "SageMaker did not report the billable seconds"
    return billable_s * instances * price_per_hour / 3600, None


@dataclass
class SharedBill:
    """Shares out the billable time of a job to its trials: to each the time from the end of the one before to its own.

    The first one has the start of the instances besides, the last one their end, so that the shares add up to the bill.

    Args:
        price_per_hour: Of one instance.
        spot: Whether less may be billed than the job runs.
        is_known: Whether all trials of the job are shared out here; else the share of the first one is not known.
    """

    price_per_hour: float | None
    spot: bool
    is_known: bool = True
    until_s: float | None = None
    """Until when the time is shared out, in seconds since the Unix epoch."""

    def share(self, job: TrainingJobDescription, ended_s: float | None) -> Cost:
        """The cost of the trial that has ended now.

        Args:
            job: It runs on, or has ended.
            ended_s: When the trial has ended, in seconds since the Unix epoch; ``None``: with the job.
        """
        began_s = job.began_at_s if self.until_s is None else self.until_s
        is_first, self.until_s = self.until_s is None, job.ended_at_s if ended_s is None else ended_s
        if self.price_per_hour is None:
            return cost_of(None, job.instances, None)
        if is_first and not self.is_known:
            return None, "an interrupted sweep has taken the trials before it, of the same job"
        if is_first and ended_s is None:
            return cost_of(job.billable_s, job.instances, self.price_per_hour)
        own_s = None if began_s is None or self.until_s is None else max(0.0, self.until_s - began_s)
        if not job.over and self.spot:
            return None, "what spot instances are billed is known when their job has ended"
        if job.over:
            own_s = _billed_share(own_s, job)
        return cost_of(own_s, job.instances, self.price_per_hour)


def _billed_share(own_s: float | None, job: TrainingJobDescription) -> float | None:
    """The billable seconds of a job, times the trial's share of its time; ``None`` where one of them is unknown."""
    if own_s is None or job.billable_s is None or job.began_at_s is None or job.ended_at_s is None:
        return None
    ran_s = job.ended_at_s - job.began_at_s
    return job.billable_s * own_s / ran_s if ran_s > 0 else None
