// Feeds. In: paths of EventSources and WebSockets. Out: their messages, reconnected with a fresh ticket until stopped.

import { request, socketUrl, ticketed, whyRefused } from "./session.js";

const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 10_000;
const PROBE_MS = 10_000;
const ANSWER_MS = 5000;

const open = new Set(); // what ends each connection there is, given why
const waiting = new Set(); // what ends each wait before the next one

/** Ends all connections. A browser keeps one whose network is gone as if all were well, for as long as it has nothing to send. */
const dropAll = (why) => [...open].forEach((drop) => drop(why));

async function probe() {
  if (!open.size || document.hidden) return;
  try {
    await fetch("/livez", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
  } catch {
    dropAll("the gateway does not answer");
  }
}
setInterval(probe, PROBE_MS);
addEventListener("visibilitychange", probe);
addEventListener("offline", () => dropAll("this device has no network"));

/** Makes at once what connections are to be made. */
export const retry = () => [...waiting].forEach((wake) => wake());
addEventListener("online", retry);

/**
 * Keeps a connection open. `connect(opened, isStopped, ended)` resolves when it has ended, which it must once `ended`, a promise,
 * resolves, and rejects when it could not be made or broke with a reason. `onState` gets "open", or "waiting" with the error.
 * Returns a function that stops it.
 */
function keepOpen(connect, onState) {
  let stopped = false;
  let drop = () => {};
  let wake = () => {};
  (async () => {
    let wait = FIRST_WAIT_MS;
    while (!stopped) {
      const dropped = new Promise((resolve) => (drop = resolve));
      open.add(drop);
      try {
        await connect(() => {
          wait = FIRST_WAIT_MS;
          if (!stopped) onState("open");
        }, () => stopped, dropped);
        if (!stopped) onState("waiting", null);
      } catch (error) {
        if (!stopped) onState("waiting", error);
      }
      open.delete(drop);
      if (stopped) break;
      await new Promise((resolve) => {
        wake = resolve;
        waiting.add(wake);
        setTimeout(resolve, wait);
      });
      waiting.delete(wake);
      wait = Math.min(2 * wait, MAX_WAIT_MS);
    }
  })();
  return () => {
    stopped = true;
    drop("");
    wake();
  };
}

/** Server-sent events; `handlers` by event name get the parsed data. `ask` is a path that answers an ordinary request. */
export function events(path, scopes, handlers, onState = () => {}, ask = path) {
  return keepOpen(async (opened, isStopped, dropped) => {
    // EventSource hides why it is refused; an ordinary request says it.
    await request(ask, { headers: { Accept: "application/json" } });
    const url = await ticketed(path, scopes);
    if (isStopped()) return;
    const source = new EventSource(url);
    const ended = new Promise((resolve) => {
      source.onopen = opened;
      source.onerror = () => resolve("");
      for (const [name, handle] of Object.entries(handlers)) {
        source.addEventListener(name, ({ data }) => data && handle(JSON.parse(data)));
      }
    });
    const reason = await Promise.race([ended, dropped]);
    source.close(); // its own reconnect would send a ticket that has expired
    if (reason) throw new Error(reason);
  }, onState);
}

/** The messages of a stream, over a WebSocket: browsers allow many more of them than of EventSources. */
export function transcript(stream, handle, onState = () => {}) {
  const path = `/v1/streams/${encodeURIComponent(stream)}/transcript`;
  return keepOpen(async (opened, isStopped, dropped) => {
    const url = await ticketed(path, ["listen"], [stream]);
    if (isStopped()) return;
    let wasOpen = false;
    const socket = new WebSocket(socketUrl(url));
    const ended = new Promise((resolve) => {
      socket.onopen = () => {
        wasOpen = true;
        opened();
      };
      socket.onmessage = ({ data }) => handle(JSON.parse(data));
      socket.onclose = ({ reason: why }) => resolve(why);
    });
    const reason = await Promise.race([ended, dropped]);
    socket.onmessage = socket.onopen = null;
    socket.close();
    if (isStopped()) return;
    if (reason || !wasOpen) throw new Error(reason || (await whyRefused()));
  }, onState);
}
