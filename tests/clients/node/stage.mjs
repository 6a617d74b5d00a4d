// What the tests of all Node clients share: the world they are told of, what they ask, and what is answered.
import { createHash } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { deflateSync, crc32 } from "node:zlib";

export const world = JSON.parse(process.env.LILLIPUT_WORLD);
export const { base, key } = world;
export const v1 = `${base}/v1`;
export const PLAYED = ["chat", "claude", "gemini", "responder"];
export const RECORDED = [...new Set(Object.keys(world.said).map((row) => row.slice(0, row.lastIndexOf("-"))))];
export const HELLO = "one two three";
export const ECHO = "You said: one two three";
export const [PROMPT, CACHED, OUTPUT] = [6, 3, 5];
export const WEATHER = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city", "days"],
  additionalProperties: false,
};
export const CITY = {
  type: "object",
  properties: { city: { type: "string" }, people: { type: "integer" } },
  required: ["city", "people"],
  additionalProperties: false,
};
export const ASK_BOTH = "Call weather for 'Oslo' and 3 days, and lookup for it too.";
export const CALLED = { city: "Oslo", days: 3 };
export const BOTH = [["weather", CALLED], ["lookup", {}]];
export const AFTER = "The tool said: result of weather; result of lookup";

function chunk(name, data) {
  const length = Buffer.alloc(4), sum = Buffer.alloc(4), body = Buffer.concat([Buffer.from(name), data]);
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}
export const PNG = Buffer.concat([
  Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
  chunk("IHDR", Buffer.from([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0])),
  chunk("IDAT", deflateSync(Buffer.from([0, 255, 0, 0]))),
  chunk("IEND", Buffer.alloc(0)),
]);
export const SEEN = `I see image image/png ${createHash("sha256").update(PNG).digest("hex").slice(0, 12)}`;

export const said = (row) => world.said[row].tool_calls.map(([name, args]) => [name, args]);

export async function left() {
  return await (await fetch(`${world.actor}/left`)).json();
}

// Waits until a played provider has noticed that a caller went away.
export async function waitUntilLeft(before) {
  for (let tries = 0; tries < 200; tries++) {
    if ((await left()) > before) return;
    await pause(50);
  }
  throw new Error("the provider still streams to a caller that has gone");
}
