// Loaded before everything else: notes every name that the process asks for and every address that it connects to in
// the file that ATTEMPTS names, one JSON array a line, and lets none of them leave this machine.
const dns = require("node:dns");
const fs = require("node:fs");
const net = require("node:net");

const isHere = (host) => host === "127.0.0.1" || host === "localhost";

function note(host, port) {
  fs.appendFileSync(process.env.ATTEMPTS, `${JSON.stringify([host, Number(port)])}\n`);
  return isHere(host);
}

const lookup = dns.lookup;
dns.lookup = function (host, ...rest) {
  if (note(host, 0)) return lookup.call(this, host, ...rest);
  return process.nextTick(rest.at(-1), Object.assign(new Error(`around the proxy: ${host}`), { code: "ENOTFOUND" }));
};

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...words) {
  const [first, second] = Array.isArray(words[0]) ? words[0] : words;
  const to = typeof first === "object" ? first : { port: first, host: second };
  if (to.path === undefined && !note(to.host ?? "localhost", to.port)) {
    process.nextTick(() => this.destroy(new Error(`around the proxy: ${to.host}`)));
    return this;
  }
  return connect.apply(this, words);
};
