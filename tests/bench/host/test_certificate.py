"""The certificate of a trial: who has its file is let in, and nobody else can read it."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from bench.host.certificate import create_certificate, write_certificate

NOBODY = "65534"


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return write_certificate(create_certificate(), tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="module")
def other_file(tmp_path_factory) -> Path:
    return write_certificate(create_certificate(), tmp_path_factory.mktemp("other"))


def context(side: int, trusted: Path, own: Path | None) -> ssl.SSLContext:
    """As Dask's, and as strict as Python 3.13 is by default."""
    made = ssl.SSLContext(side)
    made.check_hostname, made.verify_mode = False, ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(trusted)
    if own is not None:
        made.load_cert_chain(own)
    return made


def exchange(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """What a server with one context answers to a client with the other; an error's reason where either refuses."""
    reasons: list[str] = []
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with ours:
            try:
                with server.wrap_socket(ours, server_side=True) as connection:
                    connection.sendall(connection.recv(100))
            except OSError as problem:
                reasons.append(str(problem))

    serving = threading.Thread(target=serve)
    serving.start()
    answer = ""
    with theirs:
        try:
            with client.wrap_socket(theirs) as connection:
                connection.sendall(b"hello")
                answer = connection.recv(100).decode()
        except OSError as problem:
            reasons.append(str(problem))
    serving.join()
    return answer or "; ".join(reasons)


def test_both_sides_let_in_who_has_the_file(file):
    server, client = context(ssl.PROTOCOL_TLS_SERVER, file, file), context(ssl.PROTOCOL_TLS_CLIENT, file, file)
    assert exchange(server, client) == "hello"


def test_a_client_without_a_certificate_or_with_one_of_its_own_is_refused(file, other_file):
    server = context(ssl.PROTOCOL_TLS_SERVER, file, file)
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in exchange(server, context(ssl.PROTOCOL_TLS_CLIENT, file, None))
    assert "CERTIFICATE_VERIFY_FAILED" in exchange(server, context(ssl.PROTOCOL_TLS_CLIENT, file, other_file))


def test_a_server_that_poses_as_one_of_the_trial_is_refused(file, other_file):
    server = context(ssl.PROTOCOL_TLS_SERVER, other_file, other_file)
    assert "CERTIFICATE_VERIFY_FAILED" in exchange(server, context(ssl.PROTOCOL_TLS_CLIENT, file, file))


@pytest.fixture
def open_folder():
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.slow
def test_no_other_user_reads_the_file_whatever_the_umask(open_folder):
    before = os.umask(0)
    try:
        file = write_certificate(create_certificate(), open_folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("becoming another user needs root and setpriv (util-linux)")
    (open_folder / "public").write_text("read")
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "cat"]
    readings = [
        subprocess.run([*as_nobody, str(path)], capture_output=True, text=True, check=False)
        for path in (open_folder / "public", file)
    ]
    assert [reading.stdout for reading in readings] == ["read", ""]
    assert "Permission denied" in readings[1].stderr


def test_what_lies_at_its_place_already_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "certificate.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_certificate("secret", tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "kept"
