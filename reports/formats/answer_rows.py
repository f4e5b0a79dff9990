"""The answers of a sweep as a table for other tools: one row for each workload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from bench.core.frozen_model import FrozenModel
from reports.analysis.answers import WorkloadAnswer
from reports.analysis.scaling_reach import RanksReached
from reports.formats.columns import Column


class AnswerRow(FrozenModel):
    """Which backend, how far it scales, why it stops, and how sure that is. What is unknown is ``None`` with a reason.

    The order of the fields is the order of the columns; new ones are appended.
    """

    sweep: Annotated[str, Column("Id of the sweep.")]
    workload: Annotated[str, Column("Name of the workload, with what tells it apart from others of that name.")]
    options: Annotated[str, Column("Its options that differ from their defaults; empty for none.")]
    conditions: Annotated[str, Column("Kind of scaling, batch, threads and device, for people.")]
    data: Annotated[str, Column("What its samples are, for people.")]
    fastest: Annotated[
        tuple[str, ...], Column("Backend with the highest throughput; several where they are statistically tied.")
    ]
    fastest_ranks: Annotated[tuple[str, ...], Column("The rank count of each of them.", "ranks")]
    fastest_reason: Annotated[str | None, Column("Why there is none, or why a comparison is uncertain.")]
    throughput: Annotated[float | None, Column("Throughput of the first of them.", "`unit`")]
    throughput_low: Annotated[float | None, Column("Lower end of its 95 % interval.", "`unit`")]
    throughput_high: Annotated[float | None, Column("Upper end of its 95 % interval.", "`unit`")]
    unit: Annotated[str | None, Column("The unit of work per second, such as `samples/s`.")]
    scaled: Annotated[str | None, Column("The backend whose curve the following columns speak of.")]
    efficient_to: Annotated[
        int | None, Column("Last rank count before its parallel efficiency falls below 75 %.", "ranks")
    ]
    efficient_to_source: Annotated[str, Column("Whether that is `measured` or `predicted`.")]
    efficient_to_at_least: Annotated[bool, Column("Whether nothing shows an end: it may reach further.")]
    efficient_to_reason: Annotated[str | None, Column("Why it is unknown, or what limits it.")]
    peak: Annotated[int | None, Column("Rank count of its highest throughput.", "ranks")]
    peak_source: Annotated[str, Column("Whether that is `measured` or `predicted`.")]
    peak_at_least: Annotated[bool, Column("Whether nothing shows an end: throughput may rise further.")]
    peak_reason: Annotated[str | None, Column("Why it is unknown, or what limits it.")]
    cause: Annotated[str | None, Column("The largest loss of a step, such as `exposed communication`.")]
    cause_share: Annotated[float | None, Column("Its share.", "1")]
    cause_ranks: Annotated[int | None, Column("The rank count where it is so large.", "ranks")]
    cause_sentence: Annotated[str | None, Column("The cause in words, with what it is a share of.")]
    cause_reason: Annotated[str | None, Column("Why there is no cause: it is unknown, or nothing is lost.")]
    trust: Annotated[str, Column("How far the numbers can be trusted: `high`, `limited`, `low` or `none`.")]
    trust_reason: Annotated[str, Column("What that rests on, or why no further.")]


def answer_rows(sweep: str, answers: Sequence[WorkloadAnswer]) -> Iterator[AnswerRow]:
    """The rows of a sweep's answers, in their order. ``sweep``: its id."""
    for answer in answers:
        throughput, cause = answer.fastest_throughput, answer.cause
        yield AnswerRow(
            sweep=sweep,
            **answer.model_dump(
                include={"workload", "options", "conditions", "data", "fastest", "fastest_reason", "scaled"}
            ),
            fastest_ranks=tuple(map(str, answer.fastest_ranks)),
            throughput=throughput.value if throughput else None,
            throughput_low=throughput.low if throughput else None,
            throughput_high=throughput.high if throughput else None,
            unit=throughput.unit if throughput else None,
            **_reach("efficient_to", answer.efficient_to),
            **_reach("peak", answer.peak),
            cause=cause.name if cause else None,
            cause_share=cause.share if cause else None,
            cause_ranks=cause.ranks if cause else None,
            cause_sentence=cause.sentence if cause else None,
            cause_reason=answer.cause_reason,
            trust=answer.trust.word,
            trust_reason=answer.trust.reason,
        )


def _reach(name: str, reached: RanksReached) -> dict[str, Any]:
    return {
        name: reached.ranks,
        f"{name}_source": reached.source,
        f"{name}_at_least": reached.at_least,
        f"{name}_reason": reached.reason,
    }
