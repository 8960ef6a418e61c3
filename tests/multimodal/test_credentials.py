"""What may be told of an address: where it leads to, and nothing secret."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.credentials import HIDDEN, hidden, secrets_of, shown
from tests.benchmarks.tracking_uris import SECRET, URIS

PLAIN = (
    *("sqlite:////a/b.db", "sqlite:////a/b#1%25.db", "sqlite:///runs/me@work/mlflow.db", "mlruns"),
    *("http://127.0.0.1:5000", "https://host/mlflow/", "http://[::1]:5000", "localhost:5000/x"),
    *("databricks", "databricks://profile", "postgresql://%2Fvar%2Frun/db", "/data/me@work/x"),
    *("file:///data/mlruns", "file:mlruns", "", "C:\\runs\\x"),
)


@pytest.mark.parametrize("uri", URIS)
def test_nothing_secret_is_shown(uri: str) -> None:
    told = shown(uri)
    assert SECRET not in told
    assert "me:" not in told.lower()
    assert shown(told) == told
    assert SECRET in "".join(secrets_of(uri))


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        (URIS[0], "http://127.0.0.1:9"),
        (URIS[1], "https://127.0.0.1:9/mlflow"),
        (URIS[2], "http://127.0.0.1:9"),
        (URIS[3], f"http://{HIDDEN}"),
        ("postgresql://me:pw@host/db?sslmode=require", "postgresql://host/db"),
        ("http://me:pw@[fe80::1%25eth0]:5000/x?a=b", "http://[fe80::1%25eth0]:5000/x"),
        ("postgresql://me:pw@one:1,two:2/db", "postgresql://one:1,two:2/db"),
        ("sqlite:////home/me@work/a.db?timeout=5", "sqlite:////home/me@work/a.db"),
        ("me:secret", HIDDEN),
    ],
)
def test_where_it_leads_is_shown(uri: str, told: str) -> None:
    assert shown(uri) == told


@pytest.mark.parametrize("uri", PLAIN)
def test_an_address_without_secrets_stays_as_it_is(uri: str) -> None:
    assert shown(uri) == uri
    assert not secrets_of(uri)


PASSWORDS = st.text(
    st.sampled_from("@/?#:;&=%+ []{}.,!$'\"\\")
    | st.characters(codec="ascii", categories=["L", "N"]),
    min_size=1,
    max_size=8,
).map(lambda text: f"{SECRET}{text}" if len(text) % 2 else f"{text}{SECRET}")


@settings(max_examples=300, deadline=None)
@given(
    PASSWORDS,
    st.sampled_from(["http", "HTTPS", "postgresql+psycopg2", "mysql", "ftp", "sqlite", "x"]),
    st.sampled_from(["h", "h:5000", "h:5000/x", "[::1]:1/", "h/db?a=b", "h?a=b@c#d", "h#e"]),
    st.booleans(),
)
def test_no_password_of_any_kind_is_shown(password, scheme, place, escaped) -> None:
    written = quote(password, safe="") if escaped else password
    for uri in (f"{scheme}://me:{written}@{place}", f"{scheme}://{place}?token={written}"):
        told = shown(uri)
        assert SECRET not in told
        assert SECRET not in unquote(told)
        assert shown(told) == told
        assert SECRET not in hidden(f"cannot connect to {uri}: {password} refused", uri)


def test_texts_lose_what_is_secret_and_keep_the_rest(monkeypatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:Pr0xyW@proxy:3128")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "Env1ronW")
    text = hidden(
        "password refused for me at http://you:w0rd@host/x?api_key=K3y (via Pr0xyW), Env1ronW",
        "http://me:s3cr@h",
    )
    assert text == (
        f"password refused for me at http://{HIDDEN}@host/x?api_key={HIDDEN} (via {HIDDEN}), "
        f"{HIDDEN}"
    )
    plain = "clips/a@b.wav: 5 of 7 tokens = wrong; see https://example.org/a?b=c, key=value"
    assert hidden(plain) == plain


def test_a_secret_is_found_in_every_spelling() -> None:
    uri = "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Da%2Bb%20W0rt%21"
    for spelling in ("a+b W0rt!", "a%2Bb%20W0rt%21", "a%2Bb+W0rt%21"):
        assert "W0rt" not in hidden(f"login with {spelling} failed", uri)


WORDS = ('pa"ss\\w\u00f6r#d', "a b/c+d%e", "p@s/w?x#y", "{curly}$x", "Ab%2FcD")


@pytest.mark.parametrize("word", WORDS)
def test_a_password_is_hidden_however_a_message_spells_it(word: str) -> None:
    uri = f"postgresql://me:{quote(word, safe='')}@h/db"
    spellings = [word, json.dumps(word)[1:-1], repr(word)[1:-1], quote(word, safe="")]
    spellings += [re.sub("%[0-9A-F]{2}", lambda m: m[0].lower(), quote(word, safe=""))]
    for spelling in spellings:
        told = hidden(f"cannot connect with {spelling} today", uri)
        assert told == f"cannot connect with {HIDDEN} today"


@pytest.mark.parametrize(
    "uri",
    [
        f"http://u%3A{SECRET}%40h/p",
        f"https%3A%2F%2Fu%3A{SECRET}%40h",
        f"https://h/%3Ftoken%3D{SECRET}",
        f"https://h/%40{SECRET}",
        f"http://h/path={SECRET}",
        f"http://h/api,token={SECRET}",
    ],
)
def test_escapes_and_paths_hide_nothing_from_us(uri: str) -> None:
    assert SECRET not in shown(uri)
    assert shown(shown(uri)) == shown(uri)


@pytest.mark.parametrize(
    "text",
    [
        f"got 'postgresql://u:p w{SECRET}@h/db'",
        f"https://x/?sig={SECRET}",
        f"AccountKey={SECRET}",
        f'{{"password": "{SECRET}"}}',
        f"X-Amz-Signature={SECRET}",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"PWD={{ab;{SECRET}}}",
    ],
)
def test_what_looks_like_a_secret_is_one(text: str) -> None:
    assert SECRET not in hidden(text)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://medley:medley@localhost/mlflow",
        "postgresql://data:data@db/runs",
        "http://host:5000?workspace=train",
        "postgresql://runs@h/db?application_name=speech",
        "postgresql://err:err@h/db",
    ],
)
def test_messages_stay_readable_whatever_a_database_is_called(uri: str) -> None:
    words = "error: data_root=/data/speech: class 'train' has none; run `medley datasets check`"
    assert hidden(words, uri) == words


def test_odbc_passwords_in_braces_are_one_secret() -> None:
    uri = "mssql+pyodbc:///?odbc_connect=" + quote("DRIVER={x};UID=me;PWD={ab;cd;ef}")
    assert "ab;cd" not in hidden("Login failed with 'ab;cd;ef'", uri)
