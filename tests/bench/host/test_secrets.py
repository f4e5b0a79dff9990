"""Secrets are hidden, whatever surrounds them; what is none stays."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.host.secrets import MASK, is_secret_name, mask_argument, mask_command, mask_secrets

LOGINS = [
    "postgresql://me:{}@db/x",
    "postgresql+psycopg://me:{}@db:5432/x?sslmode=require",
    "POSTGRESQL://me:{}@db/x",
    "postgres://me:{}@db/x",
    "postgresql:/me:{}@db/x",
    "postgresql//me:{}@db/x",
    "--store=postgresql://me:{}@db/x",
    " postgresql://:{}@db/x ",
    "me:{}@db/x",
    "backend.dask.scheduler=tls://me:{}@h:8786",
    "--set=dask.scheduler=tls://me:{}@h:8786",
]
NAMED = [
    "postgresql://db/x?user=me&password={}",
    "postgresql://db/x?sslpassword={}&user=me",
    "host=db password={} dbname=x",
    "site.slurm.auth_token={}",
    "--set=workload.x.api_key={}",
    "AWS_SECRET_ACCESS_KEY={}",
    "DASK_GATEWAY__AUTH__PASSWORD={}",
    "PGPASSWORD={}",
]
printable = st.characters(
    min_codepoint=33, max_codepoint=0x17F, exclude_characters="&;\"'", exclude_categories=["Cc", "Zs"]
)
# Without a scheme, what follows a colon and a slash is a path.
passwords = st.text(printable, min_size=4).filter(lambda text: not text.startswith("/"))


def is_gone(password: str, shown: str, form: str) -> bool:
    """Whether no run of four characters of the password is shown, other than what the form shows anyway."""
    shown = shown.replace(MASK, "\0")
    return not any(
        password[at : at + 4] in shown and password[at : at + 4] not in form for at in range(len(password) - 3)
    )


@pytest.mark.parametrize("form", [*LOGINS, *NAMED])
@given(password=passwords)
@example(password="p@ss:w/or%d?x=1#y")
@example(password="geheim,noch-geheimer")
def test_a_password_is_hidden_to_its_end(form, password):
    for mask in (mask_argument, mask_secrets):
        shown = mask(form.format(password))
        assert MASK in shown
        assert is_gone(password, shown, form)


@pytest.mark.parametrize("form", ["--store={}", "--set=backend.x.password={}", "x.token={}"])
def test_a_word_is_hidden_with_its_blanks_and_commas(form):
    secret = "postgresql://me:a b,c@db/x" if "store" in form else "a b,c"
    assert not re.search("a b|,c", mask_argument(form.format(secret)))


def test_the_value_after_an_option_with_the_name_of_a_secret():
    assert mask_command(["tool", "--auth-token", "abc d", "--out", "x y"]) == "tool --auth-token '***' --out 'x y'"


@pytest.mark.parametrize(
    "token",
    ["ghp_0123456789abcdefABCD", "AKIAIOSFODNN7EXAMPLE", "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.sig", "hf_abcdefghij"],
)
def test_a_token_of_a_known_service_is_hidden_wherever_it_is(token):
    assert token[4:] not in mask_secrets(f"401 Unauthorized: Bearer {token} was refused")


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////tmp/a:b@c.sqlite",
        "sqlite:///r.sqlite?timeout=1",
        "postgresql://me@db/x?sslmode=require",
        "registry.example/team/image:1.2@sha256:0123abcd",
        "site.kubernetes.image=registry/image:1.2@sha256:0123abcd",
        "git@github.com:owner/repository",
        "--inject=slow:rank=1,ms=200",
        "workload.gpt.tokens=1024",
        "workload.gpt.token_count=1024",
        "tokenizer=bpe",
        "author=me",
        "at 12:30 me@host",
        "ddp.bucket_cap_mb=1,25",
        "r.sqlite",
    ],
)
def test_what_is_no_secret_stays(text):
    assert mask_secrets(text) == mask_argument(text) == text


@pytest.mark.parametrize("name", ["password", "site.x.passwd", "HF_TOKEN", "aws_session_token", "db_pwd", "TLS_KEY"])
def test_names_of_secrets(name):
    assert is_secret_name(name)
