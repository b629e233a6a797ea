// Files to download. In: a verbose_json. Out: SRT, VTT, text and JSON.

function stamp(seconds, mark) {
  const ms = Math.round(seconds * 1000);
  const two = (value) => String(value).padStart(2, "0");
  const [h, m, s] = [Math.floor(ms / 3_600_000), Math.floor(ms / 60_000) % 60, Math.floor(ms / 1000) % 60];
  return `${two(h)}:${two(m)}:${two(s)}${mark}${String(ms % 1000).padStart(3, "0")}`;
}

// "-->" within text would be read as a time, and "<" and "&" of VTT as tags.
const plain = (text) => text.trim().replaceAll("-->", "→");
const escaped = (text) => plain(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");

export const srt = ({ segments }) => segments
  .map(({ start, end, text }, index) => `${index + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${plain(text)}\n`)
  .join("\n");

export const vtt = ({ segments }) => ["WEBVTT\n", ...segments
  .map(({ start, end, text }) => `${stamp(start, ".")} --> ${stamp(end, ".")}\n${escaped(text)}\n`)].join("\n");

/** By the end of the file's name: its type, and what makes it. */
export const FORMS = {
  txt: ["text/plain", ({ text }) => `${text}\n`],
  srt: ["application/x-subrip", srt],
  vtt: ["text/vtt", vtt],
  json: ["application/json", (whole) => `${JSON.stringify(whole, null, 2)}\n`],
};
