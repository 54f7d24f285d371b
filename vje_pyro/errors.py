"""Errors that a user can mend: each says what was wrong, the value, and the way out."""


class VJEError(Exception):
    """Base of every error meant for the user; the command line prints it without a traceback."""


class DataError(VJEError):
    """A data set, folder or image that cannot be used as asked."""


class CheckpointError(VJEError):
    """A checkpoint or run directory that is missing, damaged, foreign or already in use."""


class WriteError(CheckpointError):
    """A file could not be written; what was there before is untouched."""


class NonFiniteError(VJEError):
    """A loss term became NaN or infinite during training."""
