// The key's page. In: a key. Out: it is kept in this tab until that is closed, and in no other place.

import { el, field, setText } from "./dom.js";
import { key, request, setKey } from "./session.js";

/** Shows the entry in `main`. */
export function keyView(main) {
  const input = el("input", { type: "password", name: "key", autocomplete: "off", spellcheck: "false" });
  const said = (now) => (now ? "A key is kept in this tab until it is closed." : "No key is kept.");
  const status = el("p", { class: "note", role: "status" }, said(key()));
  const keep = async (event) => {
    event.preventDefault();
    setKey(input.value.trim());
    input.value = "";
    try {
      await request("/v1/streams");
      setText(status, said(key()));
      status.classList.remove("bad");
    } catch (error) {
      setText(status, error.status === 401 ? "The gateway does not know this key." : error.message);
      status.classList.add("bad");
    }
  };
  const forget = () => {
    setKey("");
    setText(status, said(""));
  };
  main.append(el("h1", {}, "Key"),
    el("p", { class: "hint" }, "Where the gateway has keys, each may listen, publish or transcribe as far as it was given. ",
      "Whoever runs the gateway makes one; it stays in this tab, and is never part of an address."),
    el("form", { class: "panel", submit: keep }, field("Key", input),
    el("div", { class: "row" }, el("button", { type: "submit", class: "primary" }, "Use it"),
      el("button", { type: "button", click: forget }, "Forget it"))), status);
  return () => {};
}
