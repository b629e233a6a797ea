// Files to download. In: a verbose_json. Out: SRT, VTT, text and JSON; where speakers are distinguished each is named.

function stamp(seconds, mark) {
  const ms = Math.round(seconds * 1000);
  const two = (value) => String(value).padStart(2, "0");
  const [h, m, s] = [Math.floor(ms / 3_600_000), Math.floor(ms / 60_000) % 60, Math.floor(ms / 1000) % 60];
  return `${two(h)}:${two(m)}:${two(s)}${mark}${String(ms % 1000).padStart(3, "0")}`;
}

// "-->" within text would be read as a time, and "<" and "&" of VTT as tags.
const plain = (text) => text.trim().replaceAll("-->", "→");
const escaped = (text) => plain(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");

const named = (speaker, text) => (speaker ? `Speaker ${speaker}: ${text}` : text);

/** The text; with a line for each stretch of one speaker, where they are distinguished. */
export function spoken({ text, segments }) {
  const starts = [];
  let place = 0;
  for (const { speaker, text: said } of segments) {
    const begin = text.indexOf(said, place);
    if (begin < 0) return text;
    place = begin + said.length;
    if (!starts.length || starts.at(-1).speaker !== speaker) starts.push({ speaker, begin });
  }
  if (!starts.some(({ speaker }) => speaker)) return text;
  return starts.map(({ speaker, begin }, index) => named(speaker, text.slice(begin, starts[index + 1]?.begin).trim())).join("\n");
}

const cues = ({ segments, gaps }) => [
  ...segments, ...gaps.map(({ start, end, reason }) => ({ start, end, text: `[not transcribed: ${reason}]` })),
].sort((one, other) => one.start - other.start);

export const srt = (whole) => cues(whole)
  .map(({ start, end, text, speaker }, index) =>
    `${index + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${named(speaker, plain(text))}\n`)
  .join("\n");

export const vtt = (whole) => ["WEBVTT\n", ...cues(whole)
  .map(({ start, end, text, speaker }) =>
    `${stamp(start, ".")} --> ${stamp(end, ".")}\n${speaker ? `<v Speaker ${speaker}>` : ""}${escaped(text)}\n`)].join("\n");

/** By the end of the file's name: its type, and what makes it. */
export const FORMS = {
  txt: ["text/plain", (whole) => `${spoken(whole)}\n`],
  srt: ["application/x-subrip", srt],
  vtt: ["text/vtt", vtt],
  json: ["application/json", ({ type: _, ...whole }) => `${JSON.stringify(whole, null, 2)}\n`],
};
