// The microphone's page. In: a stream's name, a form. Out: a session that is published, with its level and its text.

import { Captions } from "./captions.js";
import { announce, el, field, keepAwake, levelMeter, seconds, setText } from "./dom.js";
import { retry, transcript } from "./feeds.js";
import { Publisher } from "./publisher.js";
import { container, obstacle, Recorder } from "./recorder.js";
import { streamPage } from "./streams-view.js";
import { Transcript } from "./transcript.js";

const LEVEL_MS = 100;
const LISTEN_MS = 10_000;
const RETRY_MS = 300;
const UNPLUGGED = "The microphone was unplugged";
const MAX_PAUSE_MS = 20_000; // a daemon ends a session in which nothing comes for 30 s

function forms() {
  const type = container();
  const choices = type ? [["container", `Compressed (${type.split(";")[0]})`]] : [];
  return [...choices, ["S16LE", "PCM, 16 bits: resumes without loss"], ["F32LE", "PCM, 32 bits float"]];
}

/** What became of the audio, as far as it is known. */
function account({ exact, confirmed_s, held_s, missing_s }) {
  const about = exact ? "" : "about ";
  const parts = [`${about}${seconds(confirmed_s)} received`];
  if (held_s >= 0.05) parts.push(`${seconds(held_s)} held until there is a connection`);
  parts.push(missing_s >= 0.05 ? `${about}${seconds(missing_s)} missing` : "nothing missing");
  return parts.join(" · ");
}

/** One recording and its session. */
class Recording {
  static async start(stream, form, { ready, show, gone }) {
    const self = new Recording();
    let publisher = null;
    const early = []; // recorded before there is a publisher, which needs the recorder's form
    const give = (chunk) => (publisher ? publisher.send(chunk) : early.push(chunk));
    self.recorder = await Recorder.open(form, give, gone);
    self.letSleep = keepAwake();
    self.publisher = publisher = new Publisher(stream, self.recorder, ready, show);
    early.forEach((chunk) => publisher.send(chunk));
    return self;
  }

  async pause() {
    await this.recorder.pause();
    this.publisher.endUtterance();
  }

  async stop() {
    this.letSleep();
    await this.recorder.stop();
    await this.publisher.finish();
  }
}

function controls() {
  const name = el("input", {
    name: "stream", required: true, pattern: "[A-Za-z0-9_\\-]{1,64}", value: "microphone", autocomplete: "off",
    title: "letters, digits, _ and -, at most 64",
  });
  const form = el("select", { name: "form" }, ...forms().map(([value, label]) => el("option", { value }, label)));
  const button = (text) => el("button", { type: "button", disabled: true }, text);
  const start = el("button", { type: "submit", class: "primary" }, "Record");
  return { name, form, start, pause: button("Pause"), stop: button("Stop"), now: button("Text now") };
}

/** The text of the stream that is recorded; a stream is followed until another is. */
class OwnText {
  #followed = null;
  #unfollow = () => {};
  #settled = false; // it is open, or refused
  #onSettled = () => {};
  captions = new Captions({ label: "Your text", empty: "What you say appears here." });

  follow(stream) {
    if (this.#followed === stream) return;
    this.stop();
    this.#followed = stream;
    this.#settled = false;
    const text = new Transcript();
    this.captions.draw(text);
    this.#unfollow = transcript(stream, (message) => {
      const said = text.take(message);
      this.captions.draw(text);
      if (said) announce(said);
    }, (state, error) => {
      this.#settled = state === "open" || Boolean(error?.status);
      if (this.#settled) this.#onSettled();
      if (text.connection(state)) this.captions.draw(text);
    });
  }

  /** Resolves when text can be heard, or is refused: what is said of the audio that comes next, such as a gap, is not to be missed. */
  async listening() {
    if (this.#settled) return;
    const again = setInterval(retry, RETRY_MS);
    await new Promise((resolve) => {
      this.#onSettled = resolve;
      setTimeout(resolve, LISTEN_MS);
    });
    clearInterval(again);
  }

  stop() {
    this.#unfollow();
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
  const { name, form, start, pause, stop, now } = controls();
  const level = levelMeter("Level of the microphone");
  const status = el("p", { class: "state", role: "status", "data-state": "idle" }, "Not recording");
  const figures = el("p", { class: "facts", id: "account" });
  const text = new OwnText();
  const link = el("a", { hidden: true }, "Captions for a screen");
  let recording = null;
  let paused = null; // the timer that ends a long pause
  let latest = null; // of the publisher
  let left = false; // for another view
  const timer = setInterval(() => level.set(recording && paused === null ? recording.recorder.level() : null), LEVEL_MS);

  const say = (state, words) => {
    status.dataset.state = state;
    setText(status, words);
  };
  const show = (state) => {
    latest = { ...latest, ...state };
    if (!latest.online) say("offline", latest.message);
    else if (paused !== null) say("paused", "Paused");
    else say("recording", latest.message === "Connected" ? "Recording" : latest.message);
    setText(figures, account(latest));
    figures.classList.toggle("bad", latest.missing_s >= 0.05);
  };
  const enable = (running) => {
    start.disabled = name.disabled = form.disabled = running;
    pause.disabled = stop.disabled = now.disabled = !running;
  };
  const unpause = () => {
    clearTimeout(paused ?? undefined);
    paused = null;
    setText(pause, "Pause");
  };
  async function begin(event) {
    event.preventDefault();
    start.disabled = name.disabled = form.disabled = true;
    let unplugged = false; // perhaps before there is a recording to end
    latest = { confirmed_s: 0, held_s: 0, missing_s: 0 };
    say("idle", "Waiting for the microphone…");
    text.follow(name.value);
    link.href = streamPage(name.value);
    link.hidden = false;
    try {
      recording = await Recording.start(name.value, form.value, {
        show, ready: () => text.listening(), gone: () => {
          unplugged = true;
          if (recording) end(UNPLUGGED);
        },
      });
      enable(true);
      if (left) recording.stop();
      else if (unplugged) await end(UNPLUGGED);
    } catch (error) {
      say("offline", unplugged ? UNPLUGGED : `No recording: ${error.message}`);
      enable(false);
    }
  }
  async function end(why) {
    const ending = recording;
    recording = null;
    unpause();
    pause.disabled = stop.disabled = now.disabled = true;
    await ending?.stop();
    say("idle", why);
    enable(false);
  }
  async function toggle() {
    if (paused !== null) {
      unpause();
      recording.recorder.resume();
    } else {
      paused = setTimeout(() => end("Stopped after a long pause"), MAX_PAUSE_MS);
      setText(pause, "Resume");
      await recording.pause();
    }
    show({});
  }
  pause.addEventListener("click", toggle);
  stop.addEventListener("click", () => end("Stopped"));
  now.addEventListener("click", () => recording?.publisher.endUtterance());
  main.append(el("div", { class: "beside" },
    el("form", { class: "panel", submit: begin },
      field("Stream", name), field("Audio", form), el("div", { class: "keys" }, start, pause, stop, now),
      level.node, status, figures),
    el("section", { class: "panel", "aria-label": "Text" }, text.captions.node, link)));
  return () => {
    left = true;
    clearInterval(timer);
    clearTimeout(paused ?? undefined);
    text.stop();
    recording?.stop();
  };
}
