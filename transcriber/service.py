"""The daemon: connects, starts the workers, ingest and endpoints, runs them, stops them, in the order of the data.

| task | ends when | may raise |
|---|---|---|
| ``publisher.run`` | cancelled, after everything is sent | what building a message raises: a crash |
| ``ingest.sweep`` | cancelled | a crash |
| ``endpoints.run`` | cancelled | a crash |
| ``_tick`` | cancelled | a crash |
| ``live settings`` (with a bucket or file of them) | cancelled | a crash |
| ``_reload`` | cancelled | a crash |
| ``_report_metrics`` (unless switched off) | cancelled | a crash |
| ``reports.run`` (unless switched off) | cancelled | a crash |
| ``connection.watch`` | cancelled | what ``connection.closed`` does |
| ``pool.crashed`` | a worker's thread died | what killed it |
| ``connection.closed`` | the connection is closed for good, or a handler raised | ``ConnectionError``, or that |

Whichever ends first, other than the stop signal, ends the process with status 1; so does a crash while the daemon stops.
"""

import asyncio
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from transcriber import __version__
from transcriber.admin.endpoint import Action, AdminEndpoint
from transcriber.admin.model_swap import OF_SETTINGS, ModelFile, ModelSwap
from transcriber.audio.vad.detector import Network
from transcriber.bus.audit import AuditLog
from transcriber.bus.config_bucket import ConfigBucket, followed
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.provision import ready_config
from transcriber.bus.publisher import Publisher
from transcriber.config import Settings
from transcriber.diarization.job_speakers import label_once, load_labeller
from transcriber.durable.ingest import DurableIngest
from transcriber.endpoints import Endpoints
from transcriber.engine.job import Device, ModelFacts
from transcriber.engine.pool import ModelInUse, WorkerPool
from transcriber.engine.swap import ModelSource, in_thread, load_fitting
from transcriber.errors import RequestError
from transcriber.gpu.nvml import open_card
from transcriber.health import Health
from transcriber.live.ingest import LiveIngest
from transcriber.live_settings.live import LiveSettings
from transcriber.live_settings.watch import BucketSource, FileSource, SettingsWatch
from transcriber.logs import RateLimited
from transcriber.pipeline.runtime import Runtime
from transcriber.pipeline.stream_watch import StreamWatch
from transcriber.schema.admin import StatusRequest, SwapRequest
from transcriber.stream_reports import StreamReports
from transcriber.tasks import cancel, hangup_signal, stop_signal
from transcriber.telemetry import Telemetry

log = logging.getLogger(__name__)

TICK_S = 1.0
STOP_S = 1.8
"""Seconds beyond the grace period within which a stop completes, whatever hangs."""
FINISH_S = 0.5
"""Seconds to store what the workers have transcribed, and to return files to the work queue."""
SENT_S = 0.2
"""Seconds to send the last messages."""
FLUSH_S = 1.0
"""Seconds for the broker to confirm that it has everything."""
OTLP_S = 0.5


def serve(settings: Settings, source: ModelSource, ready: Callable[[], object] = lambda: None) -> None:
    """Run the daemon until SIGTERM or SIGINT, or where stdin is a terminal SIGHUP. ``source`` is asked on threads of its own; ``ready`` is called once.

    Raises:
        StartError: it cannot start; the message is one line.
    """
    log.info("transcriber %s starts", __version__, extra={"subject": settings.audio_subject, "pid": os.getpid()})
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(_serve(settings, source, ready))


async def _serve(settings: Settings, source: ModelSource, ready: Callable[[], object]) -> None:
    stop, hangup = stop_signal(), hangup_signal()  # before the probes: whatever sees them may send a signal
    health = Health(settings.health_host, settings.health_port)
    try:
        await _Service(settings, Telemetry(settings, _instance()), health, source).run(stop, hangup, ready)
    finally:
        health.close()


