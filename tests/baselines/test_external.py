"""Commands of other people's code, as templates."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.external import PLACEHOLDERS, CommandTemplate, fill, placeholders

VALUES = {name: f"<{name}>" for name in PLACEHOLDERS}
WAV2LIP = "python inference.py --face {video} --audio {audio} --outfile {out}"


def test_words_are_filled_in() -> None:
    command = CommandTemplate(WAV2LIP)
    assert command.arguments(VALUES) == [
        *("python", "inference.py", "--face", "<video>", "--audio", "<audio>", "--outfile", "<out>")
    ]
    assert command.names_output and command.program == "python"
    own = CommandTemplate("run --in={video},{audio} --to '{out_dir}/a b' --gpu {worker}")
    assert own.arguments(VALUES) == [
        "run",
        "--in=<video>,<audio>",
        "--to",
        "<out_dir>/a b",
        "--gpu",
        "<worker>",
    ]
    assert not own.names_output


@given(st.text(min_size=1))
def test_a_value_stays_one_word_whatever_it_holds(value: str) -> None:
    words = CommandTemplate(WAV2LIP).arguments({**VALUES, "video": value, "out": "{audio}"})
    assert words[3] == value and words[7] == "{audio}" and len(words) == 8


@pytest.mark.parametrize("value", ["a b", "$(touch x)", "'; echo y #", '"', "`id`", "é\n"])
def test_a_shell_sees_values_as_words_too(value: str) -> None:
    command = CommandTemplate("printf '%s|' {video} {audio} && printf {out}", shell=True)
    words = command.arguments({**VALUES, "video": value, "audio": "b", "out": "c"})
    assert words[:2] == ["/bin/sh", "-c"] and command.program == "/bin/sh"
    assert subprocess.run(words, capture_output=True, check=True).stdout.decode() == f"{value}|b|c"


def test_braces_of_another_meaning_stay() -> None:
    text = """x '{"a": 1}' {{name}} ${{HOME}} {} {video}"""
    assert placeholders(text) == {"video"}
    assert fill(text, VALUES) == """x '{"a": 1}' {name} ${HOME} {} <video>"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  ", "the command is empty"),
        ("run {video} {audio} 'x", "cannot be split into words: No closing quotation"),
        (
            "run {video} {audio} {outfile}",
            r"unknown placeholder \{outfile\} .*\{out\},.* write \{\{outfile\}\}",
        ),
        ("run {video}", r"lacks \{audio\}, \{out\} or \{out_dir\}"),
        ("run {{video}} {audio} {out}", r"lacks \{video\}$"),
    ],
)
def test_mistakes_are_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        CommandTemplate(text)
    assert "\n" not in str(caught.value)
