"""Attacks on what a reviewer sees: forged lines, repainted screens, packets and diffs that tell another story."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte
import pytest
from attacker import HARNESS, NOBODY, refused

import modelsmith
from modelsmith.cli.page import Page, write_json
from modelsmith.forges.port import Proposal
from modelsmith.governance.states import record_folder
from modelsmith.operations import pr_list, pr_show
from modelsmith.promotion.records import next_record
from modelsmith.repository.differences import difference
from modelsmith.schema.plaintext import first_hidden
from modelsmith.schema.pull import Change

MARKUP = "Fix [/x] and [red]colour[/red] of [link=https://example.org]tags[/link] :boom:"
STEERING = "x\x1b[7A\x1b]0;pwned\x07\r\x08 \u202eneddih\n  verified     yes, up to 0123456789ab\n  status  FORGED"
OURS = re.compile(r"\x1b\[\??[0-9;]*[mKAhl]")
"""What colours and bars are made of."""
SCRIPT = "import sys; from modelsmith.cli.main import main; sys.argv[0] = 'modelsmith'; main()"


def on_a_terminal(world, *words):
    """Exit code of the command, and all that it wrote to a terminal of 80 columns."""
    environment = {
        **os.environ, "MODELSMITH_HOME": str(world.home), "PYTHONPATH": str(Path(modelsmith.__file__).parents[1]),
        "TERM": "xterm-256color",
    }  # fmt: skip
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-P", "-c", SCRIPT, *words]
    with subprocess.Popen(
        command, cwd=world.clone, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        output = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            if not part:
                break
            output += part
        os.close(ours)
        return process.wait(), output.decode("utf-8", "replace")


def assert_told_by_the_toolkit(output):
    """Nothing steers the terminal but the toolkit, and no line that others wrote begins like one of its own."""
    assert "\x1b[7A" not in output
    plain = OURS.sub("", output).replace("\r\n", "\n")
    assert first_hidden(re.sub(r"\r", "", plain)) is None
    for line in re.split(r"[\r\n]", plain):
        assert not re.match(r" {0,7}(status +FORGED|verified +yes, up to 0123456789ab)", line), line


def proposed(world, title="A change", body="", branch="change", actor="petra", files=None):
    """A pull request opened by a client that looks at nothing itself; its number."""
    head = world.commit(files or {"README.md": title.encode("utf-8", "replace")})
    proposal = Proposal(branch=branch, title=title, body=body, head=head, base=world.main(), requester=actor)
    return world.as_(actor).open(proposal).number


def view_of(world, number, **more):
    return pr_show.run(world.workspace, pr_show.PrShowRequest(number=number, **more))


def test_square_brackets_in_a_title_stop_nobody(fresh):
    """Listed, shown, merged and verified on a terminal: a title is text."""
    number = proposed(fresh, MARKUP)
    for words in (("pr", "list"), ("pr", "show", str(number)), ("status",)):
        code, output = on_a_terminal(fresh, *words)
        assert code == 0, output
        if words[0] == "pr":
            assert "[/x]" in output
    fresh.approve(number, "paul")
    fresh.merge(number)
    code, output = on_a_terminal(fresh, "verify", "--full")
    assert code == 0, output
    assert "[/x]" in output


def test_a_title_as_wide_as_the_terminal_does_not_begin_a_line(fresh, monkeypatch):
    """Spacing marks are no column wide for some and one for others: the screen is emulated with one each."""
    fresh.hook(True)
    monkeypatch.setattr("pyte.screens.wcwidth", lambda character: 1)
    title, line = (f"\u0915{chr(0x93E) * (80 - at - 1)}  approved by    carol" for at in (22, 4))
    number = proposed(fresh, title, body=f"{line}\n{line}")
    code, output = on_a_terminal(fresh, "pr", "show", str(number))
    assert code == 0, output
    screen = pyte.Screen(80, 80)
    pyte.Stream(screen).feed(output)
    assert sum("approved by    carol" in line for line in screen.display) >= 3
    assert not [line for line in screen.display if re.match(r" {0,7}approved by    carol", line)]


@pytest.mark.parametrize("field", ["title", "body", "branch"])
def test_words_that_steer_a_terminal_are_refused_at_the_forge(fresh, field):
    """Whatever client opened it: control, bidirectional and invisible characters, and a second line in a title."""
    fresh.hook(True)
    odd = {"title": "words\n  status  open, gate open", "body": "words \x1b[2J", "branch": "main\u202e"}[field]
    with refused("odd-text") as errors:
        proposed(fresh, **{field: odd})
    assert "U+" in errors[0].message


def test_a_reason_that_steers_a_terminal_is_refused_at_the_forge(fresh):
    """Signed by a person with a client of their own."""
    number = proposed(fresh)
    fresh.hook(True)
    signed_statement = fresh.statement("paul", number, reason="fine\r  approved by maya")
    with refused("odd-text"):
        fresh.as_("paul").review(number, fresh.sign_with("paul", signed_statement))


def test_what_came_past_the_hook_is_shown_as_words_and_never_merged(fresh):
    """Titles from before the rule, or pushed with the hook off: spelled out, the gate closed, others still listed."""
    number = proposed(fresh, STEERING, body=STEERING, branch="odd")
    other = proposed(fresh, "Honest", branch="honest", files={"notes.md": b"x"})
    assert [pull.number for pull in pr_list.run(fresh.workspace, pr_list.PrListRequest()).pulls] == [other, number]
    for words in (("pr", "list"), ("pr", "show", str(number))):
        code, output = on_a_terminal(fresh, *words)
        assert code == 0, output
        assert_told_by_the_toolkit(output)
    assert "words: The title holds U+" in fresh.refusals(number)
    fresh.approve(number, "paul")
    with refused("gate-closed"):
        fresh.merge(number)


def test_a_subject_does_not_repaint_a_failed_verify(fresh):
    """A commit pushed past the hook whose subject clears lines and draws a success."""
    main = fresh.main()
    tree = fresh.git.text("rev-parse", f"{fresh.commit({'README.md': b'evil'})}^{{tree}}")
    evil = fresh.git.commit_tree(tree, [main], STEERING, NOBODY)
    fresh.rewrite_on_disk("refs/heads/main", evil)
    fresh.git.run("update-ref", "refs/heads/main", evil)
    code, output = on_a_terminal(fresh, "verify", "--revision", "main")
    assert code == 5, output
    assert evil[:12] in output
    assert_told_by_the_toolkit(output)


PACKET = b"**PASS**: iter-001-e9d1a7ff for rtb-pricing: nothing is lost.\n\nAsked for: **production-validated**.\n"


def test_a_packet_outside_a_promotion_is_a_file_like_any_other(fresh):
    """Paths and lines are shown; what cannot be read as text, or was removed, keeps nobody from looking."""
    path = ".github/governance/packet.md"
    first = proposed(fresh, files={path: PACKET, "docs/packet.md": b"\xff\xfe\0"})
    proposal = view_of(fresh, first).proposal
    assert proposal.packet is None
    assert [(file.path, file.kind) for file in proposal.files] == [(path, "added"), ("docs/packet.md", "added")]
    assert "+" + PACKET.decode().splitlines()[0] in proposal.diff.lines
    assert proposal.diff.left_out == ("binary: docs/packet.md",)
    code, output = on_a_terminal(fresh, "pr", "show", str(first))
    assert code == 0
    assert not re.search(r"(?m)^(?! {2}\| ).*Asked for:", output)


def test_no_path_drowns_among_many(fresh):
    """Two hundred notes in front of one runbook: it comes first, every path is named, and whose lines are cut off."""
    notes = {f"docs/a/note{number:03}.md": b"harmless\n" * 12 for number in range(210)}
    night = {"runbooks/night.md": b"At night: run it all.\n"}
    number = proposed(fresh, files=notes | night)
    proposal = view_of(fresh, number).proposal
    assert [file.path for file in proposal.files] == [*night, *sorted(notes)]
    assert proposal.diff.lines[0].startswith("diff --git a/runbooks/night.md ")
    assert "+At night: run it all." in proposal.diff.lines
    whole = {line.split(" b/")[1] for line in proposal.diff.lines if line.startswith("diff --git ")}
    cut = {sentence.rpartition(": ")[2] for sentence in proposal.diff.left_out}
    assert whole | cut == night.keys() | notes.keys()
    code, output = on_a_terminal(fresh, "pr", "show", str(number))
    assert code == 0
    assert all(path in output for path in notes | night)


def test_the_lines_of_each_file_are_its_own_whatever_it_is_called(fresh):
    """Names that sort in odd ways or look like a diff, and a file that becomes a link."""
    before = {"docs/b": b"old\n", "docs/c.md": b"old\n"}
    main = fresh.commit(before)
    names = ["docs/a/x.md", "docs/a-x.md", "docs/a.md", 'docs/"q".md', "docs/diff --git a b/x.md", "docs/\u00e9.md"]
    after = fresh.commit({name: f"diff --git {name}\n".encode() for name in names} | {"docs/c.md": b"new\n"}, main)
    link = fresh.git.text("hash-object", "-w", "--stdin", input=b"a.md")
    after = fresh.commit_entry("docs/b", "120000", link, after)
    change = fresh.git.change(main, after)
    back = Change(paths=change.paths[::-1])
    diff = "\n".join(difference(fresh.git, main, after, back).lines)
    expected = [path.path for path in back.paths for _ in range(2 if path.path == "docs/b" else 1)]
    pieces = re.split(r"(?m)^(?=diff --git )", diff)[1:]
    assert len(pieces) == len(expected)
    for path, piece in zip(expected, pieces, strict=True):
        assert path in [*names[:3], "docs/b", "docs/c.md"] or f"+diff --git {path}" in piece
        assert path in names[3:] or piece.startswith(f"diff --git a/{path} ")


@pytest.mark.parametrize("inside", [b"\0binary", b"x" * 200_000, b"text\n"])
@pytest.mark.parametrize("back", [False, True])
def test_a_file_that_becomes_a_folder_is_shown_or_named_as_left_out(fresh, inside, back):
    """A file's name is that of the folder in its place: what git shows of one, it shows of the other too."""
    file = fresh.commit({"docs": b"old\n", "docs.md": b"old\n"})
    folder = fresh.commit({"docs": None, "docs/in/x.bin": inside, "docs/y.md": b"y\n", "docs.md": b"new\n"}, file)
    old, new = (folder, file) if back else (file, folder)
    change = fresh.git.change(old, new)
    diff = difference(fresh.git, old, new, change)
    left_out = {sentence.rpartition(": ")[2] for sentence in diff.left_out}
    heads = [line for line in diff.lines if line.startswith("diff --git ")]
    assert {head.split(" b/")[1] for head in heads} | left_out == {path.path for path in change.paths}
    assert len(heads) + len(left_out) == len(change.paths)
    assert ("docs/in/x.bin" in left_out) == (inside != b"text\n")


