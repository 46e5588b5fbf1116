// The status page in a real browser, on the real binary. Each test says which promise it guards; the last line counts.

import assert from "node:assert/strict";
import { audit, demo, launch, open, proxy, until, upstream } from "./rig.mjs";

const FILE = (vendor, more = "") => `
environment: staging
listen: [{ name: app, address: "@APP@" }]
admin: { address: "@ADMIN@" }
access_log: { format: off }
stubs: { enabled: false }
clients: { identify_by: [header:X-Client-ID, ip] }
rate_limits:
  per_client: { requests: 60, per: 1h }
defaults:
  breaker: { failure_threshold: 2, recovery_timeout: 50s }
upstreams:
  vapi: { url: "${vendor.url}", profile: vapi }
routes:
  - { name: vapi, match: { path: "/vapi/{*rest}" }, upstream: vapi, rewrite: "/{rest}", rate_limit: per_client }
${more}`;

let browser;
const tests = [];
const test = (promise, run) => tests.push([promise, run]);

/** Runs with a vendor and a proxy before it that end with the test. */
function rigged(run, file = FILE) {
  return async () => {
    const vendor = await upstream();
    const running = await proxy(file(vendor));
    try {
      await run(vendor, running);
    } finally {
      running.stop();
      vendor.stop();
    }
  };
}

async function trip(vendor, running) {
  vendor.mood = "failing";
  for (const id of ["order-1", "order-2"]) {
    await running.call("/vapi/x?secret=canary-query", { headers: { "X-Correlation-ID": id, Authorization: "Bearer canary-credential", "X-Client-ID": "canary-client" } });
  }
  await until("the circuit to open", async () => (await running.status()).breakers[0].state === "open");
}

const shows = (page, selector, words) => page.locator(selector, { hasText: words }).first().waitFor();

test("a calm page says so, and every empty part says what would be there", rigged(async (_, running) => {
  const { page, complaints } = await open(browser, running.url);
  await shows(page, "#verdict", "All calls flow");
  await shows(page, ".card.closed .badge", "closed");
  for (const [part, words] of [["duplicates", "Nothing is held"], ["limits", "No client was refused"], ["routes", "no request yet"]]) {
    await shows(page, `#${part}`, words);
  }
  await shows(page, "#link", "live");
  assert.deepEqual(complaints, []);
}));

test("an opening shows without a reload: why, since when, and a countdown to the probe", rigged(async (vendor, running) => {
  const { page, complaints } = await open(browser, running.url);
  await shows(page, "#link", "live");
  await trip(vendor, running);
  await shows(page, "#verdict", "vapi is open");
  await shows(page, ".card.open .why", "2 calls in a row failed");
  await shows(page, ".card.open .failures", "order-2");
  const left = async () => parseInt(await page.locator(".next strong").textContent(), 10);
  const first = await left();
  assert.ok(first > 0 && first <= 50, `${first}`);
  await until("the countdown to go on", async () => (await left()) < first - 1);
  await shows(page, "#events", "closed to open");
  assert.deepEqual(complaints, []);
}));

test("an id is copied with a click", rigged(async (vendor, running) => {
  await trip(vendor, running);
  const { page, context } = await open(browser, running.url);
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.getByRole("button", { name: "Copy order-2" }).click();
  await shows(page, ".toast", "Copied order-2");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "order-2");
}));

