"""Ctrl-C and the stop button, held back while something must not be cut in two."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Hold back an interrupt that arrives inside the block until the block is done.

    TensorFlow can crash when it is interrupted in the middle of a call. Only the main thread is
    ever interrupted, so elsewhere this does nothing.
    """
    usual = _handler()
    if usual is None:
        yield
        return
    holder = _Holder(usual)
    signal.signal(signal.SIGINT, holder)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        holder.let_through()


@contextlib.contextmanager
def interrupts_let_through() -> Iterator[None]:
    """Inside `interrupts_held_back`, let an interrupt reach what the block calls at once.

    For a reward in Python, which may take minutes.
    """
    holder = _handler()
    if not isinstance(holder, _Holder):
        yield
        return
    signal.signal(signal.SIGINT, holder.usual)
    try:
        holder.let_through()
        yield
    finally:
        signal.signal(signal.SIGINT, holder)


class _Holder:
    """A signal handler that keeps what arrives for `usual`, the handler before it."""

    def __init__(self, usual):
        self.usual = usual
        self._arrived = None

    def __call__(self, *arguments):
        self._arrived = arguments

    def let_through(self):
        arrived, self._arrived = self._arrived, None
        if arrived is not None:
            self.usual(*arrived)


def _handler():
    """What handles an interrupt of this thread, if that is something of Python's."""
    if threading.current_thread() is not threading.main_thread():
        return None
    usual = signal.getsignal(signal.SIGINT)
    return usual if callable(usual) else None  # else ignored, or handled by something else
