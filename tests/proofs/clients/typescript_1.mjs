// The TypeScript SDK 1.x over stdio; it checks structured results against the output schemas.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { server, story } from "./story.mjs";

const client = new Client({ name: "proof", version: "1" });
const transport = new StdioClientTransport(server);
let era;
transport.setProtocolVersion = (version) => (era = version); // how it tells what was agreed on
await client.connect(transport);
const shown = await story(client, (name, args, onprogress) =>
  client.callTool({ name, arguments: args }, undefined, { onprogress }),
);
await client.close();
console.log(JSON.stringify({ eras: [era], shown }));
