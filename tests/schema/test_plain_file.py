"""What lies in a file's place and is none is never waited for, and what says where things go is its owner's alone."""

from __future__ import annotations

import os
import socket

import pytest

from modelsmith.schema import plain_file
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.plain_file import read_own, read_plain, who_else_writes
from modelsmith.schema.system import known_failures


def a_socket(path):
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


@pytest.mark.parametrize("put", [os.mkfifo, a_socket, lambda path: path.symlink_to("/dev/zero"), os.mkdir])
@pytest.mark.parametrize("read", [read_plain, read_own])
def test_what_is_no_file_is_refused_at_once(tmp_path, put, read):
    put(tmp_path / "odd")
    with pytest.raises(InvalidInput, match="odd") as caught, known_failures():
        read(tmp_path / "odd")
    assert caught.value.code == "bad-path"


def test_a_file_is_read_as_far_as_is_asked(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert (read_plain(tmp_path / "file"), read_plain(tmp_path / "file", 2)) == (b"12345", b"12")
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "none")


@pytest.mark.parametrize(("mode", "own_group", "refused"), [
    (0o600, False, False), (0o644, False, False), (0o664, True, False), (0o664, False, True), (0o602, True, True),
    (0o666, True, True),
])  # fmt: skip
def test_who_may_write_it_decides_whether_it_is_believed(tmp_path, monkeypatch, mode, own_group, refused):
    monkeypatch.setattr(plain_file, "_is_own_group", lambda user, group: own_group)
    path = tmp_path / "hosts.yaml"
    path.write_bytes(b"hosts: {}")
    path.chmod(mode)
    if not refused:
        assert read_own(path) == b"hosts: {}"
        return
    with pytest.raises(InvalidInput) as caught:
        read_own(path)
    assert (caught.value.code, f"chmod go-w {path}" in caught.value.mend) == ("others-may-write", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_file_of_another_user_is_not_believed(tmp_path):
    path = tmp_path / "hosts.yaml"
    path.write_bytes(b"hosts: {}")
    os.chown(path, 65534, -1)
    with pytest.raises(InvalidInput):
        read_own(path)


@pytest.mark.parametrize(("mode", "above", "own_group", "words"), [
    (0o700, 0o755, False, None), (0o775, 0o755, True, None), (0o775, 0o755, False, "group"),
    (0o700, 0o777, False, "folder above"), (0o700, 0o1777, False, None),
])  # fmt: skip
def test_who_else_writes_in_a_folder_is_said(tmp_path, monkeypatch, mode, above, own_group, words):
    """A group of one's own is as good as none; a sticky bit keeps others from exchanging what lies beside theirs."""
    monkeypatch.setattr(plain_file, "_is_own_group", lambda user, group: own_group)
    folder = tmp_path / "above" / "home"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    folder.parent.chmod(above)
    sentence = who_else_writes(folder)
    assert sentence is None if words is None else sentence and words in sentence
