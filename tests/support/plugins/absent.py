"""A backend that can't run on any machine: what it requires is installed nowhere."""

from bench.core.case import Case, Role
from bench.plugins.backend import Backend


class Absent(Backend):
    name = "absent"
    summary = "needs a package that is nowhere"
    requires = ("no_such_framework",)
    remedy = "ask its maker"
    transports = {"cpu": ("none",)}  # noqa: RUF012

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=case.ranks),)

    def session(self, case, me):
        raise NotImplementedError


BACKEND = Absent()
