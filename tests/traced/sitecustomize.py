"""Writes down what a process does below a folder, when `TRACED` names a log and that folder.

On ``PYTHONPATH`` Python imports this first of all, in every process that a command starts; the warm commands run it
after they forked. One JSON object a line: what was done (``reads``, ``writes``, ``lists``, ``looks``, ``runs``,
``imports``) to which path, relative to the folder; and at the end which ``modules`` the process had imported. What lies
under the folder's ``.git`` is left out.
"""

import atexit
import json
import os
import sys

_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate",
            "os.utime", "shutil.rmtree", "shutil.move")  # fmt: skip
_BESIDE = ("os.mkdir", "os.remove", "os.rmdir")
"""Those whose last argument is a folder that was opened before, or -1: then the path means nothing by itself."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def trace(log, root):
    """Begin; there is no end."""
    root = os.path.realpath(root)
    busy = False
    noted = set()

    def write(action, path):
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(file, json.dumps([action, path]).encode() + b"\n")
        os.close(file)

    def note(action, path):
        nonlocal busy
        if busy or isinstance(path, int) or path is None:
            return
        busy = True
        try:
            full = os.path.normpath(os.path.join(os.getcwd(), os.fsdecode(path)))
            inside = os.path.relpath(full, root) if (full + "/").startswith(root + "/") else None
            if inside and inside.split("/")[0] != ".git" and (action, inside) not in noted:
                noted.add((action, inside))
                write(action, inside)
        except (OSError, ValueError, TypeError, AttributeError):
            pass
        finally:
            busy = False

    def hook(event, args):
        if event == "open":
            path, mode, flags = args
            if mode is None and not os.path.isabs(os.fsdecode(path)):
                return  # by `os.open`, where it may be relative to a folder that was opened before; see `_opening`
            writes = any(letter in mode for letter in "wax+") if mode else bool((flags or 0) & _WRITING)
            note("writes" if writes else "reads", path)
        elif event in ("os.listdir", "os.scandir"):
            note("lists", args[0])
        elif event in _CHANGES:
            beside = any(isinstance(arg, int) and arg >= 0 for arg in args[1 + (event == "os.mkdir") :])
            for path in args[:2]:
                if isinstance(path, str | bytes | os.PathLike) and not (beside and event in _BESIDE):
                    note("writes", path)
        elif event == "sqlite3.connect":
            note("writes", args[0])
        elif event == "subprocess.Popen":
            program, command, folder, _ = args
            if os.path.dirname(os.fsdecode(program)):
                note("runs", program)
            if "python" in os.path.basename(os.fsdecode(command[0])) and folder is not None:
                note("runs", folder)

    sys.addaudithook(hook)
    os.open = _opening(os.open, note)
    for name in ("stat", "lstat", "access"):
        setattr(os, name, _looking(getattr(os, name), note))

    def leave():
        nonlocal busy
        for place in sys.path:
            if place and not os.path.isabs(place):
                note("imports", ".")
            note("imports", place or ".")
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            note("imports", file if file and os.path.isabs(file) else None)
        busy = True
        write("modules", sorted({name.partition(".")[0] for name in sys.modules}))

    atexit.register(leave)


def _opening(real, note):
    def opened(path, flags, *args, dir_fd=None, **more):
        if dir_fd is None and not os.path.isabs(os.fsdecode(path)):
            note("writes" if flags & _WRITING else "reads", path)
        return real(path, flags, *args, dir_fd=dir_fd, **more)

    return opened


def _looking(real, note):
    def looked(path, *args, **more):
        note("looks", path)
        return real(path, *args, **more)

    return looked


if os.environ.get("TRACED"):
    trace(*os.environ["TRACED"].split(os.pathsep))
