"""The `lilliput` command line: every command's words and options, on one page.

What a command does is in its own module, imported when it runs; this page imports typer alone, and `--help` is fast.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import lilliput
from lilliput.cli import accounts, proof, studio_page, task_page
from lilliput.cli.options import PLAIN, ConfigFile, Json


class _Root(TyperGroup):
    """The outermost frame: a Problem is one line on stderr and exit 1; typer answers bad usage (2) and Ctrl-C (130)."""

    def invoke(self, ctx: Any) -> Any:
        from lilliput.cli.output import encode_leniently, say_error
        from lilliput.neutral import Problem

        encode_leniently()
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe shows here, not at exit, where nobody answers
        except Problem as problem:
            say_error(problem, sys.stderr)
            raise typer.Exit(2 if problem.code == "usage" else 1) from None
        except BrokenPipeError:
            raise  # typer ends it quietly
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            say_error(Problem("server", f"{error.strerror or error}{where}"), sys.stderr)
            raise typer.Exit(1) from None
        return result


app = typer.Typer(
    cls=_Root,
    name="lilliput",
    help="One endpoint for every language model, with a small one built in.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    **PLAIN,
)
key = typer.Typer(help="Make, list and revoke API keys.", **PLAIN)
app.add_typer(key, name="key")
config = typer.Typer(help="Show the configuration that is in force.", **PLAIN)
app.add_typer(config, name="config")
providers = typer.Typer(
    help="List the providers: ready, or which variable each one misses. `test` calls one.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(providers, name="providers")
app.add_typer(accounts.credits, name="credits")
app.command()(accounts.usage)
app.add_typer(accounts.db, name="db")
app.add_typer(proof.receipts, name="receipts")
app.add_typer(task_page.task, name="task")
app.add_typer(studio_page.studio, name="studio")
app.add_typer(studio_page.demo, name="demo")


def _provider_names(incomplete: str) -> list[str]:
    from lilliput.catalogue.load import rows

    return [name for name in rows() if name.startswith(incomplete)]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lilliput {lilliput.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; else from the configuration.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that answer.")] = None,
    warm: Annotated[bool, typer.Option("--warm", help="Start the built-in model now, not at its first call.")] = False,
    behind_tls: Annotated[
        bool, typer.Option("--behind-tls", help="A proxy in front speaks TLS: a non-loopback host may be given.")
    ] = False,
) -> None:
    """Start the gateway."""
    from lilliput.cli.serve import serve as command

    raise typer.Exit(command(config, host, port, workers, warm, behind_tls))


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="Model to talk to.")] = "lilliput/smollm2-135m",
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    once: Annotated[str | None, typer.Option(metavar="TEXT", help="Say this, print the answer, leave.")] = None,
    base: Annotated[
        str | None, typer.Option(metavar="URL", envvar="LILLIPUT_BASE", help="Gateway's address, with its /v1.")
    ] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Talk to a model through the running gateway. Ctrl-C stops an answer, Ctrl-D leaves."""
    from lilliput.cli.chat import chat as command

    if as_json and once is None:
        raise typer.BadParameter("--json needs --once TEXT: a conversation is not one document")
    command(os.environ, config, model, system, once, base, as_json)


class _Modality(StrEnum):
    text = "text"
    image = "image"
    audio = "audio"
    video = "video"
    file = "file"


@app.command()
def models(
    provider: Annotated[
        str | None, typer.Option("--provider", "-p", autocompletion=_provider_names, help="Only this provider's.")
    ] = None,
    modality: Annotated[_Modality | None, typer.Option(help="Only models known to read this; file means PDF.")] = None,
    max_price: Annotated[
        float | None, typer.Option(metavar="USD", min=0, help="Most that a million input tokens may cost, in USD.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(metavar="TOKENS", min=1, help="Least context, prompt and answer together.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also of providers that are not ready.")] = False,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """List the models that can be called, with price and context. Filters combine; an unknown fact does not pass."""
    from lilliput.cli.models import Wanted
    from lilliput.cli.models import models as command

    wanted = Wanted(provider, modality.value if modality else None, max_price, context)
    command(os.environ, config, wanted, every, as_json)


@providers.callback()
def providers_list(ctx: typer.Context, config: ConfigFile = None, as_json: Json = False) -> None:
    from lilliput.cli.providers import providers as command

    if ctx.invoked_subcommand is None:
        command(os.environ, config, as_json)
    elif config is not None or as_json:
        raise typer.BadParameter(f"options of {ctx.invoked_subcommand} go after it")


@providers.command("test")
def providers_test(
    name: Annotated[str, typer.Argument(autocompletion=_provider_names, help="Provider to call.")],
    model: Annotated[str | None, typer.Option(help="Its model to ask; else the cheapest that is known.")] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Ask a provider for a few tokens, which may cost a little: is it there, is its key good? Exit 1 if not."""
    from lilliput.cli.probe import probe

    probe(os.environ, config, name, model, as_json)


@key.command("create")
def key_create(
    name: Annotated[str, typer.Option(help="A name to know it by.")] = "",
    team: Annotated[str, typer.Option(help="The team that pays with it.")] = "",
    models: Annotated[str, typer.Option(metavar="A,B", help="Models it may call; else all.")] = "",
    expires: Annotated[str, typer.Option(metavar="TIME", help="Lifetime: 90m, 12h, 30d, 8w; else for ever.")] = "",
    as_json: Json = False,
) -> None:
    """Make a key and print it: it is shown this once."""
    from lilliput.cli.key import create

    create(os.environ, name, team, models, expires, as_json)


@key.command("list")
def key_list(as_json: Json = False) -> None:
    """List the keys, never their secrets."""
    from lilliput.cli.key import listing

    listing(os.environ, as_json)


@key.command("revoke")
def key_revoke(
    which: Annotated[str, typer.Argument(metavar="ID|NAME", help="The key's id, or its name if only one has it.")],
    as_json: Json = False,
) -> None:
    """Revoke a key: its next request is refused."""
    from lilliput.cli.key import revoke

    revoke(os.environ, which, as_json)


@key.command("dev")
def key_dev() -> None:
    """Print this machine's own key and nothing else, making it if need be."""
    from lilliput.cli.key import dev

    dev(os.environ)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="Weights by name, a hub id, or a path to a GGUF file.")],
    as_json: Json = False,
) -> None:
    """Fetch a model's weights and check their hash."""
    from lilliput.cli.pull import pull as command

    command(os.environ, name, as_json)


