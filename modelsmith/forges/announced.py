"""What a forge on this machine announces to a push: not the logs of all pull requests.

Git's receiving end names all its refs to whoever pushes, and counts all of them among what it has; both sides look
each of them up. A forge has a ref for every pull request that there ever was, so a push would cost more with each. A
push here needs those that it moves or takes in; what of the others is sent again is sent for nothing, and no more.
Whoever pushes with plain git, or to another host, is told of all.
"""

from __future__ import annotations

import shlex

from modelsmith.forges.reader import PULLS


def announcing_only(*logs: str) -> str:
    """The option of ``git push`` to a path by which the other end announces no logs but these.

    Settings: git-config(1), ``receive.hideRefs`` (the last that matches counts) and ``core.alternateRefsPrefixes``: a
    push that is judged lies in a folder of its own, beside which git lists the refs of the forge once more.

    >>> announcing_only("refs/modelsmith/pulls/7").partition("=")[0]
    '--receive-pack'
    """
    hidden = (PULLS.removesuffix("/"), *(f"!{log}" for log in logs))
    settings = ["core.alternateRefsPrefixes=refs/heads/", *(f"receive.hideRefs={ref}" for ref in hidden)]
    return "--receive-pack=" + shlex.join(["git", *(word for one in settings for word in ("-c", one)), "receive-pack"])
