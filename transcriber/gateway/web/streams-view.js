// The start page. In: the figures of all streams and daemons. Out: a card a stream with its live words; a table of daemons.

import { Captions } from "./captions.js";
import { el, levelMeter, seconds, setText } from "./dom.js";
import { events, transcript } from "./feeds.js";
import { Transcript } from "./transcript.js";

const MAX_LIVE = 24; // streams whose words are followed at once; the others show their figures
const GONE_MS = 60_000; // a daemon that reports nothing for so long is gone
const LOOK_MS = 5000;

/** The figures by stream: of several sessions that of one which has not ended. */
export function byStream(figures) {
  const found = new Map();
  for (const figure of figures) {
    if (!found.has(figure.stream) || figure.state !== "ended") found.set(figure.stream, figure);
  }
  return found;
}

/** The address of a stream's own page. */
export const streamPage = (name) => `#/streams/${encodeURIComponent(name)}`;

class Card {
  live = false;
  stop = () => {};

  constructor(name) {
    this.name = name;
    this.text = new Transcript();
    this.captions = new Captions({ label: `Text of ${name}`, most: 4, className: "captions brief" });
    this.level = levelMeter(`Level of ${name}`);
    this.state = el("span", { class: "badge" });
    this.facts = el("p", { class: "facts" });
    this.node = el("li", { class: "card" },
      el("h2", {}, el("a", { href: streamPage(name) }, name), this.state), this.level.node, this.captions.node, this.facts);
  }

  /** Follows its words from now on. */
  follow() {
    this.live = true;
    this.stop = transcript(this.name, (message) => {
      this.text.take(message);
      this.captions.draw(this.text);
    }, (state) => this.text.connection(state) && this.captions.draw(this.text));
  }

  update(figure) {
    setText(this.state, figure.speaking ? "speaking" : figure.state);
    this.state.dataset.state = figure.speaking ? "speaking" : figure.state;
    this.level.set(figure.state === "ended" ? null : figure.level_dbfs);
    const facts = figure.state === "ended" ? [] : [`${seconds(figure.lag_s)} behind`];
    if (figure.lost_s) facts.push(`${seconds(figure.lost_s)} lost`);
    setText(this.facts, facts.join(" · "));
    this.facts.classList.toggle("bad", figure.lost_s > 0);
  }
}

function total(value) {
  if (value === null || typeof value !== "object") return value ?? 0;
  return Object.values(value).reduce((sum, count) => sum + count, 0);
}

/** A row of a daemon's metrics. */
function daemonRow({ instance, metrics }) {
  const of = (name) => metrics[`transcriber.${name}`];
  const busy = of("worker.busy");
  const dropped = total(of("jobs.dropped")) + total(of("chunks.dropped"));
  return el("tr", {}, el("th", { scope: "row" }, instance),
    el("td", {}, `${of("queue.depth") ?? "–"} of ${of("queue.capacity") ?? "–"}`),
    el("td", {}, busy === undefined ? "–" : `${Math.round(busy * 100)} %`),
    el("td", { class: dropped ? "bad" : null }, String(dropped)));
}

/** Shows all streams in `main`; returns a function that stops it. */
export function streamsView(main) {
  const cards = new Map();
  const daemons = new Map();
  const note = el("p", { class: "note", role: "status" }, "Connecting…");
  const list = el("ul", { class: "cards" });
  const rows = el("tbody");
  const heads = ["Daemon", "Queue", "Busy", "Dropped"].map((text) => el("th", { scope: "col" }, text));
  const table = el("div", { class: "scroll", hidden: true, tabindex: "0", role: "region", "aria-label": "Daemons" },
    el("table", {}, el("caption", {}, "Daemons"), el("thead", {}, el("tr", {}, ...heads)), rows));
  main.append(el("h1", {}, "Streams"), note, list, table);

  const onStreams = ({ streams }) => {
    const present = byStream(streams);
    for (const [name, card] of cards) {
      if (present.has(name)) continue;
      card.stop();
      card.node.remove();
      cards.delete(name);
    }
    for (const figure of present.values()) {
      let card = cards.get(figure.stream);
      if (!card) {
        cards.set(figure.stream, (card = new Card(figure.stream)));
        list.append(card.node);
      }
      card.update(figure);
    }
    const waiting = [...cards.values()].filter((card) => !card.live);
    waiting.slice(0, Math.max(0, MAX_LIVE - cards.size + waiting.length)).forEach((card) => card.follow());
    setText(note, streams.length ? "" : "No stream yet: publish one with the microphone.");
  };
  const drawDaemons = () => {
    for (const [instance, { at }] of daemons) if (performance.now() - at > GONE_MS) daemons.delete(instance);
    rows.replaceChildren(...[...daemons.values()].map(({ figures }) => daemonRow(figures)));
    table.hidden = !daemons.size;
  };
  const onMetrics = (figures) => {
    daemons.set(figures.instance, { figures, at: performance.now() });
    drawDaemons();
  };
  const timer = setInterval(drawDaemons, LOOK_MS);
  const stop = events("/v1/streams", ["listen"], { streams: onStreams, metrics: onMetrics }, (state, error) => {
    if (state === "waiting") setText(note, `Not connected: ${error?.message || "trying again"}`);
    note.classList.toggle("bad", state === "waiting");
  });
  return () => {
    clearInterval(timer);
    stop();
    for (const card of cards.values()) card.stop();
  };
}
