"""How one offline page is made of a template: what others say is escaped, pictures lie in it."""

from __future__ import annotations

import base64

import jinja2


def environment(package: str) -> jinja2.Environment:
    """Return the environment of a package's templates, with the filter `data_uri` for pictures.

    A name that a template does not get is an error, not an empty text.
    """
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["data_uri"] = _data_uri
    return made


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
