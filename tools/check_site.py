"""Checks that no page or style of a built site loads anything from another host.

`python tools/check_site.py site`; `make docs` runs it. Links for readers may lead anywhere.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

OTHER_HOST = re.compile(r"\s*(?:[a-z]+:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^\s\"')]+", re.IGNORECASE)
LOADING_LINKS = {"stylesheet", "preload", "prefetch", "preconnect", "dns-prefetch", "icon"}


class Page(HTMLParser):
    """Collects what a browser would load by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: List[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[Tuple[str, Optional[str]]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag != "a":
            self._note(given.get("src", ""), *given.get("srcset", "").split(","))
        if tag == "link" and LOADING_LINKS & set(given.get("rel", "").split()):
            self._note(given.get("href", ""))
        self.loads += IN_STYLE.findall(given.get("style", ""))

    def _note(self, *addresses: str) -> None:
        self.loads += [address for address in addresses if OTHER_HOST.match(address)]


def loads_of(path: Path) -> List[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return IN_STYLE.findall(text)
    page = Page()
    page.feed(text)
    return page.loads


def main(site: Path) -> int:
    pages = sorted(site.rglob("*.html"))
    found = [(p, load) for p in [*pages, *site.rglob("*.css")] for load in loads_of(p)]
    for path, load in found:
        sys.stderr.write(f"{path} loads {load}\n")
    if not pages:
        sys.stderr.write(f"{site} holds no page; build it with: make docs\n")
    else:
        sys.stdout.write(f"{len(pages)} pages in {site}, {len(found)} loads from other hosts\n")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
