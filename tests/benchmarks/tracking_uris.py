"""Addresses of stores as people write them, each with a secret that must be told nowhere."""

from __future__ import annotations

SECRET = "S3kr1t-Wort"
URIS = (
    f"http://me:{SECRET}@127.0.0.1:9",
    f"https://me:{SECRET}%40home@127.0.0.1:9/mlflow",
    f"http://me:a@{SECRET}@127.0.0.1:9",
    f"http://me:a/{SECRET}@127.0.0.1:9",
    f"http://me:a#{SECRET}@127.0.0.1:9",
    f"http://me:a?{SECRET}@127.0.0.1:9/x",
    f"http://me:1/{SECRET}@127.0.0.1:9",
    f"http://{SECRET}@127.0.0.1:9",
    f"http://127.0.0.1:9?token={SECRET}",
    f"http://127.0.0.1:9/?mail=me@home&token=a@{SECRET}",
    f"http://127.0.0.1:9/x#{SECRET}",
    f"HTTP://ME:{SECRET}@LOCALHOST:9",
    f"http://me:{SECRET}@[::1]:9/",
    f"http://[::1]:9/;token={SECRET}",
    f"http:/me:{SECRET}@127.0.0.1:9",
    f"//me:{SECRET}@127.0.0.1:9",
    f"me:{SECRET}@127.0.0.1:9",
    f"{SECRET}@127.0.0.1",
    f"me:{SECRET}",
    f"postgresql+psycopg2://me:{SECRET}@127.0.0.1:9/db?sslmode=require",
    f"postgresql://127.0.0.1:9/db?user=me&password={SECRET}",
    f"mysql+pymysql://127.0.0.1:9/db?password={SECRET}",
    f"mssql+pyodbc:///?odbc_connect=DRIVER%3D%7Bx%7D%3BUID%3Dme%3BPWD%3D{SECRET}",
    f"mssql+pyodbc:///?odbc_connect=DRIVER={{x}};UID=me;PWD=a@{SECRET}",
    f"jdbc:sqlserver://127.0.0.1;user=me;password={SECRET}",
    f"sqlite+pysqlcipher://:{SECRET}/a@/store.db?cipher=aes",
    f"databricks://me:{SECRET}",
    f"file:///nowhere/x?token={SECRET}",
    f"s3://me:{SECRET}@bucket/x",
    f"  http://me:{SECRET}@127.0.0.1:9  ",
)
