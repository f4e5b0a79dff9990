"""Instances of which there are many share what they have in common, and no change of one shows in another."""

from __future__ import annotations

import pickle

from reports.analysis.numerous_model import NumerousModel


class Reading(NumerousModel):
    value: float
    unit: str = "s"


def test_instances_with_every_field_share_their_names():
    first, parsed = Reading(value=1.0, unit="B"), Reading.model_validate_json('{"value": 2, "unit": "s"}')
    assert first.model_fields_set is parsed.model_fields_set == {"value", "unit"}


def test_copies_and_instances_with_defaults_have_names_of_their_own():
    whole, short = Reading(value=1.0, unit="s"), Reading(value=1.0)
    assert short.model_fields_set == {"value"}
    assert short.model_dump(exclude_unset=True) == {"value": 1.0}
    changed = short.model_copy(update={"unit": "B"})
    assert (changed.model_fields_set, short.model_fields_set) == ({"value", "unit"}, {"value"})
    whole.model_copy(update={"value": 3.0}).model_fields_set.clear()
    assert Reading(value=2.0, unit="s").model_fields_set == {"value", "unit"}
    assert pickle.loads(pickle.dumps(whole)) == whole == short


def test_each_class_has_its_own_fields():
    class Wider(Reading):
        more: int

    assert Wider(value=1.0, unit="s", more=2).model_fields_set == {"value", "unit", "more"}
    assert Wider(value=1.0, more=2).model_fields_set == {"value", "more"}
