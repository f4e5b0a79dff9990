"""The command of a user's program: its axes, its placeholders, and what can't be understood."""

from __future__ import annotations

import pytest

from bench.core.script_command import CommandProblem, fill_command, parse_command, placeholder_names, split_command


def test_axes_are_taken_out_of_a_command_and_keep_their_names():
    parsed = parse_command("train.py --batch {batch=32,64} --lr {lr=0.1,1e-3} --data d --n {ranks}")
    assert parsed.template == "train.py --batch {batch} --lr {lr} --data d --n {ranks}"
    # A number only where it is written as Python writes it: the argument is what was given.
    assert parsed.axes == {"batch": (32, 64), "lr": (0.1, "1e-3")}
    assert placeholder_names(parsed.template) == ("batch", "lr")


@pytest.mark.parametrize(
    ("text", "values", "words"),
    [
        ("train.py --batch {batch}", {"batch": 32}, ("train.py", "--batch", "32")),
        ("train.py --batch={batch}x{ranks}", {"batch": 4, "ranks": 2}, ("train.py", "--batch=4x2")),
        ("train.py {name} 'a b' \"{name}\"", {"name": "c 'd"}, ("train.py", "c 'd", "a b", "c 'd")),
        ("train.py '{{\"a\": {n}}}'", {"n": 1}, ("train.py", '{"a": 1}')),
        ("train.py {again} {again}", {"again": "{x}"}, ("train.py", "{x}", "{x}")),
    ],
)
def test_a_command_is_filled_word_by_word(text, values, words):
    assert fill_command(text, values) == words


def test_a_value_with_commas_or_spaces_is_one_argument():
    parsed = parse_command('train.py {tags="a,b",c d}')
    assert parsed.axes == {"tags": ("a,b", "c d")}
    assert fill_command(parsed.template, {"tags": "a,b"}) == ("train.py", "a,b")


def test_what_is_no_number_of_json_is_given_as_text():
    assert parse_command("train.py {a=nan,-inf,18446744073709551615}").axes == {
        "a": ("nan", "-inf", "18446744073709551615")
    }


def test_an_axis_may_be_used_twice_and_is_given_once():
    parsed = parse_command("train.py --batch {b=1,2} --eval-batch {b}")
    assert (parsed.template, parsed.axes) == ("train.py --batch {b} --eval-batch {b}", {"b": (1, 2)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.py {batch=}", "{batch=}: a value is empty"),
        ("train.py {batch=1,,2}", "{batch=1,,2}: a value is empty"),
        ("train.py {batch=1,1}", "{batch=1,1} names a value twice"),
        ("train.py {lr=1,1.0}", "{lr=1,1.0} names a value twice"),
        ("train.py {batch=1} {batch=2}", "{batch=…} is given twice; write {batch} the second time"),
        ("train.py {batch=1", "unmatched '{'"),
        ("train.py batch=1}", "unmatched '}'"),
        ("train.py {}", "'{}': an axis has a name"),
        ("train.py {a b=1}", "'{a b=1}': an axis has a name"),
        ("train.py {1=2}", "'{1=2}': an axis has a name"),
        ('train.py {a="b}', "{a=…}: a quoted value ends with its quote"),
        ("train.py {ranks=1,2}", "the numbers of ranks are given by --ranks"),
    ],
)
def test_what_is_no_axis_is_named(text, said):
    with pytest.raises(CommandProblem) as raised:
        parse_command(text)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_quote_without_its_end_is_named():
    with pytest.raises(CommandProblem, match="No closing quotation; quote as in a shell"):
        split_command("train.py 'a b")
