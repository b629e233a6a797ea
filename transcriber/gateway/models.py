"""Which models there are. In: what the daemons' micro services say of themselves. Out: a name that a request may have."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from transcriber.bus.connection import Connection, NatsMessage
from transcriber.gateway.api_error import ApiError

INFO_SUBJECT = "$SRV.INFO.transcriber"
FIRST_S, OTHERS_S = 2.0, 0.1
"""For the first daemon's answer; from then on for the others."""
FRESH_S = 5.0

ALIASES = frozenset(
    {
        "whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-mini-transcribe-2025-12-15", "gpt-transcribe",
        "gpt-live-transcribe", "gpt-realtime-whisper",
    }
)  # fmt: skip
"""What SDKs and programs ask for by default: names of the model that is loaded."""

DIARIZING = frozenset({"gpt-4o-transcribe-diarize"})
"""The same, of uploads alone: no live session distinguishes voices."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model of a daemon; ``languages`` are codes, none if it does not say."""

    name: str
    languages: frozenset[str]


class _Info(BaseModel):
    metadata: dict[str, str] = {}


class ModelNames:
    """Event loop only."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._found: Mapping[str, LoadedModel] = {}
        self._until_s = 0.0
        self._asking = asyncio.Lock()

    async def all(self) -> Mapping[str, LoadedModel]:
        """The models by name, at most ``FRESH_S`` old.

        Raises:
            ApiError: 503, no daemon answers.
        """
        async with self._asking:
            if time.monotonic() >= self._until_s:
                self._found = await self._ask()
                self._until_s = time.monotonic() + FRESH_S
        return self._found

    async def resolve(self, name: str) -> LoadedModel:
        """The model that ``name`` means.

        Raises:
            ApiError: 404, there is none; 503, no daemon answers.
        """
        found = await self.all()
        model = next(iter(found.values())) if name in ALIASES | DIARIZING else found.get(name)
        if model is None:
            raise ApiError(
                404, f"no daemon has the model {name[:100]!r}; there is {', '.join(found)}", param="model",
                code="model_not_found",
            )  # fmt: skip
        return model

    async def _ask(self) -> dict[str, LoadedModel]:
        found: dict[str, LoadedModel] = {}
        answered = asyncio.Event()

        async def take(message: NatsMessage) -> None:
            try:
                metadata = _Info.model_validate_json(message.data).metadata
            except ValidationError:  # as the broker's own answer, that there is nobody
                metadata = {}
            if name := metadata.get("model"):
                languages = filter(None, metadata.get("languages", "").split(","))
                found[name] = LoadedModel(name, frozenset(languages))
            answered.set()

        inbox = self._connection.client.new_inbox()
        subscription = await self._connection.subscribe(inbox, take)
        try:
            await self._connection.publish(INFO_SUBJECT, b"", reply=inbox)
            await asyncio.wait_for(answered.wait(), FIRST_S)
            await asyncio.sleep(OTHERS_S if found else 0)
        except TimeoutError:
            pass
        finally:
            await self._connection.unsubscribe(subscription)
        if not found:
            raise ApiError(
                503, "no daemon answers requests: none is ready, or all have SERVICE=0", headers={"Retry-After": "1"}
            )
        return dict(sorted(found.items()))
