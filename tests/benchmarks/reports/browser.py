"""A real browser, where there is one: what it says of a page at a width, without a network."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
VARIABLE = "MEDLEY_BROWSER"  # where one lies that is not on the path
SECONDS = 90
# The page is shown in a frame of the width; a frame of srcdoc may be looked into.
FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="f" style="border:0;width:{width}px;height:2000px" srcdoc="{page}"></iframe>
<pre id="told"></pre><script>
document.getElementById("f").addEventListener("load", () => {{
  const inner = document.getElementById("f").contentDocument, root = inner.documentElement;
  const boxes = [...inner.querySelectorAll(".scroll")];
  const cut = [...inner.querySelectorAll("main *")].filter((e) => {{
    const r = e.getBoundingClientRect();
    return r.width && r.right > root.clientWidth + 1 && !e.closest(".scroll, pre, svg");
  }});
  const words = [...inner.querySelectorAll("svg:not(.swatch)")].filter((s) => s.clientWidth);
  let touching = 0;
  for (const svg of words) {{
    const r = [...svg.querySelectorAll("text")].map((t) => t.getBoundingClientRect());
    for (let i = 0; i < r.length; i++) for (let j = 0; j < i; j++) {{
      const [a, b] = [r[i], r[j]];
      const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (x > 1 && y > 4) touching++;
    }}
  }}
  document.getElementById("told").textContent = "TOLD" + JSON.stringify({{
    width: root.clientWidth, needs: root.scrollWidth, boxes: boxes.length, touching,
    shadows: boxes.filter((b) => getComputedStyle(b).backgroundImage.includes("gradient")).length,
    cut: cut.slice(0, 5).map((e) => e.tagName + "." + e.className),
    charts: [...inner.querySelectorAll(".wide, .narrow")].filter((e) => e.clientWidth).map(
      (e) => [e.className, e.clientWidth / e.closest(".card").clientWidth]),
  }}) + "DLOT";
}});
</script>"""


def browser() -> str | None:
    """Its path; None: there is none here."""
    return os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, NAMES)), None)


def looked_at(page: Path, width: int, folder: Path, *, dark: bool = False) -> dict[str, Any]:
    """What the browser measured, and ``console``: what was written to its console."""
    program = browser()
    assert program is not None
    frame = folder / f"frame_{width}.html"
    text = html.escape(page.read_text("utf-8"), quote=True)
    frame.write_text(FRAME.format(width=width, page=text), "utf-8")
    words = [
        *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *("--no-first-run", "--disable-extensions", f"--user-data-dir={folder / 'profile'}"),
        *("--enable-logging=stderr", "--v=0", f"--window-size={max(width, 500)},2000"),
        *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []),
        *("--virtual-time-budget=8000", "--dump-dom", frame.as_uri()),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS)
    found = re.search("TOLD(.*?)DLOT", done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {**json.loads(html.unescape(found[1])), "console": console}
