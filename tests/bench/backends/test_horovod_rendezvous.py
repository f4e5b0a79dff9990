"""The store of Horovod's ranks, by real connections to it."""

from __future__ import annotations

import http.client
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.backends.horovod_rendezvous import (
    MAX_REQUEST_BYTES,
    BadRequest,
    RendezvousServer,
    Request,
    build_answer,
    parse_request,
)
from bench.host.network import LOOPBACK, free_port

ADDRESS = LOOPBACK.address
TIMEOUT_S = 30


@pytest.fixture
def port():
    port = free_port(ADDRESS)
    server = RendezvousServer(ADDRESS, port)
    server.start()
    yield port
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((ADDRESS, port), timeout=TIMEOUT_S)


def ask(port: int, method: str, path: str, value: bytes = b"") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=TIMEOUT_S)
    connection.request(method, path, body=value)
    answer = connection.getresponse()
    status, content = answer.status, answer.read()
    connection.close()
    return status, content


def test_a_value_is_kept_under_its_scope_and_key(port):
    value = bytes(range(256)) * 5000
    assert ask(port, "PUT", "/global/3", value) == (200, b"")
    assert ask(port, "GET", "/global/3") == (200, value)
    assert ask(port, "GET", "/local_host-0/3") == (404, b"")


def test_a_request_for_a_missing_key_is_answered_when_it_is_set(port):
    with ThreadPoolExecutor(3) as pool:
        early = [pool.submit(ask, port, "GET", "/global/0") for _ in range(2)]
        ask(port, "PUT", "/global/0", b"address")
        # One that has waited in vain for a second asks again, as Horovod's client does.
        answers = [answer.result() for answer in early]
    assert {answer if answer[0] == 200 else ask(port, "GET", "/global/0") for answer in answers} == {(200, b"address")}


def test_a_rank_that_leaves_takes_its_keys_with_it_and_no_others(port):
    for key in ("0", "rank_0", "1", "rank_1"):
        ask(port, "PUT", f"/global/{key}", b"x")
    ask(port, "DELETE", "/global/0")
    assert [ask(port, "GET", f"/global/{key}")[0] for key in ("1", "rank_1")] == [200, 200]
    # Joined anew before the others have left.
    ask(port, "PUT", "/global/0", b"new")
    ask(port, "DELETE", "/global/1")
    assert ask(port, "GET", "/global/0") == (200, b"new")


def test_clients_that_are_slow_or_wrong_or_vanish_hold_up_nobody(port):
    with socket.create_connection((ADDRESS, port)) as slow, socket.create_connection((ADDRESS, port)) as wrong:
        slow.sendall(b"PUT /global/0 HTTP/1.1\r\nContent-Le")
        wrong.sendall(b"POST /global HTTP/1.1\r\n\r\n")
        assert wrong.recv(100).startswith(b"HTTP/1.1 400")
        socket.create_connection((ADDRESS, port)).close()
        with socket.create_connection((ADDRESS, port)) as vanished:
            vanished.sendall(b"GET /global/0 HTTP/1.1\r\n\r\n")
        assert ask(port, "PUT", "/global/1", b"x") == (200, b"")
        slow.sendall(b"ngth: 4\r\n\r\nlast")
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
    assert ask(port, "GET", "/global/0") == (200, b"last")


def test_many_ranks_join_at_once(port):
    ranks = 24
    barrier = threading.Barrier(ranks, timeout=TIMEOUT_S)

    def join(rank: int) -> set[bytes]:
        barrier.wait()
        ask(port, "PUT", f"/global/{rank}", b"%d" % rank)
        found = set()
        while len(found) < ranks:
            found |= {content for other in range(ranks) for _, content in [ask(port, "GET", f"/global/{other}")]}
            found.discard(b"")
        return found

    with ThreadPoolExecutor(ranks) as pool:
        assert all(found == {b"%d" % rank for rank in range(ranks)} for found in pool.map(join, range(ranks)))


def test_a_request_is_read_once_it_is_whole():
    whole = b"PUT /a/b HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\n\r\nxyz"
    assert parse_request(whole) == Request("PUT", "a", "b", b"xyz")
    assert [parse_request(whole[:end]) for end in range(len(whole))] == [None] * len(whole)


@pytest.mark.parametrize(
    "received",
    [
        b"HEAD /a/b HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
        b"nothing\r\n\r\n",
        b"PUT /a/b HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PUT /a/b HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_REQUEST_BYTES + 1),
        b"GET /a/b HTTP/1.1" + b"x" * 100_000,
    ],
)
def test_other_bytes_are_refused(received):
    with pytest.raises(BadRequest):
        parse_request(received)


def test_an_answer_is_one_message_with_its_length():
    assert build_answer(b"200 OK", b"ab") == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab"
