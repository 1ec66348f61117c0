"""The garbage collector, held back in passes that make very many objects of which nearly all stay.

It would look through all of them again and again: a fourth of the time for 100,000 nodes.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """No collection of garbage inside the block, or inside the function that this decorates."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            _age()
            gc.enable()


def _age() -> None:
    """Make all objects old ones, or the next collection, which is due at once, would look through the new ones.

    What the program itself has frozen must stay so: then nothing is done.
    """
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
