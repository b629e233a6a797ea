// The upload's page. In: a file. Out: its text, with progress, and downloads.

import { el, field, seconds, setText } from "./dom.js";
import { FORMS, spoken } from "./subtitles.js";
import { transcribe } from "./upload.js";

function download(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = el("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function downloads(file, whole) {
  const base = file.name.replace(/\.[^.]*$/, "") || "transcript";
  return Object.entries(FORMS).map(([form, [type, make]]) =>
    el("button", { type: "button", click: () => download(`${base}.${form}`, type, make(whole)) }, form.toUpperCase()));
}

const gapText = ({ start, end, reason, detail }) =>
  `${seconds(end - start)} not transcribed, at ${seconds(start)}: ${reason}${detail ? ` (${detail})` : ""}`;

/** What a screen reader hears of a result, in one line. */
function summary({ duration, language, gaps }) {
  const held = gaps.length ? `; ${gaps.length === 1 ? "a part" : `${gaps.length} parts`} of it could not be transcribed` : "";
  return `Done: ${seconds(duration)} of audio${language ? `, language ${language}` : ""}${held}.`;
}

function controls() {
  return {
    file: el("input", { type: "file", name: "file", required: true, accept: "audio/*,video/*" }),
    language: el("input", { name: "language", autocomplete: "off", maxlength: 20, placeholder: "found out, or such as en" }),
    prompt: el("input", { name: "prompt", autocomplete: "off", maxlength: 1000 }),
    send: el("button", { type: "submit", class: "primary" }, "Transcribe"),
    cancel: el("button", { type: "button", disabled: true }, "Cancel"),
  };
}

/** How far it is: a bar, and beside it the same in words, which are not announced. */
function progressBar() {
  const bar = el("progress", { max: 1, "aria-label": "Progress" });
  const words = el("span", { class: "facts", id: "progress" });
  const node = el("div", { class: "row progress", hidden: true }, bar, words);
  const set = (share, text) => {
    node.hidden = false;
    setText(words, text);
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
  };
  return {
    node,
    sent: (share) => set(share < 1 ? share : null, share < 1 ? `Sending, ${Math.round(share * 100)} %` : "Sent, being transcribed"),
    job: ({ state, done_s, total_s, eta_s }) => set(total_s ? done_s / total_s : null, state === "queued"
      ? "Waiting for its turn"
      : `${seconds(done_s)}${total_s ? ` of ${seconds(total_s)}` : ""} transcribed${eta_s ? `, about ${Math.ceil(eta_s)} s to go` : ""}`),
    hide: () => (node.hidden = true),
  };
}

/** Shows the upload in `main`; returns a function that stops it. */
export function uploadView(main) {
  const { file, language, prompt, send, cancel } = controls();
  const progress = progressBar();
  const status = el("p", { class: "state", role: "status" });
  const buttons = el("div", { class: "row", role: "group", "aria-label": "Downloads" });
  const gaps = el("ul", { class: "gaps" });
  const empty = el("p", { class: "facts" }, "The text appears here while it is transcribed.");
  const result = el("p", { class: "result", id: "result" });
  const output = el("section", { class: "panel", "aria-label": "Text" }, empty, result, gaps, buttons);
  let abort = new AbortController();

  const say = (state, text) => {
    status.dataset.state = state;
    setText(status, text);
  };
  const show = (chosen, whole) => {
    empty.hidden = true;
    setText(result, spoken(whole) || "No words were found in it.");
    gaps.replaceChildren(...whole.gaps.map((gap) => el("li", {}, gapText(gap))));
    buttons.replaceChildren(...downloads(chosen, whole));
    say(whole.gaps.length ? "offline" : "done", summary(whole));
  };
  const run = async (event) => {
    event.preventDefault();
    abort = new AbortController();
    const [chosen] = file.files;
    send.disabled = true;
    cancel.disabled = empty.hidden = false;
    for (const node of [buttons, gaps, result]) node.replaceChildren();
    say("recording", `Transcribing ${chosen.name}`);
    const text = (more) => {
      empty.hidden = true;
      result.append(more);
    };
    const on = { sent: progress.sent, progress: progress.job, text };
    const fields = { model: "whisper-1", language: language.value.trim(), prompt: prompt.value.trim() };
    try {
      show(chosen, await transcribe(chosen, fields, on, abort.signal));
    } catch (error) {
      say("offline", error.message);
    }
    progress.hide();
    send.disabled = false;
    cancel.disabled = true;
  };
  cancel.addEventListener("click", () => abort.abort());
  main.append(el("h1", {}, "Upload"),
    el("div", { class: "beside" },
      el("form", { class: "panel", submit: run }, field("Audio or video", file), field("Language", language),
        field("Names and terms that may occur", prompt), el("div", { class: "row" }, send, cancel), progress.node, status),
      output));
  return () => abort.abort();
}
