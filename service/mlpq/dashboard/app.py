"""The web application: routes, checks of what is asked, and answers that are only made anew when there is news."""

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

from mlpq import __version__
from mlpq.dashboard import pages
from mlpq.dashboard.comparing import BusyError, Comparisons, Question
from mlpq.dashboard.metrics import CONTENT_TYPE, metrics
from mlpq.errors import NotFoundError, SpecError, StoreError
from mlpq.store import queries
from mlpq.store.change_tokens import Changes
from mlpq.store.session import Store

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
FRESH = {"Cache-Control": "no-cache"}  # a browser asks each time whether its copy is still right
Position = Annotated[int, Query(ge=0, le=2**62)]

router = APIRouter()
get = partial(router.api_route, methods=["GET", "HEAD"], response_class=HTMLResponse)


def make_app(store: Store, hosts: Sequence[str]) -> FastAPI:
    """The application over `store`, for requests that name one of `hosts`."""
    app = FastAPI(title="mlpq", openapi_url=None)
    app.state.site = Site(store)
    app.include_router(router)
    app.mount("/static", StaticFiles(packages=[("mlpq.dashboard", "static")]))
    for kind, answer in (
        (NotFoundError, partial(_problem, 404)),
        (SpecError, partial(_problem, 400)),
        (StoreError, partial(_problem, 503)),
        (BusyError, partial(_problem, 503)),
        (RequestValidationError, lambda request, _: _problem(400, request, "an address with such numbers has no page")),
        (HTTPException, _http_problem),
    ):
        app.add_exception_handler(kind, answer)
    app.middleware("http")(_with_headers)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    return app


class Site:
    """What all pages share."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changes = Changes(store)
        self.comparisons = Comparisons(store)
        self.started = secrets.token_hex(8)  # what is kept by browsers was made by one process
        loader = ChoiceLoader([PackageLoader("mlpq.dashboard"), PackageLoader("mlpq.report")])
        self.templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)

    def tag(self, state: str) -> str:
        return f'"{hashlib.sha256(f"{self.started} {state}".encode()).hexdigest()[:24]}"'

    def render(self, template: str, **content: Any) -> str:
        return self.templates.get_template(template).render(mlpq_version=__version__, **content)


@get("/")
def experiments(request: Request, before: Position | None = None) -> Response:
    return _page(request, "experiments.html", lambda site: (pages.experiments(site.store, before), 200))


def _asked(by: str = "", metric: str = "accuracy", target: str = "", against: str = "") -> Question:
    return Question(by.strip(), metric.strip(), target.strip(), against.strip())


Asked = Annotated[Question, Depends(_asked)]


@get("/experiments/{name:path}")
def experiment(request: Request, name: str, question: Asked, status: str = "", after: Position = 0) -> Response:
    return _page(
        request,
        "experiment.html",
        lambda site: pages.experiment(site.store, site.comparisons, name, question, status, after),
    )


@get("/jobs/{prefix}")
def job(request: Request, prefix: str) -> Response:
    return _page(request, "job.html", lambda site: (pages.job(site.store, prefix), 200))


@get("/workers")
def workers(request: Request) -> Response:
    return _page(request, "workers.html", lambda site: (pages.workers(site.store), 200))


@get("/charts/now.svg")
def training_now(request: Request, experiment: str, question: Asked) -> Response:
    site: Site = request.app.state.site
    return _picture(request, *site.comparisons.training_now(experiment, question))


@get("/charts/{name}.svg")
def chart(request: Request, name: str, experiment: str, question: Asked) -> Response:
    site: Site = request.app.state.site
    return _picture(request, *site.comparisons.picture(experiment, question, name))


@get("/jobs/{prefix}/{name}.svg")
def job_chart(request: Request, prefix: str, name: str) -> Response:
    site: Site = request.app.state.site
    return _picture(request, *site.comparisons.job_picture(queries.find_job(site.store, prefix), name))


@get("/healthz")
def health(request: Request) -> Response:
    try:
        request.app.state.site.changes.state()
    except StoreError as error:
        return PlainTextResponse(f"{' '.join(str(error).split())}\n", 503)
    return PlainTextResponse("ok\n")


@get("/metrics")
def scraped(request: Request) -> Response:
    return Response(metrics(request.app.state.site.store), media_type=CONTENT_TYPE)


def _page(request: Request, template: str, make: Callable[[Site], tuple[dict[str, Any], int]]) -> Response:
    """The page, or 304 where nothing was committed since the browser got it."""
    site: Site = request.app.state.site
    tag = site.tag(site.changes.state())  # before the page is read: it may be newer than its tag, and never older
    headers = {**FRESH, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    content, status = make(site)
    return HTMLResponse(site.render(template, tag=tag, path=request.url.path, **content), status, headers)


def _picture(request: Request, drawn: str, state: str) -> Response:
    headers = {**FRESH, "ETag": request.app.state.site.tag(state)}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(drawn, media_type="image/svg+xml", headers=headers)


def _problem(status: int, request: Request, error: object) -> Response:
    """A page that says in a line what is wrong; one without the database tries again by itself."""
    titles = {400: "Not so", 404: "Not found", 405: "Only reading", 503: "Not now"}
    page = request.app.state.site.render(
        "problem.html",
        title=titles.get(status, "No page"),
        message=str(error),
        live=status == 503,
        tag="",
        path=request.url.path,
    )
    return HTMLResponse(page, status, {"Cache-Control": "no-store"})


def _http_problem(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = {404: "there is no page at this address", 405: "this page is only for looking: it takes GET and HEAD"}
    return _problem(status, request, said.get(status, getattr(error, "detail", "")))


async def _with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await answer(request)
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-cache")  # static files change with mlpq
    return response
