import re

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bench.lib.speech import own_texts
from bench.lib.speech.own_texts import (
    Line,
    Sentences,
    as_spoken,
    cardinal,
    parsed,
    plural,
    templates,
    written_dialogues,
    written_readings,
    year,
)


def test_the_texts_are_five_thousand_words_of_many_kinds():
    pieces = list(written_readings().values()) + list(written_dialogues().values())

    lengths = [len(line.text.split()) for lines in pieces for line in lines]

    assert len(pieces) >= 30
    assert sum(lengths) >= 5000
    assert min(lengths) <= 3
    assert max(lengths) >= 38


def test_texts_are_as_they_are_spoken():
    for lines in (*written_readings().values(), *written_dialogues().values()):
        for line in lines:
            assert not re.search(r"[\d$%&]", line.text), line
            assert line.text[-1] in ".?!", line
            assert len(re.findall(r"[.?!](?: |$)", " ".join(as_spoken(line.text)))) == 1, line  # one sentence a line


def test_in_a_dialogue_two_take_turns_and_a_reading_has_no_names():
    assert {line.speaker for lines in written_readings().values() for line in lines} == {""}
    for lines in written_dialogues().values():
        assert {line.speaker for line in lines} == {"A", "B"}


def test_there_are_templates_enough_and_each_can_be_filled():
    sentences = Sentences(np.random.default_rng(1))

    assert len(templates()) == len(set(templates())) >= 120
    for template in templates():
        filled = sentences.filled(template)
        assert not re.search(r"[{}_\d]", filled), filled
        assert not re.search(r"\b[Aa] [aeiou]", filled), filled
        assert re.fullmatch(r"[A-Z].*[.?!]", filled), filled


def test_the_same_sentences_come_each_time_and_others_from_another_seed():
    def some(seed):
        return [text for text, _ in zip(Sentences(np.random.default_rng(seed)), range(300), strict=False)]

    assert some(1) == some(1)
    assert len(set(some(1)) & set(some(2))) < 60  # templates without slots are in both


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "A", "B"]), st.from_regex(r"[A-Za-z][a-z ]{0,20}[a-z][.?!]", fullmatch=True)),
        max_size=5,
    )
)
def test_what_is_written_is_read(lines):
    rows = [f"{speaker}: {text}" if speaker else text for speaker, text in lines]

    assert parsed("\n".join(["# some title", *rows, ""])) == {"some title": [Line(*line) for line in lines]}


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "zero"),
        (19, "nineteen"),
        (40, "forty"),
        (105, "one hundred and five"),
        (1017, "one thousand and seventeen"),
        (1234, "one thousand two hundred and thirty-four"),
        (200_000, "two hundred thousand"),
    ],
)
def test_numbers_in_words(number, said):
    assert cardinal(number) == said


def test_years_and_plurals_in_words():
    said = [
        "eighteen sixty-two",
        "nineteen oh five",
        "nineteen hundred",
        "two thousand",
        "two thousand and seven",
        "twenty forty",
    ]

    assert [year(number) for number in (1862, 1905, 1900, 2000, 2007, 2040)] == said
    assert [plural(noun) for noun in ("diary", "donkey", "walrus", "nurse")] == [
        "diaries",
        "donkeys",
        "walruses",
        "nurses",
    ]


def test_other_texts_have_another_digest(monkeypatch, tmp_path):
    names = [own_texts.READINGS, own_texts.SLOTS]
    before = own_texts.digest(names)
    for name in ("readings.txt", "dialogues.txt", "templates.txt", "slots.txt"):
        (tmp_path / name).write_text("# tea\nNo.\n")
    monkeypatch.setattr(own_texts, "TEXTS", tmp_path)

    assert own_texts.digest(names) not in {before, own_texts.digest(names, "slowly")}
    assert list(written_readings()) == ["tea"]
