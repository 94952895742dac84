"""Kaggle's official client: logging in, requests, waiting, and each of its many ways to fail as one clear sentence.

The client is used through its own Python interface, which its command line calls too. The command line's exit status is
0 after a refused push, a lost upload and a failed run, and only its text says so; here it is in fields.
"""

import io
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from typing import Any, TypeVar

from reid.errors import InputError

__all__ = ["KaggleError", "PassingError", "log_in", "poll", "request"]

Answer = TypeVar("Answer")

ADVICE = {
    400: "Fix what Kaggle names, then run this again",
    401: "The credentials are not accepted: make a new token at https://www.kaggle.com/settings/api",
    403: "Your account may not do this: check that the name in the id is yours and that your phone is verified "
    "(https://www.kaggle.com/settings)",
    404: "Kaggle does not know it: check the id",
    409: "The name is taken: choose another title and the id that goes with it (letters, digits, '-')",
    429: "Too many requests: wait some minutes, then run this again",
}
FAULT_OF_KAGGLE = "That is a fault on Kaggle's side: run this again in some minutes"
FAILURES = 5
"""After so many passing failures in a row waiting ends. Hours of polling meet a 500 now and then."""


class KaggleError(InputError):
    """Kaggle refused a request, or its client failed.

    Attributes:
        found: what was tried and what came of it, without what to do now.
        status: the HTTP status; None when there was no answer.
    """

    def __init__(self, found: str, advice: str, status: int | None = None) -> None:
        super().__init__(f"{found}. {advice}")
        self.found, self.status = found, status


class PassingError(KaggleError):
    """Kaggle could not be reached or had a fault; the same request may succeed a minute later."""


def log_in() -> Any:
    """Return the client, logged in; `config_values["username"]` is the user's name.

    Raises:
        InputError: no credentials, or none that are accepted.
    """
    printed = io.StringIO()
    with redirect_stdout(printed):  # without credentials the import itself prints a page of help
        api = request("logging in", _authenticated)
    for line in dict.fromkeys(printed.getvalue().splitlines()):  # importing the client logs in too
        if line.startswith("Warning"):  # such as a key file that others can read
            print(line, file=sys.stderr)
    return api


def _authenticated() -> Any:
    from kaggle.api.kaggle_api_extended import KaggleApi  # here, because importing it logs in and makes folders

    api = KaggleApi()
    api.authenticate()
    return api


def request(what: str, call: Callable[[], Answer], advice: Mapping[int, str] | None = None) -> Answer:
    """Return Kaggle's answer.

    Args:
        what: what is tried, for the message, e.g. "pushing the kernel".
        call: calls the client.
        advice: per HTTP status what to do, where the usual advice is not the best.

    Raises:
        PassingError: no connection, too many requests, a fault of Kaggle's.
        KaggleError: every other refusal.
        InputError: no credentials.
    """
    try:
        return call()
    except SystemExit:  # the client ends the program where it finds no credentials
        raise InputError(
            f"kaggle: expected credentials, found {_found_credentials()}. Make a token at "
            "https://www.kaggle.com/settings/api and save it to ~/.kaggle/access_token, or run `.venv/bin/kaggle auth "
            "login`; then run this again"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        # requests' errors are OSErrors; the others are the client's, after answers that it did not expect
        raise _explained(what, problem, {**ADVICE, **(advice or {})}) from None


def _explained(what: str, failure: Exception, advice: Mapping[int, str]) -> KaggleError:
    """Return an error that says what happened and what to do."""
    origin = _with_response(failure)
    reason = " ".join(_reason(origin or failure).split())[:300] or type(failure).__name__
    if isinstance(failure, OSError) and failure.errno and not isinstance(failure, ConnectionError):  # never requests'
        return KaggleError(
            f"{what}: {failure.filename or 'a file'} can't be written ({failure.strerror})",
            "Free some space or fix that folder, then run this again",
        )
    if origin is not None:
        status = int(origin.response.status_code)  # type: ignore[attr-defined]
        to_do = advice.get(status, FAULT_OF_KAGGLE if status >= 500 else advice[400])
        error_class = PassingError if status == 429 or status >= 500 else KaggleError
        return error_class(f"{what}: Kaggle answered {status} ({reason})", to_do, status)
    if isinstance(failure, OSError):
        return PassingError(
            f"{what}: expected an answer from Kaggle, got none ({reason})",
            "Check the network; on a cluster, log in to a node that has one",
        )
    return KaggleError(f"{what}: the kaggle client failed ({type(failure).__name__}: {reason})", "Run this again")


def _found_credentials() -> str:
    """Return what was found instead of credentials: of an older key's two variables one may be missing."""
    missing = [name for name in ("KAGGLE_USERNAME", "KAGGLE_KEY") if not os.environ.get(name)]
    if len(missing) != 1:
        return "none that Kaggle accepts"
    return f"one of two variables: {missing[0]} is missing. Set it too, or do without both"


def _reason(problem: BaseException) -> str:
    """Return what went wrong, without the addresses and objects that requests and urllib3 wrap a failed connection
    into."""
    text = next((one for one in reversed(problem.args) if isinstance(one, str)), "")
    text = re.sub(r"^(<[^>]*>|HTTPS?Connection\([^)]*\)): ", "", text)
    cause = getattr(problem, "reason", None)
    if isinstance(cause, Exception):  # of many tries: that there were many explains nothing
        return _reason(cause)
    inner = next((one for one in problem.args if isinstance(one, Exception)), None)
    if inner is None:
        return text or str(problem)
    return f"{text}: {_reason(inner)}" if text else _reason(inner)


def _with_response(problem: BaseException | None) -> BaseException | None:
    """Return the failure that Kaggle's answer caused, None if there was no answer. The client turns some into errors of
    its own with a wrong guess at the cause."""
    while problem is not None and getattr(problem, "response", None) is None:  # an error's truth value is False
        problem = problem.__cause__ or problem.__context__
    return problem


def poll(what: str, check: Callable[[], Answer | None], every: float, limit: float) -> Answer | None:
    """Check again and again until there is a result, or the time is up; a few passing failures in a row are ignored.

    Args:
        what: what is waited for, for the lines that are printed.
        check: returns None as long as there is no result.
        every: seconds between two checks.
        limit: seconds; None is returned after them.

    Raises:
        InputError: what `check` raises.
    """
    started, failures = time.monotonic(), 0
    while True:
        try:
            answer, failures = check(), 0
        except PassingError as problem:
            failures += 1
            if failures == FAILURES:
                raise
            print(f"  {what}: {problem.found}", flush=True)
            answer = None
        if answer is not None:
            return answer
        if time.monotonic() - started + every > limit:
            return None
        time.sleep(every)
