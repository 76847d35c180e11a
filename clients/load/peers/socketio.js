// Socket.IO with its Redis adapter, WebSocket only.  node socketio.js PORT REDIS_PORT
const http = require("http");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");

(async () => {
  const pub = createClient({ url: "redis://127.0.0.1:" + process.argv[3] });
  const sub = pub.duplicate();
  await pub.connect();
  await sub.connect();
  const server = http.createServer();
  const io = new Server(server, { transports: ["websocket"], adapter: createAdapter(pub, sub), serveClient: false });
  io.on("connection", (socket) =>
    socket.on("sub", (room) => {
      socket.join(room);
      socket.emit("ok", 1);
    }),
  );
  server.listen({ port: +process.argv[2], host: "127.0.0.1", backlog: 2048 });
})();
