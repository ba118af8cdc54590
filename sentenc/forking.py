"""Objects with locks in a forked child process, in which no thread but the forking one exists.

A lock that another thread holds at the moment of the fork would never be released in the child. So a fork either
waits for a lock (:func:`lock_before_fork`), or the child replaces it (:func:`after_fork`). The thread pools of other
libraries are the same problem (:func:`outside_forked_thread`).
"""

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")

# Held while the two collections below change, and from the start of a fork to its end.
_registry = threading.RLock()
_locks: "weakref.WeakSet[Any]" = weakref.WeakSet()
_objects: "weakref.WeakKeyDictionary[Any, Callable[[Any], None]]" = weakref.WeakKeyDictionary()
_acquired: list[Any] = []
# The identifier of the thread that forked this process, if it was forked after the import of this module.
_forked_thread: int | None = None


def lock_before_fork() -> Any:
    """Returns a new reentrant lock that a fork waits for, so that no other thread holds it in a child.

    It is for work that ends soon and uses no other lock: a fork holds all of these locks at once, in any order.
    """
    lock = threading.RLock()
    with _registry:
        _locks.add(lock)
    return lock


def after_fork(owner: T, restore: Callable[[T], None]) -> None:
    """Calls ``restore(owner)`` in every child that is forked while ``owner`` exists.

    Args:
        owner: A hashable object. It is not kept alive.
        restore: Replaces what the child cannot use, such as locks. It must not refer to ``owner`` itself.
    """
    with _registry:
        _objects[owner] = restore


def outside_forked_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Makes a function that computes with OpenMP, as PyTorch and FAISS do, usable in a forked child.

    GNU's OpenMP has a pool of threads for each thread that uses it. The pool of the thread that forked does not
    exist in the child, where that thread would wait for it for ever. There, the function runs in a new thread.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        if _forked_thread != threading.get_ident():
            return function(*args, **kwargs)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(function, *args, **kwargs).result()

    return called


class cached_value(Generic[T]):
    """A ``functools.cached_property`` without the lock that it has before Python 3.12.

    Two threads may compute the value at once; they get equal values.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        """Remembers the name of the attribute."""
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "cached_value[T]": ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> "cached_value[T] | T":
        """Computes the value at its first use; later uses find it in the instance's ``__dict__``."""
        if instance is None:
            return self
        value: T = vars(instance).setdefault(self._name, self._compute(instance))
        return value


def _before_fork() -> None:
    _registry.acquire()
    for lock in list(_locks):
        lock.acquire()
        _acquired.append(lock)


def _in_parent() -> None:
    while _acquired:
        _acquired.pop().release()
    _registry.release()


def _in_child() -> None:
    global _forked_thread
    _forked_thread = threading.get_ident()
    # The only thread of the child is the one that acquired the locks.
    _in_parent()
    for owner, restore in list(_objects.items()):
        restore(owner)


# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
