// The text of a stream. In: our messages, in order of arrival. Out: lines to show. No DOM, so that it can be tried alone.

const MAX_LINES = 300;

/** `Nats-Msg-Id` of a message, as a revision names what it replaces. */
export function messageId(message, rev = 0) {
  const channel = Number(message.speaker ?? 0) || 0;
  return `${message.stream}:${message.session}:${channel}:${message.start_frame}:${message.type}:${rev}`;
}

const wordsOf = (message) => message.text.split(/\s+/).filter(Boolean);

function agreedWords(before, now) {
  let count = 0;
  while (count < before.length && count < now.length && before[count] === now[count]) count += 1;
  return count;
}

/** What a gap says. */
export function gapText(message) {
  const length = message.frames ? `${message.duration.toFixed(1)} s` : "audio of unknown length";
  return `${length} not transcribed: ${message.reason}${message.detail ? ` (${message.detail})` : ""}`;
}

function endText(message) {
  const lost = message.lost_s + message.dropped_s;
  const rest = lost ? `${message.lost_s.toFixed(1)} s lost, ${message.dropped_s.toFixed(1)} s dropped` : "nothing lost";
  return `Session ended: ${message.received_s.toFixed(1)} s received, ${rest}`;
}

/**
 * Lines of a stream: {id, kind, speaker, start, firm, guess, language}. `kind` is final, revision, partial, gap or end;
 * `firm` is text that stays, `guess` what the next partial may change.
 */
export class Transcript {
  lines = [];
  #open = new Map(); // by speaker: the words of its partial, and how many are agreed

  /** Takes a message; returns the line that is new and final, to announce, or null. */
  take(message) {
    switch (message.type) {
      case "partial":
        this.#partial(message);
        return null;
      case "final":
        this.#close(message);
        return message.text ? this.#add(message, "final", message.text) : null;
      case "gap":
        this.#close(message);
        return this.#add(message, "gap", gapText(message));
      case "silence":
        this.#close(message);
        return null;
      case "revision":
        this.#revise(message);
        return null;
      case "end":
        this.#open.clear();
        return this.#add(message, "end", endText(message));
      default:
        return null;
    }
  }

  /** The lines to show: those that stay, then the open partials. */
  get shown() {
    return [...this.lines, ...[...this.#open.values()].map((open) => open.line)];
  }

  #add(message, kind, text) {
    const id = messageId(message);
    const known = this.lines.find((line) => line.id === id);
    if (known) return null; // sent again after a reconnect
    const line = {
      id, kind, firm: text, guess: "", speaker: message.speaker ?? null, start: message.start, language: message.language,
    };
    this.lines.push(line);
    if (this.lines.length > MAX_LINES) this.lines.shift();
    return line;
  }

  #close(message) {
    if (message.speaker === undefined || message.speaker === null) this.#open.clear();
    else this.#open.delete(message.speaker);
  }

  #partial(message) {
    const speaker = message.speaker ?? null;
    const words = wordsOf(message);
    const before = this.#open.get(speaker);
    const same = before && before.session === message.session && before.segment === message.segment;
    const agreed = same ? agreedWords(before.words, words) : 0;
    const line = {
      id: `partial:${speaker ?? ""}`, kind: "partial", speaker, start: message.start, language: message.language,
      firm: words.slice(0, agreed).join(" "), guess: words.slice(agreed).join(" "),
    };
    this.#open.set(speaker, { session: message.session, segment: message.segment, words, line });
  }

  #revise(message) {
    const replaced = new Set(message.replaces);
    const first = this.lines.findIndex((line) => replaced.has(line.id));
    if (first < 0) return;
    const line = { ...this.lines[first], kind: "revision", firm: message.text, id: messageId(message, message.rev) };
    this.lines[first] = line;
    this.lines = this.lines.filter((other) => other === line || !replaced.has(other.id));
  }
}
