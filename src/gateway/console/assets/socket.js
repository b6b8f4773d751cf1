import { BASE, call } from "./api.js";
import { clientId } from "./key.js";

/** A small client of the Pusher protocol: one private channel, reconnecting for ever. Where no socket stands, the page polls. */
export function openSocket({ appKey, onUpdate, onState }) {
  const channel = `private-client.${clientId()}`;
  let tries = 0;
  let socket;
  let closed = false;

  function connect() {
    const url = new URL(`app/${encodeURIComponent(appKey)}?protocol=7&client=dryapi-console&version=1`, BASE);
    url.protocol = BASE.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(url);
    socket.addEventListener("message", ({ data }) => receive(JSON.parse(data)).catch(() => socket.close()));
    socket.addEventListener("close", () => {
      onState(false);
      if (closed) return;
      tries += 1;
      setTimeout(connect, Math.min(15_000, 500 * 2 ** Math.min(tries, 5)));
    });
  }

  async function receive({ event, data, channel: from }) {
    if (event === "pusher:connection_established") {
      const { socket_id: socketId } = JSON.parse(data);
      const { auth } = await call("POST", "/broadcasting/auth", { socket_id: socketId, channel_name: channel });
      socket.send(JSON.stringify({ event: "pusher:subscribe", data: { channel, auth } }));
    } else if (event === "pusher_internal:subscription_succeeded") {
      tries = 0;
      onState(true);
    } else if (event === "pusher:ping") {
      socket.send(JSON.stringify({ event: "pusher:pong", data: {} }));
    } else if (event === "request.status.updated" && from === channel) {
      onUpdate(JSON.parse(data));
    }
  }

  connect();
  return {
    close() {
      closed = true;
      socket.close();
    },
  };
}
