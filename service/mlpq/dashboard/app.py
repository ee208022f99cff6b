"""The web application: routes, error pages, and ETags, with which unchanged pages are not rendered again."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from mlpq.analysis.params import ComparisonParams
from mlpq.dashboard import pages
from mlpq.dashboard.bounded_cache import BusyError
from mlpq.dashboard.comparisons import Comparisons
from mlpq.dashboard.metrics import CONTENT_TYPE, metrics
from mlpq.errors import NotFoundError, SpecError, StoreError
from mlpq.store import queries
from mlpq.store.change_tokens import ChangeTokens
from mlpq.store.session import Store
from mlpq.text import printable_value
from mlpq.version import VERSION

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
REVALIDATE = {"Cache-Control": "no-cache"}  # a browser may store a page, but must revalidate it by its ETag
Position = Annotated[int, Query(ge=0, le=2**62)]

router = APIRouter()
get = partial(router.api_route, methods=["GET", "HEAD"], response_class=HTMLResponse)


def make_app(store: Store, hosts: Sequence[str], root_path: str = "") -> FastAPI:
    """The application for `store`, which answers requests for `hosts` only.

    `root_path` is the path, such as "/mlpq", under which a proxy serves the pages.
    """
    app = FastAPI(title="mlpq", openapi_url=None)
    app.state.site = Site(store, root_path)
    app.include_router(router)
    app.mount("/static", StaticFiles(packages=[("mlpq.dashboard", "static")]))
    for kind, handler in (
        (NotFoundError, partial(_problem, 404)),
        (SpecError, partial(_problem, 400)),
        (StoreError, partial(_problem, 503)),
        (BusyError, partial(_problem, 503)),
        (RequestValidationError, lambda request, _: _problem(400, request, "a number in the address is not valid")),
        (HTTPException, _http_problem),
    ):
        app.add_exception_handler(kind, handler)
    app.middleware("http")(_with_headers)
    app.add_middleware(RootPath, root_path=root_path)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    return app


class RootPath:
    """Takes the requests of a proxy that removes the root path from addresses, and of one that does not."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app, self._root = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if self._root and path:
            if path != self._root and not path.startswith(f"{self._root}/"):
                path = self._root + path
            scope = {**scope, "root_path": self._root, "path": f"{path}/" if path == self._root else path}
        await self._app(scope, receive, send)


class Site:
    """The state that all pages share."""

    def __init__(self, store: Store, root_path: str) -> None:
        self.store, self.root_path = store, root_path
        self.changes = ChangeTokens(store)
        self.comparisons = Comparisons(store)
        self.process = secrets.token_hex(8)  # another process, perhaps of another version, has other ETags
        loader = ChoiceLoader([PackageLoader("mlpq.dashboard"), PackageLoader("mlpq.report")])
        self.templates = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=printable_value
        )
        self.templates.globals["root"] = root_path
        self.templates.filters["kept"] = _with_large

    def etag(self, token: str) -> str:
        """The ETag of content that changes with `token`."""
        return f'"{hashlib.sha256(f"{self.process} {token}".encode()).hexdigest()[:24]}"'

    def render(self, template: str, large: bool, **content: Any) -> str:
        """The HTML of a page, with large type where so wished; its links to pages keep that."""
        keep = "?large" if large else ""
        return self.templates.get_template(template).render(mlpq_version=VERSION, large=large, keep=keep, **content)


def _with_large(address: str, is_large: bool) -> str:
    """The address of a page, which has parameters, with large type where that is on."""
    return address.replace("?", "?large&", 1) if is_large else address


@get("/")
def experiments(request: Request, before: Position | None = None) -> Response:
    return _page(request, "experiments.html", lambda site: (pages.experiments(site.store, before), 200))


