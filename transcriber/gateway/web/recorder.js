// The microphone. In: a way to record. Out: chunks of encoded audio or PCM, and the level.

const SLICE_MS = 250;
const CONTAINERS = ["audio/webm;codecs=opus", "audio/mp4"];
const PCM = { S16LE: 2, F32LE: 4 }; // bytes of a sample

/** The container that this browser records, or null. */
export const container = () =>
  CONTAINERS.find((type) => typeof MediaRecorder !== "undefined" && MediaRecorder.isTypeSupported(type)) ?? null;

/** Why there can be no microphone on this page, or null. */
export function obstacle() {
  if (!isSecureContext) return "The microphone needs HTTPS or localhost.";
  if (!navigator.mediaDevices?.getUserMedia) return "This browser gives pages no microphone.";
  return null;
}

function toS16(samples) {
  const bytes = new DataView(new ArrayBuffer(samples.length * 2));
  samples.forEach((sample, index) => {
    const clipped = Math.max(-1, Math.min(1, sample));
    bytes.setInt16(2 * index, Math.round(clipped * (clipped < 0 ? 32768 : 32767)), true);
  });
  return bytes.buffer;
}

function toF32(samples) {
  const bytes = new DataView(new ArrayBuffer(samples.length * 4));
  samples.forEach((sample, index) => bytes.setFloat32(4 * index, sample, true));
  return bytes.buffer;
}

/** A chunk of audio: its bytes; its frames, if it is PCM, else 0; its seconds, of encoded audio only about. */
const chunk = (bytes, frames, duration) => ({ bytes, frames, duration });

/** Records what `form` says: "container", "S16LE" or "F32LE". `onEnded`: the device went away. */
export class Recorder {
  #stream;
  #context;
  #recorder = null;
  #stopped = null; // it has given its last slice: on request, or as the device went away
  #node = null;
  #rest = () => {}; // the worklet has given what it had
  #analyser;
  #chunks = Promise.resolve();
  #recorded = 0; // ms, when the last slice of a container ended

  static async open(form, onChunk, onEnded) {
    const self = new Recorder();
    self.#stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    self.#stream.getAudioTracks()[0].onended = onEnded;
    try {
      self.#context = new AudioContext();
      await self.#context.resume();
      const source = self.#context.createMediaStreamSource(self.#stream);
      self.#analyser = self.#context.createAnalyser();
      source.connect(self.#analyser);
      if (form in PCM) await self.#recordPcm(form, source, onChunk);
      else self.#recordContainer(onChunk);
    } catch (error) {
      await self.#release();
      throw error;
    }
    return self;
  }

  async #recordPcm(form, source, onChunk) {
    this.rate = this.#context.sampleRate;
    this.contentType = `audio/x-raw;format=${form};rate=${this.rate};channels=1`;
    this.bytesPerFrame = PCM[form];
    await this.#context.audioWorklet.addModule("/web/pcm-worklet.js");
    this.#node = new AudioWorkletNode(this.#context, "pcm", {
      numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit",
    });
    const convert = form === "S16LE" ? toS16 : toF32;
    this.#node.port.onmessage = ({ data }) => {
      if (data === null) this.#rest();
      else if (data.length) onChunk(chunk(convert(data), data.length, data.length / this.rate));
    };
    source.connect(this.#node);
  }

  #recordContainer(onChunk) {
    const type = container();
    this.contentType = type.split(";")[0];
    this.bytesPerFrame = 0;
    this.#recorder = new MediaRecorder(this.#stream, { mimeType: type });
    this.#recorder.ondataavailable = ({ data, timeStamp }) => {
      const duration = (timeStamp - this.#recorded) / 1000;
      this.#recorded = timeStamp;
      this.#chunks = this.#chunks.then(async () => {
        if (data.size) onChunk(chunk(await data.arrayBuffer(), 0, duration));
      });
    };
    this.#stopped = new Promise((resolve) => this.#recorder.addEventListener("stop", resolve, { once: true }));
    this.#recorded = performance.now();
    this.#recorder.start(SLICE_MS);
  }

  /** The present level, dBFS. */
  level() {
    const samples = new Float32Array(this.#analyser.fftSize);
    this.#analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    return 10 * Math.log10(power + 1e-12);
  }

  /** What is said from now on is not recorded; resolves when all before has been given. */
  async pause() {
    if (this.#recorder?.state === "recording") {
      const given = new Promise((resolve) => this.#recorder.addEventListener("pause", resolve, { once: true }));
      this.#recorder.requestData();
      this.#recorder.pause();
      await given;
    }
    if (this.#node) {
      const given = new Promise((resolve) => (this.#rest = resolve));
      this.#node.port.postMessage(true);
      await given;
    }
    await this.#chunks;
  }

  /** Records again. */
  resume() {
    this.#recorded = performance.now();
    this.#recorder?.resume();
    this.#node?.port.postMessage(false);
  }

  /** Ends the recording; resolves when its last chunk has been given. */
  async stop() {
    if (this.#recorder) {
      if (this.#recorder.state !== "inactive") this.#recorder.stop();
      await this.#stopped;
      await this.#chunks;
    } else {
      await this.pause();
    }
    await this.#release();
  }

  async #release() {
    this.#node?.disconnect();
    this.#stream.getTracks().forEach((track) => track.stop());
    await this.#context?.close();
  }
}
