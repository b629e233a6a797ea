// Access. In: the key, which lives in sessionStorage. Out: requests with it, and tickets where a browser cannot send it.

const NAME = "transcriber-key";
const ANSWER_MS = 10_000;

export const key = () => sessionStorage.getItem(NAME) ?? "";
export const setKey = (value) => (value ? sessionStorage.setItem(NAME, value) : sessionStorage.removeItem(NAME));
export const bearer = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

/** An answer that is an error; `status` is HTTP's. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** What an error answer says; `text` is its body. */
export function refusal(status, text) {
  let message = null;
  try {
    message = JSON.parse(text).error.message;
  } catch {
    // not ours, such as a proxy's
  }
  if (status === 401) return new Refused(status, "A key is needed: enter it under “Key”.");
  return new Refused(status, message || `The gateway answered with status ${status}.`);
}

/** `fetch` with the key, of a short answer; throws `Refused` for an error answer, and an Error if there is none. */
export async function request(path, options = {}) {
  const signal = AbortSignal.timeout(ANSWER_MS);
  const answer = await fetch(path, { signal, ...options, headers: { ...bearer(), ...options.headers } })
    .catch(() => {
      throw new Error("the gateway does not answer");
    });
  if (!answer.ok) throw refusal(answer.status, await answer.text());
  return answer;
}

/** The path with a fresh ticket, if there is a key. A ticket opens one connection, within 60 s. */
export async function ticketed(path, scopes, streams) {
  if (!key()) return path;
  const body = JSON.stringify(streams ? { scopes, streams } : { scopes });
  const answer = await request("/v1/tickets", {
    method: "POST", body, headers: { "Content-Type": "application/json" },
  });
  const { ticket } = await answer.json();
  return `${path}${path.includes("?") ? "&" : "?"}ticket=${encodeURIComponent(ticket)}`;
}

/** Why a WebSocket was not opened, which browsers hide: what an ordinary request is answered, or that there is no answer. */
export async function whyRefused() {
  try {
    await request("/v1/streams");
    return "the gateway refused the connection";
  } catch (error) {
    return error.message;
  }
}

/** The WebSocket address of a path. */
export function socketUrl(path) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}
