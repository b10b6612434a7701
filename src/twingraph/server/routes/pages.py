"""/docs: the API to read and to try, from what is on this machine alone."""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from twingraph.server.problems import Problem

router = APIRouter(include_in_schema=False)

_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
_QUIET = {"validatorUrl": None}  # or the page would ask a server of somebody else


@router.get("/")
def show_start() -> RedirectResponse:
    """Whoever opens the server in a browser sees what it can do."""
    return RedirectResponse("docs")


@router.get("/docs")
def show_docs() -> HTMLResponse:
    """The page."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="TwinGraph API",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="data:,",
        swagger_ui_parameters=_QUIET,
    )


@router.get("/docs/{name}")
def show_file(name: str) -> FileResponse:
    """What the page is made with."""
    if name not in _FILES:
        raise Problem(404, "not_found", f"The page has no file {name!r}.")
    headers = {"Cache-Control": "max-age=86400"}
    return FileResponse(os.path.join(_folder(), name), media_type=_FILES[name], headers=headers)


@lru_cache(maxsize=1)
def _folder() -> str:
    """Where an installed package has the files of Swagger UI; nothing else of it is used."""
    found = importlib.util.find_spec("fastapi_offline")
    if found is None or not found.origin:
        raise Problem(404, "not_installed", "The page needs fastapi-offline: pip install 'lokki-twingraph[server]'.")
    return os.path.join(os.path.dirname(found.origin), "static")
