import { readConfig } from "../config/config.ts";
import { AppError } from "../protocol/error.ts";
import { isUnreadable } from "../protocol/stored.ts";
import { openClients, type ClientRecord, type Clients } from "../state/open-clients.ts";
import { EXIT } from "./exit-codes.ts";
import { withRedis } from "./open-system.ts";
import type { Terminal } from "./terminal.ts";

type Env = Readonly<Record<string, string | undefined>>;

export interface AddClientOptions {
  readonly id?: string;
  readonly perMinute?: number;
  readonly perDay?: number;
  readonly priority: number;
  readonly json: boolean;
}

export async function runClientsAdd(env: Env, name: string, options: AddClientOptions, terminal: Terminal): Promise<number> {
  return withClients(env, async (clients) => {
    const { id, perMinute, perDay, priority } = options;
    const { client, key } = await clients.add({
      name,
      priority,
      ...(id !== undefined && { id }),
      ...(perMinute !== undefined && { ratePerMinute: perMinute }),
      ...(perDay !== undefined && { ratePerDay: perDay }),
    });
    if (options.json) terminal.out(JSON.stringify({ ...clientJson(client), key }));
    else {
      terminal.err(`client ${client.id} (${client.name}) was added; its key is shown this once:`);
      terminal.out(key);
    }
    return EXIT.ok;
  });
}

export async function runClientsList(env: Env, options: { readonly json: boolean }, terminal: Terminal): Promise<number> {
  return withClients(env, async (clients) => {
    const all = await clients.list();
    if (options.json) terminal.out(JSON.stringify({ clients: all.map((client) => (isUnreadable(client) ? client : clientJson(client))) }));
    else if (all.length === 0) terminal.out('there are no clients; `dryapi clients add "name"` makes one');
    else
      for (const client of all)
        terminal.out(isUnreadable(client) ? `${client.id.padEnd(16)} UNREADABLE  ${client.unreadable}` : lineOf(client));
    return EXIT.ok;
  });
}

export async function runClientsRotate(env: Env, id: string, terminal: Terminal): Promise<number> {
  return withClients(env, async (clients) => {
    const key = await clients.rotate(id);
    if (key === null) throw unknownClient(id);
    terminal.err(`client ${id} has a new key, shown this once; the old one is void:`);
    terminal.out(key);
    return EXIT.ok;
  });
}

export async function runClientsEnable(env: Env, id: string, enabled: boolean, terminal: Terminal): Promise<number> {
  return withClients(env, async (clients) => {
    if (!(await clients.setEnabled(id, enabled))) throw unknownClient(id);
    terminal.out(`client ${id} is ${enabled ? "enabled" : "disabled"}`);
    return EXIT.ok;
  });
}

async function withClients<T>(env: Env, work: (clients: Clients) => Promise<T>): Promise<T> {
  return withRedis(readConfig(env), (redis, keys) => work(openClients({ redis, keys })));
}

function unknownClient(id: string): AppError {
  return new AppError("CONFIG_INVALID", `there is no client ${id}; \`dryapi clients list\` shows all`);
}

function clientJson({
  id,
  name,
  enabled,
  ratePerMinute,
  ratePerDay,
  priority,
  createdAt,
}: ClientRecord): Readonly<Record<string, unknown>> {
  const created_at = new Date(createdAt).toISOString();
  return { id, name, enabled, rate_per_minute: ratePerMinute, rate_per_day: ratePerDay, priority, created_at };
}

function lineOf({ id, name, enabled, priority, createdAt }: ClientRecord): string {
  const state = enabled ? "enabled" : "DISABLED";
  return `${id.padEnd(16)} ${state.padEnd(8)} priority ${String(priority).padEnd(5)} since ${new Date(createdAt).toISOString().slice(0, 10)}  ${name}`;
}
