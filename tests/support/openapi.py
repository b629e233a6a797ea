"""Whether answers are as an OpenAPI document says."""

import re

from jsonschema import Draft202012Validator


class Document:
    """An OpenAPI document; ``data`` is it as plain JSON data."""

    def __init__(self, data):
        self.data = data

    def operations(self):
        """Method, path and operation of each."""
        return [
            (method, path, operation)
            for path, methods in self.data["paths"].items()
            for method, operation in methods.items()
        ]

    def operation(self, method, path):
        """That of a request."""
        found = [
            operation
            for its_method, template, operation in self.operations()
            if its_method == method.lower() and re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path)
        ]
        # transcript.vtt is one of its own, beside those whose parameter takes what is in its place.
        return found[-1]

    def validator(self, schema):
        """Of what a schema of the document is about."""
        return Draft202012Validator({**schema, "components": self.data["components"]})

    def resolved(self, node):
        """A node, or what it refers to."""
        while "$ref" in node:
            found = self.data
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node

    def check(self, response):
        """Fail unless status, media type, headers and body of a response of httpx are documented."""
        operation = self.operation(response.request.method, response.request.url.path)
        answers = operation["responses"]
        assert str(response.status_code) in answers, (operation["operationId"], response.status_code, response.text)
        answer = self.resolved(answers[str(response.status_code)])
        assert "X-Request-ID" in answer["headers"]
        assert "X-Request-ID" in response.headers
        for name in response.headers:
            if name.startswith(("x-transcriber", "x-should")) or name == "retry-after":
                assert name in {known.lower() for known in answer["headers"]}, name
        if response.content:
            media_type = response.headers["Content-Type"].partition(";")[0]
            schema = answer["content"][media_type]["schema"]
            body = response.json() if media_type == "application/json" else response.text
            self.validator(schema).validate(body)
