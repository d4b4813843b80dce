"""Applies the fixtures of all tests to the docstring examples in nas/ too: a cache of their own, and brief sampling."""

from tests.conftest import brief_modules, own_cache

__all__ = ["brief_modules", "own_cache"]