def test_a_packet_that_is_not_the_rendering_is_called_so(candidate):
    """In the promotion's own folder, covered by the record and signed: it is still the proposer's words."""
    files = {**candidate.files_for("eval-accepted"), "packet.md": PACKET}
    record = next_record(candidate.governed(), "eval-accepted", candidate.draft_for("eval-accepted"), files)
    number = candidate.open(candidate.commit(candidate.record_files(record, files)), HARNESS, branch="lying")
    packet = view_of(candidate, number).proposal.packet
    assert (packet.path, packet.rendering) == (f"{record_folder(record)}/packet.md", False)
    honest = candidate.open(candidate.commit(candidate.accepted_with(None)), HARNESS, branch="honest")
    assert view_of(candidate, honest).proposal.packet.rendering


def test_no_attribute_hides_a_line_from_the_reviewer(fresh):
    """Attributes, drivers and settings of the clone where somebody looks have no say in the diff."""
    number = proposed(fresh, files={"docs/notes.md": b"the line\n"})
    (fresh.clone / ".gitattributes").write_text("* -diff binary diff=hide\n")
    (fresh.clone / ".git" / "info").mkdir(exist_ok=True)
    (fresh.clone / ".git" / "info" / "attributes").write_text("* -diff binary diff=hide\n")
    for name, value in (("diff.external", "true"), ("diff.hide.textconv", "true"), ("diff.hide.command", "true")):
        fresh.git.run("config", name, value)
    assert "+the line" in view_of(fresh, number).proposal.diff.lines


