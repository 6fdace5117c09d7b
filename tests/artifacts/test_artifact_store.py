from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from modelsmith.artifacts.seal import seal, verify_signed
from modelsmith.artifacts.store import Store
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput, ModelsmithError
from modelsmith.signing.oms import sign_directory

PUT = """
import sys
from pathlib import Path
from modelsmith.artifacts.store import Store
Store(Path(sys.argv[1])).put(Path(sys.argv[2]), sys.argv[3])
"""
ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def leftovers(store):
    return sorted((store.root / "incoming").iterdir())


def stored(store):
    return [path for path in (store.root / "sha256").glob("*/*") if path.is_dir()]


def test_an_artifact_is_found_under_its_digest(store, sealed):
    home = store.put(sealed.folder, sealed.artifact)
    digest = sealed.artifact.removeprefix("sha256:")
    assert home == store.root / "sha256" / digest[:2] / digest[2:]
    assert store.get(sealed.artifact) == home
    store.verify(sealed.artifact)
    assert leftovers(store) == []


def test_putting_twice_is_putting_once(store, sealed):
    home = store.put(sealed.folder, sealed.artifact)
    before = {path: path.stat().st_ino for path in home.rglob("*")}
    assert store.put(sealed.folder, sealed.artifact) == home
    assert {path: path.stat().st_ino for path in home.rglob("*")} == before


def test_a_later_change_to_the_source_does_not_reach_the_store(store, sealed):
    home = store.put(sealed.folder, sealed.artifact)
    with (sealed.folder / "tokenizer.json").open("r+") as file:
        file.write("[]")
    store.verify(sealed.artifact)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o444 for path in home.rglob("*") if path.is_file())


def test_a_tampered_artifact_is_not_taken_in(store, sealed):
    (sealed.folder / "tokenizer.json").write_text("[]")
    with pytest.raises(IntegrityFailure) as caught:
        store.put(sealed.folder, sealed.artifact)
    assert caught.value.details["file"] == "tokenizer.json"
    assert store.get(sealed.artifact) is None
    assert leftovers(store) == []


def test_an_unlisted_file_is_not_taken_in(store, sealed):
    (sealed.folder / "more.json").write_text("[]")
    with pytest.raises(IntegrityFailure):
        store.put(sealed.folder, sealed.artifact)
    assert store.get(sealed.artifact) is None


def test_a_link_is_not_taken_in(store, sealed):
    (sealed.folder / "more.json").symlink_to("/etc/hostname")
    with pytest.raises(IntegrityFailure):
        store.put(sealed.folder, sealed.artifact)
    assert leftovers(store) == []


def test_damage_in_the_store_is_named_with_its_mend(store, sealed):
    home = store.put(sealed.folder, sealed.artifact)
    (home / "tokenizer.json").chmod(0o644)
    (home / "tokenizer.json").write_text("[]")
    for act in (lambda: store.verify(sealed.artifact), lambda: store.put(sealed.folder, sealed.artifact)):
        with pytest.raises(IntegrityFailure) as caught:
            act()
        assert caught.value.details["file"] == "tokenizer.json"
        assert str(home) in caught.value.mend


@pytest.mark.parametrize(
    "name", ["", "sha256:", "sha256:" + "A" * 64, "a" * 64, "sha256:../../" + "a" * 58, "sha256:" + "a" * 64 + "\n"]
)
def test_only_an_artifact_id_addresses_the_store(store, sealed, name):
    for act in (lambda: store.get(name), lambda: store.put(sealed.folder, name), lambda: store.verify(name)):
        with pytest.raises(InvalidInput) as caught:
            act()
        assert caught.value.code == "invalid-artifact-id"


def test_what_the_store_does_not_hold_is_none_or_an_error(store, sealed):
    assert store.get(sealed.artifact) is None
    for act in (lambda: store.verify(sealed.artifact), lambda: store.put_signature(sealed.artifact, sealed.folder)):
        with pytest.raises(InvalidInput) as caught:
            act()
        assert caught.value.code == "unknown-artifact"


def test_the_signature_travels_with_the_artifact(store, sealed, signer):
    seal(sealed.folder)
    sign_directory(sealed.folder, signer.path)
    verify_signed(store.put(sealed.folder, sealed.artifact), sealed.artifact, [signer.pem])


def test_a_signature_made_later_joins_the_artifact_and_is_kept(store, sealed, signer):
    home = store.put(sealed.folder, sealed.artifact)
    seal(sealed.folder)
    sign_directory(sealed.folder, signer.path)
    assert store.put(sealed.folder, sealed.artifact) == home
    first = (home / "model.sig").read_bytes()
    (sealed.folder / "model.sig").unlink()
    seal(sealed.folder)
    sign_directory(sealed.folder, signer.path)
    store.put(sealed.folder, sealed.artifact)
    assert (home / "model.sig").read_bytes() == first
    assert store.put_signature(sealed.artifact, sealed.folder / "model.sig") == home / "model.sig"
    assert (home / "model.sig").read_bytes() == (sealed.folder / "model.sig").read_bytes() != first
    verify_signed(home, sealed.artifact, [signer.pem])
    assert leftovers(store) == []