test("an override asks for a reason and a time, says what came of it, and shows its end", rigged(async (_, running) => {
  const { page, complaints } = await open(browser, running.url);
  await page.getByRole("button", { name: "Hold open: vapi" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Hold open" }).click();
  assert.ok(await dialog.isVisible(), "without a reason nothing is sent");
  await dialog.getByLabel("For how long").selectOption("5m");
  await dialog.getByLabel("Reason").fill("a <b>drill</b>");
  await dialog.getByRole("button", { name: "Hold open" }).click();
  await shows(page, ".toast", "vapi is held open until");
  await shows(page, ".held", "a <b>drill</b>");
  await shows(page, ".held", "left");
  assert.equal(await running.call("/vapi/x"), 503);
  assert.equal((await running.status()).breakers[0].override.state, "open");
  const back = page.getByRole("button", { name: "Back to automatic: vapi" });
  await back.focus();
  await page.keyboard.press("Enter");
  await page.keyboard.type("over");
  await page.keyboard.press("Enter");
  await shows(page, ".toast", "vapi is automatic again");
  await until("calls to flow", async () => (await running.call("/vapi/x")) === 200);
  assert.deepEqual(complaints, []);
}));

test("what cannot be done is said where it was asked", rigged(async (_, running) => {
  const { page } = await open(browser, running.url);
  running.write("proxy.yaml", "routes: [{ nmae: a }]\n");
  await page.getByRole("button", { name: "Reload configuration" }).click();
  await page.getByLabel("Reason").fill("a change");
  await page.getByRole("button", { name: "Reload", exact: true }).click();
  await shows(page, "#ask-error", "nmae");
  await page.keyboard.press("Escape");
  await shows(page, "#notices", "The last reload failed");
  await shows(page, "#notices pre", "proxy.yaml:1:");
}));

test("a token is asked for, used and shown nowhere", rigged(async (_, running) => {
  const { page } = await open(browser, running.url);
  const hold = async (token) => {
    await page.getByLabel("Reason").fill("a drill");
    await page.getByLabel("Token").fill(token);
    await page.getByRole("dialog").getByRole("button", { name: "Hold closed" }).click();
  };
  await page.getByRole("button", { name: "Hold closed: vapi" }).click();
  await hold("wrong");
  await shows(page, "#ask-error", "token_file");
  await hold("canary-token");
  await shows(page, ".held", "Held closed");
  assert.ok(!(await page.content()).includes("canary"));
}, (vendor) => FILE(vendor).replace('"@ADMIN@" }', '"@ADMIN@", token_file: "@FOLDER@/token" }')));

test("a held create is listed and can be lifted", rigged(async (vendor, running) => {
  vendor.mood = "forgetful";
  await running.call("/vapi/call", { method: "POST", body: "{}", headers: { "X-Correlation-ID": "call-1", "Content-Type": "application/json" } });
  const { page } = await open(browser, running.url);
  await shows(page, "#duplicates", "call-1");
  await page.getByRole("button", { name: "Lift the guard of call-1" }).click();
  await page.getByLabel("Reason").fill("looked it up");
  await page.getByRole("button", { name: "Lift it" }).click();
  await shows(page, ".toast", "lifted");
  await shows(page, "#duplicates", "Nothing is held");
}));

test("without a script the same facts are there, and what to type", rigged(async (vendor, running) => {
  await trip(vendor, running);
  const plain = await open(browser, running.url, { javaScriptEnabled: false });
  for (const [part, words] of [
    ["#verdict", "vapi is open"], [".next", "Next probe in"], [".why", "2 calls in a row failed"], [".failures", "order-1"],
    ["#limits", "60 an hour"], ["#routes", "/vapi/{*rest}"], ["#events", "closed to open"], [".terminal", "trunkline breaker open vapi"],
  ]) await shows(plain.page, part, words);
  assert.equal(await plain.page.locator(".act:visible").count(), 0);
  assert.equal(await plain.page.locator("meta[http-equiv=refresh]").count(), 1);
}));

test("stubs that are on cannot be overlooked", rigged(async (_, running) => {
  const { page } = await open(browser, running.url);
  await shows(page, ".notice.stubs", "Stubs are ON");
}, (vendor) => FILE(vendor, "  - { name: canned, match: { path: /canned }, stub: {} }").replace("enabled: false", "enabled: true")));

for (const [what, options] of [
  ["light", {}],
  ["dark", { colorScheme: "dark" }],
  ["on a phone", { viewport: { width: 360, height: 740 } }],
]) {
  test(`axe finds nothing serious, ${what}`, rigged(async (vendor, running) => {
    await trip(vendor, running);
    vendor.mood = "forgetful";
    const { page } = await open(browser, running.url, options);
    await shows(page, "#link", "live");
    assert.equal(await audit(page), "");
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${wide} px too wide`);
    await page.getByRole("button", { name: "Hold closed: vapi" }).click();
    await page.getByRole("dialog").waitFor();
    assert.equal(await audit(page), "");
  }));
}

test("nothing that a caller keeps secret is on the page or in the API", rigged(async (vendor, running) => {
  await trip(vendor, running);
  for (let n = 0; n < 70; n += 1) await running.call("/vapi/x", { headers: { "X-Client-ID": "canary-client" } });
  const { page } = await open(browser, running.url);
  await shows(page, ".most", "header:X-Client-ID#");
  const api = ["status", "breakers", "routes", "duplicates"];
  const texts = await Promise.all(api.map((name) => fetch(`${running.url}/api/v1/${name}`).then((a) => a.text())));
  const all = [await page.content(), running.log(), ...texts].join("\n");
  assert.ok(!all.includes("canary"), all.slice(all.indexOf("canary") - 200, all.indexOf("canary") + 50));
}));

test("a page whose proxy is gone says so", rigged(async (_, running) => {
  const { page } = await open(browser, running.url);
  await shows(page, "#link", "live");
  running.stop();
  await shows(page, "#link.off", "no connection");
}));

test("the demo's story can be followed on the page", async () => {
  const story = await demo();
  try {
    const { page, complaints } = await open(browser, story.url);
    await shows(page, "#verdict", "vapi is open");
    await shows(page, "#verdict", "All calls flow");
    await until("the end of the story", () => story.said.includes("the end"));
    await shows(page, "#events", "closed to open");
    await shows(page, "#events", "half-open to closed");
    await shows(page, "#duplicates", "the connection was lost");
    await shows(page, ".most", "header:X-Client-ID#");
    await shows(page, "#refusals", "rate_limited");
    assert.deepEqual(complaints, []);
  } finally {
    story.stop();
  }
});

browser = await launch();
const chosen = tests.filter(([promise]) => promise.includes(process.argv[2] ?? ""));
let failed = 0;
for (const [promise, run] of chosen) {
  try {
    await run();
    console.log(`ok      ${promise}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${promise}\n${error.stack}`);
  }
  await Promise.all(browser.contexts().map((context) => context.close()));
}
await browser.close();
console.log(`browser result: ${chosen.length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
