"""The style sheet of reports: light and dark, narrow and wide, nothing fetched."""

from __future__ import annotations

# Nothing may be fetched, and nothing runs: a second line of defence behind the escaping.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#1a1c20;--soft:#5a6069;
--rule:#d5d9df;--shade:#1a1c2066;--heat:#5aa9e6;
--c0:#0072b2;--c1:#c24a00;--c2:#00795a;--c3:#b04a8a;--c4:#8a6100;
--c5:#3a3f47;--c6:#6a4fc4}
@media (prefers-color-scheme:dark){:root{--paper:#121417;--card:#1b1e23;--ink:#e9ebee;
--soft:#a5acb6;--rule:#3a3f47;--shade:#ffffff47;--heat:#2a72b0;
--c0:#56b4e9;--c1:#ff8f4d;--c2:#35c79b;--c3:#e79cc6;
--c4:#e6b422;--c5:#c9ced6;--c6:#b3a1ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;
overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:16px}
h1{font-size:1.6rem;line-height:1.2;margin:.4em 0}h2{font-size:1.3rem;margin:1.6em 0 .4em}
h3{font-size:1.05rem;margin:1.6em 0 .4em}
p{margin:.4em 0;max-width:70ch}.soft,caption{color:var(--soft);font-size:.875rem}
.note{border-left:4px solid var(--c1);padding:.3em .8em;background:var(--card);font-weight:600}
.card,details{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px;
margin:10px 0;min-width:0}
summary{cursor:pointer;font-weight:600}
dl{display:grid;grid-template-columns:minmax(6.5em,max-content) minmax(0,1fr);gap:4px 12px;
margin:0}
dt{color:var(--soft)}dd{margin:0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:10px}
.grid>*{margin:0}
.answer{font-size:1.05rem;border-left:4px solid var(--c2);padding:.4em .8em;background:var(--card)}
/* The shadows at the sides show that there is more: they lie still, and what covers them scrolls
away with the table. Cells are see-through, so that they are seen. */
.scroll{overflow-x:auto;max-width:100%;background:
linear-gradient(to right,var(--card) 30%,transparent) left/36px 100% no-repeat local,
linear-gradient(to left,var(--card) 30%,transparent) right/36px 100% no-repeat local,
linear-gradient(to right,var(--shade),transparent) left/14px 100% no-repeat scroll,
linear-gradient(to left,var(--shade),transparent) right/14px 100% no-repeat scroll,var(--card)}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;
overflow-wrap:normal}
caption{text-align:left;padding:0 0 6px;position:sticky;left:0;
max-width:min(calc(100vw - 56px),1020px)}
a{color:inherit}
th,td{padding:4px 7px;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th{font-weight:600}thead th{vertical-align:bottom;border-bottom:2px solid var(--rule)}
tr>:first-child{text-align:left;position:sticky;left:0;background:var(--card);
border-right:1px solid var(--rule)}
th span{display:inline-block;width:max-content;max-width:7em;white-space:normal;
overflow-wrap:anywhere}th[scope=row] span{max-width:10em}
@media (min-width:700px){th[scope=row] span{max-width:18em}}
.text td,.text th{text-align:left;vertical-align:top}
.words{white-space:normal;min-width:14em}
.upright th+th[scope=col] span{writing-mode:vertical-rl;transform:rotate(180deg);width:auto;
max-width:none;height:max-content;max-height:12em;text-align:left}
.heat{background:color-mix(in srgb,var(--heat) var(--v),transparent);min-width:2.9em}
.best{font-weight:700;text-decoration:underline;text-underline-offset:3px}
svg{display:block;width:100%;max-width:540px;height:auto;margin:0 auto;font:12px sans-serif}
.wide svg,.narrow svg{max-width:none}.wide{display:none}
@media (min-width:700px){.wide{display:block}.narrow{display:none}}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;margin:8px 0;padding:0;
font-size:.875rem}
.legend li{display:flex;gap:6px;align-items:flex-start;min-width:0}
svg.swatch{width:36px;height:16px;flex:none;margin:3px 0 0}
svg text{fill:var(--ink)}path.axis{stroke:var(--rule);fill:none}
path.clique{stroke:var(--ink);stroke-width:4;fill:none;stroke-linecap:round}
.s0{--c:var(--c0)}.s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}.s4{--c:var(--c4)}
.s5{--c:var(--c5)}.s6{--c:var(--c6)}
path.line{stroke:var(--c);stroke-width:2;fill:none}.band{fill:var(--c);fill-opacity:.14}
path.mark{fill:var(--c);stroke:var(--card);stroke-width:1}.bar{fill:var(--c)}
pre{overflow-x:auto;font-size:.8125rem;margin:.5em 0}code{font-size:.875em}
:focus-visible{outline:2px solid var(--c0);outline-offset:2px}
"""
