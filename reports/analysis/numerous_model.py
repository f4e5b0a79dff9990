"""The base class of values of which a report of thousands of cells has hundreds of thousands."""

from __future__ import annotations

from typing import Any, ClassVar

from bench.core.frozen_model import FrozenModel

FIELDS_SET = "__pydantic_fields_set__"


class NumerousModel(FrozenModel):
    """A frozen model whose instances share the set of their fields' names.

    Pydantic gives each instance a set of its own, of the fields that were given: 728 bytes from the fifth on, several
    times as much as the values. Instances are frozen, and a changed copy gets a copy of the set.
    """

    _every_field: ClassVar[set[str]] = set()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls._every_field = set(cls.model_fields)

    def model_post_init(self, context: Any, /) -> None:
        every = type(self)._every_field
        if len(self.model_fields_set) == len(every):
            object.__setattr__(self, FIELDS_SET, every)
