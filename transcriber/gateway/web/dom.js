// Elements. In: names, attributes, children. Out: nodes; text is only ever set as text, never parsed as HTML.

/** An element; attributes that are functions are listeners, and null or false leaves an attribute out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Sets a node's text if it differs, so that nothing is drawn or announced twice. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Announces a text to a screen reader. */
export function announce(text) {
  const region = document.getElementById("announcer");
  region.append(el("p", {}, text));
  while (region.childElementCount > 5) region.firstElementChild.remove();
}

/** Keeps the screen on, where the browser can; returns a function that lets it go off again. */
export function keepAwake() {
  let lock = null;
  let over = false;
  const ask = async () => {
    if (over || document.hidden) return;
    lock = await navigator.wakeLock?.request("screen").catch(() => null); // a battery may be too low
    if (over) lock?.release();
  };
  document.addEventListener("visibilitychange", ask); // a page that was hidden has lost it
  ask();
  return () => {
    over = true;
    document.removeEventListener("visibilitychange", ask);
    lock?.release();
  };
}

const QUIET_DBFS = -60;

/** A meter of a level in dBFS; null is silence. */
export function levelMeter(label) {
  const meter = el("meter", { min: QUIET_DBFS, max: 0, value: QUIET_DBFS, "aria-label": label });
  return { node: meter, set: (dbfs) => (meter.value = Math.max(QUIET_DBFS, dbfs ?? QUIET_DBFS)) };
}

/** A labelled form control. */
export function field(label, control) {
  return el("label", { class: "field" }, el("span", {}, label), control);
}

export const seconds = (value) => `${Number(value).toFixed(1)} s`;
