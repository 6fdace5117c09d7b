"""``python -IS warm_hook.py WORD...``: has the process at ``WARM_GATE`` do it, in a fork of its own; see warm_gate.py.

The fork gets this process's words, standard files, folder and environment. As next to nothing is imported here, it
starts in a fiftieth of a second. It ends as the fork ends.
"""

import _socket
import marshal
import os
import sys
from array import array


def main() -> int:
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    server.connect(os.environ["WARM_GATE"])
    server.sendmsg([b"\n"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", [0, 1, 2]))])
    server.sendall(marshal.dumps((os.getcwd(), sys.argv[1:], dict(os.environ))))
    server.shutdown(_socket.SHUT_WR)
    return int(server.recv(8) or b"1")


if __name__ == "__main__":
    sys.exit(main())