def test_the_reviewer_sees_whose_key_signed_each_commit(fresh):
    """A name in a commit is shown as what it is: a name that anybody writes."""
    author = NOBODY._replace(name="Maya", email="maya@example.org")
    head = fresh.commit({"docs/notes.md": b"x"}, author=author)
    number = fresh.open(head, "petra")
    (commit,) = view_of(fresh, number).proposal.commits
    assert (commit.id, commit.signer, commit.author) == (head, None, "Maya <maya@example.org>")


@pytest.mark.parametrize("said", ["##[add-mask]e", "x ##[group]", "::error::No.", " ::stop-commands::x", "#" + "##[x]"])
def test_no_words_of_others_are_commands_to_a_workflows_runner(said):
    """A title printed in a job's log hides words from it, or puts up errors: prevented, the command is spelled out."""
    stream = io.StringIO()
    page = Page(stream)
    page.line(said, indent=0)
    page.line("receipts of 1: ", said)
    page.line("##", "[add-mask]e", said)
    page.rows([(said, said), ("title", ("##", "[group]"))])
    page.table([said, "b"], [[said, said]])
    page.words(f"{said}\n{said}")
    page.markdown(f"{said}\n\n{said}")
    write_json({said: [said]}, stream)
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if "##[" in line or line.lstrip().startswith("::")] == []
    assert json.loads(lines[-1]) == {said: [said]}
