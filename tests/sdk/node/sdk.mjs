// The vendors' Node SDKs as a program: one JSON line in, one out. {sidecar, call, args, options} names an entry of
// `calls` below; the answer is {value} or, for the error class that the SDK documents, {error}.
import { createInterface } from "node:readline";
import { VapiError } from "@vapi-ai/server-sdk";
import twilio from "twilio";
import { twilioClient } from "./snippets/twilio.mjs";
import { vapiClient } from "./snippets/vapi.mjs";

const ACCOUNT = "AC00000000000000000000000000000001";
const FROM = "+15550002222";

const onTwilio = ({ sidecar, options }) => twilioClient(ACCOUNT, "token", sidecar, options);
// JSON has no undefined, which is what leaves the SDK its own number of retries.
const onVapi = ({ sidecar, options: { maxRetries, ...options } }) =>
  vapiClient("token", sidecar, { ...options, maxRetries: maxRetries ?? undefined });
const sids = (list) => list.map(({ sid }) => sid);

const calls = {
  "twilio.place_call": async (to, [number]) =>
    (await onTwilio(to).calls.create({ to: number, from: FROM, url: "https://example.com/hello.xml" })).sid,
  "twilio.send_sms": async (to, [number]) =>
    (await onTwilio(to).messages.create({ to: number, from: FROM, body: "Your table is booked." })).sid,
  "twilio.list_messages": async (to, [limit, pageSize]) => sids(await onTwilio(to).messages.list({ limit, pageSize })),
  "twilio.list_services": async (to, [limit, pageSize]) =>
    sids(await onTwilio(to).messaging.v1.services.list({ limit, pageSize })),
  "twilio.list_services_by_base_url": async ({ sidecar }, [limit, pageSize]) => {
    const client = twilio(ACCOUNT, "token");
    client.messaging.baseUrl = `${sidecar}/twilio/messaging`;
    return sids(await client.messaging.v1.services.list({ limit, pageSize }));
  },
  "twilio.fetch_message": async (to, [sid]) => (await onTwilio(to).messages(sid).fetch()).sid,
  "twilio.redact_message": async (to, [sid]) => (await onTwilio(to).messages(sid).update({ body: "" })).sid,
  "twilio.delete_message": (to, [sid]) => onTwilio(to).messages(sid).remove(),
  "twilio.fetch_call": async (to, [sid]) => (await onTwilio(to).calls(sid).fetch()).sid,
  "twilio.end_call": async (to, [sid]) => (await onTwilio(to).calls(sid).update({ status: "completed" })).sid,
  "twilio.delete_call": (to, [sid]) => onTwilio(to).calls(sid).remove(),
  "vapi.create_call": async (to, [number]) =>
    (await onVapi(to).calls.create({ assistantId: "3f1f8a52-7c5e-4d0a-9d53-0a6f0d1c0001", customer: { number } })).id,
  "vapi.create_websocket_call": async (to) =>
    (
      await onVapi(to).calls.create({
        assistantId: "3f1f8a52-7c5e-4d0a-9d53-0a6f0d1c0001",
        transport: { provider: "vapi.websocket" },
      })
    ).transport.websocketCallUrl,
  "vapi.get_call": async (to, [id]) => (await onVapi(to).calls.get({ id })).id,
  "vapi.list_assistants": async (to) => (await onVapi(to).assistants.list()).map(({ id }) => id),
  "vapi.get_assistant": async (to, [id]) => (await onVapi(to).assistants.get({ id })).id,
  "vapi.rename_assistant": async (to, [id, name]) => (await onVapi(to).assistants.update({ id, name })).id,
};

function described(error) {
  if (error instanceof twilio.RestException) {
    const { status, code, message, details } = error;
    return { class: "RestException", status, code, text: message, details };
  }
  if (error instanceof VapiError) {
    return { class: "VapiError", status: error.statusCode, text: error.body?.message, details: error.body };
  }
  return { class: `unexpected ${error.constructor.name}`, text: String(error.stack) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const answer = await calls[request.call](request, request.args).then(
    (value) => ({ value }),
    (error) => ({ error: described(error) }),
  );
  console.log(JSON.stringify(answer));
}
