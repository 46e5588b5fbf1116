// An identity provider for the tests: oauth2-mock-server, with a second port by which a test says how it answers and
// asks what it was asked. Usage: node provider.mjs PORT CONTROL_PORT
import { createServer } from "node:http";
import { OAuth2Server } from "oauth2-mock-server";

const [port, control] = process.argv.slice(2).map(Number);
const server = new OAuth2Server();
await server.issuer.keys.generate("RS256");
let mode = {};
const asked = [];

server.service.on("beforeResponse", (answer, request) => {
  const { grant_type, client_id, refresh_token, code_verifier } = request.body;
  asked.push({ grant_type, client_id, refresh_token, verified: code_verifier !== undefined });
  if (mode.error) {
    answer.statusCode = 400;
    answer.body = { error: mode.error, error_description: "Token has been expired or revoked." };
    return;
  }
  answer.body.access_token = `token-${asked.length}`;
  answer.body.expires_in = mode.expires_in ?? 3600;
  if (mode.refresh_token) answer.body.refresh_token = mode.refresh_token;
  else delete answer.body.refresh_token;
});

await server.start(port, "127.0.0.1");
createServer(async (request, response) => {
  if (request.method === "PUT") {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    mode = JSON.parse(Buffer.concat(pieces).toString());
  }
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify(asked));
}).listen(control, "127.0.0.1");
