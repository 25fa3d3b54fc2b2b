"""How nbval starts the kernels that run the lessons."""

import functools


def tried_again(start, tries=3):
    """`start`, tried again where a kernel dies before it answers.

    Its ports are looked for a moment before it listens at them, and in that moment another process
    may take one: a kernel of another lesson, or a worker of another test.
    """

    @functools.wraps(start)
    def start_again(*arguments, **settings):
        for _ in range(tries - 1):
            try:
                return start(*arguments, **settings)
            except RuntimeError:
                continue
        return start(*arguments, **settings)

    return start_again
