"""The ``modelsmith`` command. Start-up imports click and the table only; an operation is imported when it is called."""

from __future__ import annotations

import gc
import os
import stat
import sys
import traceback
import warnings
from pathlib import Path
from typing import NoReturn, get_args

import click

from modelsmith import __version__
from modelsmith.cli.groups import LoadedGroup, PlainGroup, TableGroup
from modelsmith.cli.streams import OutputLost, prepare_streams
from modelsmith.operations.table import EVERYONE, Role
from modelsmith.packs import Client
from modelsmith.schema.errors import Exit, InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.importing import COLLECT_AFTER, importing, keep_all
from modelsmith.schema.system import require_text

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
ROLE_OF_PACK = click.option(
    "--role", type=click.Choice(EVERYONE), default="reviewer", show_default=True, help="Role of the agent's server."
)
INTO = click.option(
    "--into",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder; this repository's top if none.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object.")
INTERRUPTED = 130
"""128 + SIGINT, the shells' convention."""

EPILOG = """\
Every command but the servers and the hook takes --json: one JSON object on stdout, progress as one JSON object a
line on stderr.

Exit codes: 0 done or PASS, 1 a bug, 2 invalid input, 3 gate not cleared (FAIL or INCONCLUSIVE), 4 waiting for a
person, 5 integrity failure, 6 infrastructure failure, 130 interrupted.
"""


@click.group(
    cls=TableGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, "--version", message="modelsmith %(version)s")
def cli() -> None:
    """Turn a small open-weights model into a governed specialist.

    The loop evaluates a model on your governed scenarios, trains on its failures and promotes what clears the gate by
    pull request; people approve with a key of their own. Start with `modelsmith init DIR --kit adtech`.
    """


@cli.command()
@click.option(
    "--role", type=click.Choice(EVERYONE), help="Whose tools it has; $MODELSMITH_ROLE or reviewer when not given."
)
@click.option("--http", is_flag=True, help="Serve streamable HTTP; roles come with tokens (`mcp-token issue`).")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --http: address to listen on.")
@click.option("--port", default=7443, show_default=True, type=click.IntRange(1, 65535), help="With --http: port.")
@click.option("--name", "names", multiple=True, help="With --http: a name by which clients on other machines know it.")
@click.option("--tls-cert", type=FILE, help="With --http: certificate chain, PEM.")
@click.option("--tls-key", type=FILE, help="With --http: its private key, PEM.")
@click.option(
    "--specialist", "specialists", multiple=True, metavar="CLUSTER", help="A cluster whose specialist is a tool, too."
)
@click.option(
    "--door",
    default="http://127.0.0.1:7480",
    show_default=True,
    help="With --specialist: the front door; its key is $MODELSMITH_DOOR_KEY.",
)
def mcp(
    role: Role | None,
    http: bool,
    host: str,
    port: int,
    names: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    specialists: tuple[str, ...],
    door: str,
) -> None:
    """Serve tools for agents over the Model Context Protocol, on standard input and output or with --http.

    An agent's client starts this in a promotion repository; docs/mcp.md shows how. No role has a tool that approves.

    With --specialist, an agent asks a specialist by the tool ask_CLUSTER, through the front door (`modelsmith serve`),
    which routes and counts it. Without --role those are all of its tools.
    """
    from modelsmith.cli import serving

    if http:
        serving.serve_over_http(role, host, port, names, tls_cert, tls_key, specialists, door)
    else:
        serving.serve_agents(role, specialists, door)


@cli.group(cls=PlainGroup)
def pack() -> None:
    """Files that let Claude Code, Cursor or Codex drive Modelsmith.

    They are skills, slash commands, rules, and the settings by which the client starts `modelsmith mcp`.
    """


@pack.command("show")
@click.argument("client", type=click.Choice(get_args(Client)))
@ROLE_OF_PACK
@INTO
@AS_JSON
def show_pack(client: Client, role: Role, into: Path | None, as_json: bool) -> None:
    """Show the files that `pack install` would write; nothing is written."""
    from modelsmith.cli.packing import show

    show(client, role, into, as_json)


@pack.command("install")
@click.argument("client", type=click.Choice(get_args(Client)))
@ROLE_OF_PACK
@INTO
@click.option("--replace", is_flag=True, help="Write over files that are not as the pack has them.")
@AS_JSON
def install_pack(client: Client, role: Role, into: Path | None, replace: bool, as_json: bool) -> None:
    """Lay the pack of a client into the repository. Run again it changes nothing.

    Where a file is there that the pack would change, nothing is written: you see the difference, and --replace writes
    it. Settings that are shared keep what else they hold.
    """
    from modelsmith.cli.packing import install

    install(client, role, into, replace, as_json)


@cli.group("mcp-token", cls=PlainGroup)
def mcp_token() -> None:
    """Tokens for agents that reach `modelsmith mcp --http`; a person issues them."""


@mcp_token.command("issue")
@click.option("--role", type=click.Choice(EVERYONE), required=True, help="Role of whoever holds it.")
@click.option("--scope", "scopes", multiple=True, help="Only these tools of the role, such as modelsmith_eval_*.")
@click.option("--days", default=30, show_default=True, help="How long it holds.")
@AS_JSON
def issue_token(role: Role, scopes: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make a token and show it, this once."""
    from modelsmith.cli.serving import issue_to_agent

    issue_to_agent(role, scopes, days, as_json)


@mcp_token.command("list")
@AS_JSON
def list_tokens(as_json: bool) -> None:
    """Tokens that were issued and not revoked."""
    from modelsmith.cli.serving import agent_tokens, list_all

    list_all(agent_tokens(), as_json)


@mcp_token.command("revoke")
@click.argument("token")
@AS_JSON
def revoke_token(token: str, as_json: bool) -> None:
    """Take the token of this id away, at once."""
    from modelsmith.cli.serving import agent_tokens, revoke

    revoke(agent_tokens(), token, as_json)


@cli.command()
@click.option("--config", type=FILE, help="This machine's backends; serve.yaml in MODELSMITH_HOME when not given.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=7480, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--name", "names", multiple=True, help="A name by which clients on other machines know it.")
@click.option("--tls-cert", type=FILE, help="Certificate chain, PEM.")
@click.option("--tls-key", type=FILE, help="Its private key, PEM.")
@click.option("--no-keys", is_flag=True, help="Answer everyone on this machine; not for other machines.")
def serve(
    config: Path | None,
    host: str,
    port: int,
    names: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    no_keys: bool,
) -> None:
    """Serve the specialists of a verified main over OpenAI's API; docs/serving.md shows how.

    It follows main of this clone, and obeys a commit only after it has verified it from the pinned root.
    """
    from modelsmith.cli import serving

    serving.serve_door(config, host, port, names, tls_cert, tls_key, no_keys)


@cli.command("serve-dashboard")
@click.option("--json", is_flag=True, expose_value=False, help="It is JSON in any case.")
def serve_dashboard() -> None:
    """A Grafana dashboard of what Prometheus reads of `modelsmith serve`, as JSON to import."""
    from modelsmith.cli.page import write_json
    from modelsmith.door.dashboard import dashboard

    write_json(dashboard())


@cli.group("serve-key", cls=PlainGroup)
def serve_key() -> None:
    """Keys of those who may ask `modelsmith serve`; a person issues them."""


@serve_key.command("issue")
@click.option("--cluster", "clusters", multiple=True, help="Only for this cluster; a pattern such as rtb-* will do.")
@click.option("--days", default=90, show_default=True, help="How long it holds.")
@AS_JSON
def issue_key(clusters: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make a key and show it, this once."""
    from modelsmith.cli.serving import issue_to_application

    issue_to_application(clusters, days, as_json)


@serve_key.command("list")
@AS_JSON
def list_keys(as_json: bool) -> None:
    """Keys that were issued and not revoked."""
    from modelsmith.cli.serving import door_keys, list_all

    list_all(door_keys(), as_json)


@serve_key.command("revoke")
@click.argument("key")
@AS_JSON
def revoke_key(key: str, as_json: bool) -> None:
    """Take the key of this id away, at once."""
    from modelsmith.cli.serving import door_keys, revoke

    revoke(door_keys(), key, as_json)


cli.add_command(LoadedGroup("webhooks", "modelsmith.cli.webhooks", "Send events to other programs, signed."))


@cli.group(cls=PlainGroup, hidden=True)
def hook() -> None:
    """The gate of a forge: `install` makes a bare repository one, git calls `pre-receive`."""


@hook.command("pre-receive")
def pre_receive() -> None:
    """Decide about the ref updates on stdin; git calls it.

    It runs in the bare repository of a local forge.
    """
    with importing():
        from modelsmith.operations.pre_receive import run

    sys.exit(run(sys.stdin.read()))


@hook.command("install")
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
def install(repository: Path) -> None:
    """Make the bare REPOSITORY a forge.

    This installation of Modelsmith then decides about every push to it. Run it on the forge's host, as the forge's own
    user, with the toolkit installed where proposers cannot write.
    """
    from modelsmith.cli.output import say
    from modelsmith.forges.pre_receive import install_hook

    install_hook(repository, sys.executable)
    say(f"{repository / 'hooks' / 'pre-receive'} decides about every push")


def fail(error: ModelsmithError, as_json: bool) -> NoReturn:
    """Report an error once, as an object or as two lines, and leave with its exit code."""
    from modelsmith.cli.output import print_error

    try:
        print_error(error, as_json)
        sys.stdout.flush()
    except OutputLost:
        print_error(error, as_json=False)
    sys.exit(int(error.exit))


def main() -> NoReturn:
    """Entry point: every ending becomes one of the contract's exit codes."""
    gc.set_threshold(COLLECT_AFTER)
    os.umask(os.umask(stat.S_IWOTH) | stat.S_IWOTH)  # some containers have none: all might write there
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # nor are all packages that are installed searched for some
    if not sys.warnoptions:
        warnings.showwarning = _unseen
    prepare_streams()
    as_json = "--json" in sys.argv
    try:
        for word in sys.argv:
            require_text(word)
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else int(Exit.DONE))
    except ModelsmithError as error:
        fail(error, as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(int(Exit.INVALID))
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "modelsmith"
        usage = error.ctx.get_usage() if error.ctx else ""
        fail(InvalidInput("usage", error.format_message(), f"See `{command} --help`. {usage}".strip()), as_json)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _interrupted(as_json)
        sys.exit(INTERRUPTED)
    except OutputLost as lost:
        if lost.reader_left:
            sys.exit(int(Exit.DONE))
        fail(_unprinted(lost), as_json=False)
    except Exception as error:
        if os.environ.get("MODELSMITH_DEBUG"):
            from modelsmith.cli.output import say

            for line in traceback.format_exc().splitlines():
                say(line, error=True)
        bug = ModelsmithError(
            "bug",
            f"{type(error).__name__}: {error}",
            "This is a fault in Modelsmith. Run again with MODELSMITH_DEBUG=1 and report what it prints.",
        )
        fail(bug, as_json)
    finally:
        keep_all()


def _unseen(*_: object, **__: object) -> None:
    """A library's warning in a process that is the command's own: standard error belongs to its progress."""


def _interrupted(as_json: bool) -> None:
    from modelsmith.cli.output import say, write_progress
    from modelsmith.schema.progress import Progress

    words = "Interrupted. Run the same command again to go on from here."
    if as_json:
        write_progress(Progress("interrupted", words))
    else:
        say("", error=True)
        say(words, error=True)


def _unprinted(lost: OutputLost) -> InfrastructureFailure:
    return InfrastructureFailure(
        "output-lost",
        f"The command is done, but its result could not be printed: {lost.reason}",
        "Mend standard output, then run the command again: it does nothing twice.",
    )
