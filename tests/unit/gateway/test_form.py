"""Uploads, cut anywhere."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from transcriber.gateway.api_error import ApiError
from transcriber.gateway.transcriptions.form import UploadForm

BOUNDARY = "xyz"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name, data, *, file=False):
    disposition = f'form-data; name="{name}"' + ('; filename="a.wav"' if file else "")
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def read(pieces, content_type=TYPE):
    async def body():
        for piece in pieces:
            yield piece

    async def whole():
        form = UploadForm(content_type, body())
        return form, b"".join([piece async for piece in form.file()])

    return asyncio.run(whole())


@given(
    st.binary(max_size=300)
    .map(lambda data: data + b"\r\n--xy" + data)
    .filter(lambda audio: f"\r\n--{BOUNDARY}".encode() not in audio + b"\r\n--"),
    st.lists(st.integers(0, 1000), max_size=8),
    st.booleans(),
)
def test_however_it_is_cut_it_is_read(audio, cuts, fields_first):
    fields = part("model", b"demo") + part("timestamp_granularities[]", b"word") + part("chunking_strategy[type]", b"x")
    file = part("file", audio, file=True)
    whole = (fields + file if fields_first else file + fields) + END
    places = sorted({0, len(whole), *(cut % len(whole) for cut in cuts)})

    form, data = read([whole[start:end] for start, end in pairwise(places)])

    assert data == audio
    assert form.fields == {"model": ["demo"], "timestamp_granularities": ["word"], "chunking_strategy": ["x"]}
    assert form.file_name == "a.wav"


@given(st.binary(max_size=400), st.integers(0, 400))
def test_rubbish_is_refused_and_nothing_else_happens(rubbish, place):
    whole = part("model", b"demo") + part("file", b"audio", file=True) + END
    broken = whole[:place] + rubbish + whole[place + len(rubbish) :]

    status, name = 200, None
    try:
        name = read([broken])[0].file_name
    except ApiError as error:
        status = error.status

    assert status == (400 if name is None else 200)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (part("model", b"demo") + END, "file"),
        (part("file", b"a", file=True) * 2 + END, "file"),
        (part("prompt", b"a", file=True) + END, "prompt"),
        (part("prompt", b"a" * 70_000) + END, "prompt"),
        (part("file", b"a", file=True), None),
        (part("x", b"") * 65 + END, None),
        (b"--xyz\r\nX: " + b"a" * 10_000, None),
        (b"", None),
    ],
)
def test_a_form_that_is_none_is_refused(body, param):
    with pytest.raises(ApiError) as refused:
        read([body])

    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("application/json", 415), ("", 415), ("multipart/form-data", 400), (f"{TYPE}{'z' * 300}", 400)],
)
def test_another_kind_of_body_is_refused(content_type, status):
    with pytest.raises(ApiError) as refused:
        read([b""], content_type)

    assert refused.value.status == status
