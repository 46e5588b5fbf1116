// What the browser tests stand on: the real binary on a file of its own, an upstream that does as it is told, and
// Chromium. Everything is on loopback and ends with the test.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Installed beside the other things that tests fetch, not in this folder.
const modules = createRequire(join(process.env.BROWSER_MODULES, "package.json"));
const { chromium } = modules("playwright-core");
const axe = modules.resolve("axe-core/axe.min.js");
const BINARY = process.env.TRUNKLINE_BIN;
const PATIENCE = 30_000;

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS });
}

/** Waits until `probe` gives something, and gives that. */
export async function until(what, probe) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await probe();
    if (found) return found;
    assert.ok(Date.now() < end, `waited in vain for ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function free() {
  const socket = net.createServer();
  await new Promise((done) => socket.listen(0, "127.0.0.1", done));
  const { port } = socket.address();
  await new Promise((done) => socket.close(done));
  return `127.0.0.1:${port}`;
}

/** An upstream: `mood` is well, failing or forgetful. */
export async function upstream() {
  const vendor = { mood: "well" };
  const server = http.createServer((request, answer) => {
    request.resume().on("end", () => {
      if (vendor.mood === "forgetful") return request.socket.destroy();
      answer.writeHead(vendor.mood === "failing" ? 500 : 200, { "content-type": "application/json" });
      answer.end('{"id":"x"}');
    });
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  vendor.url = `http://127.0.0.1:${server.address().port}`;
  vendor.stop = () => { server.closeAllConnections(); server.close(); };
  return vendor;
}

/** A running proxy on this file, in which @APP@ and @ADMIN@ become addresses. */
export async function proxy(yaml) {
  const folder = mkdtempSync(join(tmpdir(), "trunkline-browser-"));
  const [app, admin] = [await free(), await free()];
  const write = (name, text) => {
    const filled = text.replaceAll("@APP@", app).replaceAll("@ADMIN@", admin).replaceAll("@FOLDER@", folder);
    writeFileSync(join(folder, name), filled);
  };
  write("token", "canary-token");
  write("proxy.yaml", yaml);
  const child = spawn(BINARY, ["run", "--config", join(folder, "proxy.yaml")], { env: {}, stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr.on("data", (text) => (log += text));
  const url = `http://${admin}`;
  const isReady = () => fetch(`${url}/readyz`).then((a) => a.ok, () => false);
  await until("the proxy to be ready", () => {
    assert.equal(child.exitCode, null, log);
    return isReady();
  });
  return {
    app: `http://${app}`, url, write,
    log: () => log,
    call: (path, init = {}) => fetch(`http://${app}${path}`, init).then((a) => a.status),
    status: () => fetch(`${url}/api/v1/status`).then((a) => a.json()),
    stop: () => { child.kill("SIGKILL"); rmSync(folder, { recursive: true, force: true }); },
  };
}

/** The demo, in its short form; `said` is what it has told so far. */
export async function demo() {
  const child = spawn(BINARY, ["demo", "--speed", "6", "--keep"], { env: { TMPDIR: tmpdir() }, stdio: ["ignore", "pipe", "inherit"] });
  const story = { said: "", stop: () => child.kill("SIGKILL") };
  child.stdout.on("data", (text) => (story.said += text));
  await until("the demo to begin", () => story.said.includes("a terminal"));
  story.url = story.said.match(/the page +(http:\S+)\//)[1];
  return story;
}

/** A page that fails the test on anything in its console, and its axe. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(`${url}/`);
  return { page, context, complaints };
}

/** What axe finds that is serious, as text; empty is well. */
export async function audit(page) {
  // The page's policy lets no foreign script in, so axe comes through the debugger.
  const session = await page.context().newCDPSession(page);
  const { readFileSync } = await import("node:fs");
  await session.send("Runtime.evaluate", { expression: readFileSync(axe, "utf8") });
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter((v) => ["serious", "critical"].includes(v.impact));
  return serious.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" | ")}`).join("\n");
}
