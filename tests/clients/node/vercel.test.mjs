// Vercel's AI SDK by its four ways to us: OpenAI (Responses), OpenAI-compatible (chat), Anthropic, Google.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import {
  ASK_BOTH, BOTH, CACHED, ECHO, HELLO, OUTPUT, PLAYED, PNG, PROMPT, RECORDED, SEEN,
  base, key, left, said, v1, waitUntilLeft,
} from "./stage.mjs";

const ways = (apiKey) => {
  const openai = createOpenAI({ baseURL: v1, apiKey });
  const google = createGoogleGenerativeAI({ baseURL: `${base}/v1beta`, apiKey });
  return {
    responses: (name) => openai(name),
    chat: (name) => openai.chat(name),
    compatible: createOpenAICompatible({
      name: "lilliput", baseURL: v1, apiKey, includeUsage: true, supportsStructuredOutputs: true,
    }),
    anthropic: createAnthropic({ baseURL: v1, apiKey }),
    // a name with a slash is taken for the whole path, so it says where models are
    google: (name) => google(`models/${name}`),
  };
};
const tools = {
  weather: tool({
    description: "Forecast",
    inputSchema: z.object({ city: z.string(), days: z.number().int() }),
    execute: async () => "result of weather",
  }),
  lookup: tool({ inputSchema: z.object({}), execute: async () => "result of lookup" }),
};
const calls = (list) => list.map((c) => [c.toolName, c.input]);
const quiet = { maxRetries: 0 };

for (const [way, connect] of Object.entries(ways(key))) {
  for (const row of PLAYED) {
    const model = connect(`${row}/m`);

    test(`${way} to ${row}: text`, async () => {
      const { text, finishReason, usage } = await generateText({ model, prompt: HELLO, ...quiet });
      assert.equal(text, ECHO);
      assert.equal(finishReason, "stop");
      assert.deepEqual([usage.inputTokens, usage.outputTokens], [PROMPT, OUTPUT]);
      assert.equal(usage.inputTokenDetails.cacheReadTokens, CACHED);
    });

    test(`${way} to ${row}: a stream`, async () => {
      const result = streamText({ model, prompt: HELLO, ...quiet });
      let text = "";
      for await (const piece of result.textStream) text += piece;
      assert.equal(text, ECHO);
      const usage = await result.usage;
      assert.deepEqual([usage.inputTokens, usage.outputTokens], [PROMPT, OUTPUT]);
    });

    test(`${way} to ${row}: a loop of tools`, async () => {
      const { text, steps } = await generateText({
        model, tools, prompt: ASK_BOTH, stopWhen: stepCountIs(3), ...quiet,
      });
      assert.deepEqual(calls(steps[0].toolCalls), BOTH);
      assert.match(text, /result of weather.*result of lookup/s);
    });

    test(`${way} to ${row}: a loop of tools, streamed`, async () => {
      const result = streamText({ model, tools, prompt: ASK_BOTH, stopWhen: stepCountIs(3), ...quiet });
      await result.consumeStream();
      assert.deepEqual(calls((await result.steps)[0].toolCalls), BOTH);
      assert.match(await result.text, /result of weather.*result of lookup/s);
    });

    test(`${way} to ${row}: structured output`, async () => {
      const schema = z.object({ city: z.string(), people: z.number().int() });
      const { output } = await generateText({ model, prompt: "'Oslo' 7", output: Output.object({ schema }), ...quiet });
      assert.deepEqual(output, { city: "Oslo", people: 7 });
    });

    test(`${way} to ${row}: an image`, async () => {
      const content = [{ type: "text", text: "What is it?" }, { type: "image", image: PNG, mediaType: "image/png" }];
      const { text } = await generateText({ model, messages: [{ role: "user", content }], ...quiet });
      assert.equal(text, SEEN);
    });
  }

  for (const row of RECORDED) {
    test(`${way} to ${row}: recorded calls`, async () => {
      const known = Object.fromEntries(
        said(`${row}-stream`).map(([name]) => [name, tool({ inputSchema: z.looseObject({}) })]));
      const result = streamText({ model: connect(`${row}-stream/m`), tools: known, prompt: HELLO, ...quiet });
      await result.consumeStream();
      assert.deepEqual(calls(await result.toolCalls), said(`${row}-stream`));
    });
  }

  test(`${way}: errors`, async () => {
    const failed = (status) => (error) => APICallError.isInstance(error) && error.statusCode === status;
    const ask = (model) => generateText({ model, prompt: HELLO, ...quiet });
    await assert.rejects(ask(ways("sk-no")[way]("chat/m")), failed(401));
    await assert.rejects(ask(connect("nothing-like-it")), failed(404));
    await assert.rejects(ask(connect("chat/busy")), failed(429));
  });

  test(`${way}: leaving`, async () => {
    const before = await left();
    const abort = new AbortController();
    const result = streamText({ model: connect("chat/slow"), prompt: HELLO, abortSignal: abort.signal, ...quiet });
    for await (const piece of result.textStream) if (piece) break;
    abort.abort();
    await waitUntilLeft(before);
  });
}

test("embeddings", async () => {
  const openai = createOpenAI({ baseURL: v1, apiKey: key });
  const { embeddings } = await embedMany({ model: openai.embedding("chat/m"), values: ["a cat", "a dog"], ...quiet });
  assert.deepEqual(embeddings.map((e) => e.length), [8, 8]);
});