@app.command()
def doctor(config: ConfigFile = None, as_json: Json = False) -> None:
    """Check what the gateway needs, with the fix of each fault. Exit 1 if any check fails."""
    from lilliput.cli.doctor import doctor as command

    raise typer.Exit(command(os.environ, config, as_json))


@config.command("show")
def config_show(config: ConfigFile = None, as_json: Json = False) -> None:
    """Print every setting in force, defaults included."""
    from lilliput.cli.config import show

    show(os.environ, config, as_json)


@config.command("path")
def config_path() -> None:
    """Print where the configuration is read from."""
    from lilliput.cli.config import path

    path(os.environ)


@app.command()
def chaos(
    base: Annotated[
        str | None, typer.Option(metavar="URL", help="Gateway to judge; else ours, started for it.")
    ] = None,
    key: Annotated[str, typer.Option(metavar="KEY", envvar="CHAOS_GATEWAY_KEY", help="Its key.")] = "",
    model: Annotated[str, typer.Option(help="Its model that leads to the lying provider.")] = "liar",
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME: VALUE", help="Header of every call; repeatable.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the lying provider listens for it.")] = 1727,
    failover: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A model with two deployments: runs the failover scenarios too.")
    ] = None,
    only: Annotated[str, typer.Option(metavar="TEXT", help="Scenarios with this in their name or group.")] = "",
    every_byte: Annotated[bool, typer.Option("--every-byte", help="Also cut a 4 KiB stream after each byte.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the scenarios and run none.")] = False,
    as_json: Json = False,
) -> None:
    """Put a provider that lies behind a gateway and judge what its callers are told. Exit 1 unless all is exact."""
    from lilliput.cli.chaos import Wanted
    from lilliput.cli.chaos import chaos as command

    wanted = Wanted(base, key, model, tuple(header or ()), port, only, every_byte, failover)
    raise typer.Exit(command(wanted, listing, as_json))


cache = typer.Typer(help="Show and clear the answers that are kept to be given again.", **PLAIN)
app.add_typer(cache, name="cache")
_OfKey = Annotated[str | None, typer.Option("--key", metavar="ID", help="Only this key's, by its id.")]
_OfTeam = Annotated[str | None, typer.Option("--team", help="Only this team's.")]


@cache.command("show")
def cache_show(key: _OfKey = None, team: _OfTeam = None, as_json: Json = False) -> None:
    """Show how many answers are kept, and for whom."""
    from lilliput.cli.cache import show

    show(os.environ, key, team, as_json)


@cache.command("clear")
def cache_clear(key: _OfKey = None, team: _OfTeam = None, as_json: Json = False) -> None:
    """Remove them: all, or those of a key or a team. A key's idempotency keys go with them."""
    from lilliput.cli.cache import clear

    clear(os.environ, key, team, as_json)


route = typer.Typer(help="Show where a request would go.", **PLAIN)
app.add_typer(route, name="route")


@route.command("explain")
def route_explain(
    file: Annotated[str, typer.Argument(help="A chat request as JSON; - reads standard input.")],
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Show the plan of a request: filters, order, prices and why. Nothing is sent."""
    from lilliput.cli.route import explain

    explain(os.environ, config, file, as_json)


importing = typer.Typer(help="Print another gateway's configuration as ours.", **PLAIN)
config.add_typer(importing, name="import")


@importing.command("litellm")
def import_litellm(file: Annotated[Path, typer.Argument(help="LiteLLM's config.yaml.")]) -> None:
    """Print a LiteLLM configuration as ours."""
    from lilliput.cli.importing import from_litellm

    from_litellm(file)


def run() -> None:
    """The console script."""
    app(prog_name="lilliput")


if __name__ == "__main__":
    run()
