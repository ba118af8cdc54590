"""The HTTP server (extra ``serve``): OpenAI-compatible embeddings, search, classification and a page."""

from sentenc.serving.app import create_app
from sentenc.serving.config import ServerConfig
from sentenc.serving.server import bind, serve
from sentenc.serving.workers import serve_workers

__all__ = ["ServerConfig", "bind", "create_app", "serve", "serve_workers"]
