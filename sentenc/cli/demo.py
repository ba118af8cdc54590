"""``sentenc demo``: a search page over a collection that ships in the package."""

import errno
import threading
import webbrowser
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import socket

_TRIES = 20  # ports


@click.command("demo")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--no-browser", is_flag=True, help="Only serve; do not open the page.")
def demo_command(host: str, port: int, no_browser: bool) -> None:
    """Search the World Factbook by meaning, in the browser: offline, ready in seconds.

    Where the port is taken, the next free one is used.
    """
    from sentenc.serving import ServerConfig, create_app, serve
    from sentenc.serving.demo import build_demo
    from sentenc.serving.server import address

    with _listener(host, port) as listener:
        click.echo("encoding the collection ...", err=True)
        demo = build_demo()
        settings = ServerConfig(host=host, truncate=True)
        app = create_app(demo.encoders, demo.indexes, settings)
        sentences = len(next(iter(demo.indexes.values())))
        # Browsers cannot open the address that stands for all of a machine's.
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        page = f"{address(listener, name)}/"

        def listening(_: str) -> None:
            click.echo(f"{sentences:,} sentences to search at {page} (Ctrl-C ends it)", err=True)
            if not no_browser:
                # Beside the server: some systems wait for the browser here.
                threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()

        serve(app, settings, listener=listener, on_listening=listening)


def _listener(host: str, port: int) -> "socket.socket":
    """A listening socket at the port, or at the next one that is free."""
    from sentenc.serving import ServerConfig, bind

    last = min(port + _TRIES, 65535) if port else 0
    for candidate in range(port, last):
        try:
            return bind(ServerConfig(host=host, port=candidate))
        except OSError as error:
            if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
                raise
    return bind(ServerConfig(host=host, port=last))
