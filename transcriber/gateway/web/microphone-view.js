// The microphone's page. In: a stream's name, a form. Out: a session that is published, with its level and its text.

import { Captions } from "./captions.js";
import { announce, el, field, seconds, setText } from "./dom.js";
import { transcript } from "./feeds.js";
import { Publisher } from "./publisher.js";
import { container, obstacle, Recorder } from "./recorder.js";
import { levelMeter, streamPage } from "./streams-view.js";
import { Transcript } from "./transcript.js";

const LEVEL_MS = 100;

function forms() {
  const type = container();
  const choices = type ? [["container", `Compressed (${type.split(";")[0]})`]] : [];
  return [...choices, ["S16LE", "PCM, 16 bits: resumes without loss"], ["F32LE", "PCM, 32 bits float"]];
}

function account({ online, message, confirmed_s, missing_s }) {
  const parts = [message];
  if (online && confirmed_s !== null) parts.push(`${seconds(confirmed_s)} received`);
  if (missing_s >= 0.05) parts.push(`${seconds(missing_s)} missing`);
  return parts.join(" · ");
}

function controls() {
  const name = el("input", {
    name: "stream", required: true, pattern: "[A-Za-z0-9_\\-]{1,64}", value: "microphone", autocomplete: "off",
    title: "letters, digits, _ and -, at most 64",
  });
  const form = el("select", { name: "form" }, ...forms().map(([value, label]) => el("option", { value }, label)));
  return { name, form };
}

/** One recording and its session. */
class Recording {
  static async start(stream, form, show) {
    const self = new Recording();
    let publisher = null;
    const early = []; // recorded before there is a publisher, which needs the recorder's form
    const give = (chunk) => (publisher ? publisher.send(chunk) : early.push(chunk));
    self.recorder = await Recorder.open(form, give, () => show({ message: "The microphone was unplugged.", online: false }));
    self.publisher = publisher = new Publisher(stream, self.recorder, show);
    early.forEach((chunk) => publisher.send(chunk));
    return self;
  }

  async stop() {
    await this.recorder.stop();
    await this.publisher.finish();
  }
}

/** Shows the microphone in `main`; returns a function that stops it. */
export function microphoneView(main) {
  main.append(el("h1", {}, "Microphone"));
  const reason = obstacle();
  if (reason) {
    main.append(el("p", { class: "note bad", role: "alert" }, reason));
    return () => {};
  }
  const { name, form } = controls();
  const level = levelMeter("Level of the microphone");
  const status = el("p", { class: "note", role: "status", id: "account" }, "Not recording.");
  const captions = new Captions({ label: "Your text" });
  const start = el("button", { type: "submit", class: "primary" }, "Record");
  const stop = el("button", { type: "button", disabled: true, click: () => end() }, "Stop");
  const now = el("button", { type: "button", disabled: true, click: () => recording?.publisher.endUtterance() }, "Text now");
  const link = el("a", { hidden: true }, "Captions for a screen");
  let recording = null;
  let unfollow = () => {};
  let followed = null;
  const timer = setInterval(() => recording && level.set(recording.recorder.level()), LEVEL_MS);

  const show = (state) => {
    setText(status, account({ confirmed_s: null, missing_s: 0, ...state }));
    status.classList.toggle("bad", !state.online || state.missing_s >= 0.05);
  };
  const enable = (running) => {
    start.disabled = name.disabled = form.disabled = running;
    stop.disabled = now.disabled = !running;
  };
  const follow = (stream) => {
    if (followed === stream) return;
    unfollow();
    followed = stream;
    const text = new Transcript();
    captions.draw(text);
    unfollow = transcript(stream, (message) => {
      const line = text.take(message);
      captions.draw(text);
      if (line) announce(line.firm);
    });
  };
  async function begin(event) {
    event.preventDefault();
    enable(true);
    setText(status, "Waiting for the microphone…");
    follow(name.value);
    link.href = streamPage(name.value);
    link.hidden = false;
    try {
      recording = await Recording.start(name.value, form.value, show);
    } catch (error) {
      show({ message: `No recording: ${error.message}`, online: false });
      enable(false);
    }
  }
  async function end() {
    const ending = recording;
    recording = null;
    stop.disabled = now.disabled = true;
    level.set(null);
    await ending?.stop();
    setText(status, `Stopped. ${status.textContent}`);
    enable(false);
  }
  main.append(
    el("form", { class: "panel", submit: begin },
      field("Stream", name), field("Audio", form), el("div", { class: "row" }, start, stop, now, link)),
    level.node, status, captions.node);
  return () => {
    clearInterval(timer);
    unfollow();
    recording?.stop();
  };
}
