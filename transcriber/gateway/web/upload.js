// An upload. In: a file, options. Out: its verbose_json, with progress; a large file's job is found and followed meanwhile.

import { events } from "./feeds.js";
import { bearer, refusal, request } from "./session.js";

const LOOK_MS = 1000;

/** Sends the file; `onSent(share)` as it goes. `cancelled` is an AbortSignal. Resolves to the answer's body. */
function post(file, fields, onSent, cancelled) {
  return new Promise((resolve, reject) => {
    const body = new FormData();
    for (const [name, value] of Object.entries(fields)) if (value) body.append(name, value);
    body.append("file", file, file.name);
    const xhr = new XMLHttpRequest(); // fetch has no progress of what is sent
    xhr.open("POST", "/v1/audio/transcriptions");
    for (const [name, value] of Object.entries(bearer())) xhr.setRequestHeader(name, value);
    xhr.upload.onprogress = ({ loaded, total }) => onSent(loaded / total);
    xhr.upload.onload = () => onSent(1);
    xhr.onload = () => (xhr.status === 200 ? resolve(xhr.responseText) : reject(refusal(xhr.status, xhr.responseText)));
    xhr.onerror = () => reject(new Error("The connection to the gateway broke."));
    xhr.onabort = () => reject(new Error("Cancelled."));
    cancelled.addEventListener("abort", () => xhr.abort());
    xhr.send(body);
  });
}

async function ownJobs() {
  const { jobs } = await (await request("/v1/jobs")).json();
  return jobs.map(({ submission }) => submission);
}

/** Looks for the job of a file until there is one; resolves to its id, or null when `ended`. */
async function findJob(name, before, ended) {
  while (!ended.aborted) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    const found = ended.aborted ? null : (await ownJobs()).find(({ job, object }) => !before.has(job) && object.endsWith(`-${name}`));
    if (found) return found.job;
  }
  return null;
}

/**
 * Transcribes a file. `onProgress({sent})` while it is sent, `onProgress({job, done_s, total_s, eta_s})` of a job.
 * Resolves to the verbose_json; throws `Refused`, or an Error with one line.
 */
export async function transcribe(file, fields, onProgress, cancelled) {
  const ended = new AbortController();
  let stop = () => {};
  // Where files are not served there are no jobs to list.
  const before = await ownJobs().catch(() => null);
  const follow = async () => {
    const job = await findJob(file.name, new Set(before.map((known) => known.job)), ended.signal);
    if (!job) return;
    const path = `/v1/jobs/${encodeURIComponent(job)}`;
    stop = events(`${path}/events`, ["transcribe"], {
      progress: (progress) => onProgress({ job, ...progress }),
      job: () => stop(),
    }, () => {}, path);
  };
  let following = false;
  const onSent = (sent) => {
    onProgress({ sent });
    if (sent < 1 || following || !before) return;
    following = true;
    follow().catch(() => {}); // its answer comes all the same
  };
  try {
    return JSON.parse(await post(file, { ...fields, response_format: "verbose_json" }, onSent, cancelled));
  } finally {
    ended.abort();
    stop();
  }
}
