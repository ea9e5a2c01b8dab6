"""Read a page as a browser would: its elements and its text."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "input", "link", "col"}


class Reader(HTMLParser):
    """Elements (tag, attributes) in order, the text of the body, and whether all tags balance."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", "".join(self.texts))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def check_self_contained(html, image_kind="png"):
    """Check that a page runs no script, and loads nothing but the images that it holds."""
    page = Reader(html)
    assert html.startswith("<!doctype html>")
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "style"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", f"data:image/{image_kind};base64,"))
    assert "url(" not in html
    assert "@import" not in html
