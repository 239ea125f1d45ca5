"""The benchmark: from specs to trained models, codes, scores, tables and figures."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.library import load_results, load_run

__all__ = ["load_results", "load_run"]


def __getattr__(name: str) -> Any:
    """The library, loaded when it is asked for: what waits for runs loads this file and nothing heavy."""
    if name in __all__:
        from benchmark import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
