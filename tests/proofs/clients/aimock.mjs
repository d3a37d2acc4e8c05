// aimock as an OpenRouter that takes a few polls, makes the film that is named on the command line, and fails at storms.
import { readFileSync } from "node:fs";
import { LLMock } from "@copilotkit/aimock";

const film = { id: "film", status: "completed", cost: 0.25, b64: readFileSync(process.argv[2]).toString("base64") };
const storm = { id: "storm", status: "failed", error: "the engine said no" };
const polls = { pollsBeforeInProgress: 1, pollsBeforeCompleted: 2 };
const mock = new LLMock({ port: 0, strict: true, logLevel: "silent", openRouterVideo: polls });
for (const [userMessage, video] of Object.entries({ kite: film, storm })) {
  mock.addFixture({ match: { endpoint: "video", model: "maker/film", userMessage }, response: { video } });
}
console.error(await mock.start());
