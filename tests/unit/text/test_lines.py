"""Lines of captions, in any script."""

import unicodedata

import pytest
from hypothesis import given, strategies as st

from transcriber.text.lines import BASE, LINE_COLUMNS, clusters, columns, wrapped

ARTICLE = {
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิต่างมีเหตุผลและมโนธรรมและควรปฏิบัติต่อกัน",
    "my": "လူတိုင်းသည်တူညီလွတ်လပ်သောဂုဏ်သိက္ခာဖြင့်လည်းကောင်း၊တူညီလွတ်လပ်သောအခွင့်အရေးများဖြင့်လည်းကောင်း၊မွေးဖွားလာသူများဖြစ်သည်။",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",  # noqa: RUF001
    "km": "មនុស្សទាំងអស់កើតមកមានសេរីភាពនិងភាពស្មើៗគ្នាក្នុងសេចក្ដីថ្លៃថ្នូរនិងសិទ្ធិ",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
}


def plain_columns(text):
    """As broadcasters count: a wide character two, what is written onto another one none."""
    return sum(
        0 if unicodedata.category(char) in {"Mn", "Me", "Cf"} else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


@pytest.mark.parametrize("text", ARTICLE.values(), ids=ARTICLE)
def test_no_line_is_too_wide_or_begins_with_what_belongs_to_the_one_before(text):
    lines = wrapped(text)

    assert "".join("".join(lines).split()) == "".join(text.split())
    for line in lines:
        assert plain_columns(line) <= LINE_COLUMNS
        assert unicodedata.category(line[0])[0] not in "MP"
    assert min(map(columns, lines[:-1]), default=LINE_COLUMNS) >= LINE_COLUMNS / 2, "lines are filled"


def test_words_stay_whole_and_a_line_is_filled_to_its_last_column():
    assert wrapped("well-known " * 5) == ["well-known well-known well-known", "well-known well-known"]
    assert wrapped("x" * LINE_COLUMNS + " y") == ["x" * LINE_COLUMNS, "y"]
    assert wrapped("人" * 21 + " y") == ["人" * 21, "y"]
    assert wrapped("") == wrapped("  ") == []


def test_a_word_that_is_longer_than_a_line_uses_the_rest_of_the_one_before():
    assert wrapped("says " + "y" * 60) == ["says " + "y" * 37, "y" * 23]


def test_punctuation_without_end_is_cut_all_the_same():
    assert [len(line) for line in wrapped("." * 100)] == [40, 40, 20]


def test_a_mark_without_a_character_is_shown_alone():
    assert wrapped("\u0e48\u0e01") == [f"{BASE}\u0e48\u0e01"]
    assert wrapped("a \u0308b") == [f"a {BASE}\u0308b"]


def test_what_belongs_together_is_one_cluster():
    assert list(clusters("กำ, 人。」e\u0301👩‍👩‍👧!")) == ["กำ,", " ", "人。」", "e\u0301", "👩‍👩‍👧!"]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=300))
def test_any_text_is_whole_in_lines_that_fit(text):
    lines = wrapped(text)

    assert "".join("".join(lines).split()) == "".join("".join(text.split()).split(BASE))
    for line in lines:
        assert line
        assert not unicodedata.category(line[0]).startswith("M")
        alone = len(list(clusters(line))) == 1
        assert alone or plain_columns(line) <= LINE_COLUMNS
