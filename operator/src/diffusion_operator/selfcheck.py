"""Asks a running operator whether it works; `helm test` runs it in a pod. It changes nothing.

`python -m diffusion_operator.selfcheck URL` exits 0 when the operator is ready and one leads, else 1 with a
sentence. A standby that happens to answer does not lead: it is asked again until the leader answers.
Standard library only, so that it starts at once.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from urllib.error import URLError
from urllib.request import urlopen

TRIES = 60
PAUSE_S = 1.0
TIMEOUT_S = 5.0
LEADER = re.compile(r"^diffusion_operator_leader 1(\.0)?$", re.MULTILINE)


def problem(url: str) -> str | None:
    """What is wrong now, None when nothing is."""
    try:
        _read(f"{url}/readyz")
        metrics = _read(f"{url}/metrics")
    except (URLError, OSError) as error:
        return f"{url}: {error}"
    if not LEADER.search(metrics):
        return f"{url}: the operator that answered does not work: diffusion_operator_leader is not 1"
    return None


def check(url: str, *, tries: int = TRIES, sleep: Callable[[float], None] = time.sleep) -> str | None:
    """The last problem after `tries` attempts, None as soon as there is none."""
    found = problem(url)
    for _ in range(tries - 1):
        if found is None:
            break
        sleep(PAUSE_S)
        found = problem(url)
    return found


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 when it works, 1 when not, 2 on wrong arguments."""
    if len(arguments) != 1 or not arguments[0].startswith(("http://", "https://")):
        sys.stderr.write("usage: python -m diffusion_operator.selfcheck http://HOST:PORT\n")
        return 2
    found = check(arguments[0].rstrip("/"))
    sys.stderr.write("the operator works\n" if found is None else f"{found}\n")
    return 0 if found is None else 1


def _read(url: str) -> str:
    with urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - http or https, see main
        return str(answer.read().decode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
