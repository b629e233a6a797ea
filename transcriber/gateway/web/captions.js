// Captions. In: a Transcript. Out: a list that follows it, and stays at its end unless the reader has scrolled up.

import { el, setText } from "./dom.js";

function clock(start) {
  if (start === null) return "";
  const whole = Math.floor(start);
  const minutes = String(Math.floor(whole / 60) % 60).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  return `${hours ? `${hours}:` : ""}${minutes}:${String(whole % 60).padStart(2, "0")}`;
}

function newItem(line) {
  const text = el("span", { class: "text" }, el("span", { class: "firm" }), el("span", { class: "guess" }));
  return el("li", {}, el("span", { class: "time" }, clock(line.start)), el("span", { class: "who" }), text);
}

const COLOURS = 8;

/** The number of a speaker's colour: of channels from "0" on, of voices from "A" on. */
function colour(speaker) {
  const place = "01".indexOf(speaker);
  return (place >= 0 ? place : speaker.charCodeAt(0) - 65) % COLOURS;
}

function fill(item, line) {
  item.className = line.kind;
  if (line.language) item.lang = line.language;
  const [time, who, text] = item.children;
  setText(time, clock(line.start));
  setText(who, line.speaker === null ? "" : `Speaker ${line.speaker}`);
  if (line.speaker === null) delete who.dataset.colour;
  else who.dataset.colour = colour(line.speaker);
  setText(text.children[0], line.firm);
  setText(text.children[1], line.guess ? `${line.firm ? " " : ""}${line.guess}` : "");
}

/** A list of captions; `most` lines at a time, and `empty` while there is none. */
export class Captions {
  #items = new Map(); // by a line's key
  #list;
  #empty;
  #atEnd = true;

  constructor({ label, most = 300, className = "captions", empty = "No words since this page was opened." }) {
    this.most = most;
    this.#list = el("ol");
    this.#empty = el("p", { class: "facts" }, empty);
    this.node = el("div", { class: className, tabindex: "0", role: "group", "aria-label": label }, this.#empty, this.#list);
    this.node.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.node;
      this.#atEnd = scrollHeight - scrollTop - clientHeight < 60;
    });
    const resized = new ResizeObserver(() => this.#stay());
    resized.observe(this.node);
    resized.observe(this.#list);
  }

  #stay() {
    if (this.#atEnd) this.node.scrollTop = this.node.scrollHeight;
  }

  /** Draws what has changed. */
  draw(transcript) {
    const list = this.#list;
    const lines = transcript.shown.slice(-this.most);
    this.#empty.hidden = lines.length > 0;
    const wanted = new Set(lines.map((line) => line.key));
    // A partial has no voice yet: its words begin where they will be when it has.
    this.node.classList.toggle("named", lines.some((line) => line.speaker !== null));
    for (const [key, item] of this.#items) {
      if (wanted.has(key)) continue;
      item.remove();
      this.#items.delete(key);
    }
    lines.forEach((line, index) => {
      let item = this.#items.get(line.key);
      if (!item) this.#items.set(line.key, (item = newItem(line)));
      fill(item, line);
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    });
    this.#stay();
  }
}
