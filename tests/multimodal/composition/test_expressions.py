from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.composition.expressions import (
    Overlay,
    Sequence,
    Slot,
    Tree,
    height,
    parse,
    slots,
)
from multimodal.errors import UserError
from tests.multimodal.composition.trees import trees

A, B, C, D = (Slot(letter) for letter in "ABCD")


@given(trees())
def test_text_of_a_tree_is_parsed_to_it(tree: Tree) -> None:
    assert parse(str(tree)) == tree


def as_python_reads(node: ast.expr) -> Tree:
    """An oracle: Python binds the same two operators in the same way."""
    if isinstance(node, ast.Name):
        return Slot(node.id)
    assert isinstance(node, ast.BinOp)
    kind = Sequence if isinstance(node.op, ast.Add) else Overlay
    return kind((as_python_reads(node.left), as_python_reads(node.right)))


@given(trees(5), st.data())
def test_blanks_and_idle_parentheses_change_nothing(tree: Tree, data) -> None:
    def noisy(part: Tree) -> str:
        if isinstance(part, Slot):
            text = part.letter
        else:
            sign = "+" if isinstance(part, Sequence) else "*"
            text = f"({sign.join(noisy(p) for p in part.parts)})"
        return data.draw(st.sampled_from([text, f" {text}", f"({text})", f"{text} "]))

    text = noisy(tree)
    assert parse(text) == tree == as_python_reads(ast.parse(text.strip(), mode="eval").body)


def test_overlay_binds_tighter() -> None:
    assert parse("A+B*C") == Sequence((A, Overlay((B, C)))) != parse("(A+B)*C")
    assert parse("(A+B)+(C+D)") == Sequence((A, B, C, D))
    assert slots(parse("C*(A+B)")) == (2, 0, 1)
    assert [height(parse(text)) for text in ("A+B+C", "A+B*C", "A+B*(C+D)")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 1, "a letter A to Z or '('"),
        ("A", 2, "at least two events"),
        ("((A))", 6, "at least two events"),
        ("A+*B", 3, "a letter A to Z or '('"),
        ("A + b", 5, "a letter A to Z"),
        ("A B", 3, "'+', '*' or the end"),
        ("(A+B", 5, "expected ')'"),
        ("A+B)", 4, "or the end"),
        ("A*(B+A)", 6, "A comes twice"),
        ("A+\t B", 3, "a letter"),
        ("(" * 60 + "A", 51, "more than 50 parentheses"),
    ],
)
def test_what_is_wrong_is_shown_by_a_caret(text: str, position: int, words: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text)
    message, shown, caret = str(error.value).split("\n")
    assert words in message
    assert f"position {position}." in message
    assert shown.isprintable()
    assert caret.rstrip().index("^") - 4 == position - 1


@given(st.text(alphabet="AB+*() x", max_size=12))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        tree = parse(text)
    except UserError:
        return
    assert tree == as_python_reads(ast.parse(text.strip(), mode="eval").body)
    assert len(set(slots(tree))) == len(slots(tree)) >= 2
