"""Speaking with Kaggle: the official client, its credentials, and its many ways to fail, each as one clear sentence.

The client is driven through its own Python interface, which its command line calls too. The command line's exit status
is 0 after a refused push, a lost upload and a failed run, and the truth is then in its prose; here it is in fields.
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

__all__ = ["KaggleError", "PassingError", "ask", "log_in", "patiently"]

Answer = TypeVar("Answer")

ADVICE = {
    400: "Mend what Kaggle names there, then run this again",
    401: "The credentials are not accepted: make a new token at https://www.kaggle.com/settings/api",
    403: "Your account may not do this: check that the name in the id is yours and that your phone is verified "
    "(https://www.kaggle.com/settings)",
    404: "Kaggle knows no such thing: check the id",
    409: "The name is taken: choose another title and the id that goes with it (letters, digits, '-')",
    429: "Too many requests: wait some minutes, then run this again",
}
FAULT_OF_KAGGLE = "That is a fault on Kaggle's side: run this again in some minutes"
PATIENCE = 5
"""Passing failures in a row that waiting bears. Hours of polling meet a 500 now and then."""


class KaggleError(InputError):
    """Kaggle, or its client, did not do what it was asked for.

    Attributes:
        found: what was tried and what came of it, without what to do now.
        status: HTTP's; None when there was no answer.
    """

    def __init__(self, found: str, advice: str, status: int | None = None) -> None:
        super().__init__(f"{found}. {advice}")
        self.found, self.status = found, status


class PassingError(KaggleError):
    """Kaggle could not be reached or had a fault; the same question may be answered a minute later."""


def log_in() -> Any:
    """Return the client, logged in; `config_values["username"]` is the user's name.

    Raises:
        InputError: no credentials, or none that are accepted.
    """
    said = io.StringIO()
    with redirect_stdout(said):  # without credentials the import itself prints a page of help
        api = ask("logging in", _enter)
    for line in dict.fromkeys(said.getvalue().splitlines()):  # importing the client logs in too
        if line.startswith("Warning"):  # such as a key file that others can read
            print(line, file=sys.stderr)
    return api


def _enter() -> Any:
    from kaggle.api.kaggle_api_extended import KaggleApi  # here, because importing it logs in and makes folders

    api = KaggleApi()
    api.authenticate()
    return api


def ask(what: str, question: Callable[[], Answer], advice: Mapping[int, str] | None = None) -> Answer:
    """Kaggle's answer to a question.

    Args:
        what: what is tried, for the message, e.g. "pushing the kernel".
        question: calls the client.
        advice: per HTTP status what to do, where the usual advice is not the best.

    Raises:
        PassingError: no connection, too many requests, a fault of Kaggle's.
        KaggleError: every other refusal.
        InputError: no credentials.
    """
    try:
        return question()
    except SystemExit:  # the client ends the program where it finds no credentials
        raise InputError(
            f"kaggle: expected credentials, found {_found_credentials()}. Make a token at "
            "https://www.kaggle.com/settings/api and save it to ~/.kaggle/access_token, or run `.venv/bin/kaggle auth "
            "login`; then run this again"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        # requests' errors are OSErrors; the others are the client's, after answers that it did not expect
        failure = problem
    origin = _with_response(failure)
    status = None if origin is None else int(origin.response.status_code)  # type: ignore[attr-defined]
    words = " ".join(_reason(origin or failure).split())[:300] or type(failure).__name__
    if isinstance(failure, OSError) and failure.errno and not isinstance(failure, ConnectionError):  # never requests'
        raise KaggleError(
            f"{what}: {failure.filename or 'a file'} can't be written ({failure.strerror})",
            "Free some space or mend that folder, then run this again",
        )
    if status is None and isinstance(failure, OSError):
        raise PassingError(
            f"{what}: expected an answer from Kaggle, got none ({words})",
            "Check the network; on a cluster, log in to a node that has one",
        )
    if status is None:
        raise KaggleError(f"{what}: the kaggle client failed ({type(failure).__name__}: {words})", "Run this again")
    doing = {**ADVICE, **(advice or {})}.get(status, FAULT_OF_KAGGLE if status >= 500 else ADVICE[400])
    error_class = PassingError if status == 429 or status >= 500 else KaggleError
    raise error_class(f"{what}: Kaggle answered {status} ({words})", doing, status)


def _found_credentials() -> str:
    """Return what there is where there are not enough: of an older key's two variables one may be missing."""
    missing = [name for name in ("KAGGLE_USERNAME", "KAGGLE_KEY") if not os.environ.get(name)]
    if len(missing) != 1:
        return "none that Kaggle accepts"
    return f"one of two variables: {missing[0]} is missing. Set it too, or do without both"


def _reason(problem: BaseException) -> str:
    """Return what went wrong, without the addresses and objects that requests and urllib3 wrap a failed connection
    into."""
    words = next((one for one in reversed(problem.args) if isinstance(one, str)), "")
    words = re.sub(r"^(<[^>]*>|HTTPS?Connection\([^)]*\)): ", "", words)
    cause = getattr(problem, "reason", None)
    if isinstance(cause, Exception):  # of tries without end: that there were many says nothing
        return _reason(cause)
    inner = next((one for one in problem.args if isinstance(one, Exception)), None)
    if inner is None:
        return words or str(problem)
    return f"{words}: {_reason(inner)}" if words else _reason(inner)


def _with_response(problem: BaseException | None) -> BaseException | None:
    """Return the failure that Kaggle's answer caused, if there was an answer: the client rewords some, and guesses
    wrongly."""
    while problem is not None and getattr(problem, "response", None) is None:  # an error's truth value is False
        problem = problem.__cause__ or problem.__context__
    return problem


def patiently(what: str, look: Callable[[], Answer | None], every: float, limit: float) -> Answer | None:
    """Look again and again until there is something, or the time is up; a few passing failures in a row are borne.

    Args:
        what: what is waited for, for the lines that are printed.
        look: gives None as long as there is nothing.
        every: seconds between two looks.
        limit: seconds; None is given after them.

    Raises:
        InputError: what `look` raises.
    """
    started, failures = time.monotonic(), 0
    while True:
        try:
            answer, failures = look(), 0
        except PassingError as problem:
            failures += 1
            if failures == PATIENCE:
                raise
            print(f"  {what}: {problem.found}", flush=True)
            answer = None
        if answer is not None:
            return answer
        if time.monotonic() - started + every > limit:
            return None
        time.sleep(every)
