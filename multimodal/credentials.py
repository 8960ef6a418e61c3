"""What may be told of an address that a user gives: no user, no password, no query.

Passwords are written with ``@``, ``/``, ``#`` and ``?`` in them, unescaped, so an address says
where its credentials end only if it is plain; of any other one nothing but its scheme is told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
SHORTEST = 3  # letters of a secret that is looked for in texts
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
HOST = r"(\[[0-9A-Fa-f:.]+(%[\w.%-]+)?\]|[\w.%-]*)(:\d*)?"
HOSTS = re.compile(rf"{HOST}(,{HOST})*", re.ASCII)
PLACE = re.compile(r"\d*(/[\w./%~+,-]*)?")  # behind the colon of HOST:PORT/PATH
FILES = ("file", "sqlite")  # what stands behind them is a path
NAMED = ("databricks", "databricks-uc", "uc")
# What parameters are called, and kinds of addresses, give nothing away.
KNOWN = ("user", "username", "uid", "password", "passwd", "pwd", "token", "key", "host", "port")
KNOWN += ("server", "driver", "database", "dbname", "sslmode", "charset", "timeout", "localhost")
KNOWN += ("odbc_connect", "http", "https", "databricks", "jdbc")
ENDS = re.compile(r"[@/?#&;:=,\s{}()'\"]+")
VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
VARIABLES += tuple(f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL"))
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN", "HF_TOKEN")
USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)//[^\s'\"]*@")
PARAMETER = re.compile(
    r"(?i)([\w-]*(?:pass(?:word|wd)?|pwd|token|secret|signature|api_?key|odbc_connect))=[^\s&;'\"]+"
)

_given = set[str]()


def shown(uri: str) -> str:
    """``uri`` without user, password, query and fragment, for files and messages.

    It still leads to the same place, for whoever has the credentials; where it cannot be told what
    is what, HIDDEN stands for all behind the scheme.
    """
    uri = uri.strip()
    found = SCHEME.fullmatch(uri)
    scheme, rest = (found[1], found[2]) if found else ("", uri)
    if rest.startswith("//"):
        return f"{scheme}{':' * bool(scheme)}//{_place(scheme, rest[2:])}"
    kind = scheme.lower()
    if not kind and rest.startswith(("/", "./", "../", "~")):
        return rest.partition("?")[0]
    if kind == "file":
        return f"{scheme}:{re.split('[?#]', rest)[0]}" if "@" not in rest else f"{scheme}:{HIDDEN}"
    plain = not re.search(r"[@?#&;=]", rest)
    if plain and (not kind or kind in NAMED or PLACE.fullmatch(rest) or re.match(r"\w:\\", uri)):
        return uri
    return HIDDEN


def _place(scheme: str, rest: str) -> str:
    """Host and path of what stands behind ``//``."""
    kind = scheme.lower().partition("+")[0]
    end = re.search(r"[/?#]", rest)
    authority, after = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    path = re.split(r"\?" if kind == "sqlite" else r"[?#]", after)[0]
    if kind not in FILES:
        path = re.split(r"[;&]", path)[0]
    if not authority:  # so there is no user in it
        return path if kind in FILES or not re.search(r"[@=]", path) else HIDDEN
    host = authority.rpartition("@")[2]
    # An @ further back may be the true end of a password that holds a "/", "?" or "#".
    return host + path if HOSTS.fullmatch(host) and "@" not in after else HIDDEN


def remember(uri: str) -> None:
    """From now on ``hidden`` knows this address."""
    _given.add(uri)


def hidden(text: str, *uris: str) -> str:
    """``text`` without whatever is secret in ``uris``, in the addresses that were given before, in
    the environment's, and in addresses of any kind that stand in it.
    """
    for uri in uris:
        text = text.replace(uri, shown(uri))
    secrets = {each for uri in (*uris, *_given, *_of_environment()) for each in secrets_of(uri)}
    secrets |= {value for name in SECRETS if len(value := os.environ.get(name, "")) >= SHORTEST}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return PARAMETER.sub(rf"\1={HIDDEN}", USER.sub(rf"\1//{HIDDEN}@", text))


def secrets_of(uri: str) -> set[str]:
    """All in an address that ``shown`` leaves out: as a whole, in words, in every spelling."""
    told = shown(uri)
    if told == uri:
        return set()
    spellings = {uri, unquote(uri), unquote_plus(uri)}
    left = {each.replace(told, "") for each in spellings}
    left |= {each.partition("://")[2].rpartition("@")[0] for each in spellings}
    left |= {each.partition(":")[2] for each in left}  # a password whole, with all its signs
    words = {word for each in spellings for word in ENDS.split(each)}
    words -= {word for each in (told, unquote(told)) for word in ENDS.split(each)}
    found = {form(word) for word in left | words for form in (str, quote, quote_plus)}
    found = {word for word in found if len(word) >= SHORTEST and word not in told}
    return {word for word in found if word.lower() not in KNOWN}


def _of_environment() -> Iterable[str]:
    for name in VARIABLES:
        for spelling in (name, name.lower()):
            if value := os.environ.get(spelling):
                yield value
