// The page. In: the address after #. Out: the view that it names, in <main>.

import { keyView } from "./key-view.js";
import { microphoneView } from "./microphone-view.js";
import { key, setKey } from "./session.js";
import { streamView } from "./stream-view.js";
import { streamsView } from "./streams-view.js";
import { uploadView } from "./upload-view.js";

const main = document.getElementById("main");
const VIEWS = { "": streamsView, microphone: microphoneView, upload: uploadView, key: keyView };
let leave = () => {};

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function show() {
  const [place, name] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  if (location.hash === "#main") return; // the skip link
  if (place === "key" && name) {
    if (!key()) setKey(name); // somebody else's link must not replace it
    history.replaceState(null, "", "#/");
    show();
    return;
  }
  leave();
  main.replaceChildren();
  leave = place === "streams" && name
    ? streamView(main, name)
    : (VIEWS[place] ?? streamsView)(main);
  const title = main.querySelector("h1").firstChild.textContent;
  document.title = `${title} · transcriber`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${place === "streams" ? "" : place}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

addEventListener("hashchange", () => {
  show();
  if (location.hash !== "#main") main.focus();
});
show();
