// The TypeScript client 2.x over HTTP, from nothing but the server's address: challenge, metadata, registration,
// authorization code with PKCE, token. `node typescript_2_oauth.mjs URL ERA`
import assert from "node:assert/strict";
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from "@modelcontextprotocol/client";
import { story } from "./story.mjs";

const [address, era] = process.argv.slice(2);
const kept = {};
const redirectUrl = "http://127.0.0.1:9/callback"; // a browser would be sent there; this one only reads the address
const provider = {
  redirectUrl,
  clientMetadata: {
    client_name: "proof",
    redirect_uris: [redirectUrl],
    grant_types: ["authorization_code"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  state: () => "a-state",
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  async redirectToAuthorization(url) {
    kept.asked = url;
    const answer = await fetch(url, { redirect: "manual" });
    kept.callback = new URL(answer.headers.get("location"));
  },
};
const connect = async () => {
  const client = new Client({ name: "proof", version: "1" }, { versionNegotiation: { mode: era === "legacy" ? era : { pin: era } } });
  const transport = new StreamableHTTPClientTransport(new URL(address), { authProvider: provider });
  try {
    await client.connect(transport);
  } catch (error) {
    return { transport, error };
  }
  return { client, transport };
};

const first = await connect();
assert.ok(first.error instanceof UnauthorizedError, first.error);
assert.equal(kept.asked.searchParams.get("resource"), address);
assert.equal(kept.asked.searchParams.get("scope"), "videos:read videos:create"); // as the challenge says
assert.equal(kept.asked.searchParams.get("code_challenge_method"), "S256");
assert.equal(kept.callback.searchParams.get("state"), "a-state");
await first.transport.finishAuth(kept.callback.searchParams);

const { client, error } = await connect();
if (error) throw error;
const shown = await story(client, (name, args, onprogress) => client.callTool({ name, arguments: args }, { onprogress }));
const spoken = client.getNegotiatedProtocolVersion();
await client.close();
console.log(JSON.stringify({ eras: [spoken], shown: ["challenge with scope, discovery, registration, code with PKCE", ...shown] }));
