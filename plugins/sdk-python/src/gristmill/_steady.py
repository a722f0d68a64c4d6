"""What would make rows depend on more than events, and does not say so by itself: the generator of `random`, whose state is frozen into a component."""

import sys


def _no_randomness(*_, **__):
    raise RuntimeError("a transform has no randomness: the same events lead to the same rows; for numbers that repeat, make a `random.Random(seed)`")


def forbid_randomness(module) -> None:
    """Lets the functions of `random` that share one generator raise, also where the author's module has taken some by name."""
    random = sys.modules.get("random")
    if random is None:
        return
    for namespace in (vars(random), vars(module)):
        for name, value in list(namespace.items()):
            if getattr(value, "__self__", None) is random._inst:
                namespace[name] = _no_randomness
