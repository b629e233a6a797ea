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

/** A labelled form control. */
export function field(label, control) {
  return el("label", { class: "field" }, el("span", {}, label), control);
}

export const seconds = (value) => `${Number(value).toFixed(1)} s`;
