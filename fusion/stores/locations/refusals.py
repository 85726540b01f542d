"""What servers refuse, in this library's words: never theirs, which may show who asks.

A sentence says which address, what came back and what to do; of the library's own text only the
status and the server's code for it get into it.
"""

from __future__ import annotations

import re

from fusion.errors import CorruptStoreError, InputError, StoreError

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
# what is asked for credentials where the environment has none
_MACHINE = ("169.254.169.254", "/latest/api/token", "/latest/meta-data", "computeMetadata")
_BUSY = ("429", "500", "502", "503", "504")
_NOT_ALLOWED = ("405", "501")


class MissingError(StoreError):
    """Nothing lies at the address."""


class TakenError(StoreError):
    """Something lies at the address already."""


class UnsupportedError(StoreError):
    """The server has no such operation."""


def needs_obstore(where: str) -> InputError:
    """The error of an installation without the library that speaks to servers."""
    return InputError(f"{where}: needs obstore; pip install 'segfusion[remote]'")


def refusal(error: Exception, where: str, keys: str, *, writing: bool = False) -> StoreError:
    """The error that says what a server did, made from obstore's.

    Args:
        error: whatever it raised.
        where: the address.
        keys: how this kind of server is given credentials.
        writing: whether something was to be written.
    """
    text, kind = str(error), type(error).__name__
    status = (_STATUS.findall(text) or [""])[-1]
    said = "".join(f" {code}" for code in _CODE.findall(text)[:1])
    done = "cannot be written" if writing else "cannot be read"
    if any(words in text for words in _NO_BUCKET):
        what = "the bucket does not exist; create it, or correct the address"
        return StoreError(f"{where}: {what}")
    if isinstance(error, FileNotFoundError):
        return MissingError(f"{where}: missing; give a complete store")
    if kind in ("AlreadyExistsError", "PreconditionError"):
        return TakenError(f"{where}: cannot be written, something is there; write elsewhere")
    if any(words in text for words in _MACHINE):
        return StoreError(f"{where}: {done}, no credentials were found; {keys}")
    if kind in ("PermissionDeniedError", "UnauthenticatedError"):
        if writing and kind == "PermissionDeniedError":
            do = "ask for the right to write there, or write to another place"
            return StoreError(f"{where}: {done} (refused with status {status}{said}); {do}")
        return StoreError(f"{where}: credentials were refused (status {status}{said}); {keys}")
    if isinstance(error, NotImplementedError) or (writing and status in _NOT_ALLOWED):
        do = "write to a folder, or to s3://, gs:// or az://"
        return UnsupportedError(f"{where}: {done}, the server takes no such writing; {do}")
    if status == "416":
        return CorruptStoreError(f"{where}: ends before its listed size; write the video again")
    return StoreError(f"{where}: {_trouble(text, kind, status, said, done)}")


def _trouble(text: str, kind: str, status: str, said: str, done: str) -> str:
    """What else may have come between, and what to do."""
    if kind == "NotSupportedError" or "non-partial" in text or "Content-Range" in text:
        do = "serve the store by a server that answers Range requests, or copy it to a disk"
        return f"{done}, the server refused a range of bytes; {do}"
    if status in _BUSY:
        return f"{done}, the server is in trouble (status {status}{said}); run it again later"
    if status:
        return f"{done}, the server answered with status {status}{said}; check the address"
    if "kind: Timeout" in text or "TimedOut" in text:
        return f"{done}, no answer in time; check the connection and run it again"
    if "request" in text or "connection" in text or "body" in text:
        do = "check that it runs and the connection holds, then run it again"
        return f"{done}, the server cannot be reached or hung up; {do}"
    return f"{done} ({kind}); check the address and its settings"
