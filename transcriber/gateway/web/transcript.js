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

/** The channel that a message is of; null where channels are not transcribed separately: other labels are voices. */
const channelOf = (message) => (["0", "1"].includes(message.speaker) ? message.speaker : null);

/**
 * What each speaker says in a message, in order: {speaker, text, start}. A word without a label stays with those before it; where the
 * words are not those of the text, all of it is of the message's speaker.
 */
function stretches({ text, words, speaker, start }) {
  const whole = [{ speaker: speaker ?? null, text, start }];
  const found = [];
  let place = 0;
  let current = words?.find((word) => word.speaker)?.speaker ?? whole[0].speaker;
  for (const word of words ?? []) {
    const begin = text.indexOf(word.word, place);
    if (begin < 0 || text.slice(place, begin).trim()) return whole;
    place = begin + word.word.length;
    current = word.speaker ?? current;
    if (found.at(-1)?.speaker !== current) found.push({ speaker: current, begin, start: Math.max(start, word.start) });
  }
  if (!found.length || text.slice(place).trim()) return whole;
  found[0] = { ...found[0], start };
  return found.map((one, index) => ({ ...one, text: text.slice(one.begin, found[index + 1]?.begin).trim() }));
}

/** What a gap says. */
export function gapText(message) {
  const length = message.frames ? `${message.duration.toFixed(1)} s` : "audio of unknown length";
  return `${length} not transcribed: ${message.reason}${message.detail ? ` (${message.detail})` : ""}`;
}

function endText(message) {
  const parts = [[message.lost_s, "lost"], [message.dropped_s, "dropped"]].filter(([length]) => length);
  const rest = parts.map(([length, what]) => `${length.toFixed(1)} s ${what}`).join(", ") || "nothing lost";
  return `Session ended: ${message.received_s.toFixed(1)} s received, ${rest}`;
}

/**
 * Lines of a stream: {key, id, kind, speaker, start, firm, guess, language}. `kind` is final, revision, partial, gap, end or away;
 * `firm` is text that stays, `guess` what the next partial may change. `start` is null where it is not known. Each speaker of a
 * message has a line; all of them have its `id`, and each a `key` of its own, which stays when a revision takes its place. Lines of a
 * revision have `replaces`, the ids of what it replaced.
 */
export class Transcript {
  lines = [];
  #open = new Map(); // by channel: the words of its partial, and its line
  #named = null; // the speaker whose words were announced last
  #breaks = 0;
  #connected = null;

  /** Takes a message; returns what is new and final, to announce, or "". A speaker is named where another spoke before. */
  take(message) {
    switch (message.type) {
      case "partial":
        this.#partial(message);
        return "";
      case "final":
        this.#close(message);
        return message.text ? this.#add(message, "final", stretches(message)) : "";
      case "gap":
        this.#close(message);
        return this.#add(message, "gap", [{ speaker: message.speaker, text: gapText(message), start: message.start }]);
      case "silence":
        this.#close(message);
        return "";
      case "revision":
        this.#revise(message);
        return "";
      case "end":
        this.#open.clear();
        this.#named = null; // the labels of the next session are of others
        return this.#add(message, "end", [{ text: endText(message), start: message.start + message.duration }]);
      default:
        return "";
    }
  }

  /** Takes the state of the connection, "open" or another; returns whether there is a line more: that text may be missing. */
  connection(state) {
    const before = this.#connected;
    this.#connected = state === "open";
    if (before !== true || this.#connected) return false;
    this.#breaks += 1;
    this.#open.clear();
    const id = `away:${this.#breaks}`;
    this.#keep({
      key: id, id, kind: "away", firm: "The connection broke: text may be missing here", guess: "",
      speaker: null, start: null, language: null,
    });
    return true;
  }

  /** The lines to show: those that stay, then the open partials. */
  get shown() {
    return [...this.lines, ...[...this.#open.values()].map((open) => open.line)];
  }

  #add(message, kind, said) {
    const id = messageId(message);
    if (this.lines.some((line) => line.id === id || line.replaces?.includes(id))) return ""; // sent again after a reconnect
    said.forEach(({ speaker = null, text, start }, index) => this.#keep({
      key: `${id}/${index}`, id, kind, firm: text, guess: "", speaker, start, language: message.language,
    }));
    return said.map((one) => this.#announced(one)).join(" ");
  }

  #announced({ speaker = null, text }) {
    const named = speaker === null || speaker === this.#named;
    this.#named = speaker ?? this.#named;
    return named ? text : `Speaker ${speaker}: ${text}`;
  }

  #keep(line) {
    this.lines.push(line);
    this.#trim();
  }

  #close(message) {
    const channel = channelOf(message);
    if (channel === null) this.#open.clear();
    else this.#open.delete(channel);
  }

  #partial(message) {
    const channel = channelOf(message);
    const words = wordsOf(message);
    const before = this.#open.get(channel);
    const same = before && before.session === message.session && before.segment === message.segment;
    const agreed = same ? agreedWords(before.words, words) : 0;
    const key = `partial:${channel ?? ""}`;
    const line = {
      key, id: key, kind: "partial", speaker: message.speaker ?? null, start: message.start, language: message.language,
      firm: words.slice(0, agreed).join(" "), guess: words.slice(agreed).join(" "),
    };
    this.#open.set(channel, { session: message.session, segment: message.segment, words, line });
  }

  #revise(message) {
    const replaced = new Set(message.replaces);
    const first = this.lines.findIndex((line) => replaced.has(line.id));
    if (first < 0) return;
    const id = messageId(message, message.rev);
    const before = this.lines.filter((line) => replaced.has(line.id));
    const lines = stretches(message).map(({ speaker, text, start }, index) => ({
      key: before[index]?.key ?? `${id}/${index}`, id, kind: "revision", firm: text, guess: "", speaker, start,
      language: message.language, replaces: message.replaces,
    }));
    this.lines.splice(first, 0, ...lines);
    this.lines = this.lines.filter((line) => !replaced.has(line.id));
    this.#trim();
  }
  #trim() {
    while (this.lines.length > MAX_LINES) this.lines.shift();
  }
}
