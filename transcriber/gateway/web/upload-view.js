// The upload's page. In: a file. Out: its text, with progress, and downloads.

import { el, field, seconds, setText } from "./dom.js";
import { FORMS } from "./subtitles.js";
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

function progressText({ sent, done_s, total_s, eta_s }) {
  if (sent !== undefined) return sent < 1 ? `Sending: ${Math.round(sent * 100)} %` : "Sent; being transcribed…";
  const of = total_s ? ` of ${seconds(total_s)}` : "";
  return `Transcribed: ${seconds(done_s)}${of}${eta_s ? `, ${seconds(eta_s)} to go` : ""}`;
}

/** What a screen reader hears of a result, in one line. */
function summary({ duration, gaps }) {
  const held = gaps?.length ? `; not transcribed: ${gaps.map((gap) => `${seconds(gap.end - gap.start)} (${gap.reason})`).join(", ")}` : "";
  return `Done: ${seconds(duration)} of audio${held}.`;
}

/** Shows the upload in `main`; returns a function that stops it. */
export function uploadView(main) {
  const file = el("input", { type: "file", name: "file", required: true, accept: "audio/*,video/*" });
  const language = el("input", { name: "language", autocomplete: "off", maxlength: 20, placeholder: "found out, or such as en" });
  const prompt = el("input", { name: "prompt", autocomplete: "off", maxlength: 1000 });
  const send = el("button", { type: "submit", class: "primary" }, "Transcribe");
  const cancel = el("button", { type: "button", disabled: true, click: () => abort.abort() }, "Cancel");
  const bar = el("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress" });
  const status = el("p", { class: "note", role: "status" });
  const buttons = el("div", { class: "row", role: "group", "aria-label": "Downloads" });
  const result = el("p", { class: "result", id: "result" });
  let abort = new AbortController();

  const show = (progress) => {
    setText(status, progressText(progress));
    const share = progress.sent ?? (progress.total_s ? progress.done_s / progress.total_s : undefined);
    if (share === undefined || progress.sent === 1) bar.removeAttribute("value");
    else bar.value = share;
  };
  const run = async (event) => {
    event.preventDefault();
    abort = new AbortController();
    const [chosen] = file.files;
    send.disabled = true;
    cancel.disabled = bar.hidden = false;
    status.classList.remove("bad");
    buttons.replaceChildren();
    setText(result, "");
    try {
      const fields = { model: "whisper-1", language: language.value.trim(), prompt: prompt.value.trim() };
      const whole = await transcribe(chosen, fields, show, abort.signal);
      setText(status, summary(whole));
      status.classList.toggle("bad", Boolean(whole.gaps?.length));
      setText(result, whole.text);
      buttons.replaceChildren(...downloads(chosen, whole));
    } catch (error) {
      setText(status, error.message);
      status.classList.add("bad");
    }
    send.disabled = false;
    cancel.disabled = bar.hidden = true;
  };
  main.append(el("h1", {}, "Upload"),
    el("form", { class: "panel", submit: run }, field("Audio or video", file), field("Language", language),
      field("Names and terms that may occur", prompt), el("div", { class: "row" }, send, cancel)),
    bar, status, buttons, result);
  return () => abort.abort();
}
