// A session that is published. In: chunks of audio. Out: binary frames, resumed after a reconnect; what is missing is counted.

import { socketUrl, ticketed, whyRefused } from "./session.js";

const MAX_HELD_S = 60; // audio held while there is no connection, or until the broker has it
const FIRST_WAIT_MS = 300;
const MAX_WAIT_MS = 5000;
const ANSWER_MS = 4000; // positions come four times a second while audio goes: a connection without them is dead
const FINISH_MS = 30_000;
const DONE = 1000;

/** A new session id. */
export const newSession = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
};

const durationOf = (chunks) => chunks.reduce((sum, { duration }) => sum + duration, 0);

/** Ranges [from, to) without what they have in common. */
function union(ranges) {
  const apart = [];
  for (const [from, to] of [...ranges].sort((one, other) => one[0] - other[0])) {
    const last = apart.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else if (from < to) apart.push([from, to]);
  }
  return apart;
}

/** How many frames of ranges that are apart are before `end`. */
const framesBefore = (end, ranges) => ranges.reduce((sum, [from, to]) => sum + Math.max(0, Math.min(to, end) - from), 0);

/**
 * Publishes one session of `recorder`'s form on a stream. `ready()` is awaited before each connection. `onState({online, exact, confirmed_s,
 * held_s, missing_s, message})` at each change; seconds are `exact` of PCM.
 *
 * All audio is held until the broker has confirmed it. PCM that it lacks after a reconnect is sent again, with its offset.
 * Encoded audio that was under way is not: a piece that came twice would break the container worse than one that is missing,
 * which the daemon reports as a gap.
 */
export class Publisher {
  #stream;
  #recorder;
  #whenReady;
  #session = newSession();
  #onState;
  #socket = null;
  #abandon = () => {};
  #ready = false;
  #waitingSince = null; // when something was sent that nothing answered yet
  #held = []; // chunks with `start`, their first frame
  #frames = 0; // recorded so far
  #sent = 0; // held chunks that are sent on this connection
  #underWay = 0; // held chunks that were sent on earlier ones, and may have arrived
  #confirmed = 0; // PCM: the broker has the frames before this one, but for those that are missing
  #missing = []; // PCM: ranges of frames that will never arrive; those of encoded audio have no number
  #atOffset = 0; // the server expects this frame next
  #releasedBytes = 0; // of encoded audio on this connection
  #finishing = null;
  #endSent = false;
  #closed = false;
  #wait = FIRST_WAIT_MS;
  #wake = () => {};
  #state = { online: false, confirmed_s: 0, held_s: 0, missing_s: 0, message: "Connecting…" };

