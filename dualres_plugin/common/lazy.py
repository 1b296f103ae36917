"""Public names of a package that are loaded on first use, so that importing the package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a package's `__init__`.

    Args:
        package: dotted name of the package.
        homes: public name -> the module of the package that defines it.

    Raises:
        AttributeError: By the returned function, for any other name.
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return getattr_
