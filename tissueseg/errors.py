"""The user's mistakes, each a builtin too, so that `except ValueError` keeps working.

A message says what it got, what it wanted and what to do, in one line; commands print it and exit with
`USER_ERROR`.
"""

USER_ERROR = 2
INTERRUPTED = 130
STOPPED = 128  # and the number of the signal


class TissuesegError(Exception):
    """Base of every error that is the user's to mend."""


class ConfigError(TissuesegError, ValueError):
    """A configuration value, name or override that cannot be used."""


class SpecMismatchError(TissuesegError, ValueError):
    """Encoder, modality, store, decoder and loss that do not fit each other."""


class StoreNotFoundError(TissuesegError, FileNotFoundError):
    """A path that is missing or holds no tissue store."""


class WeightsError(TissuesegError, ValueError):
    """Weights or marker tables that cannot be read, or do not fit the network they were given to."""


class WeightsNotFoundError(TissuesegError, FileNotFoundError):
    """A file of weights or marker vectors that is not where it was said to be."""


class FeatureOverflowError(TissuesegError, FloatingPointError):
    """Features that are not finite."""


class LossNotFiniteError(TissuesegError, FloatingPointError):
    """Training left the numbers that can be computed with."""


class TissueDataError(TissuesegError, ValueError):
    """Images, masks or tables of a tissue that contradict each other or their description."""


class UnreachableError(TissuesegError, ConnectionError):
    """A server that does not answer, or not with what is there."""


class StoreWriteError(TissuesegError, OSError):
    """A disk or folder that does not take what should be stored."""


class SplitError(TissuesegError, ValueError):
    """A split with an empty side or with one patient on both sides."""


class RunFolderError(TissuesegError, OSError):
    """A run folder that cannot be written or read."""


class JobFailedError(TissuesegError, RuntimeError):
    """A job of a sweep that ended badly, which its own process has told of."""


class PeerLostError(TissuesegError, ConnectionError):
    """Another process of the same job is gone, and has told why."""


def in_one_line(error: BaseException, leave_out: tuple[str, ...] = ()) -> str:
    """What any error says, to stand in a line: no full stop at its end; its class if it says nothing.

    Args:
        error: of whatever library.
        leave_out: how lines begin that tell the user nothing.
    """
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    said = (line.rstrip(".") for line in lines if not line.startswith(leave_out))
    return ". ".join(filter(None, said)) or type(error).__name__