def _params(
    by: str = "",
    metric: str = "accuracy",
    target: str = "",
    against: str = "",
    choose_seeds: Annotated[str, Query(alias="choose-seeds")] = "",
) -> ComparisonParams:
    return ComparisonParams(by.strip(), metric.strip(), target.strip(), against.strip(), choose_seeds.strip())


Params = Annotated[ComparisonParams, Depends(_params)]


@get("/experiments/{name:path}")
def experiment(request: Request, name: str, params: Params, status: str = "", after: Position = 0) -> Response:
    return _page(
        request,
        "experiment.html",
        lambda site: pages.experiment(site.store, site.comparisons, name, params, status, after),
    )


@get("/jobs/{prefix}")
def job(request: Request, prefix: str) -> Response:
    return _page(request, "job.html", lambda site: (pages.job(site.store, prefix), 200))


@get("/workers")
def workers(request: Request) -> Response:
    return _page(request, "workers.html", lambda site: (pages.workers(site.store), 200))


@get("/charts/now.svg")
def chart_of_running(request: Request, experiment: str, params: Params, size: str = "") -> Response:
    site: Site = request.app.state.site
    return _svg(request, *site.comparisons.chart_of_running(experiment, params, size))


@get("/charts/{name}.svg")
def chart(request: Request, name: str, experiment: str, params: Params, size: str = "") -> Response:
    site: Site = request.app.state.site
    return _svg(request, *site.comparisons.chart(experiment, params, name, size))


@get("/jobs/{prefix}/{name}.svg")
def job_chart(request: Request, prefix: str, name: str, size: str = "") -> Response:
    site: Site = request.app.state.site
    return _svg(request, *site.comparisons.job_chart(queries.find_job(site.store, prefix), name, size))


@get("/healthz")
def health(request: Request) -> Response:
    try:
        request.app.state.site.changes.current()
    except StoreError as error:
        return PlainTextResponse(f"{' '.join(str(error).split())}\n", 503)
    return PlainTextResponse("ok\n")


@get("/metrics")
def prometheus(request: Request) -> Response:
    return Response(metrics(request.app.state.site.store), media_type=CONTENT_TYPE)


def _page(request: Request, template: str, make: Callable[[Site], tuple[dict[str, Any], int]]) -> Response:
    """The page, or 304 where nothing was committed since the browser loaded it."""
    site: Site = request.app.state.site
    etag = site.etag(site.changes.current())  # before reading the rows: they may be newer than the ETag, never older
    headers = {**REVALIDATE, "ETag": etag}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    content, status = make(site)
    own: dict[str, Any] = {"etag": etag, "path": _path(request), "large": "large" in request.query_params}
    return HTMLResponse(site.render(template, **own, **content), status, headers)


def _svg(request: Request, svg: str, token: str) -> Response:
    headers = {**REVALIDATE, "ETag": request.app.state.site.etag(token)}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(svg, media_type="image/svg+xml", headers=headers)


def _problem(status: int, request: Request, error: object) -> Response:
    """An error page; with status 503 it reloads itself."""
    titles = {400: "Bad request", 404: "Not found", 405: "Method not allowed", 503: "Service unavailable"}
    page = request.app.state.site.render(
        "problem.html",
        title=titles.get(status, "Error"),
        message=str(error),
        live=status == 503,
        etag="",
        path=_path(request),
        large="large" in request.query_params,
    )
    return HTMLResponse(page, status, {"Cache-Control": "no-store"})


def _http_problem(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    messages = {404: "there is no page at this address", 405: "read-only: GET and HEAD only"}
    page = _problem(status, request, messages.get(status, getattr(error, "detail", "")))
    if status == 405:
        page.headers["Allow"] = "GET, HEAD"
    return page


def _path(request: Request) -> str:
    """The path of the page, without the root path."""
    site: Site = request.app.state.site
    return str(request.scope["path"]).removeprefix(site.root_path)


async def _with_headers(request: Request, respond: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await respond(request)
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-cache")  # static files change with mlpq
    return response
