// Anthropic's Node SDK at /v1/messages, over providers of every dialect.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import {
  AFTER, ASK_BOTH, BOTH, CACHED, ECHO, HELLO, OUTPUT, PLAYED, PNG, PROMPT, RECORDED, SEEN, WEATHER,
  base, key, left, said, waitUntilLeft,
} from "./stage.mjs";

const client = new Anthropic({ baseURL: base, apiKey: key, maxRetries: 0 });
const tools = [
  { name: "weather", input_schema: WEATHER },
  { name: "lookup", input_schema: { type: "object", properties: {} } },
];
const ask = (model, content = HELLO, more = {}) =>
  ({ model, max_tokens: 256, messages: [{ role: "user", content }], ...more });
const uses = (answer) => answer.content.filter((b) => b.type === "tool_use");
const calls = (answer) => uses(answer).map((b) => [b.name, b.input]);

for (const row of PLAYED) {
  const model = `${row}/m`;

  test(`${row}: a message`, async () => {
    const answer = await client.messages.create(ask(model));
    assert.deepEqual(answer.content.map((b) => b.text), [ECHO]);
    assert.equal(answer.stop_reason, "end_turn");
    const { input_tokens, cache_read_input_tokens, output_tokens } = answer.usage;
    assert.deepEqual([input_tokens, cache_read_input_tokens, output_tokens], [PROMPT - CACHED, CACHED, OUTPUT]);
  });

  test(`${row}: a stream`, async () => {
    let text = "";
    const stream = client.messages.stream(ask(model)).on("text", (piece) => (text += piece));
    const answer = await stream.finalMessage();
    assert.equal(text, ECHO);
    assert.equal(answer.usage.output_tokens, OUTPUT);
  });

  test(`${row}: a round of tools`, async () => {
    const request = ask(model, ASK_BOTH, { tools });
    const answer = await client.messages.stream(request).finalMessage();
    assert.deepEqual(calls(answer), BOTH);
    assert.equal(answer.stop_reason, "tool_use");
    const content = uses(answer).map((c) =>
      ({ type: "tool_result", tool_use_id: c.id, content: `result of ${c.name}` }));
    request.messages.push({ role: "assistant", content: answer.content }, { role: "user", content });
    assert.equal((await client.messages.create(request)).content.at(-1).text, AFTER);
  });

  test(`${row}: an image`, async () => {
    const source = { type: "base64", media_type: "image/png", data: PNG.toString("base64") };
    const answer = await client.messages.create(
      ask(model, [{ type: "text", text: "What is it?" }, { type: "image", source }]));
    assert.equal(answer.content[0].text, SEEN);
  });

  test(`${row}: a busy provider`, async () => {
    await assert.rejects(client.messages.create(ask(`${row}/busy`)), Anthropic.RateLimitError);
  });

  test(`${row}: leaving`, async () => {
    const before = await left();
    const stream = client.messages.stream(ask(`${row}/slow`));
    for await (const event of stream) if (event.type === "content_block_delta") break;
    stream.abort();
    await waitUntilLeft(before);
  });
}

for (const row of RECORDED) {
  test(`${row}: recorded calls`, async () => {
    assert.deepEqual(calls(await client.messages.create(ask(`${row}-whole/m`, HELLO, { tools }))), said(`${row}-whole`));
    const answer = await client.messages.stream(ask(`${row}-stream/m`, HELLO, { tools })).finalMessage();
    assert.deepEqual(calls(answer), said(`${row}-stream`));
  });
}

test("tokens are counted", async () => {
  const { max_tokens, ...request } = ask("claude/m");
  assert.equal((await client.messages.countTokens(request)).input_tokens, PROMPT);
});

test("errors", async () => {
  const stranger = new Anthropic({ baseURL: base, apiKey: "sk-no", maxRetries: 0 });
  await assert.rejects(stranger.messages.create(ask("claude/m")), Anthropic.AuthenticationError);
  await assert.rejects(client.messages.create(ask("nothing-like-it")), Anthropic.NotFoundError);
  await assert.rejects(client.messages.create(ask("claude/m", HELLO, { max_tokens: -1 })), Anthropic.BadRequestError);
});
