// OpenAI's Node SDK: chat completions and Responses over providers of every dialect.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import {
  AFTER, ASK_BOTH, BOTH, CACHED, CITY, ECHO, HELLO, OUTPUT, PLAYED, PNG, PROMPT, RECORDED, SEEN, WEATHER,
  key, left, said, v1, waitUntilLeft,
} from "./stage.mjs";

const client = new OpenAI({ baseURL: v1, apiKey: key, maxRetries: 0 });
const flat = [
  { type: "function", name: "weather", parameters: WEATHER, strict: true },
  { type: "function", name: "lookup", parameters: { type: "object", properties: {} }, strict: false },
];
const tools = flat.map(({ type, ...rest }) => ({ type, function: rest }));
const url = `data:image/png;base64,${PNG.toString("base64")}`;
const calls = (message) => message.tool_calls.map((c) => [c.function.name, JSON.parse(c.function.arguments)]);
const items = (response) =>
  response.output.filter((i) => i.type === "function_call").map((i) => [i.name, JSON.parse(i.arguments)]);

for (const row of PLAYED) {
  const model = `${row}/m`;

  test(`${row}: chat`, async () => {
    const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content: HELLO }] });
    assert.equal(answer.choices[0].message.content, ECHO);
    assert.deepEqual([answer.usage.prompt_tokens, answer.usage.completion_tokens], [PROMPT, OUTPUT]);
    assert.equal(answer.usage.prompt_tokens_details.cached_tokens, CACHED);
  });

  test(`${row}: a stream with usage`, async () => {
    const stream = client.chat.completions.stream({
      model,
      messages: [{ role: "user", content: HELLO }],
      stream_options: { include_usage: true },
    });
    const answer = await stream.finalChatCompletion();
    assert.equal(answer.choices[0].message.content, ECHO);
    assert.equal((await stream.totalUsage()).completion_tokens, OUTPUT);
  });

  test(`${row}: a round of tools`, async () => {
    const messages = [{ role: "user", content: ASK_BOTH }];
    const { message, finish_reason } = (await client.chat.completions.create({ model, messages, tools })).choices[0];
    assert.deepEqual(calls(message), BOTH);
    assert.equal(finish_reason, "tool_calls");
    messages.push(message);
    for (const c of message.tool_calls) {
      messages.push({ role: "tool", tool_call_id: c.id, content: `result of ${c.function.name}` });
    }
    const after = await client.chat.completions.create({ model, messages, tools });
    assert.equal(after.choices[0].message.content, AFTER);
  });

  test(`${row}: structured output`, async () => {
    const answer = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: "'Oslo' 7" }],
      response_format: { type: "json_schema", json_schema: { name: "city", schema: CITY, strict: true } },
    });
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { city: "Oslo", people: 7 });
  });

  test(`${row}: an image`, async () => {
    const content = [{ type: "text", text: "What is it?" }, { type: "image_url", image_url: { url } }];
    const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content }] });
    assert.equal(answer.choices[0].message.content, SEEN);
  });

  test(`${row}: a response, whole and streamed`, async () => {
    const whole = await client.responses.create({ model, input: HELLO, store: false });
    assert.equal(whole.output_text, ECHO);
    const stream = client.responses.stream({ model, input: HELLO, store: false });
    let text = "";
    stream.on("response.output_text.delta", (event) => (text += event.delta));
    const answer = await stream.finalResponse();
    assert.equal(text, ECHO);
    for (const { usage } of [whole, answer]) {
      assert.deepEqual([usage.input_tokens, usage.output_tokens], [PROMPT, OUTPUT]);
      assert.equal(usage.input_tokens_details.cached_tokens, CACHED);
    }
  });

  test(`${row}: a round of tools as responses`, async () => {
    const input = [{ role: "user", content: ASK_BOTH }];
    const first = await client.responses.create({ model, input, tools: flat, store: false });
    assert.deepEqual(items(first), BOTH);
    input.push(...first.output);
    for (const c of first.output.filter((i) => i.type === "function_call")) {
      input.push({ type: "function_call_output", call_id: c.call_id, output: `result of ${c.name}` });
    }
    const after = await client.responses.create({ model, input, tools: flat, store: false });
    assert.equal(after.output_text, AFTER);
  });

  test(`${row}: a busy provider`, async () => {
    const messages = [{ role: "user", content: HELLO }];
    await assert.rejects(client.chat.completions.create({ model: `${row}/busy`, messages }), OpenAI.RateLimitError);
    await assert.rejects(client.responses.create({ model: `${row}/busy`, input: HELLO }), OpenAI.RateLimitError);
  });

  test(`${row}: leaving`, async () => {
    const before = await left();
    const stream = await client.responses.create({ model: `${row}/slow`, input: HELLO, stream: true, store: false });
    for await (const event of stream) if (event.type === "response.output_text.delta") break;
    stream.controller.abort();
    await waitUntilLeft(before);
  });
}

for (const row of RECORDED) {
  test(`${row}: recorded calls`, async () => {
    const messages = [{ role: "user", content: HELLO }];
    const whole = await client.chat.completions.create({ model: `${row}-whole/m`, messages, tools });
    assert.deepEqual(calls(whole.choices[0].message), said(`${row}-whole`));
    const stream = client.responses.stream({ model: `${row}-stream/m`, input: HELLO, tools: flat, store: false });
    assert.deepEqual(items(await stream.finalResponse()), said(`${row}-stream`));
  });
}

test("embeddings", async () => {
  const answer = await client.embeddings.create({ model: "chat/m", input: ["a cat", "a dog"] });
  assert.deepEqual(answer.data.map((d) => d.embedding.length), [8, 8]);
});

test("errors", async () => {
  const messages = [{ role: "user", content: HELLO }];
  const stranger = new OpenAI({ baseURL: v1, apiKey: "sk-no", maxRetries: 0 });
  await assert.rejects(stranger.chat.completions.create({ model: "chat/m", messages }), OpenAI.AuthenticationError);
  await assert.rejects(stranger.responses.create({ model: "chat/m", input: HELLO }), OpenAI.AuthenticationError);
  await assert.rejects(client.chat.completions.create({ model: "nothing-like-it", messages }), OpenAI.NotFoundError);
});
