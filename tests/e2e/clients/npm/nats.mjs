// NATS from Node. In: paths of a WAV file and of PCM at 24 kHz. Out: JSON.

import fs from "node:fs";
import { connect, headers } from "@nats-io/transport-node";

const [wav, pcm] = process.argv.slice(2);
const nats = await eval(process.env.CONNECT); // as docs/gateway.md has it

async function live() {
  const messages = nats.subscribe("transcripts.node.*");
  const audio = fs.readFileSync(pcm);
  const type = headers();
  type.set("Content-Type", "audio/x-raw;format=S16LE;rate=24000;channels=1");
  for (let at = 0; at < audio.length; at += 4800) {
    nats.publish("audio.node", audio.subarray(at, at + 4800), { headers: type }); // 0.1 s
  }
  const end = headers();
  end.set("Audio-End", "1");
  nats.publish("audio.node", new Uint8Array(), { headers: end });
  const found = [];
  for await (const message of messages) {
    found.push(message.json());
    if (found.at(-1).type === "end") break;
  }
  return found;
}

async function ask(data) {
  const format = headers();
  format.set("Response-Format", "verbose_json");
  const answer = await nats.request("transcriber.transcribe", data, { timeout: 60_000, headers: format });
  const code = answer.headers?.get("Nats-Service-Error-Code"); // an error is an answer, and throws nothing
  return code ? { code, error: answer.headers.get("Nats-Service-Error") } : answer.json();
}

const found = {
  live: await live(),
  clip: await ask(fs.readFileSync(wav)),
  refused: await ask(new TextEncoder().encode("no audio at all, but long enough to look at")),
};
await nats.close();
console.log(JSON.stringify(found));
