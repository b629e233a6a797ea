// Feeds. In: paths of EventSources and WebSockets. Out: their messages, reconnected with a fresh ticket until stopped.

import { request, socketUrl, ticketed, whyRefused } from "./session.js";

const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 10_000;

/**
 * Keeps a connection open. `connect(opened, isStopped)` resolves when it has ended and rejects when it could not be made;
 * `onState` gets "open", or "waiting" with the error. Returns a function that stops it.
 */
function keepOpen(connect, onState) {
  let stopped = false;
  let wake = () => {};
  (async () => {
    let wait = FIRST_WAIT_MS;
    while (!stopped) {
      try {
        await connect(() => {
          wait = FIRST_WAIT_MS;
          if (!stopped) onState("open");
        }, () => stopped);
        if (!stopped) onState("waiting", null);
      } catch (error) {
        if (!stopped) onState("waiting", error);
      }
      if (stopped) break;
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, wait);
      });
      wait = Math.min(2 * wait, MAX_WAIT_MS);
    }
  })();
  const online = () => wake();
  addEventListener("online", online);
  return () => {
    stopped = true;
    removeEventListener("online", online);
    wake();
  };
}

/** Server-sent events; `handlers` by event name get the parsed data. `probe` is a path that answers an ordinary request. */
export function events(path, scopes, handlers, onState = () => {}, probe = path) {
  let source = null;
  const stop = keepOpen(async (opened, isStopped) => {
    // EventSource hides why it is refused; an ordinary request says it.
    await request(probe, { headers: { Accept: "application/json" } });
    const url = await ticketed(path, scopes);
    if (isStopped()) return;
    await new Promise((resolve) => {
      source = new EventSource(url);
      source.onopen = opened;
      source.onerror = () => {
        source.close(); // its own reconnect would send a ticket that has expired
        resolve();
      };
      for (const [name, handle] of Object.entries(handlers)) {
        source.addEventListener(name, ({ data }) => data && handle(JSON.parse(data)));
      }
    });
  }, onState);
  return () => {
    stop();
    source?.close();
  };
}

/** The messages of a stream, over a WebSocket: browsers allow many more of them than of EventSources. */
export function transcript(stream, handle, onState = () => {}) {
  let socket = null;
  const path = `/v1/streams/${encodeURIComponent(stream)}/transcript`;
  const stop = keepOpen(async (opened, isStopped) => {
    const url = await ticketed(path, ["listen"], [stream]);
    if (isStopped()) return;
    let wasOpen = false;
    const reason = await new Promise((resolve) => {
      socket = new WebSocket(socketUrl(url));
      socket.onopen = () => {
        wasOpen = true;
        opened();
      };
      socket.onmessage = ({ data }) => handle(JSON.parse(data));
      socket.onclose = ({ reason: why }) => resolve(why);
    });
    if (reason || !wasOpen) throw new Error(reason || (await whyRefused()));
  }, onState);
  return () => {
    stop();
    socket?.close();
  };
}
