import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** A service manager's end of NOTIFY_SOCKET: prints each datagram and closes the descriptors that a barrier hands over, as systemd does. */
const LISTENER = `
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
print(json.dumps("bound"), flush=True)
while True:
    data, fds, _, _ = socket.recv_fds(s, 4096, 4)
    for fd in fds: os.close(fd)
    print(json.dumps(data.decode()), flush=True)
`;

export interface NotifyManager extends AsyncDisposable {
  readonly socket: string;
  /** The next message that is not the barrier that systemd-notify sends behind each one. */
  readonly next: () => Promise<string>;
}

/** Listens on a socket of that path, for any user. */
export async function startNotifyManager(socket: string): Promise<NotifyManager> {
  const child = spawn("python3", ["-c", LISTENER, socket], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => {
    for (;;) {
      const line = await lines.next();
      if (line.done === true) throw new Error("the listener of notifications has ended");
      const message = (JSON.parse(line.value) as string).trimEnd();
      if (message !== "BARRIER=1") return message;
    }
  };
  await next();
  return {
    socket,
    next,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
