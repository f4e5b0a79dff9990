"""Secrets in text that people read or a store keeps: one place decides what is one.

Passwords come in commands, options, environment variables and error messages. A value is a secret by its name
(``password=…``), its form (a token of a known service) or its place (the login of a URL).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

MASK = "***"
SECRET_NAME = re.compile(
    # Not tokens that are counted, nor authors.
    r"TOKEN(?!IZ|S$|S[_-]|_(COUNT|DIM|LEN))|AUTH(?!OR(?!IZ))"
    r"|SECRET|PASSW|PASSPHRASE|(^|[._-])(PASS|PWD|PW)$|CREDENTIAL|COOKIE|PRIVATE|SIGNATURE"
    r"|API[_-]?KEY|ACCESS[_-]?KEY|(^|_)KEY(_|$)",
    re.I,
)
KNOWN_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(ghp_|gho_|ghs_|github_pat_|glpat-|hf_|sk-|xox[abp]-|AKIA|ASIA|eyJ|sha256~)[\w.-]{8,}"
)
"""Tokens of GitHub, GitLab, Hugging Face, Slack, AWS and OpenShift; JSON Web Tokens, as Kubernetes has them."""

# me:password@ after scheme:// (or a mistyped scheme:/ or scheme//), or at the start of a word. The password may hold an
# @ itself. name:tag@sha256:… is an image of a container.
_LOGIN = re.compile(
    r"(?P<user>[A-Za-z][\w+.-]*(?::/{1,2}|//)[^\s:/@]*|(?:^|(?<=[\s=\"'(]))[^\s:/@=\"']+(?=:[^/])):\S*@(?!sha256:)"
)
_NAME_EQUALS = re.compile(r"(?P<name>[A-Za-z_][\w.-]*)(?:\s*=\s*|\"\s*:\s*)")
_VALUE = re.compile(r"\"[^\"]*\"|'(?:\\.|[^'\\])*'|[^\s&;]+")
_NAMED_WORD = re.compile(r"(?s)(?P<name>-{0,2}[A-Za-z_][\w.-]*)=(?P<value>.*)")
_LOGIN_WORD = re.compile(r"(?s)(?P<user>[A-Za-z][\w+.-]*(?::/{1,2}|//)[^:/@]*):.*@")


def is_secret_name(name: str) -> bool:
    """Whether what has this name is a secret: an option, a variable, a parameter of a URL."""
    return SECRET_NAME.search(name) is not None


def has_secret(text: str) -> bool:
    """Whether :func:`mask_secrets` would hide a part of a text, or it has the name of a secret without a value."""
    return mask_secrets(text) != text or any(is_secret_name(match["name"]) for match in _NAME_EQUALS.finditer(text))


def mask_secrets(text: str) -> str:
    """A text without its secrets, each of which becomes ``***``.

    Hidden are the password of a login (``scheme://me:password@host``, also where it holds an ``@`` itself), values with
    the name of a secret (``password=…``), and tokens of known services.
    """
    return KNOWN_TOKEN.sub(MASK, _mask_named(_LOGIN.sub(rf"\g<user>:{MASK}@", text)))


def _mask_named(text: str) -> str:
    parts, end = [], 0
    for match in _NAME_EQUALS.finditer(text):
        value = _VALUE.match(text, match.end())
        if match.start() >= end and value and is_secret_name(match["name"]):
            parts += [text[end : match.end()], MASK]
            end = value.end()
    return "".join([*parts, text[end:]])


def mask_argument(word: str) -> str:
    """As :func:`mask_secrets`, one word of a command line, whose secret may hold blanks and commas.

    ``--set=site.x.password=a b,c`` → ``--set=site.x.password=***``
    """
    named = _NAMED_WORD.fullmatch(word)
    if named is None:
        return mask_secrets(_LOGIN_WORD.sub(rf"\g<user>:{MASK}@", word))
    value = MASK if is_secret_name(named["name"]) else mask_argument(named["value"])
    return f"{named['name']}={value}"


def mask_command(words: Iterable[str]) -> str:
    """A command line as a shell reads it, without its secrets; ``--token VALUE`` hides the value too."""
    shown: list[str] = []
    for word in words:
        named = bool(shown) and shown[-1].startswith("--") and "=" not in shown[-1] and is_secret_name(shown[-1])
        shown.append(MASK if named else mask_argument(word))
    return shlex.join(shown)
