"""How a command ends when it cannot answer. Each error carries its exit code and one sentence."""

from __future__ import annotations

OK = 0
NO_ANSWER = 1
BAD_INPUT = 2
NOTHING_FITS = 3


class CommandError(Exception):
    """Ends the command: `message` goes to stderr, `exit_code` to the shell."""

    exit_code = NO_ANSWER

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ClusterUnreachable(CommandError):
    """kubectl is missing, or the cluster refused or did not answer."""

    exit_code = NO_ANSWER


class NotAllowed(ClusterUnreachable):
    """The user may not read something; the sentence is the API server's."""


class NoSuchDeployment(CommandError):
    """The named DiffusionDeployment is not there."""

    exit_code = NO_ANSWER


class BadInput(CommandError):
    """A file or a flag is wrong; the sentence says which and what would work."""

    exit_code = BAD_INPUT
