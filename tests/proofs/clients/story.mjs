// What every TypeScript client is taken through: list, create, wait with progress, error path, a picture.
import assert from "node:assert/strict";

export const server = {
  command: process.env.PROOF_SERVER,
  // A host passes on no variables but those that it was told.
  env: Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith("SORA_"))),
  stderr: "inherit",
};

export async function story(client, callTool) {
  const { tools } = await client.listTools(); // compiles every output schema
  assert.equal(tools.length, 9);
  const { resources } = await client.listResources();
  const { prompts } = await client.listPrompts();

  const made = await callTool("create_video", { prompt: "a paper boat", width: 480, height: 480 });
  const { task_id } = made.structuredContent;
  assert.match(task_id, /^task_/);

  const told = [];
  const ready = await callTool("get_video", { task_id, wait_seconds: 30 }, (progress) => told.push(progress));
  assert.equal(ready.structuredContent.state, "succeeded");
  assert.ok(told.length > 0 && told.every(({ progress }) => progress <= 100), "no progress was told");

  const picture = await callTool("view_video", { task_id, frames: 4 });
  assert.equal(picture.structuredContent, undefined);
  assert.ok(picture.content.some(({ type, mimeType }) => type === "image" && mimeType === "image/jpeg"));

  const refused = await callTool("create_video", { prompt: "a boat", width: 481, height: 480 });
  assert.ok(refused.isError);
  assert.match(refused.content[0].text, /481x480 is not a documented size/);
  return [
    `${tools.length} tools, ${resources.length} resources, ${prompts.length} prompts`,
    "create",
    "wait with progress",
    "picture",
    "error",
  ];
}
