"""The beginning of a sweep: when its site is prepared, and what that waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.host.machine_lock import MachineLock
from bench.plugins.registry import load_plugins
from harness.errors import UsageError
from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.sites.base.contract import Site
from harness.sweep.beginning import begun_sweep
from harness.sweep.plan import PlannedSweep
from tests.support.builders import make_case


class PreparedSite(Site):
    """A site that remembers how it was prepared, and whether the lock was held then."""

    name = "prepared"
    summary = "for tests"
    uses_this_machine = True

    def __init__(self, chosen=None):
        super().__init__(chosen)
        self.calls: list[str] = []
        self.modules: tuple[str, ...] = ()

    def reserve(self, cases):
        self.calls.append(f"reserve {len(cases)}")

    def warm(self, modules):
        self.calls.append("warm")
        self.modules = modules

    def render(self, case, roles):
        return {}

    def start(self, request):
        raise NotImplementedError


class Elsewhere(PreparedSite):
    uses_this_machine = False


class Incomplete(PreparedSite):
    def missing_option(self):
        return "name a queue"


@pytest.fixture
def lock(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SCALING_LOCK_FOLDER", str(tmp_path / "lock"))
    with MachineLock("sweep of somebody else", (), folder=tmp_path / "lock") as other:
        yield other


def planned(site: Site, *cases) -> PlannedSweep:
    return PlannedSweep(Suite(), site, Plan(cases=cases, skips=(), not_applicable=(), repeats=1), load_plugins())


CASE = make_case(backend="ddp", workload="synthetic", ranks=1)


def test_a_site_is_prepared_at_once_where_nobody_holds_the_lock(lock):
    site = PreparedSite()
    with begun_sweep(planned(site, CASE)) as sweep:
        assert site.calls == ["reserve 1", "warm"]
        assert "bench.backends.ddp" in site.modules
        # Under the lock.
        assert lock.acquire_if_free() is None
        sweep.prepare_site()
        assert site.calls == ["reserve 1", "warm"]
    assert lock.acquire_if_free() is not None


def test_a_site_is_not_prepared_while_another_command_measures(lock):
    site = PreparedSite()
    held = lock.acquire()
    with begun_sweep(planned(site, CASE)) as sweep:
        assert site.calls == []
        held.release()
        sweep.prepare_site()
        assert site.calls == ["reserve 1", "warm"]
        assert lock.acquire_if_free() is None


def test_a_site_elsewhere_is_prepared_when_all_is_checked(lock):
    site = Elsewhere()
    with begun_sweep(planned(site, CASE)) as sweep:
        assert site.calls == []
        sweep.prepare_site()
        assert site.calls == ["reserve 1", "warm"]


def test_nothing_is_prepared_at_once_for_a_plan_without_cases_or_an_incomplete_site(lock):
    site = PreparedSite()
    with begun_sweep(planned(site)):
        assert site.calls == []
    with pytest.raises(UsageError, match=r"^--site prepared: name a queue$"), begun_sweep(planned(Incomplete(), CASE)):
        pass
    assert lock.acquire_if_free() is not None
