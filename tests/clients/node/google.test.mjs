// Google's Gen AI Node SDK at /v1beta, over providers of every dialect.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError, FunctionCallingConfigMode, GoogleGenAI } from "@google/genai";
import {
  ASK_BOTH, BOTH, CACHED, CITY, ECHO, HELLO, OUTPUT, PLAYED, PNG, PROMPT, RECORDED, SEEN, WEATHER,
  base, key, said,
} from "./stage.mjs";

const connect = (apiKey) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl: base } });
const { models, chats } = connect(key);
const tools = [
  { functionDeclarations: [{ name: "weather", parametersJsonSchema: WEATHER }, { name: "lookup" }] },
];
const calls = (list) => list.map((c) => [c.name, c.args ?? {}]);

for (const row of PLAYED) {
  const model = `${row}/m`;

  test(`${row}: content, whole and streamed`, async () => {
    const whole = await models.generateContent({ model, contents: HELLO });
    assert.equal(whole.text, ECHO);
    let text = "", last;
    for await (last of await models.generateContentStream({ model, contents: HELLO })) text += last.text ?? "";
    assert.equal(text, ECHO);
    for (const { usageMetadata: u, candidates } of [whole, last]) {
      assert.deepEqual([u.promptTokenCount, u.cachedContentTokenCount, u.candidatesTokenCount], [PROMPT, CACHED, OUTPUT]);
      assert.equal(candidates[0].finishReason, "STOP");
    }
  });

  test(`${row}: a chat`, async () => {
    const chat = chats.create({ model });
    assert.equal((await chat.sendMessage({ message: HELLO })).text, ECHO);
    assert.equal((await chat.sendMessage({ message: "four" })).text, "You said: four");
  });

  test(`${row}: a round of tools`, async () => {
    const contents = [{ role: "user", parts: [{ text: ASK_BOTH }] }];
    const answer = await models.generateContent({ model, contents, config: { tools } });
    assert.deepEqual(calls(answer.functionCalls), BOTH);
    const parts = answer.functionCalls.map(({ id, name }) =>
      ({ functionResponse: { id, name, response: { result: `result of ${name}` } } }));
    contents.push(answer.candidates[0].content, { role: "user", parts });
    const after = await models.generateContent({ model, contents, config: { tools } });
    assert.match(after.text, /result of weather.*result of lookup/s);
  });

  test(`${row}: a forced tool, streamed`, async () => {
    const functionCallingConfig = { mode: FunctionCallingConfigMode.ANY, allowedFunctionNames: ["weather"] };
    const config = { tools, toolConfig: { functionCallingConfig } };
    const got = [];
    for await (const chunk of await models.generateContentStream({ model, contents: "'Rome' 5", config })) {
      got.push(...(chunk.functionCalls ?? []));
    }
    assert.deepEqual(calls(got), [["weather", { city: "Rome", days: 5 }]]);
  });

  test(`${row}: structured output`, async () => {
    const config = { responseMimeType: "application/json", responseJsonSchema: CITY };
    const answer = await models.generateContent({ model, contents: "'Oslo' 7", config });
    assert.deepEqual(JSON.parse(answer.text), { city: "Oslo", people: 7 });
  });

  test(`${row}: an image`, async () => {
    const inlineData = { mimeType: "image/png", data: PNG.toString("base64") };
    const answer = await models.generateContent({ model, contents: [{ text: "What is it?" }, { inlineData }] });
    assert.equal(answer.text, SEEN);
  });

  test(`${row}: a busy provider`, async () => {
    await assert.rejects(models.generateContent({ model: `${row}/busy`, contents: HELLO }),
      (error) => error instanceof ApiError && error.status === 429);
  });
}

for (const row of RECORDED) {
  test(`${row}: recorded calls`, async () => {
    const whole = await models.generateContent({ model: `${row}-whole/m`, contents: HELLO, config: { tools } });
    assert.deepEqual(calls(whole.functionCalls), said(`${row}-whole`));
    const got = [];
    const asked = { model: `${row}-stream/m`, contents: HELLO, config: { tools } };
    for await (const chunk of await models.generateContentStream(asked)) got.push(...(chunk.functionCalls ?? []));
    assert.deepEqual(calls(got), said(`${row}-stream`));
  });
}

test("tokens are counted", async () => {
  assert.equal((await models.countTokens({ model: "gemini/m", contents: HELLO })).totalTokens, PROMPT);
});

test("embeddings", async () => {
  const answer = await models.embedContent({ model: "gemini/m", contents: ["a cat", "a dog"] });
  assert.deepEqual(answer.embeddings.map((e) => e.values.length), [8, 8]);
});

test("errors", async () => {
  const failed = (status) => (error) => error instanceof ApiError && error.status === status;
  await assert.rejects(connect("sk-no").models.generateContent({ model: "gemini/m", contents: HELLO }), failed(401));
  await assert.rejects(models.generateContent({ model: "nothing-like-it", contents: HELLO }), failed(404));
});
