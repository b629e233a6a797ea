// Captions. In: a Transcript. Out: a list that follows it, and stays at its end unless the reader has scrolled up.

import { el, setText } from "./dom.js";

function clock(start) {
  const whole = Math.floor(start);
  const minutes = String(Math.floor(whole / 60) % 60).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  return `${hours ? `${hours}:` : ""}${minutes}:${String(whole % 60).padStart(2, "0")}`;
}

function newItem(line) {
  const text = el("span", { class: "text" }, el("span", { class: "firm" }), el("span", { class: "guess" }));
  return el("li", {}, el("span", { class: "time" }, clock(line.start)), el("span", { class: "who" }), text);
}

function fill(item, line) {
  item.className = line.kind;
  if (line.language) item.lang = line.language;
  const [time, who, text] = item.children;
  setText(time, clock(line.start));
  setText(who, line.speaker === null ? "" : `Speaker ${line.speaker}`);
  setText(text.children[0], line.firm);
  setText(text.children[1], line.guess ? `${line.firm ? " " : ""}${line.guess}` : "");
}

/** A list of captions; `most` lines at a time. */
export class Captions {
  #items = new Map(); // by a line's id

  constructor({ label, most = 300, className = "captions" }) {
    this.most = most;
    this.node = el("ol", { class: className, "aria-label": label, tabindex: "0" });
  }

  /** Draws what has changed. */
  draw(transcript) {
    const { node } = this;
    const atEnd = node.scrollHeight - node.scrollTop - node.clientHeight < 60;
    const lines = transcript.shown.slice(-this.most);
    const wanted = new Set(lines.map((line) => line.id));
    for (const [id, item] of this.#items) {
      if (wanted.has(id)) continue;
      item.remove();
      this.#items.delete(id);
    }
    lines.forEach((line, index) => {
      let item = this.#items.get(line.id);
      if (!item) this.#items.set(line.id, (item = newItem(line)));
      fill(item, line);
      if (node.children[index] !== item) node.insertBefore(item, node.children[index] ?? null);
    });
    if (atEnd) node.scrollTop = node.scrollHeight;
  }
}
