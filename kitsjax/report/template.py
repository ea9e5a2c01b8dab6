"""Render the package's HTML templates: pages of one file that need no other and no network."""

import base64
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined


def render_template(name: str, **values: object) -> str:
    """Render a template, and escape every text in its values.

    Args:
        name: path of the template within the package, such as `report/page.html.j2`. Templates
            include each other by such paths.
        values: the names that the template uses.
    """
    environment = Environment(
        loader=FunctionLoader(lambda path: files("kitsjax").joinpath(path).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(values)


def embed_image(image: bytes, kind: str = "png") -> str:
    """Return an image file as a `data:` URI; `kind` is its MIME type without `image/`."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
