"""Command line of the local cluster; `make help` lists the targets that call it."""

from __future__ import annotations

import argparse
import sys

from localcluster import commands
from localcluster.progress import say
from localcluster.settings import DEMO_CLUSTER, TEST_CLUSTER
from localcluster.shell import LocalClusterError

CLUSTERS = {"demo": DEMO_CLUSTER, "test": TEST_CLUSTER}


def main() -> int:
    """Run one command; a failure that the user can act on is one sentence on stderr and status 1."""
    parser = argparse.ArgumentParser(prog="localcluster", description=__doc__)
    parser.add_argument("command", choices=sorted(commands.COMMANDS))
    parser.add_argument(
        "--cluster", choices=sorted(CLUSTERS), default="demo", help="which of this machine's two clusters"
    )
    chosen = parser.parse_args()
    try:
        commands.COMMANDS[chosen.command](CLUSTERS[chosen.cluster])
    except LocalClusterError as problem:
        sys.stdout.flush()
        sys.stderr.write(f"\nerror: {problem}\n")
        return 1
    except KeyboardInterrupt:
        say("interrupted; finished results stay in the cache, half-made ones are thrown away")
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
