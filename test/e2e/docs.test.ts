import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import axe from "axe-core";
import type { Browser, Page } from "playwright-core";
import { launchBrowser } from "../support/console.ts";
import { startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

/** In the page: elements that reach beyond it, unless the box they are in scrolls. */
const OVERFLOWING = `(() => {
  const boxed = (element) => element.closest(".box, pre, nav") !== null;
  return [...document.querySelectorAll("main *")]
    .filter((element) => !boxed(element) && element.getBoundingClientRect().right > innerWidth + 0.5)
    .map((element) => element.outerHTML.slice(0, 100));
})()`;

describe("/docs", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let browser: Browser;

  before(async () => {
    system = await startSystem({ DRYAPI_MODELS: "tiny-flux-schnell,tiny-flux-dev,tiny-kokoro,tiny-vits" });
    [gateway, browser] = await Promise.all([startGateway(system), launchBrowser()]);
  });
  after(async () => {
    await browser.close();
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  async function open(
    width: number,
    colorScheme: "light" | "dark",
  ): Promise<{ readonly page: Page; readonly complaints: readonly string[] }> {
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
    const complaints: string[] = [];
    page.on("console", (message) => complaints.push(message.text()));
    page.on("requestfailed", (request) => complaints.push(request.url()));
    await page.goto(`${gateway.url}/docs`);
    return { page, complaints };
  }

  for (const width of [1280, 390]) {
    for (const scheme of ["light", "dark"] as const) {
      test(`is readable at ${width} px, ${scheme}: nothing overflows, nothing is refused by its policy, nothing ails an accessibility engine`, async () => {
        const { page, complaints } = await open(width, scheme);
        assert.ok(await page.evaluate<boolean>("document.scrollingElement.scrollWidth <= innerWidth"));
        assert.deepEqual(await page.evaluate(OVERFLOWING), []);
        await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true");
        assert.ok(await page.evaluate<boolean>("document.scrollingElement.scrollWidth <= innerWidth"), "with all opened");
        const ground = await page.evaluate<string>("getComputedStyle(document.body).backgroundColor");
        const [red = 0] = (/\d+/.exec(ground) ?? []).map(Number);
        assert.equal(red < 128, scheme === "dark", ground);
        // The policy of the page keeps others' scripts out; the engine comes from outside the page.
        await page.evaluate(axe.source);
        const found = await page.evaluate(
          `axe.run().then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => id + ": " + html.slice(0, 120))))`,
        );
        assert.deepEqual(found, []);
        assert.deepEqual(complaints, []);
        await page.close();
      });
    }
  }

  test("has an anchor for each operation and for each link of its contents, and tells of webhooks, sockets, statuses and errors", async () => {
    const { page } = await open(1280, "light");
    const { paths } = (await (await fetch(`${gateway.url}/openapi.json`)).json()) as {
      readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly operationId: string }>>>>;
    };
    const ids = Object.values(paths).flatMap((operations) => Object.values(operations).map(({ operationId }) => operationId));
    const missing = await page.evaluate<readonly string[]>(
      `((ids) => [...ids, ...[...document.querySelectorAll('a[href^="#"]')].map((link) => link.hash.slice(1))].filter((id) => document.getElementById(id) === null))(${JSON.stringify(ids)})`,
    );
    assert.deepEqual(missing, []);
    const text = await page.evaluate<string>("document.body.textContent");
    for (const word of [
      "job.completed",
      "webhook-signature",
      "private-client.",
      "replayed",
      "in_progress",
      "NO_SOUND_TRACK",
      "overlap_hours",
      "12 h",
    ])
      assert.ok(text.includes(word), word);
    await page.close();
  });

  test("gives programs that verify a signature as it is made", async () => {
    const { page } = await open(1280, "light");
    const program = await page.evaluate<string>(`document.querySelector('pre[aria-label="Verification in JavaScript"]').textContent`);
    const { isOurs } = (await import(`data:text/javascript,${encodeURIComponent(program)}`)) as {
      readonly isOurs: (secret: string, headers: Readonly<Record<string, string>>, body: string) => boolean;
    };
    const { webhookHeaders } = await import("../../src/protocol/webhook.ts");
    const body = '{"event":"webhook.test"}';
    const made = webhookHeaders({
      secrets: ["whsec_dGVzdA=="],
      event: "webhook.test",
      deliveryId: "d",
      timestamp: Math.floor(Date.now() / 1_000),
      body,
    });
    const headers = Object.fromEntries(Object.entries(made).map(([name, value]) => [name.toLowerCase(), value]));
    assert.equal(isOurs("whsec_dGVzdA==", headers, body), true);
    assert.equal(isOurs("whsec_dGVzdA==", headers, `${body} `), false);
    assert.equal(isOurs("other", headers, body), false);
    await page.close();
  });
});
