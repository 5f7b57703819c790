"""What code means, without what it says to people."""

from __future__ import annotations

import ast

PARSE_ATTEMPTS = 100


def syntax_without_docstrings(source: str) -> str:
    """Return the dumped syntax tree of a module, docstrings left out.

    >>> syntax_without_docstrings('x = 1  # one') == syntax_without_docstrings('"A"; x=1')
    True
    """
    tree = _parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return ast.dump(tree)


def _parse(source: str) -> ast.Module:
    """Return a module's tree; Python 3.11 fails where another thread parses at the same moment."""
    for _ in range(PARSE_ATTEMPTS):
        try:
            return ast.parse(source)
        except SystemError:  # "AST constructor recursion depth mismatch": a counter is shared
            continue
    return ast.parse(source)


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
