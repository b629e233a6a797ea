// In the audio thread. In: blocks of 128 frames; messages: true, to pause, or false. Out: blocks of about 100 ms, mono, Float32Array;
// to a pause the rest, however short, and null.

const BLOCK_S = 0.1;

class Pcm extends AudioWorkletProcessor {
  #block = new Float32Array(Math.round(sampleRate * BLOCK_S));
  #filled = 0;
  #paused = false;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => {
      this.#paused = data;
      if (!data) return;
      this.#give();
      this.port.postMessage(null);
    };
  }

  #give() {
    const whole = this.#block.slice(0, this.#filled);
    this.port.postMessage(whole, [whole.buffer]);
    this.#filled = 0;
  }

  process([input]) {
    const channel = input[0];
    if (!channel || this.#paused) return true;
    let read = 0;
    while (read < channel.length) {
      const part = channel.subarray(read, read + this.#block.length - this.#filled);
      this.#block.set(part, this.#filled);
      this.#filled += part.length;
      read += part.length;
      if (this.#filled === this.#block.length) this.#give();
    }
    return true;
  }
}

registerProcessor("pcm", Pcm);
