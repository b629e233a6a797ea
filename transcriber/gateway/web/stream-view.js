// A stream's own page. In: its name. Out: captions for a hall screen; finals go to the live region, guesses do not.

import { Captions } from "./captions.js";
import { announce, el, keepAwake, levelMeter, seconds, setText } from "./dom.js";
import { events, transcript } from "./feeds.js";
import { byStream } from "./streams-view.js";
import { Transcript } from "./transcript.js";

const SIZES = [1, 1.5, 2, 3, 4, 6];

/** Shows one stream in `main`; returns a function that stops it. */
export function streamView(main, name) {
  const text = new Transcript();
  const captions = new Captions({ label: `Captions of ${name}`, className: "captions hall" });
  const state = el("span", { class: "badge" });
  const level = levelMeter(`Level of ${name}`);
  const facts = el("span", { class: "facts" });
  const note = el("p", { class: "note bad", role: "status" });
  let size = 1;
  const scale = (step) => {
    size = Math.min(SIZES.length - 1, Math.max(0, size + step));
    captions.node.style.setProperty("--scale", SIZES[size]);
  };
  const whole = el("button", {
    type: "button",
    click: () => (document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen()),
  }, "Full screen");
  const stage = el("section", {
    class: "panel stage", "aria-label": `Captions of ${name}`,
    fullscreenchange: () => setText(whole, document.fullscreenElement ? "Leave full screen" : "Full screen"),
  },
    el("div", { class: "tools" },
      el("button", { type: "button", click: () => scale(-1) }, "Smaller"),
      el("button", { type: "button", click: () => scale(1) }, "Larger"), document.fullscreenEnabled ? whole : null),
    captions.node);
  main.append(el("h1", {}, name, state), el("div", { class: "row" }, level.node, facts), note, stage);
  scale(0);

  const stops = [
    keepAwake(),
    transcript(name, (message) => {
      const said = text.take(message);
      captions.draw(text);
      if (said) announce(said);
    }, (now, error) => {
      setText(note, now === "open" ? "" : `Not connected: ${error?.message || "trying again"}`);
      if (text.connection(now)) captions.draw(text);
    }),
    events("/v1/streams", ["listen"], {
      streams: ({ streams }) => {
        const figure = byStream(streams).get(name);
        const now = figure?.speaking ? "speaking" : (figure?.state ?? "absent");
        setText(state, now);
        state.dataset.state = now;
        level.set(figure?.level_dbfs);
        setText(facts, figure
          ? `${seconds(figure.lag_s)} behind${figure.lost_s ? ` · ${seconds(figure.lost_s)} lost` : ""}` : "");
      },
    }),
  ];
  return () => stops.forEach((stop) => stop());
}
