// uWebSockets.js and Redis, by the topics of the library itself.  node uws.js PORT REDIS_PORT
const uWS = require(process.env.UWS);
const { createClient } = require("redis");

(async () => {
  const sub = createClient({ url: "redis://127.0.0.1:" + process.argv[3] });
  await sub.connect();
  const app = uWS.App().ws("/*", {
    compression: uWS.DISABLED,
    maxPayloadLength: 65536,
    idleTimeout: 120,
    message(ws, message) {
      ws.subscribe(JSON.parse(Buffer.from(message).toString()).sub);
      ws.send('{"ok":1}', false);
    },
  });
  await sub.pSubscribe("ev:*", (message, channel) => app.publish(channel.toString().slice(3), message, false, false), true);
  app.listen("127.0.0.1", +process.argv[2], (listening) => listening || process.exit(1));
})();
