// A session that is published. In: chunks of audio. Out: binary frames, resumed after a reconnect; what is missing is counted.

import { socketUrl, ticketed, whyRefused } from "./session.js";

const MAX_HELD_S = 60; // audio held while there is no connection, or until the broker has it
const MAX_WAIT_MS = 5000;
const FINISH_MS = 30_000;
const DONE = 1000;

/** A new session id. */
export const newSession = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
};

/**
 * Publishes one session of `recorder`'s form on a stream. `onState({online, confirmed_s, missing_s, message})` at each change.
 *
 * PCM is held until the broker has confirmed it, and what it lacks is sent again with its offset. Encoded audio is held only
 * until it is sent: the bytes that were under way when a connection broke are lost, and the daemon reports them as a gap.
 */
export class Publisher {
  #stream;
  #recorder;
  #session = newSession();
  #onState;
  #socket = null;
  #ready = false;
  #held = []; // chunks with `start`, their first frame
  #held_s = 0;
  #frames = 0; // recorded so far
  #sent = 0; // held chunks that are sent on this connection
  #atOffset = 0; // the server expects this frame next
  #finishing = null;
  #endSent = false;
  #closed = false;
  #wait = MAX_WAIT_MS / 16;
  #wake = () => {};
  #state = { online: false, confirmed_s: null, missing_s: 0, message: "Connecting…" };

  constructor(stream, recorder, onState) {
    this.#stream = stream;
    this.#recorder = recorder;
    this.#onState = onState;
    addEventListener("online", this.#online);
    addEventListener("offline", this.#offline);
    this.#run();
  }

  get session() {
    return this.#session;
  }

  /** Takes a chunk; the oldest is missing when more than `MAX_HELD_S` are held. */
  send(chunk) {
    this.#held.push({ ...chunk, start: this.#frames });
    this.#held_s += chunk.duration;
    this.#frames += chunk.frames;
    while (this.#held_s > MAX_HELD_S) {
      const oldest = this.#held.shift();
      this.#held_s -= oldest.duration;
      if (this.#sent) this.#sent -= 1;
      else this.#tell({ missing_s: this.#state.missing_s + oldest.duration });
    }
    this.#flush();
  }

  /** Ends the utterance now: its text comes at once. */
  endUtterance() {
    if (this.#ready) this.#socket.send(JSON.stringify({ type: "flush" }));
  }

  /** Sends what is held, then the session's end; resolves when the connection has closed. */
  async finish() {
    const done = new Promise((resolve) => (this.#finishing = resolve));
    const late = setTimeout(() => {
      this.#tell({ missing_s: this.#state.missing_s + this.#held_s });
      this.#closed = true;
      this.#socket?.close();
      this.#wake();
    }, FINISH_MS);
    this.#flush();
    await done;
    clearTimeout(late);
  }

  #online = () => this.#wake();
  #offline = () => this.#socket?.close(); // a dead connection would take minutes to be noticed

  #tell(change) {
    this.#state = { ...this.#state, ...change };
    this.#onState(this.#state);
  }

  async #run() {
    while (!this.#closed) {
      const reason = await this.#connect().catch((error) => error.message);
      this.#ready = false;
      if (this.#closed) break;
      this.#tell({ online: false, message: reason ? `Offline: ${reason}` : "Offline: recording goes on and is sent when the connection is back" });
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, this.#wait);
      });
      this.#wait = Math.min(2 * this.#wait, MAX_WAIT_MS);
    }
    removeEventListener("online", this.#online);
    removeEventListener("offline", this.#offline);
    this.#finishing?.();
  }

  async #connect() {
    const query = new URLSearchParams({ session: this.#session, content_type: this.#recorder.contentType });
    const path = `/v1/streams/${encodeURIComponent(this.#stream)}/audio?${query}`;
    const url = await ticketed(path, ["publish"], [this.#stream]);
    this.#endSent = false;
    const { code, reason } = await new Promise((resolve) => {
      this.#socket = new WebSocket(socketUrl(url));
      this.#socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
      this.#socket.onclose = resolve;
    });
    if (this.#endSent && code === DONE) this.#closed = true;
    return reason || (this.#ready || this.#closed ? "" : whyRefused());
  }

  #take(message) {
    if (message.type === "session") this.#resume(message);
    else if (message.type === "position") this.#confirm(message.frames);
    else if (message.type === "error") this.#tell({ message: message.message });
  }

  #resume({ position, missing }) {
    this.#wait = MAX_WAIT_MS / 16;
    const { bytesPerFrame, rate } = this.#recorder;
    if (bytesPerFrame) {
      this.#confirm(position);
      this.#sent = 0;
      this.#atOffset = position ?? 0;
      const hole = Math.max(0, (this.#held[0]?.start ?? this.#frames) - this.#atOffset);
      const lost = (missing ?? []).reduce((sum, { frames }) => sum + frames, 0);
      this.#tell({ missing_s: (lost + hole) / rate });
    }
    this.#ready = true;
    this.#tell({ online: true, message: "Connected" });
    this.#flush();
  }

  #confirm(frames) {
    if (frames === null || frames === undefined) return;
    if (this.#recorder.bytesPerFrame) {
      while (this.#held.length && this.#held[0].start + this.#held[0].frames <= frames) this.#release();
      this.#tell({ confirmed_s: frames / this.#recorder.rate });
    }
  }

  #release() {
    this.#held_s -= this.#held.shift().duration;
    this.#sent = Math.max(0, this.#sent - 1);
  }

  #flush() {
    if (!this.#ready || this.#socket.readyState !== WebSocket.OPEN) return;
    const { bytesPerFrame } = this.#recorder;
    while (this.#sent < this.#held.length) {
      const next = this.#held[this.#sent];
      if (bytesPerFrame) {
        const known = Math.max(0, this.#atOffset - next.start); // a chunk of which the broker has the beginning
        const bytes = known < next.frames ? next.bytes.slice(known * bytesPerFrame) : null;
        const from = next.start + known;
        if (from !== this.#atOffset) this.#socket.send(JSON.stringify({ type: "offset", frame: from }));
        if (bytes) this.#socket.send(bytes);
        this.#atOffset = next.start + next.frames;
        this.#sent += 1;
      } else {
        this.#socket.send(next.bytes);
        this.#held.shift();
        this.#held_s -= next.duration;
      }
    }
    if (this.#finishing && !this.#endSent) {
      this.#endSent = true;
      this.#socket.send(JSON.stringify({ type: "end" }));
    }
  }
}
