// The Vercel AI SDK over stdio, whose server starts 1.5 s late: it asks server/discover, gives up after a second, and
// then shakes hands as an older client on the same pipe.
import assert from "node:assert/strict";
import { createMCPClient } from "@ai-sdk/mcp";
import { Experimental_StdioMCPTransport as StdioTransport } from "@ai-sdk/mcp/mcp-stdio";
import { server } from "./story.mjs";

const late = { ...server, command: "sh", args: ["-c", 'sleep 1.5; exec "$0"', server.command] };
const client = await createMCPClient({ transport: new StdioTransport(late) });
const tools = await client.tools();
const call = (name, args) => tools[name].execute(args, { toolCallId: name, messages: [] });

const made = await call("create_video", { prompt: "a paper boat", width: 480, height: 480 });
const { task_id } = made.structuredContent;
assert.match(task_id, /^task_/);
const ready = await call("get_video", { task_id, wait_seconds: 30 });
assert.equal(ready.structuredContent.state, "succeeded");
const picture = await call("view_video", { task_id, frames: 4 });
assert.ok(picture.content.some(({ type, mimeType }) => type === "image" && mimeType === "image/jpeg"));
const refused = await call("create_video", { prompt: "a boat", width: 481, height: 480 });
assert.match(refused.content[0].text, /^Error: .*481x480 is not a documented size/);
const era = client.protocolVersion; // how it keeps what was agreed on
await client.close();
const shown = ["start delayed by 1.5 s", `${Object.keys(tools).length} tools`, "create", "wait", "picture", "error"];
console.log(JSON.stringify({ eras: [era], shown }));
