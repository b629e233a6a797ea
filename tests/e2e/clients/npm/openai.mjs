// OpenAI's client for Node. In: paths of a WAV file, of one with a speaker on each channel, and of PCM at 24 kHz. Out: JSON.

import fs from "node:fs";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

const [mono, stereo, pcm] = process.argv.slice(2);
const apiKey = "none";
const client = eval(process.env.CLIENT); // as docs/gateway.md has it

const transcribe = (options, file = mono) =>
  client.audio.transcriptions.create({ file: fs.createReadStream(file), model: "whisper-1", ...options });

async function formats() {
  const found = {};
  for (const response_format of ["json", "text", "srt", "vtt", "verbose_json"]) {
    found[response_format] = await transcribe({ response_format });
  }
  found.words = await transcribe({ response_format: "verbose_json", timestamp_granularities: ["word"], language: "en" });
  found.diarized_json = await transcribe({ response_format: "diarized_json", speakers: "channels" }, stereo);
  return found;
}

async function stream() {
  const events = [];
  for await (const event of await transcribe({ stream: true })) events.push(event);
  return events;
}

async function refused(options) {
  try {
    return await transcribe(options);
  } catch (error) {
    const { status, param, code } = error;
    return { name: error.constructor.name, status, param, code };
  }
}

function realtime() {
  const socket = eval(process.env.REALTIME);
  const events = [];
  return new Promise((resolve) => {
    socket.on("error", (error) => {
      events.push({ type: "error", message: error.message, param: error.error?.param });
      if (!error.error) resolve(events); // the connection's, not the gateway's
    });
    socket.on("session.created", () => {
      const input = (turn_detection) => ({ type: "transcription", audio: { input: { turn_detection } } });
      socket.send({ type: "session.update", session: input({ type: "semantic_vad" }) });
      socket.send({ type: "session.update", session: input(null) });
      const audio = fs.readFileSync(pcm);
      for (let at = 0; at < audio.length; at += 48000) {
        socket.send({ type: "input_audio_buffer.append", audio: audio.subarray(at, at + 48000).toString("base64") });
      }
      socket.send({ type: "input_audio_buffer.commit" });
    });
    socket.on("event", (event) => {
      if (event.type !== "error") events.push(event);
      if (event.type === "conversation.item.input_audio_transcription.completed") {
        socket.close();
        resolve(events);
      }
    });
  });
}

const found = {
  models: (await client.models.list()).data.map(({ id }) => id),
  formats: await formats(),
  stream: await stream(),
  temperature: await refused({ temperature: 0.4 }),
  model: await refused({ model: "large-v9" }),
  realtime: await realtime(),
};
console.log(JSON.stringify(found));