  constructor(stream, recorder, ready, onState) {
    this.#stream = stream;
    this.#recorder = recorder;
    this.#whenReady = ready;
    this.#onState = onState;
    this.#state.exact = recorder.bytesPerFrame > 0;
    addEventListener("online", this.#online);
    addEventListener("offline", this.#offline);
    addEventListener("pagehide", this.#leaving);
    this.#run();
  }

  /** Takes a chunk; the oldest is missing when more than `MAX_HELD_S` are held. */
  send(chunk) {
    this.#held.push({ ...chunk, start: this.#frames });
    this.#frames += chunk.frames;
    this.#pushOut();
    if (this.#ready && this.#waitingSince !== null && performance.now() - this.#waitingSince > ANSWER_MS) {
      this.#abandon("the gateway does not answer");
    }
    this.#flush();
    if (!this.#ready) this.#tell({ held_s: durationOf(this.#held) });
  }

  /** Ends the utterance now: its text comes at once. */
  endUtterance() {
    if (this.#ready) this.#socket.send(JSON.stringify({ type: "flush" }));
  }

  /** Sends what is held, then the session's end; resolves when the connection has closed. */
  async finish() {
    const done = new Promise((resolve) => (this.#finishing = resolve));
    const late = setTimeout(() => {
      this.#giveUp(this.#held.splice(0));
      this.#tell({ held_s: 0 });
      this.#closed = true;
      this.#abandon("");
      this.#wake();
    }, FINISH_MS);
    this.#flush();
    await done;
    clearTimeout(late);
  }

  #online = () => this.#wake();
  #offline = () => this.#abandon("this device has no network");
  #leaving = () => this.#ready && this.#sendEnd(); // or the daemon would wait for more

  /** Keeps no more than `MAX_HELD_S`; but of a container the first chunk, without which none can be read, until it has arrived. */
  #pushOut() {
    const first = this.#recorder.bytesPerFrame || this.#state.confirmed_s ? 0 : 1;
    while (durationOf(this.#held) > MAX_HELD_S && this.#held.length > first + 1) {
      const [oldest] = this.#held.splice(first, 1);
      if (first < this.#sent) {
        this.#sent -= 1;
        this.#releasedBytes += oldest.bytes.byteLength;
      }
      if (first < this.#underWay) this.#underWay -= 1;
      this.#giveUp([oldest]);
    }
  }

  /** Chunks that are held no more, and were not confirmed, are missing; PCM only until a connection says that they arrived. */
  #giveUp(chunks) {
    const { bytesPerFrame } = this.#recorder;
    this.#tell({ missing_s: bytesPerFrame ? this.#missingS() : this.#state.missing_s + durationOf(chunks) });
  }

  /** Seconds of PCM: of what is known to be missing, and of what is neither confirmed nor held. */
  #missingS() {
    return framesBefore(Infinity, union([...this.#missing, this.#hole])) / this.#recorder.rate;
  }

  get #hole() {
    return [this.#confirmed, this.#held[0]?.start ?? this.#frames];
  }

  #tell(change) {
    this.#state = { ...this.#state, ...change };
    this.#onState(this.#state);
  }

  async #run() {
    while (!this.#closed) {
      const reason = await this.#connect().catch((error) => error.message);
      this.#ready = false;
      this.#underWay = Math.max(this.#underWay, this.#sent);
      this.#sent = 0;
      if (this.#closed) break;
      this.#tell({ online: false, held_s: durationOf(this.#held), message: reason ? `Offline: ${reason}` : "Offline" });
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, this.#wait);
      });
      this.#wait = Math.min(2 * this.#wait, MAX_WAIT_MS);
    }
    removeEventListener("online", this.#online);
    removeEventListener("offline", this.#offline);
    removeEventListener("pagehide", this.#leaving);
    this.#finishing?.();
  }

  async #connect() {
    const query = new URLSearchParams({ session: this.#session, content_type: this.#recorder.contentType });
    const path = `/v1/streams/${encodeURIComponent(this.#stream)}/audio?${query}`;
    await this.#whenReady();
    const url = await ticketed(path, ["publish"], [this.#stream]);
    this.#endSent = false;
    this.#waitingSince = null;
    const socket = (this.#socket = new WebSocket(socketUrl(url)));
    let late = 0;
    const { code, reason } = await new Promise((resolve) => {
      // The close of a dead connection would take a minute to be noticed.
      this.#abandon = (why) => {
        socket.onmessage = socket.onclose = null;
        socket.close();
        resolve({ code: 0, reason: why });
      };
      late = setTimeout(() => this.#ready || this.#abandon("the gateway does not answer"), ANSWER_MS);
      socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
      socket.onclose = resolve;
    });
    clearTimeout(late);
    this.#abandon = () => {};
    if (this.#endSent && code === DONE) this.#closed = true;
    return reason || (this.#ready || this.#closed ? "" : whyRefused());
  }

  #take(message) {
    this.#waitingSince = null;
    if (message.type === "session") this.#resume(message);
    else if (message.type === "position") this.#confirm(message);
    else if (message.type === "error") this.#tell({ message: message.message });
  }

  #resume({ position, resumed, missing }) {
    this.#wait = FIRST_WAIT_MS;
    if (this.#recorder.bytesPerFrame) {
      this.#atOffset = position ?? 0;
      const lost = (missing ?? []).map(({ start_frame, frames }) => [start_frame, start_frame + frames]);
      this.#missing = union([...this.#missing, ...lost]); // the daemon may not have reported the holes before, or no longer
      if (resumed) this.#confirm({ frames: this.#atOffset });
      this.#missing = union([...this.#missing, this.#hole]);
      this.#giveUp([]);
    } else if (this.#state.confirmed_s) {
      this.#giveUp(this.#held.splice(0, this.#underWay));
    } // else nothing is known to have arrived, and without its first bytes a container cannot be read: all is sent again
    this.#sent = this.#underWay = this.#releasedBytes = 0;
    this.#ready = true;
    this.#tell({ online: true, held_s: 0, message: "Connected" });
    this.#flush();
  }

  #confirm({ frames, bytes }) {
    const { bytesPerFrame, rate } = this.#recorder;
    let { confirmed_s } = this.#state;
    if (bytesPerFrame) {
      while (this.#held.length && this.#held[0].start + this.#held[0].frames <= frames) this.#release();
      this.#confirmed = frames;
      confirmed_s = (frames - framesBefore(frames, this.#missing)) / rate;
    } else {
      while (this.#sent && this.#releasedBytes + this.#held[0].bytes.byteLength <= bytes) {
        this.#releasedBytes += this.#held[0].bytes.byteLength;
        confirmed_s += this.#held[0].duration;
        this.#release();
      }
    }
    this.#tell({ confirmed_s });
  }

  #release() {
    this.#held.shift();
    this.#sent = Math.max(0, this.#sent - 1);
  }

  #flush() {
    if (!this.#ready || this.#socket.readyState !== WebSocket.OPEN) return;
    for (; this.#sent < this.#held.length; this.#sent += 1) this.#sendChunk(this.#held[this.#sent]);
    if (this.#finishing && !this.#endSent) this.#sendEnd();
  }

  #sendEnd() {
    this.#endSent = true;
    this.#socket.send(JSON.stringify({ type: "end" }));
  }

  #sendChunk({ bytes, start, frames }) {
    const { bytesPerFrame } = this.#recorder;
    const known = bytesPerFrame ? Math.max(0, this.#atOffset - start) : 0; // the broker has the beginning of this chunk
    if (known && known >= frames) return;
    if (bytesPerFrame && start + known !== this.#atOffset) {
      this.#socket.send(JSON.stringify({ type: "offset", frame: start + known }));
    }
    this.#socket.send(known ? bytes.slice(known * bytesPerFrame) : bytes);
    this.#waitingSince ??= performance.now();
    this.#atOffset = start + frames;
  }
}
