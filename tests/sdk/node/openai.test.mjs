// OpenAI's own Node SDK against a running gateway; LILLIPUT_* say where it is and what its recorded providers said.
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import test from "node:test";
import OpenAI from "openai";

const { LILLIPUT_BASE, LILLIPUT_KEY, LILLIPUT_MODEL: model, LILLIPUT_OWN_PORT, LILLIPUT_SAID } = process.env;
const said = JSON.parse(LILLIPUT_SAID);
const client = new OpenAI({ baseURL: LILLIPUT_BASE, apiKey: LILLIPUT_KEY, maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "Say hello in one short sentence." }];
const tools = [{ type: "function", function: { name: "look_up", parameters: { type: "object", properties: {} } } }];
const create = (fields, options) => client.chat.completions.create({ model, messages, ...fields }, options);
const all = async (stream) => {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
};

test("chat", async () => {
  const answer = await create({ max_tokens: 24, temperature: 0 });
  assert.ok(answer.choices[0].message.content);
  assert.ok(["stop", "length"].includes(answer.choices[0].finish_reason));
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("stream without usage", async () => {
  const chunks = await all(await create({ max_tokens: 24, stream: true }));
  assert.ok(chunks.map((c) => c.choices[0]?.delta.content ?? "").join(""));
  assert.ok(["stop", "length"].includes(chunks.at(-1).choices[0].finish_reason));
  assert.ok(chunks.every((c) => !c.usage));
});

test("stream with usage", async () => {
  const chunks = await all(await create({ max_tokens: 8, stream: true, stream_options: { include_usage: true } }));
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.ok(chunks.at(-1).usage.completion_tokens > 0);
});

test("tools", async () => {
  const answer = await create({ model: "tools/m", tools });
  const calls = answer.choices[0].message.tool_calls.map((c) => [c.function.name, JSON.parse(c.function.arguments)]);
  assert.deepEqual(calls, said["tools"].tool_calls);
  assert.equal(answer.choices[0].finish_reason, "tool_calls");
});

test("tools, streamed", async () => {
  const stream = client.chat.completions.stream({ model: "tools-stream/m", messages, tools });
  const message = await stream.finalMessage();
  const calls = message.tool_calls.map((c) => [c.function.name, JSON.parse(c.function.arguments)]);
  assert.deepEqual(calls, said["tools-stream"].tool_calls);
});

test("JSON schema", async () => {
  const schema = {
    type: "object",
    properties: { city: { type: "string" }, people: { type: "integer" } },
    required: ["city", "people"],
    additionalProperties: false,
  };
  const answer = await create({
    messages: [{ role: "user", content: "Paris has two million people. Write that as JSON." }],
    response_format: { type: "json_schema", json_schema: { name: "city", schema, strict: true } },
    max_tokens: 64,
    temperature: 0,
  });
  const told = JSON.parse(answer.choices[0].message.content);
  assert.deepEqual(Object.keys(told).sort(), ["city", "people"]);
  assert.ok(Number.isInteger(told.people));
});

test("logprobs", async () => {
  const answer = await create({ max_tokens: 4, temperature: 0, logprobs: true, top_logprobs: 3 });
  const scores = answer.choices[0].logprobs.content;
  assert.ok(scores.length > 0);
  for (const s of scores) {
    assert.ok(s.logprob <= 0);
    assert.equal(s.top_logprobs.length, 3);
  }
});

test("embeddings", async () => {
  const both = await client.embeddings.create({ model, input: ["a cat", "a dog"] });
  assert.equal(both.data.length, 2);
  assert.ok(both.data[0].embedding.length > 100);
  assert.notDeepEqual(both.data[0].embedding, both.data[1].embedding);
});

test("models", async () => {
  const listed = await all(await client.models.list());
  assert.ok(listed.some((m) => m.id === model));
  assert.equal((await client.models.retrieve(model)).id, model);
});

test("errors are the SDK's own types", async () => {
  const stranger = new OpenAI({ baseURL: LILLIPUT_BASE, apiKey: "sk-not-a-key", maxRetries: 0 });
  await assert.rejects(stranger.chat.completions.create({ model, messages }), OpenAI.AuthenticationError);
  await assert.rejects(create({ model: "lilliput/smolm2-135m" }), (e) => {
    assert.ok(e instanceof OpenAI.NotFoundError);
    assert.equal(e.code, "model_not_found");
    assert.ok(e.message.includes(model));
    return true;
  });
  await assert.rejects(create({ temperature: 9 }), (e) => e instanceof OpenAI.BadRequestError && e.param === "temperature");
  await assert.rejects(create({ model: "refused/m" }), (e) => {
    assert.ok(e instanceof OpenAI.BadRequestError);
    assert.ok(e.message.includes(said["refused"].error.message));
    return true;
  });
});

test("a caller that leaves is left by the provider", async () => {
  const server = http.createServer((request, response) => {
    request.resume();
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write('data: {"id":"c","choices":[{"index":0,"delta":{"content":"well"},"finish_reason":null}]}\n\n');
    response.on("close", () => server.emit("left"));
  });
  server.listen(Number(LILLIPUT_OWN_PORT), "127.0.0.1");
  await once(server, "listening");
  try {
    const left = once(server, "left", { signal: AbortSignal.timeout(10_000) });
    const stream = await create({ model: "own/m", stream: true });
    for await (const chunk of stream) {
      assert.equal(chunk.choices[0].delta.content, "well");
      break;
    }
    await left;
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
