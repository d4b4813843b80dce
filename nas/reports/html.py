"""The frame of an HTML page that loads nothing and runs nothing but the scripts embedded in it."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Iterable, Sequence
from importlib import resources

from nas.reports.formatting import escape_html


def html_page(
    title: str,
    subtitle: str,
    sections: Iterable[str],
    style: str = "",
    scripts: Sequence[str] = (),
    script_styles: Sequence[str] = (),
    packed: Sequence[str] = (),
) -> str:
    """A whole page, whose content security policy allows only its own styles and scripts, by their hashes.

    Args:
        title: title of the page, plain text.
        subtitle: line below the title, plain text.
        sections: sections as HTML; empty ones are left out.
        style: CSS in addition to ``style.css``.
        scripts: JavaScript, run in this order after the sections.
        script_styles: texts of the style elements that the scripts may add.
        packed: large scripts, which are compressed in the page; `scripts` run them by ``runPacked``.
    """
    css = resource("style.css") + style
    scripts = [*([resource("unpack.js")] if packed else []), *scripts]
    code = "".join(f'<script type="application/gzip">{packed_text(script)}</script>\n' for script in packed)
    code += "".join(f"<script>{script}</script>\n" for script in scripts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy([css, *script_styles], [*packed, *scripts])}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape_html(title)}</title><style>{css}</style></head>\n<body><main>\n"
        f"<header><h1>{escape_html(title)}</h1><p>{escape_html(subtitle)}</p></header>\n"
        + "\n".join(filter(None, sections))
        + f"\n</main>\n{code}</body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A section with a heading; the parts are HTML."""
    return f"<section><h2>{escape_html(title)}</h2>{''.join(parts)}</section>"


def resource(name: str) -> str:
    """The text of a file beside the modules of this room."""
    return resources.files("nas.reports").joinpath(*name.split("/")).read_text(encoding="utf-8")


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    rules = ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "img-src data: blob:"]
    for name, texts in (("style-src", styles), ("script-src", scripts)):
        rules.append(" ".join([name, *map(_hash, texts)]) if texts else f"{name} 'none'")
    return "; ".join(rules)


def packed_text(text: str) -> str:
    """Compressed text for an element of the page, which ``unpack.js`` reads."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
