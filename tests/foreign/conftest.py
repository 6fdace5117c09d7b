"""The page `docs/verify-without-us.md` as scripts, and a deployed specialist to run them on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from worlds import World, deployed_template, first_iterate, fresh_template

__all__ = ["deployed_template", "first_iterate", "fresh_template"]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "verify-without-us.md"
COSIGN = ROOT / ".cache" / "cosign"
REQUIRED = "MODELSMITH_REQUIRE_TOOLS"
"""Set where CI runs: a tool that is missing there is a failure, not a skipped test."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CHANGING = (
    (re.compile(r"SHA256:\S+"), "SHA256:..."),
    (re.compile(r"\b[0-9a-f]{8}(?:[0-9a-f]{32}|[0-9a-f]{56})?\b"), "<hex>"),
)
"""What differs between two repositories."""


@dataclass(frozen=True)
class Section:
    """The commands under one heading of the page, and what the page says that they print."""

    commands: str
    prints: tuple[str, ...]


def sections() -> dict[str, Section]:
    """The page by heading; sections without commands are left out."""
    found = {}
    for part in PAGE.read_text().split("\n## ")[1:]:
        heading, _, text = part.partition("\n")
        fences = _FENCE.findall(text)
        commands = "".join(body for language, body in fences if language == "sh")
        if commands:
            prints = "".join(body for language, body in fences if language == "")
            found[heading] = Section(commands, tuple(prints.splitlines()))
    return found


def _holds(done: subprocess.CompletedProcess[str], heading: str) -> bool:
    printed = iter(_alike(done.stdout).splitlines())
    return done.returncode == 0 and all(line in printed for line in map(_alike, sections()[heading].prints))


def _alike(text: str) -> str:
    """The text without what differs between two repositories."""
    for pattern, word in _CHANGING:
        text = pattern.sub(word, text)
    return text


@dataclass(frozen=True)
class Reader:
    """Somebody with a plain clone, a copy of the artifact, and none of our code."""

    clone: Path
    artifact: Path
    tools: Path

    @property
    def specialist(self) -> Path:
        return next((self.clone / "promotions" / "rtb-pricing").glob("iter-*"))

    def file(self, pattern: str) -> Path:
        return next(self.specialist.glob(pattern))

    def run(self, heading: str, swap: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a section of the page as it stands, or with these words swapped for others."""
        page = sections()
        begin, commands = page["Begin"].commands, page[heading].commands
        settings = {"folder": self.specialist.relative_to(self.clone), "artifact": self.artifact}
        for name, value in settings.items():
            begin, count = re.subn(rf"^{name}=.*$", f"{name}='{value}'", begin, flags=re.MULTILINE)
            assert count == 1, name
        for word, other in (swap or {}).items():
            assert word in commands
            commands = commands.replace(word, other)
        environment = {
            "PATH": os.pathsep.join([str(self.tools), os.environ["PATH"]]),
            "HOME": str(self.tools),
            "TMPDIR": str(self.tools),
            "LC_ALL": "C",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "HTTPS_PROXY": "http://127.0.0.1:9",
        }
        return subprocess.run(
            ["bash", "-c", f"{begin}\n{commands}"], cwd=self.clone, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
        )  # fmt: skip

    def confirms(self, heading: str) -> None:
        """The section succeeds here, and prints every line that the page shows, in the page's order."""
        done = self.run(heading)
        assert _holds(done, heading), done.stdout

    def refuses(self, heading: str, *words: str, swap: Mapping[str, str] | None = None) -> str:
        """The section, run here, fails or leaves out a line; what it prints has these words."""
        done = self.run(heading, swap)
        assert not _holds(done, heading), done.stdout
        assert [word for word in words if word not in done.stdout] == [], done.stdout
        return done.stdout

    def commit(self, message: str) -> None:
        """Commit whatever the clone holds, as somebody who has gone round the gate."""
        who = ["-c", "user.name=Sly", "-c", "user.email=sly@example.org"]
        for words in (["add", "--all"], ["commit", "--quiet", "--message", message]):
            subprocess.run(["git", *who, *words], cwd=self.clone, check=True)


@pytest.fixture(scope="session")
def headings() -> frozenset[str]:
    """Headings of the page that have commands."""
    return frozenset(sections())


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """First folder of the reader's `PATH`, and their home."""
    return tmp_path_factory.mktemp("tools")


@pytest.fixture(scope="session")
def cosign(tools: Path) -> None:
    """Puts cosign at the reader's hand: the machine's own, or the package that `make cosign` has fetched."""
    _put(tools, "cosign", COSIGN, "run `make cosign`")


@pytest.fixture(scope="session")
def model_signing(tools: Path) -> None:
    """Puts the reference implementation of OpenSSF Model Signing at the reader's hand."""
    _put(tools, "model_signing", Path(sys.executable).parent, "install the extra `sign`")


def _put(tools: Path, program: str, folder: Path, mend: str) -> None:
    """Link the program into the tools; skip where it is not at hand, unless it must be."""
    found = shutil.which(program) or shutil.which(program, path=str(folder))
    if found:
        (tools / program).symlink_to(found)
    elif os.environ.get(REQUIRED):
        pytest.fail(f"{program} is not at hand: {mend}")
    else:
        pytest.skip(f"{program} is not at hand: {mend}")


@pytest.fixture(scope="session")
def reader_of(tools: Path) -> Callable[[Path, Path], Reader]:
    """A reader of this clone and this artifact."""
    return lambda clone, artifact: Reader(clone, artifact, tools)


@pytest.fixture
def reader(deployed_template: World, tools: Path, tmp_path: Path) -> Iterator[Reader]:
    """A reader of a repository whose first specialist serves. Theirs to spoil."""
    world = deployed_template
    clone, artifact = tmp_path / "clone", tmp_path / "artifact"
    subprocess.run(["git", "clone", "--quiet", world.forge, clone], check=True, env=world.environment())
    sealed = next((world.home / "store" / "sha256").glob("*/*"))
    shutil.copytree(sealed, artifact)
    for path in (artifact, *artifact.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    yield Reader(clone, artifact, tools)
    shutil.rmtree(clone)
