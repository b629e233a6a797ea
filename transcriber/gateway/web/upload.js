// An upload. In: a file, options. Out: its verbose_json, with its text as it is transcribed, and the progress of its job.

import { events } from "./feeds.js";
import { bearer, refusal } from "./session.js";

/** Server-sent events of a text that grows: `take(text)` gets all of it so far, and calls `onEvent(data)` once for each. */
export function eventReader(onEvent) {
  let read = 0;
  return (text) => {
    for (let end = text.indexOf("\n\n", read); end >= 0; end = text.indexOf("\n\n", read)) {
      const data = text.slice(read, end).split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      if (data.length) onEvent(JSON.parse(data.join("\n")));
      read = end + 2;
    }
  };
}

function formOf(file, fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) body.append(name, value);
  body.append("file", file, file.name);
  return body;
}

/**
 * Transcribes a file; `cancelled` is an AbortSignal. What has a job is followed by its id, which is among the answer's headers.
 * `on.sent(share)` while it is sent, `on.text(more)` as it is transcribed, `on.progress({state, done_s, total_s, eta_s})` of its job.
 * Resolves to the verbose_json; throws `Refused`, or an Error with one line.
 */
export async function transcribe(file, fields, on, cancelled) {
  let unfollow = () => {};
  const follow = (job) => {
    const path = `/v1/jobs/${encodeURIComponent(job)}`;
    unfollow = events(`${path}/events`, ["transcribe"], { progress: on.progress, job: () => unfollow() }, () => {}, path);
  };
  try {
    return await new Promise((resolve, reject) => {
      const xhr = new XMLHttpRequest(); // fetch has no progress of what is sent
      xhr.open("POST", "/v1/audio/transcriptions");
      for (const [name, value] of Object.entries(bearer())) xhr.setRequestHeader(name, value);
      const read = eventReader((event) => {
        if (event.type === "transcript.text.delta") on.text(event.delta);
        else if (event.type === "transcript.text.done") resolve(event);
        else if (event.error) reject(new Error(event.error.message));
      });
      xhr.upload.onprogress = ({ loaded, total }) => on.sent(loaded / total);
      xhr.upload.onload = () => on.sent(1);
      xhr.onreadystatechange = () => {
        const job = xhr.readyState === XMLHttpRequest.HEADERS_RECEIVED && xhr.getResponseHeader("X-Transcriber-Job");
        if (job) follow(job);
      };
      xhr.onprogress = () => xhr.status === 200 && read(xhr.responseText);
      xhr.onload = () => {
        if (xhr.status === 200) read(xhr.responseText);
        else reject(refusal(xhr.status, xhr.responseText));
        reject(new Error("The gateway stopped in the middle of its answer.")); // unless that was whole
      };
      xhr.onerror = () => reject(new Error("The connection to the gateway broke."));
      xhr.onabort = () => reject(new Error("Cancelled."));
      cancelled.addEventListener("abort", () => xhr.abort());
      xhr.send(formOf(file, { ...fields, response_format: "verbose_json", stream: "true" }));
    });
  } finally {
    unfollow();
  }
}