def test_another_artifacts_signature_is_refused(store, sealed, signer):
    home = store.put(sealed.folder, sealed.artifact)
    (sealed.folder / "README.md").write_text("other")
    seal(sealed.folder)
    sign_directory(sealed.folder, signer.path)
    junk = sealed.folder.with_name("junk")
    junk.write_text("{}")
    for path, code in ((sealed.folder / "model.sig", "wrong-subject"), (junk, "not-a-bundle")):
        with pytest.raises(IntegrityFailure) as caught:
            store.put_signature(sealed.artifact, path)
        assert caught.value.code == code
    with pytest.raises(InvalidInput) as missing:
        store.put_signature(sealed.artifact, junk.with_name("none"))
    assert missing.value.code == "missing-file"
    assert not (home / "model.sig").exists()


def put_many(root, folder, artifact, rounds, barrier, results):
    try:
        for number in range(rounds):
            barrier.wait()
            Store(root / str(number)).put(folder, artifact)
        results.put("done")
    except BaseException as error:
        barrier.abort()
        results.put(repr(error))


def test_several_processes_may_put_the_same_artifact_at_once(tmp_path, sealed):
    context = get_context("fork")
    workers, rounds = 4, 15
    barrier, results = context.Barrier(workers, timeout=60), context.Queue()
    arguments = (tmp_path / "stores", sealed.folder, sealed.artifact, rounds, barrier, results)
    processes = [context.Process(target=put_many, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == ["done"] * workers
    for process in processes:
        process.join()
    for number in range(rounds):
        store = Store(tmp_path / "stores" / str(number))
        store.verify(sealed.artifact)
        assert leftovers(store) == []
        assert len(stored(store)) == 1


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.02])
def test_killed_in_the_middle_a_rerun_puts_it_and_clears_the_rest(store, tmp_path, folder, delay):
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(1 << 20) * 32)
    artifact = seal(folder)
    store.root.mkdir()
    with subprocess.Popen([sys.executable, "-c", PUT, store.root, folder, artifact], cwd=ROOT) as process:
        deadline = time.monotonic() + 30
        while not list(store.root.glob("incoming/*/*")) and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    if store.get(artifact) is None:
        assert len(leftovers(store)) == 1
    else:
        store.verify(artifact)
    store.put(folder, artifact)
    store.verify(artifact)
    assert leftovers(store) == []


def test_a_copy_in_the_making_is_not_cleared_by_another_process(store, sealed):
    with store._incoming() as busy:
        (busy / "half").write_text("x")
        store.put(sealed.folder, sealed.artifact)
        assert (busy / "half").exists()
    assert leftovers(store) == []


@pytest.fixture
def tiny_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_leaves_no_half_artifact(tiny_disk, folder):
    store = Store(tiny_disk / "store")
    (folder / "adapter_model.safetensors").write_bytes(bytes(2 << 20))
    artifact = seal(folder)
    with pytest.raises(InfrastructureFailure) as caught:
        store.put(folder, artifact)
    assert caught.value.code == "disk-full"
    assert leftovers(store) == []
    assert store.get(artifact) is None
    (folder / "adapter_model.safetensors").write_bytes(bytes(1 << 18))
    smaller = seal(folder)
    store.put(folder, smaller)
    store.verify(smaller)


def in_child(act, uid=None, largest_file=None):
    """The code of the error that ``act`` ends with in a process of its own, with fewer rights."""

    def run(results):
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        try:
            act()
            results.send("done")
        except ModelsmithError as error:
            results.send(error.code)
        except BaseException as error:
            results.send(repr(error))

    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(sender,))
    process.start()
    result = receiver.recv() if receiver.poll(60) else "no answer"
    process.join()
    return result


def test_a_limit_on_file_size_is_a_full_disk_too(store, sealed):
    assert in_child(lambda: store.put(sealed.folder, sealed.artifact), largest_file=50_000) == "disk-full"
    assert leftovers(store) == []
    assert store.get(sealed.artifact) is None


@pytest.fixture
def readable_by_all(tmp_path):
    """Folders down to ``tmp_path`` that another user may enter, restored afterwards."""
    changed = []
    for path in (tmp_path, *tmp_path.parents):
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & 0o001 and path.owner() != "nobody":
            path.chmod(mode | 0o011)
            changed.append((path, mode))
    yield
    for path, mode in changed:
        path.chmod(mode)


@pytest.mark.skipif(os.getuid() != 0, reason="taking another user's rights needs root")
@pytest.mark.usefixtures("readable_by_all")
def test_a_store_of_another_user_says_it_is_not_writable(store, sealed):
    store.root.mkdir(mode=0o755)
    assert in_child(lambda: store.put(sealed.folder, sealed.artifact), uid=NOBODY) == "store-not-writable"
    home = store.put(sealed.folder, sealed.artifact)
    assert in_child(lambda: store.verify(sealed.artifact), uid=NOBODY) == "done"
    assert in_child(lambda: store.put(sealed.folder, sealed.artifact), uid=NOBODY) == "done"
    assert in_child(lambda: (home / "README.md").write_text("x"), uid=NOBODY).startswith("PermissionError")


@pytest.mark.skipif(os.getuid() != 0, reason="taking another user's rights needs root")
@pytest.mark.usefixtures("readable_by_all")
def test_an_unreadable_source_is_not_blamed_on_the_store(store, sealed):
    (sealed.folder / "tokenizer.json").chmod(0o600)
    store.root.mkdir()
    os.chown(store.root, NOBODY, NOBODY)
    assert in_child(lambda: store.put(sealed.folder, sealed.artifact), uid=NOBODY) == "unreadable"


def test_a_file_where_the_store_should_be_is_an_infrastructure_failure(tmp_path, sealed):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureFailure) as caught:
        Store(tmp_path / "file").put(sealed.folder, sealed.artifact)
    assert caught.value.code == "store-failed"
