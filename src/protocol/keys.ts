/**
 * Names of everything in Redis. All keys share one hash tag, so that one Lua script may touch a lock, a live value and a request
 * record, and one XREAD may watch all queues, on Redis Cluster as well.
 *
 *   {p}:<queue>:...           BullMQ's keys; queue = model slug
 *   {p}:<queue>:<id>:lock     BullMQ's lock, value = claim token (read by the fenced emit)
 *   {p}:req:<id>              request record (hash)
 *   {p}:live:<id>             last event and preview (hash, TTL)
 *   {p}:events:<client>       pub/sub channel of a client's events
 *   {p}:cancel                pub/sub channel of cancel nudges (payload = request id)
 *   {p}:intent:<model>        load intents (hash: <worker>/<device> -> expiry, unix ms)
 *   {p}:faults:<id>           claims on which the job ran into a device fault (set, TTL), see POISON_JOB
 *   {p}:passed:<id>           workers that passed the job on (set, TTL)
 *   {p}:models                models that were served lately (hash: slug -> last seen, unix ms)
 *   {p}:workers               live workers (hash: <worker> -> JSON with expiry)
 *   {p}:webhooks:...          BullMQ's keys of the courier's queue
 *   {p}:lanes:...             deliveries that are due, by client and origin (see queue/claim-fairly.ts): clients and their origins (sorted sets by
 *                             turn), ids (lists), the last turn (string)
 *   {p}:client:<id>, {p}:clients      one client (hash); all ids (set)
 *   {p}:index:<client>        a client's requests (sorted set: id -> submit, unix ms)
 *   {p}:unqueued              requests recorded and not yet known to be queued (sorted set: id -> unix ms), see the gateway's sweep
 *   {p}:rate:<client>:<window>        submits in a window (counter, TTL)
 *   {p}:idem:<client>:<hash>  Idempotency-Key (hash, TTL 24 h)
 *   {p}:hook:<client>         the account's webhook settings (hash)
 *   {p}:hooksecret:<ref>      a webhook secret (string; those of single requests and replaced ones with a TTL)
 *   {p}:hookgone:<client>:<hash of the URL>   a URL that answered 410: nothing more is sent there (string: since when, unix ms; TTL)
 *   {p}:delivery:<id>, {p}:deliveries:<request id>   one delivery with its attempts (hash); a request's deliveries (set)
 *   {p}:forwarder             which gateway forwards events to another Pusher server (string, TTL)
 *   {p}:forwarded:<id>        the request's end was forwarded (string, TTL)
 *   {p}:unservable:<model>    waiting jobs that no live worker can run (sorted set: id -> first found so, unix ms by Redis' clock; TTL)
 *   {p}:sweep, {p}:sweep:next, {p}:sweep:cursor   who sweeps the object store (string, TTL); a pause between sweeps (string, TTL); how far the sweep is (string)
 *   {p}:runtimes              learned run time per model (hash: slug -> milliseconds)
 *   {p}:secret:<name>         secrets that all gateways share (string, made on first use)
 *   {p}:probe                 test writes of health checks (string, TTL)
 */
export interface Keys {
  readonly prefix: string;
  readonly request: (id: string) => string;
  readonly live: (id: string) => string;
  readonly events: (client: string) => string;
  readonly cancel: string;
  readonly intent: (model: string) => string;
  readonly faults: (id: string) => string;
  readonly passed: (id: string) => string;
  readonly models: string;
  readonly workers: string;
  readonly lock: (queue: string, id: string) => string;
  readonly queueEvents: (queue: string) => string;
  readonly client: (id: string) => string;
  readonly clients: string;
  readonly lanes: { readonly prefix: string; readonly clients: string; readonly turns: string };
  readonly index: (client: string) => string;
  readonly unqueued: string;
  readonly rate: (client: string, window: string) => string;
  readonly idempotency: (client: string, hash: string) => string;
  readonly hook: (client: string) => string;
  readonly hookSecret: (ref: string) => string;
  readonly hookGone: (client: string, urlHash: string) => string;
  readonly delivery: (id: string) => string;
  readonly deliveries: (requestId: string) => string;
  readonly forwarder: string;
  readonly forwarded: (id: string) => string;
  readonly unservable: (model: string) => string;
  readonly sweep: { readonly lease: string; readonly next: string; readonly cursor: string };
  readonly runTimes: string;
  readonly secret: (name: string) => string;
  readonly probe: string;
}

/** Queue names that would collide with our own keys under the tag; a model slug must not be one of them. */
export const RESERVED_QUEUES: ReadonlySet<string> = new Set([
  "req",
  "live",
  "events",
  "cancel",
  "intent",
  "crash",
  "faults",
  "passed",
  "models",
  "workers",
  "webhooks",
  "lanes",
  "client",
  "clients",
  "index",
  "unqueued",
  "rate",
  "idem",
  "hook",
  "hooksecret",
  "hookgone",
  "delivery",
  "deliveries",
  "forwarder",
  "forwarded",
  "unservable",
  "sweep",
  "runtimes",
  "secret",
  "probe",
]);

export function keysFor(namespace: string): Keys {
  const p = `{${namespace}}`;
  return Object.freeze({
    prefix: p,
    request: (id: string) => `${p}:req:${id}`,
    live: (id: string) => `${p}:live:${id}`,
    events: (client: string) => `${p}:events:${client}`,
    cancel: `${p}:cancel`,
    intent: (model: string) => `${p}:intent:${model}`,
    faults: (id: string) => `${p}:faults:${id}`,
    passed: (id: string) => `${p}:passed:${id}`,
    models: `${p}:models`,
    workers: `${p}:workers`,
    lock: (queue: string, id: string) => `${p}:${queue}:${id}:lock`,
    queueEvents: (queue: string) => `${p}:${queue}:events`,
    client: (id: string) => `${p}:client:${id}`,
    clients: `${p}:clients`,
    lanes: { prefix: `${p}:lanes:`, clients: `${p}:lanes:clients`, turns: `${p}:lanes:turns` },
    index: (client: string) => `${p}:index:${client}`,
    unqueued: `${p}:unqueued`,
    rate: (client: string, window: string) => `${p}:rate:${client}:${window}`,
    idempotency: (client: string, hash: string) => `${p}:idem:${client}:${hash}`,
    hook: (client: string) => `${p}:hook:${client}`,
    hookSecret: (ref: string) => `${p}:hooksecret:${ref}`,
    hookGone: (client: string, urlHash: string) => `${p}:hookgone:${client}:${urlHash}`,
    delivery: (id: string) => `${p}:delivery:${id}`,
    deliveries: (requestId: string) => `${p}:deliveries:${requestId}`,
    forwarder: `${p}:forwarder`,
    forwarded: (id: string) => `${p}:forwarded:${id}`,
    unservable: (model: string) => `${p}:unservable:${model}`,
    sweep: { lease: `${p}:sweep`, next: `${p}:sweep:next`, cursor: `${p}:sweep:cursor` },
    runTimes: `${p}:runtimes`,
    secret: (name: string) => `${p}:secret:${name}`,
    probe: `${p}:probe`,
  });
}
