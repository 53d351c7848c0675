// Judges AsyncAPI documents with the official parser: {name: document} on stdin, {name: [diagnostic]} on stdout.
// A diagnostic is {severity, code, message, path}; severity 0 is an error, 1 a warning. Asks no network.
import { createRequire } from "node:module";

const { Parser } = createRequire(process.cwd() + "/")("@asyncapi/parser");
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const found = {};
for (const [name, document] of Object.entries(JSON.parse(Buffer.concat(chunks).toString()))) {
  const { diagnostics } = await new Parser().parse(JSON.stringify(document));
  found[name] = diagnostics.map(({ severity, code, message, path }) => ({ severity, code, message, path }));
}
process.stdout.write(JSON.stringify(found));
