// Calls through the gateway with the JavaScript SDK. Prints one line of JSON for each case.
"use strict";

const { Anthropic, APIError } = require("@anthropic-ai/sdk");

const [url, key] = process.argv.slice(2);
const model = "claude-opus-5-5";
const ask = { model, max_tokens: 64, messages: [{ role: "user", content: "say hi" }] };

const client = (user, more) => new Anthropic({ apiKey: key, baseURL: url, defaultHeaders: { "x-user-id": user }, ...more });

async function create(one) {
  const message = await one.messages.create(ask);
  return { text: message.content[0].text, output: message.usage.output_tokens, request_id: message._request_id };
}

async function stream(one) {
  const answer = one.messages.stream(ask);
  let text = "";
  answer.on("text", (words) => (text += words));
  const message = await answer.finalMessage();
  return { text, output: message.usage.output_tokens, request_id: answer.request_id };
}

const count = async (one) => ({ tokens: (await one.messages.countTokens({ model, messages: ask.messages })).input_tokens });

async function models(one) {
  const all = [];
  for await (const each of one.models.list()) all.push(each.id);
  return { models: all };
}

const batch = async (one) => ({ batch: (await one.messages.batches.create({ requests: [{ custom_id: "a", params: ask }] })).id });

async function run(name, user, what, more = {}) {
  const told = { case: name };
  const begun = process.hrtime.bigint();
  try {
    Object.assign(told, await what(client(user, more)));
  } catch (error) {
    const known = error instanceof Error || error instanceof APIError;
    Object.assign(told, { error: known ? error.constructor.name : "unknown", status: error.status ?? null, message: String(error.message) });
  }
  told.seconds = Number(process.hrtime.bigint() - begun) / 1e9;
  console.log(JSON.stringify(told));
}

(async () => {
  await run("create", "ana", create);
  await run("stream", "ana", stream);
  await run("count", "ana", count);
  await run("models", "ana", models);
  await run("batch", "ana", batch);
  await run("blocked", "blocked", create);
  await run("blocked stream", "blocked", stream);
  await run("spent before", "broke", create);
  await run("spent", "broke", create);
  await run("spent count", "broke", count);
  await run("hasty before", "hasty", create);
  await run("hasty", "hasty", create, { maxRetries: 0 });
  await run("late", "late", create, { maxRetries: 0 });
  await run("impatient", "impatient", create, { maxRetries: 0, timeout: 500 });
  await run("flaky", "flaky", create);
  await run("final", "final", create);
  await run("limited", "limited", stream);
  await run("cut", "cut", stream);
})();
