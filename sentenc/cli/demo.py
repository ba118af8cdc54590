"""The command ``sentenc demo``: serves a search page over a collection that ships with the package."""

import errno
import threading
import webbrowser
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import socket

_PORTS_TRIED = 20


@click.command("demo")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--no-browser", is_flag=True, help="Do not open the page in a browser.")
def demo_command(host: str, port: int, no_browser: bool) -> None:
    """Search the World Factbook by meaning, in a browser.

    The demo works offline and is ready in seconds. If the port is in use, the next free one is taken.
    """
    from sentenc.serving import ServerConfig, create_app, serve
    from sentenc.serving.demo import build_demo
    from sentenc.serving.server import address

    with _listener(host, port) as listener:
        click.echo("encoding the collection ...", err=True)
        demo = build_demo()
        config = ServerConfig(host=host, truncate=True)
        app = create_app(demo.encoders, demo.indexes, config)
        sentences = len(next(iter(demo.indexes.values())))
        # Browsers cannot open the wildcard address.
        browser_host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        page = f"{address(listener, browser_host)}/"

        def listening(_: str) -> None:
            click.echo(f"{sentences:,} sentences to search at {page} (Ctrl-C stops it)", err=True)
            if not no_browser:
                # In a thread, because this call waits for the browser on some systems.
                threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()

        serve(app, config, listener=listener, on_listening=listening)


def _listener(host: str, port: int) -> "socket.socket":
    """Binds the port, or the next free one."""
    from sentenc.serving import ServerConfig, bind

    last = min(port + _PORTS_TRIED, 65535) if port else 0
    for candidate in range(port, last):
        try:
            return bind(ServerConfig(host=host, port=candidate))
        except OSError as error:
            if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
                raise
    return bind(ServerConfig(host=host, port=last))
