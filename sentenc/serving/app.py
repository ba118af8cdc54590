"""The ASGI application: its routes and middleware."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sentenc.encoders.base import Encoder
from sentenc.errors import MissingExtraError
from sentenc.serving.api_errors import ApiError
from sentenc.serving.catalog import Catalog
from sentenc.serving.config import ServerConfig
from sentenc.serving.endpoint import Endpoint, send_error
from sentenc.serving.lifecycle import Lifecycle
from sentenc.serving.metrics import CONTENT_TYPE, Metrics
from sentenc.serving.middleware import RequestMiddleware
from sentenc.serving.routes.classify import ClassifyRoutes
from sentenc.serving.routes.embeddings import EmbeddingRoutes
from sentenc.serving.routes.openapi import ApiDescription
from sentenc.serving.routes.page import PageFiles
from sentenc.serving.routes.search import SearchRoutes

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Receive, Scope, Send

    from sentenc.retrieval import Index


def create_app(
    encoders: Mapping[str, Encoder],
    indexes: "Mapping[str, Index] | None" = None,
    config: ServerConfig | None = None,
    *,
    classifiers: Mapping[str, Any] | None = None,
) -> "Starlette":
    """Creates the server's application, which any ASGI server can run and other applications can mount.

    Args:
        encoders: Encoders by the names that clients use.
        indexes: Indexes by name. The encoder with an index's fingerprint encodes its queries; if ``encoders``
            does not contain it, the index's own encoder is served too.
        config: API key, CORS origins and limits; host and port are used by :func:`serve` only.
        classifiers: Fitted estimators of :mod:`sentenc.downstream` by name; their encoders are served too.

    Raises:
        MissingExtraError: The extra ``serve`` is not installed.
        TypeError: A name is no str, or what it names is no encoder, index or fitted estimator.
        ValueError: There is nothing to serve, an index has no encoder, or names collide.
    """
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Route
    except ImportError as error:
        raise MissingExtraError("serve", "starlette", "the server") from error
    config = config or ServerConfig()
    metrics = Metrics()
    lifecycle = Lifecycle(Catalog(encoders, indexes or {}, config, metrics, classifiers), metrics)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        lifecycle.start()
        if lifecycle.is_replacement:
            await lifecycle.warmed()
        yield
        lifecycle.stop()

    app = Starlette(
        routes=[Route(path, endpoint) for path, endpoint in _endpoints(lifecycle, config).items()],
        middleware=_middleware(lifecycle, config),
        exception_handlers={HTTPException: _no_route},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.sentenc = lifecycle
    return app


def _middleware(lifecycle: Lifecycle, config: ServerConfig) -> "list[Middleware]":
    """Returns the middleware, the outermost first."""
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware

    middleware = [Middleware(RequestMiddleware, lifecycle=lifecycle, api_key=config.api_key)]
    if config.cors_origins:
        # CORS is handled before the key is checked, because a preflight request has no key, and because a page
        # must be able to read a refusal. OpenAI's client for browsers sends its own headers.
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
        middleware.insert(0, cors)
    return middleware


def _endpoints(lifecycle: Lifecycle, config: ServerConfig) -> "dict[str, ASGIApp]":
    catalog = lifecycle.catalog
    limits: dict[str, Any] = {"max_body_bytes": config.max_body_bytes, "timeout": config.timeout}
    embeddings = EmbeddingRoutes(catalog, config.max_inputs)
    search = SearchRoutes(catalog, config.max_inputs)
    classify = ClassifyRoutes(catalog, config.max_inputs)
    page = PageFiles()
    described = ApiDescription(config.api_key is not None)
    # The first match counts, so the busiest paths come first.
    return {
        "/v1/embeddings": Endpoint(post=embeddings.embeddings, **limits),
        "/classify": Endpoint(post=classify.classify, **limits),
        "/search": Endpoint(get=search.search_by_url, post=search.search, **limits),
        "/similarity": Endpoint(post=search.similarity, **limits),
        "/health": Endpoint(get=lifecycle.health),
        "/ready": Endpoint(get=lifecycle.ready),
        "/metrics": Endpoint(get=lifecycle.exposition, content_type=CONTENT_TYPE),
        "/indexes": Endpoint(get=search.indexes),
        "/classifiers": Endpoint(get=classify.classifiers),
        "/v1/models": Endpoint(get=embeddings.models),
        "/v1/models/{name:path}": _ModelEndpoint(embeddings),
        "/openapi.json": Endpoint(get=described.content),
        "/docs": Endpoint(get=described.page, content_type="text/html; charset=utf-8"),
        "/": page,
        "/page/{name:path}": page,
    }


class _ModelEndpoint:
    # Answers for the model whose name is part of the path.

    def __init__(self, routes: EmbeddingRoutes) -> None:
        self._routes = routes

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        name = scope["path_params"]["name"]
        await Endpoint(get=lambda _: self._routes.model(name))(scope, receive, send)


async def _no_route(request: Any, error: Any) -> Any:
    """Returns the answer if no route matches, as a response that Starlette can send."""
    path = request.url.path

    async def respond(scope: "Scope", receive: "Receive", send: "Send") -> None:
        if error.status_code == 404:
            await send_error(send, ApiError(404, f"there is no route {path}", code="not_found"))
        else:
            await send_error(send, ApiError(error.status_code, str(error.detail)))

    return respond
