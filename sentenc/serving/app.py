"""The application: routes, and what stands around them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sentenc.encoders.base import Encoder
from sentenc.errors import MissingExtraError
from sentenc.serving.endpoint import Endpoint, send_error
from sentenc.serving.errors import ApiError
from sentenc.serving.lifecycle import State
from sentenc.serving.metrics import Metrics
from sentenc.serving.middleware import RequestMiddleware
from sentenc.serving.routes.classify import Classification
from sentenc.serving.routes.embeddings import OpenAI
from sentenc.serving.routes.page import PageFiles
from sentenc.serving.routes.search import Retrieval
from sentenc.serving.services import Catalog
from sentenc.serving.settings import ServerConfig

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from sentenc.retrieval import Index


def create_app(
    encoders: Mapping[str, Encoder],
    indexes: "Mapping[str, Index] | None" = None,
    settings: ServerConfig | None = None,
    *,
    classifiers: Mapping[str, Any] | None = None,
) -> "FastAPI":
    """The server as an application that any ASGI server runs, or that another one mounts.

    Args:
        encoders: By the names that clients use.
        indexes: By name; an index is searched by the encoder of its own fingerprint, which is served as
            well if ``encoders`` has it not.
        settings: Key and limits; its address is for :func:`serve`.
        classifiers: Fitted estimators of :mod:`sentenc.downstream` by name; their encoders are served as well.

    Raises:
        MissingExtraError: The extra ``serve`` is not installed.
        ValueError: There is nothing to serve, an index has no encoder, or names collide.
    """
    try:
        from fastapi import FastAPI
        from starlette.exceptions import HTTPException
        from starlette.routing import Route
    except ImportError as error:
        raise MissingExtraError("serve", "fastapi", "the server") from error
    settings = settings or ServerConfig()
    metrics = Metrics()
    state = State(Catalog(encoders, indexes or {}, settings, metrics, classifiers), metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state.start()
        yield
        state.stop()

    app = FastAPI(
        title="sentenc", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None,
        exception_handlers={HTTPException: _no_route},
        # FastAPI's newer versions would look for OpenTelemetry exporters at every request; older ones
        # have no such argument and ignore it.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )  # fmt: skip
    app.state.sentenc = state
    # Routes of Starlette's: what FastAPI's own do for each request takes several times as long as CSE.
    app.router.redirect_slashes = False
    app.router.routes.extend(Route(path, endpoint) for path, endpoint in _endpoints(state, settings).items())
    app.add_middleware(RequestMiddleware, state=state, api_key=settings.api_key)
    return app


def _endpoints(state: State, settings: ServerConfig) -> "dict[str, ASGIApp]":
    limits: dict[str, Any] = {"max_body_bytes": settings.max_body_bytes, "timeout": settings.timeout}
    openai = OpenAI(state.catalog, settings.max_inputs)
    retrieval = Retrieval(state.catalog, settings.max_inputs)
    classification = Classification(state.catalog, settings.max_inputs)
    page = PageFiles()
    # The first match counts, so the busiest come first.
    return {
        "/v1/embeddings": Endpoint(post=openai.embeddings, **limits),
        "/classify": Endpoint(post=classification.classify, **limits),
        "/search": Endpoint(get=retrieval.search_by_url, post=retrieval.search, **limits),
        "/similarity": Endpoint(post=retrieval.similarity, **limits),
        "/health": Endpoint(get=state.health),
        "/ready": Endpoint(get=state.ready),
        "/metrics": Endpoint(get=state.exposition, content_type="text/plain; version=0.0.4; charset=utf-8"),
        "/indexes": Endpoint(get=retrieval.indexes),
        "/classifiers": Endpoint(get=classification.classifiers),
        "/v1/models": Endpoint(get=openai.models),
        "/v1/models/{name:path}": _OneModel(openai),
        "/": page,
        "/page/{name:path}": page,
    }


class _OneModel:
    # A model by the name in its path.

    def __init__(self, openai: OpenAI) -> None:
        self._openai = openai

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        name = scope["path_params"]["name"]
        await Endpoint(get=lambda _: self._openai.one_model(name))(scope, receive, send)


async def _no_route(request: Any, error: Any) -> Any:
    """The answer where no route matches, as a response that FastAPI can send."""
    path = request.url.path

    async def respond(scope: "Scope", receive: "Receive", send: "Send") -> None:
        if error.status_code == 404:
            await send_error(send, ApiError(404, f"nothing is at {path}", code="not_found"))
        else:
            await send_error(send, ApiError(error.status_code, str(error.detail)))

    return respond
