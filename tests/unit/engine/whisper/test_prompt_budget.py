"""What is left out of a prompt that does not fit. A token is a word here."""

from hypothesis import given, strategies as st

from transcriber.engine.whisper.prompt_budget import MAX_PROMPT_CHARS, PromptBudget

TOKENS = 100  # no prompt of fewer bytes is counted
SAID = " ".join(f"w{number}" for number in range(150))


def budget(vocabulary=""):
    return PromptBudget(vocabulary, TOKENS, lambda prompt: len(prompt.split()))


def test_names_and_terms_are_kept_whole_beside_the_end_of_what_was_said():
    for found in (
        budget().prompt(f"Texel Rottumerplaat\n{SAID}"),
        budget("Texel").prompt(f"Rottumerplaat\n{SAID}"),
        budget("Texel Rottumerplaat").prompt(SAID),
    ):
        words = found.split()
        assert words[:2] == ["Texel", "Rottumerplaat"]
        assert words[-1] == "w149"
        assert len(words) <= TOKENS


def test_of_terms_that_do_not_fit_the_first_are_kept():
    words = budget("Texel").prompt(f"{SAID}\nsaid before").split()

    assert words == ["Texel", *SAID.split()[: len(words) - 1]]
    assert len(words) > TOKENS / 2


@given(st.text("ab \n—", max_size=2000), st.text("ab \n—", max_size=2000))
def test_whatever_is_given_fits(terms, said):
    found = budget("north channel").prompt(f"{terms}\n{said}")

    assert found.startswith(" north channel")
    assert len(found.split()) <= TOKENS
    assert len(found) <= MAX_PROMPT_CHARS + len(" north channel  ")
