// In the audio thread. In: blocks of 128 frames. Out: messages of about 100 ms, mono, Float32Array.

const BLOCK_S = 0.1;

class Pcm extends AudioWorkletProcessor {
  #block = new Float32Array(Math.round(sampleRate * BLOCK_S));
  #filled = 0;

  process([input]) {
    const channel = input[0];
    if (!channel) return true;
    let read = 0;
    while (read < channel.length) {
      const part = channel.subarray(read, read + this.#block.length - this.#filled);
      this.#block.set(part, this.#filled);
      this.#filled += part.length;
      read += part.length;
      if (this.#filled === this.#block.length) {
        const whole = this.#block.slice();
        this.port.postMessage(whole, [whole.buffer]);
        this.#filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("pcm", Pcm);
