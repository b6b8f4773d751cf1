/**
 * Asks this container's own admin listener for /healthz: exit 0 when it answers 200, else 1 with a sentence. The HEALTHCHECK of
 * Dockerfile.cuda, for worker, gateway and courier alike: where it asks is what DRYAPI_ADMIN_HOST and DRYAPI_ADMIN_PORT say.
 */
const given = setting("DRYAPI_ADMIN_HOST", "127.0.0.1");
// A listener on all addresses answers on loopback too.
const host = given === "0.0.0.0" ? "127.0.0.1" : given === "::" ? "::1" : given;
const url = `http://${host.includes(":") ? `[${host}]` : host}:${setting("DRYAPI_ADMIN_PORT", "9464")}/healthz`;

try {
  const response = await fetch(url, { signal: AbortSignal.timeout(5_000) });
  if (!response.ok) fail(`answered ${response.status}: ${await response.text()}`);
} catch (thrown) {
  const cause = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown;
  fail(cause instanceof Error ? cause.message : String(cause));
}

/**
 * @param {string} name
 * @param {string} fallback
 */
function setting(name, fallback) {
  const value = process.env[name];
  return value === undefined || value === "" ? fallback : value;
}

/** @param {string} why */
function fail(why) {
  process.stderr.write(`healthcheck: ${url}: ${why}\n`);
  process.exitCode = 1;
}
