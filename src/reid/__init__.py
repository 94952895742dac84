"""Tell individual wild animals apart in photographs: train, enrol, match, decide."""

from reid.errors import InputError, Stopped

__all__ = ["InputError", "Stopped", "__version__"]

__version__ = "0.2.0.dev0"
