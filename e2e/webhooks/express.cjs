// A service on Express, as anybody writes one: a JSON body parser, routes, and a manifest at /discover. GET /seen tells what it
// was asked. It ends with its standard input.
const express = require("express");

const app = express();
const seen = [];
const underWay = new Map();
let overlaps = 0;

app.get("/discover", (_, response) => {
  response.json({
    services: [
      { name: "MyService", ty: "SERVICE", handlers: [{ name: "handle" }] },
      { name: "MyObject", ty: "VIRTUAL_OBJECT", handlers: [{ name: "handle" }] },
    ],
  });
});

app.get("/seen", (_, response) => response.json({ seen, overlaps }));

app.use(express.json());

const note = (request) =>
  seen.push({
    path: request.originalUrl,
    key: request.params.key ?? null,
    headers: request.headers,
    names: request.rawHeaders.filter((_, n) => n % 2 === 0).map((name) => name.toLowerCase()),
    body: request.body,
  });

app.post("/MyService/handle", (request, response) => {
  note(request);
  response.sendStatus(204);
});

app.post("/MyObject/:key/handle", async (request, response) => {
  const { key } = request.params;
  if (underWay.get(key)) overlaps += 1;
  underWay.set(key, true);
  await new Promise((resolve) => setTimeout(resolve, 5));
  underWay.set(key, false);
  note(request);
  response.json({ took: request.body });
});

const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
