"""What every backend, workload and site promises, over whatever is registered: a new file is tested as it stands."""

from __future__ import annotations

import itertools
import pickle

import pytest

from bench.core.case import Role, roles_to_start
from bench.plugins.backend import Backend
from bench.plugins.registry import backend_names, load_backend, load_plugins, load_workload, workload_names
from bench.plugins.workload import Workload
from harness.sites.base.contract import Site
from harness.sites.base.registry import find_site, site_names
from tests.support.builders import make_case


def cases_of(backend: Backend):
    for device, transports in backend.transports.items():
        for transport, ranks in itertools.product(transports, (1, 2, 4)):
            yield make_case(backend=backend.name, transport=transport, device=device, ranks=ranks)


@pytest.fixture(params=backend_names())
def backend(request) -> Backend:
    return load_backend(request.param)


@pytest.fixture(params=workload_names())
def workload(request) -> Workload:
    return load_workload(request.param)


def test_every_plugin_loads():
    assert load_plugins()[2] == []


def test_backend_is_named_after_its_file(backend):
    assert backend.name in backend_names()
    assert backend is load_backend(backend.name)
    assert backend.summary


def test_backend_names_a_default_transport_for_the_cpu(backend):
    assert backend.transports["cpu"]
    assert all(transports for transports in backend.transports.values())


def test_backend_starts_all_its_ranks_and_ends(backend):
    for case in cases_of(backend):
        if backend.unsupported_reason(case):
            continue
        roles = backend.launch(case)
        assert roles == backend.launch(case), "launch is pure"
        assert len({role.name for role in roles}) == len(roles)
        assert any(not role.service for role in roles), "something must end by itself"
        assert any(role.count == case.ranks for role in roles)
        for role in roles:
            assert role.name == "rank" or backend.role(role.name) is not None
            assert role.started_by in (None, *(other.name for other in roles if other.started_by is None))


def test_a_site_starts_ranks_itself_where_it_keeps_the_services():
    service, starter = Role(name="scheduler", count=1, service=True), Role(name="driver", count=1)
    placed, plain = Role(name="rank", count=4, started_by="driver"), Role(name="rank", count=4)
    assert roles_to_start((service, starter, placed)) == (service, starter)
    assert roles_to_start((service, starter, placed), services_provided=True) == (placed,)
    assert roles_to_start((plain,)) == roles_to_start((plain,), services_provided=True) == (plain,)


def test_backend_says_why_not_in_one_line(backend):
    for case in cases_of(backend):
        for said in (backend.unsupported_reason(case), backend.unavailable_reason(case)):
            assert said is None or (said and "\n" not in said)


def test_backend_knows_only_its_own_transports(backend):
    assert backend.unsupported_reason(make_case(backend=backend.name, transport="pigeon", ranks=1)) is not None


def test_backend_tolerates_little(backend):
    case = next(cases_of(backend))
    assert 0 < backend.tolerance(case).value < 0.1
    assert backend.tolerance(case).label


@pytest.mark.parametrize("plugin", [*map(load_backend, backend_names()), *map(load_workload, workload_names())])
def test_options_have_defaults_and_descriptions(plugin):
    options = plugin.options()
    for name, about in plugin.options.model_fields.items():
        assert about.description, f"{plugin.name}.{name}"
    assert pickle.loads(pickle.dumps(options)) == options
    with pytest.raises(ValueError, match="extra"):
        plugin.options(no_such_option=1)


def test_workload_declares_itself(workload):
    assert workload is load_workload(workload.name)
    assert workload.summary
    assert workload.scalings
    assert workload.kind in ("training", "collective", "array")


@pytest.mark.parametrize("name", site_names())
def test_site_renders_what_it_would_start(name):
    site: Site = find_site(name)
    assert site.name == name
    assert site.summary
    for backend_name in backend_names():
        for case in cases_of(load_backend(backend_name)):
            roles = roles_to_start(load_backend(backend_name).launch(case), services_provided=site.provides_services)
            files = site.render(case, roles)
            assert files == site.render(case, roles), "render is pure"
            assert all(files.values())
