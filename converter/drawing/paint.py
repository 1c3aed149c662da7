"""Colours and fonts of pictures and pages, light and dark. Owns what all have in common."""

from __future__ import annotations

# Of middle brightness, so that they stand on white and on black; neighbours differ for people who
# do not tell red from green.
PALETTE = (
    *("#3f7fc4", "#e5812f", "#3d9e73", "#b65fb0", "#c9a227"),
    *("#5b6fd0", "#d2605a", "#2a9fb0", "#8a8f2e", "#a9745b"),
)
PAPER = """
.paper{fill:#fff}.ink{fill:#1b2430}.dim{fill:#5d6b7a}.rule{stroke:#d5dbe1;fill:none}
.track{fill:#eef1f4}.strip{fill:#dfe4e9}.structure{fill:#6c7a89}.unused{fill:#b3bdc7}
"""
DARK = """
.paper{fill:#10151b}.ink{fill:#e8edf2}.dim{fill:#98a5b3}.rule{stroke:#333d48;fill:none}
.track{fill:#1c232b}.strip{fill:#29323c}.structure{fill:#8997a6}.unused{fill:#515d69}
"""
FONTS = """
text{font:12px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
.mono{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:11px}
.title{font-size:20px;font-weight:600}.name{font-size:14px;font-weight:600}
.small{font-size:11px}.end{text-anchor:end}.middle{text-anchor:middle}.replaced{fill-opacity:.35}
"""
PAGE = """
:root{color-scheme:light dark}
body{margin:0 auto;max-width:1120px;background:#fff;color:#1b2430;
font:14px/1.45 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
svg{max-width:100%;height:auto}
section{padding:0 32px 32px;overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{padding:6px 10px;border-top:1px solid #d5dbe1;text-align:left;vertical-align:top}
td.size{text-align:right;white-space:nowrap}
code{font:12px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;overflow-wrap:anywhere}
ul{margin:0;padding:0;list-style:none}
@media(prefers-color-scheme:dark){body{background:#10151b;color:#e8edf2}
th,td{border-color:#333d48}}
"""


def style_sheet(own: str) -> str:
    """Return a picture's style sheet: what all have, and `own` rules for both kinds of light."""
    dark = DARK.replace("\n", "")
    return f"{FONTS}{PAPER}{own}\n@media(prefers-color-scheme:dark){{{dark}}}\n"
