"""MkDocs hook: the site has pages whose sources lie outside of docs/, and a list of decisions.

The Markdown files link to each other as they lie in the repository, so that their links work on
GitHub. Here each link is turned into one between pages of the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "docs/decisions": "decisions/index.md",
}
"""Pages by what links of the repository name. The first is a page of its own in docs/."""

SECTION = re.compile(r"<!-- The site shows this section of the README here: (.+) -->")

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that docs/ does not have."""
    for source, page in PAGES.items():
        if files.get_file_from_path(page) is None:
            path = ROOT / source
            content = _decisions(path) if path.is_dir() else path.read_text(encoding="utf-8")
            files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn links between files into links between pages; others stay, and fail the build."""
    name = page.file.src_uri
    source = next((s for s, p in PAGES.items() if p == name and p != "index.md"), f"docs/{name}")
    folder = source if (ROOT / source).is_dir() else posixpath.dirname(source)
    linked = _linked(markdown, folder, name)
    return SECTION.sub(lambda found: _linked(_section(found[1]), "", name), linked)


def _linked(markdown: str, folder: str, page: str) -> str:
    """Text of a folder of the repository, with links as from a page of the site."""

    def to_page(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        found = PAGES.get(target)
        if found is None and target.startswith("docs/"):
            found = target.removeprefix("docs/")
        if found is None:
            return link[0]
        return posixpath.relpath(found, posixpath.dirname(page) or ".")

    return LINK.sub(to_page, markdown)


def _section(title: str) -> str:
    """A section of the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return f"## {title}\n" + readme.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _decisions(folder: Path) -> str:
    """A list of the decisions by their titles."""
    lines = ["# Decisions", "", "Why things are as they are, one decision a page.", ""]
    for path in sorted(folder.glob("*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        number, _, text = re.sub(r"[.:] ", "|", title, count=1).partition("|")
        lines.append(f"- [{int(number)}. {text}]({path.name})")
    return "\n".join(lines) + "\n"
