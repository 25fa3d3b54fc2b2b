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
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived = []
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual):  # ignored, or handled by something that is not Python
        yield
        return
    signal.signal(signal.SIGINT, lambda *arguments: arrived.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if arrived:
            usual(*arrived[-1])
