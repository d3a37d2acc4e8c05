// The TypeScript client 2.x over stdio, on both eras; it checks structured results against the output schemas.
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { server, story } from "./story.mjs";

const eras = [];
let shown;
for (const mode of ["legacy", { pin: "2026-07-28" }]) {
  const client = new Client({ name: "proof", version: "1" }, { versionNegotiation: { mode } });
  // Each era has a record of its own, or the second request would be the first one's duplicate.
  const env = { ...server.env, SORA_HOME: `${server.env.SORA_HOME}/${eras.length}` };
  await client.connect(new StdioClientTransport({ ...server, env }));
  const told = await story(client, (name, args, onprogress) => client.callTool({ name, arguments: args }, { onprogress }));
  if (shown) assert.deepEqual(told, shown);
  shown = told;
  eras.push(client.getNegotiatedProtocolVersion());
  await client.close();
}
console.log(JSON.stringify({ eras, shown }));
