"""An upload as it arrives. In: the pieces of a ``multipart/form-data`` body. Out: its fields, and the bytes of its file.

Nothing is kept but the fields: they may come before or after the file, of which each piece is given out at once.
"""

from collections import defaultdict
from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from transcriber.gateway.api_error import ApiError

FIELD_BYTES = 2**16
MAX_FIELDS = 64
FILE_FIELD = "file"


class UploadForm:
    """One upload. Event loop only.

    Attributes:
        fields: values by name, without a ``[]`` or ``[member]`` at its end; complete once ``file`` has ended.
        file_name: as the client names it; None until the file begins.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        """A form that is not read yet.

        Raises:
            ApiError: 400 or 415, it is none.
        """
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise ApiError(415, "the body must be multipart/form-data")
        if not (boundary := options.get(b"boundary")):
            raise ApiError(400, "multipart/form-data without a boundary")
        self.fields: defaultdict[str, list[str]] = defaultdict(list)
        self.file_name: str | None = None
        self._body = body
        self._name, self._in_file, self._whole = "", False, False
        self._header, self._value, self._disposition = b"", b"", b""
        self._data, self._pieces = bytearray(), list[bytes]()
        self._parts = 0
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part,
                    "on_header_field": self._on_header_name,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise ApiError(400, f"the form cannot be read: {error}") from None

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes.

        Raises:
            ApiError: 400, the form cannot be read, or has no file.
        """
        async for piece in self._body:
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise ApiError(400, f"the form cannot be read: {error}") from None
            if self._pieces:
                pieces, self._pieces = self._pieces, []
                yield b"".join(pieces)
        if not self._whole:
            raise ApiError(400, "the form ends before its last boundary")
        if self.file_name is None:
            raise ApiError(400, "the file is missing", param=FILE_FIELD)

    def _on_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_FIELDS:
            raise ApiError(400, f"the form has more than {MAX_FIELDS} fields")
        self._disposition = b""

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode(errors="replace").partition("[")[0]
        if not self._name:
            raise ApiError(400, "a field of the form has no name")
        self._in_file = self._name == FILE_FIELD
        if self._in_file:
            if self.file_name is not None:
                raise ApiError(400, "there is more than one file", param=FILE_FIELD)
            self.file_name = options.get(b"filename", b"").decode(errors="replace")
        elif b"filename" in options:
            raise ApiError(400, f"{self._name[:100]} is a file", param=self._name[:100])

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])
            return
        self._data += data[start:end]
        if len(self._data) > FIELD_BYTES:
            raise ApiError(400, f"the field has more than {FIELD_BYTES} bytes", param=self._name[:100])

    def _on_part_end(self) -> None:
        if not self._in_file:
            self.fields[self._name].append(self._data.decode(errors="replace"))
        self._data.clear()

    def _on_end(self) -> None:
        self._whole = True
