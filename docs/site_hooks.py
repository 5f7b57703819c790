"""Pages of docs/ as a site: what they link to outside of docs/ comes along.

The pages are written for the forge, where a link to `../README.md` or to a source file leads somewhere.
MkDocs knows the folder docs/ alone. These hooks add the pages of the checkout's root below `project/`,
every other file that a page links to as text below `source/`, and turn the links to them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {
    "README.md": "project/readme.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
}
"""Pages of the root, and where the site has them."""
DIAGRAM = "![From a command to the ledger, and on to MLflow]({}images/how_it_works.svg)"
"""What the site shows in place of a Mermaid diagram, whose script would be loaded from elsewhere."""
_FENCED = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Return the configuration with all decisions in the navigation, under their titles."""
    for section in config.nav or []:
        for pages in section.values():
            if "decisions/README.md" in pages:
                pages += [
                    {_title(path): f"decisions/{path.name}"}
                    for path in sorted((DOCS / "decisions").glob("0*.md"))
                ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of docs/ and those outside that pages link to."""
    for name, uri in PAGES.items():
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, uri, content=text))
    for path in sorted(_linked_files(files)):
        content = (ROOT / path).read_bytes()
        files.append(File.generated(config, f"source/{path}.txt", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page whose links lead to where the site has their targets."""
    del config, files
    uri = page.file.src_uri
    origin = _origin(uri)

    def turned(link: re.Match[str]) -> str:
        path, mark, anchor = link[2].partition("#")
        place = place_of(path, origin)
        if place is None:
            return link[0]
        target = os.path.relpath(place, Path(uri).parent).replace(os.sep, "/")
        return f"{link[1]}{target}{mark}{anchor}{link[3]}"

    up = "../" * uri.count("/")
    return outside_fences(markdown, lambda text: _LINK.sub(turned, text), DIAGRAM.format(up))


def place_of(link: str, origin: str) -> str | None:
    """Return where the site has what a page links to; None where that is no file of the checkout.

    Args:
        link: A link's target, without anchor.
        origin: The linking page's path in the checkout.

    >>> place_of("../README.md", "docs/index.md")
    'project/readme.md'
    >>> place_of("docs/odd.md", "README.md")
    'odd.md'
    >>> place_of("LICENSE", "README.md")
    'source/LICENSE.txt'
    >>> place_of("https://example.org", "README.md")
    """
    if not link or ":" in link:
        return None
    path = os.path.normpath(Path(origin).parent / link).replace(os.sep, "/")
    if not (ROOT / path).is_file():
        return None
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PAGES.get(path, f"source/{path}.txt")


def outside_fences(text: str, change: Callable[[str], str], diagram: str = "") -> str:
    r"""Return a text changed where it is no code; Mermaid's code becomes `diagram`.

    >>> print(outside_fences("a\n```text\na\n```\na", str.upper))
    A
    ```text
    a
    ```
    A
    """
    done, start = "", 0
    for block in _FENCED.finditer(text):
        code = diagram if block[0].startswith("```mermaid") else block[0]
        done += change(text[start : block.start()]) + code
        start = block.end()
    return done + change(text[start:])


def _linked_files(files: Files) -> set[str]:
    """Return the files outside docs/ that pages link to, as paths in the checkout."""
    found = set()
    for file in files.documentation_pages():
        text = _FENCED.sub("", file.content_string)
        places = (
            place_of(link[2].partition("#")[0], _origin(file.src_uri))
            for link in _LINK.finditer(text)
        )
        found |= {place for place in places if place and place.startswith("source/")}
    return {place.removeprefix("source/").removesuffix(".txt") for place in found}


def _origin(uri: str) -> str:
    """Return the path in the checkout of a page of the site."""
    return {there: here for here, there in PAGES.items()}.get(uri, f"docs/{uri}")


def _title(path: Path) -> str:
    return path.read_text("utf-8").partition("\n")[0].removeprefix("# ")
