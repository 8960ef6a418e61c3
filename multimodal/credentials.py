"""What may be told of an address that a user gives: no user, no password, no query.

Passwords are written with ``@``, ``/``, ``#`` and ``?`` in them, unescaped, so an address says
where its credentials end only if it is plain; of any other one nothing but its scheme is told.
"""

from __future__ import annotations

import json
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
# Nor would a message be worth much without these, whoever's user or database is called so.
KNOWN += ("medley", "mlflow", "data", "dataset", "run", "runs", "train", "test", "class", "config")
KNOWN += ("audio", "speech", "video", "default", "root", "admin", "public", "main", "name", "true")
DATABASES = ("postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle", "sqlite")
ENDS = re.compile(r"[@/?#&;:=,\s{}()'\"]+")
VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
VARIABLES += tuple(f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL"))
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN", "HF_TOKEN")
USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)//[^\s'\"]*@")
QUOTED = re.compile(r"(['\"])([A-Za-z][A-Za-z0-9+.-]*:)//(?:(?!\1)[^\n])*@")
KEYS = r"pass(?:word|wd)?|pwd|token|secret|signature|(?:api|account|access)_?key|odbc_connect"
PARAMETER = re.compile(rf"(?i)([\w-]*(?:{KEYS})|\bsig)=(?:\{{[^}}]*\}}|[^\s&;'\"]+)")
ENTRY = re.compile(rf"(?i)((['\"])[\w-]*(?:{KEYS})\2\s*:\s*)(['\"])(?:\\.|(?!\3)[^\\\n])*\3")
BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w+/=.~-]{8,}")
BRACED = re.compile(r"(?i)(?:password|pwd)=\{([^}]+)\}")

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
    if "@" in unquote(rest) and "@" not in rest:  # an address that is escaped as a whole
        return HIDDEN
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
        path = re.split(r"[;&,=]", path)[0]
        # What is escaped may be user, query and fragment all the same.
        if "@" in unquote(authority) and "@" not in authority:
            return HIDDEN
        if re.search(r"[@?#=]", unquote(path)) and "@" not in path:
            path = ""
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
        if secret.isascii() and secret.isalpha() and secret.islower():  # no part of another word
            text = re.sub(rf"(?<![A-Za-z0-9]){secret}(?![A-Za-z0-9])", HIDDEN, text)
        else:
            text = text.replace(secret, HIDDEN)
    text = QUOTED.sub(rf"\1\2//{HIDDEN}@", USER.sub(rf"\1//{HIDDEN}@", text))
    text = ENTRY.sub(rf"\1\3{HIDDEN}\3", PARAMETER.sub(rf"\1={HIDDEN}", text))
    return BEARER.sub(rf"\1 {HIDDEN}", text)


def secrets_of(uri: str) -> set[str]:
    """All in an address that ``shown`` leaves out: as a whole, in words, in every spelling."""
    told = shown(uri)
    if told == uri:
        return set()
    spellings = {uri, unquote(uri), unquote_plus(uri)}
    left = {each.replace(told, "") for each in spellings}
    left |= {each.partition("://")[2].rpartition("@")[0] for each in spellings}
    left |= {each.partition(":")[2] for each in left}  # a password whole, with all its signs
    left |= {value for each in spellings for value in BRACED.findall(each)}
    words = {word for each in spellings for word in ENDS.split(each)}
    words -= {word for each in (told, unquote(told)) for word in ENDS.split(each)}
    words -= _users(uri)
    found = {form(word) for word in left | words for form in FORMS}
    found = {word for word in found if len(word) >= SHORTEST and word not in told}
    return {word for word in found if word.lower() not in KNOWN}


def _users(uri: str) -> set[str]:
    """Who logs in, where a password stands behind the name or the store is a database: no secret.

    A name alone may be a token.
    """
    found = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://([\w.-]+)(:?)[^/]*@", uri)
    if found is None or not (found[3] or found[1].lower().partition("+")[0] in DATABASES):
        return set()
    return {found[2]}


def _lower(text: str) -> str:
    """Escapes in small letters, as some libraries write them."""
    return re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quote(text, safe=""))


# How texts spell a word: as it is, escaped in an address, within quotation marks.
FORMS = (
    *(str, quote, quote_plus, _lower),
    *(lambda word: json.dumps(word)[1:-1], lambda word: repr(word)[1:-1]),
    lambda word: quote(word, safe=""),
    lambda word: json.dumps(word, ensure_ascii=False)[1:-1],
)


def _of_environment() -> Iterable[str]:
    for name in VARIABLES:
        for spelling in (name, name.lower()):
            if value := os.environ.get(spelling):
                yield value