class _Service:
    """Event loop only."""

    def __init__(self, settings: Settings, telemetry: Telemetry, health: Health, source: ModelSource) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._health = health
        self._source = source
        self._warnings = RateLimited(log)
        self._draining = False
        self._connection: Connection
        self._pool: WorkerPool
        self._publisher: Publisher
        self._ingest: LiveIngest | DurableIngest
        self._endpoints: Endpoints
        self._models: ModelSwap
        self._reports: StreamReports | None = None
        self._live: LiveSettings | None = None
        self._settings_watch: SettingsWatch | None = None

    async def run(self, stop: asyncio.Future[None], hangup: asyncio.Event, ready: Callable[[], object]) -> None:
        """Start, run until ``stop`` or a crash, stop; the model is loaded again at each ``hangup``, also one before it was ready."""
        starting = asyncio.create_task(self._start())
        await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            log.info("stopped before it was ready")
            self._telemetry.shutdown(OTLP_S)
            return
        starting.result()
        ready()
        work = {
            "publisher": self._publisher.run(),
            "sweep": self._ingest.sweep(),
            "files": self._endpoints.run(),
            "tick": self._tick(),
            "reload": self._reload(hangup),
            "watchdog": self._connection.watch(),
            "workers": self._pool.crashed(),
        }
        if self._settings.metrics_nats_secs:
            work["metrics"] = self._report_metrics()
        if self._settings_watch:
            work["live settings"] = self._settings_watch.run(
                partial(self._models.begin, unload_first=False, by="WHISPER_MODEL")
            )
        if self._reports:
            work["streams"] = self._reports.run()
        tasks = [asyncio.create_task(task, name=name) for name, task in work.items()]
        watched: set[asyncio.Future[None]] = {stop, self._connection.closed, *tasks}
        done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        crash = _crash_of(done)
        try:
            await self._stop(0 if crash else self._settings.shutdown_grace_secs)
            await cancel(tasks)
            await self._models.close()
            await self._connection.close()
            # Tasks and threads may have crashed meanwhile without anything that awaited them.
            threads = [worker.finished for worker in self._pool.workers]
            crash = crash or _crash_of([*watched, *threads, *self._ingest.tasks])
        finally:
            if crash:
                raise crash

    async def _start(self) -> None:
        """Broker, model, subject: every failure comes before "ready", the quickest first."""
        settings = self._settings
        self._connection = connection = Connection()
        await connection.open(settings, name=f"transcriber {settings.audio_subject}")
        log.info("connected", extra={"server": connection.server})
        started_s = time.monotonic()
        labeller = load_labeller(settings.most_held_back_s) if settings.speakers == "voices" else None
        label = partial(label_once, labeller) if labeller else None
        file = await in_thread(partial(ModelFile.find, self._source, settings))
        load = partial(load_fitting, self._source, file.path, settings=settings)
        self._pool = pool = await WorkerPool.start(settings, load, label)
        log.info(
            "warmed up",
            extra={
                "model": pool.model.name,
                "load_s": round(time.monotonic() - started_s, 2),
                "workers": len(pool.workers),
                "processes": settings.whisper_processes,
                "threads": settings.threads,
                "audio_ctx": settings.audio_ctx,
                "rtf": round(pool.rtf, 4),
                "queue_capacity": pool.capacity,
            },
        )
        self._publisher = Publisher(connection, settings.transcript_subject_prefix, self._telemetry, self._warnings)
        network = _load_network() if settings.window_policy.needs_detector else None
        model = ModelInUse(pool)
        live = await self._begin_live_settings(model)
        runtime = Runtime(settings, model, network, self._publisher, self._telemetry, self._warnings, labeller, live)
        self._ingest = ingest = (DurableIngest if settings.jetstream else LiveIngest)(connection, pool, runtime)
        self._endpoints = Endpoints(connection, pool, runtime)
        audit = AuditLog(JetStream(connection), settings, self._telemetry.instance)
        self._models = ModelSwap(settings, self._source, file, pool, audit, self._telemetry, self._model_swapped)
        self._observe()
        self._watch_device(lambda: pool.device)
        self._telemetry.observe_model(lambda: model.name)
        self._telemetry.start()  # from now on its threads read the figures; errors have been sent since it was made
        await ingest.subscribe()
        await self._endpoints.start()
        await self._take_admin_requests()
        if interval_s := settings.stream_status_secs:
            watch = StreamWatch(ingest.streams)
            self._reports = StreamReports(connection, watch, self._telemetry.instance, interval_s)
            await self._reports.start()
        self._health.started(
            ready={
                "connected": lambda: connection.connected,
                "subscribed": lambda: ingest.subscribed,
                "not_draining": lambda: not self._draining,
            },
            alive={"worker": lambda: pool.healthy},
        )
        event_loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        log.info(
            "ready",
            extra={"subject": settings.audio_subject, "health_port": self._health.port, "event_loop": event_loop},
        )

    async def _begin_live_settings(self, model: ModelFacts) -> LiveSettings | None:
        """Read what holds now, before there is audio."""
        settings, connection = self._settings, self._connection
        if not settings.live:
            return None
        await ready_config(connection, settings)
        self._live = live = LiveSettings(settings, self._telemetry.instance, model.supports)
        source = (
            FileSource(settings.config_file)
            if settings.config_file
            else BucketSource(ConfigBucket(followed(connection), settings.config_bucket))
        )
        self._settings_watch = SettingsWatch(source, live, self._warnings)
        await self._settings_watch.begin()
        self._telemetry.observe(config_changes=lambda: live.changes, config_refused=lambda: live.refused)
        return live

    async def _take_admin_requests(self) -> None:
        """Those on NATS, with ``ADMIN_REQUESTS=1``."""
        if not self._settings.admin_requests:
            return

        async def swap(request: SwapRequest) -> None:
            self._models.begin(request.model, unload_first=request.unload_first, by=request.by)

        async def nothing(_: StatusRequest) -> None:
            """Each answer has the state."""

        actions: dict[type, Action] = {SwapRequest: swap, StatusRequest: nothing}

        def state() -> dict[str, Any]:
            live = self._live
            followed = {"settings": live.listed(), "revision": live.layers.revision} if live else {}
            return {"model": self._pool.model.name, "swap": self._models.latest, **followed}

        await AdminEndpoint(self._connection, self._telemetry.instance, actions, state).start()

    def _model_swapped(self) -> None:
        self._endpoints.model_swapped()
        if self._live:
            self._live.check_again()

    async def _reload(self, hangup: asyncio.Event) -> None:
        """At each SIGHUP: the model of the settings, live ones included, if it is not loaded, or its file has changed."""
        while await hangup.wait():
            hangup.clear()
            named = self._live.model_named if self._live else ""
            try:
                self._models.begin(named or OF_SETTINGS, unload_first=False, by="SIGHUP")
            except RequestError as error:
                log.warning("SIGHUP does nothing: %s", error)

    def _observe(self) -> None:
        """Register the figures with telemetry."""
        self._telemetry.observe(
            queue_depth=lambda: self._pool.depth,
            queue_capacity=lambda: self._pool.capacity,
            queue_resized=lambda: self._pool.capacity_changes,
            buffer_size=lambda: self._ingest.open_samples,
            streams_active=lambda: self._ingest.active,
            streams_stalled=lambda: self._ingest.stalled,
            streams_fenced=lambda: self._ingest.fenced,
            lag_s=lambda: self._ingest.lag_s,
            consumer_resets=lambda: self._ingest.resets,
            nats_reconnects=lambda: self._connection.reconnects,
            messages_malformed=lambda: self._connection.client.malformed,
            messages_unsent=lambda: self._publisher.unsent,
            busy_s=lambda: self._pool.busy_s,
            workers=lambda: len(self._pool.workers),
            files_running=lambda: self._endpoints.files_running,
            rtf=lambda: self._pool.rtf,
            engine_restarts=lambda: self._pool.restarts,
        )

    def _watch_device(self, read: Callable[[], Device]) -> None:
        """Report where whisper runs, and the figures of the card if it is one now."""
        self._telemetry.observe_device(read)
        if (device := read()).kind == "cuda":
            self._telemetry.watch_card(partial(open_card, device.index))

    async def _stop(self, grace_s: float) -> None:
        """Drain in the order of the data: ingest, windows, queue, worker, text, figures.

        No more audio and requests are accepted; what was accepted is transcribed while the grace period lasts, and the rest
        becomes a gap or a 503.
        """
        deadline_s = time.monotonic() + grace_s + STOP_S
        self._draining = True
        log.info("draining", extra={"streams": self._ingest.active, "queue_depth": self._pool.depth})
        await asyncio.gather(self._ingest.drain(), self._endpoints.drain())
        self._ingest.close()
        grace_ends_s = time.monotonic() + grace_s
        await self._endpoints.answer(grace_s)
        await self._pool.stop(max(0.0, grace_ends_s - time.monotonic()))
        await asyncio.gather(self._endpoints.finish(FINISH_S), self._ingest.finish(FINISH_S))
        await self._publisher.drained(SENT_S)
        flushed = await self._connection.flush(min(FLUSH_S, deadline_s - time.monotonic() - OTLP_S))
        self._telemetry.shutdown(OTLP_S)
        self._warnings.flush()
        figures = self._telemetry.snapshot().metrics
        dropped = figures["transcriber.jobs.dropped"]
        log.info(
            "stopped",
            extra={
                "jobs_enqueued": figures["transcriber.jobs.enqueued"],
                "jobs_dropped": sum(dropped.values()) if isinstance(dropped, dict) else dropped,
                "queue_depth": self._pool.depth,
                "unsent": self._publisher.unsent,
                "flushed": flushed,  # False: the broker did not confirm that it has everything
            },
        )

    async def _tick(self) -> None:
        while True:
            self._health.tick()
            self._warnings.flush_due()
            await asyncio.sleep(TICK_S)

    async def _report_metrics(self) -> None:
        """Publish the figures on NATS, beside OTLP."""
        subject = f"transcriber.metrics.{self._telemetry.instance}"
        while True:
            await asyncio.sleep(self._settings.metrics_nats_secs)
            await self._connection.publish(subject, self._telemetry.snapshot().model_dump_json(by_alias=True).encode())


def _crash_of(futures: Iterable[asyncio.Future[Any]]) -> BaseException | None:
    """The exception of one that crashed; None if none did."""
    over = (future for future in futures if future.done() and not future.cancelled())
    return next((error for future in over if (error := future.exception())), None)


def _load_network() -> Network:
    """The network that detects speech."""
    from transcriber.audio.vad.silero import Silero  # noqa: PLC0415 - its runtime takes time and memory

    return Silero()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, where the extra of that name is installed."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _instance() -> str:
    """The name of this process, as one token of a subject."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', socket.gethostname())}-{os.getpid()}"
