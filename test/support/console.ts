import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContextOptions, type Locator, type Page } from "playwright-core";
import { addClient, startGateway, type GatewayProcess } from "./gateway.ts";
import { startSystem, WAIT_MS, type TestSystem } from "./system.ts";

export const SCREENSHOTS: string = process.env["DRYAPI_ARTIFACTS"] ?? join(import.meta.dirname, "..", "..", ".dryapi", "screenshots");

/** Without the last ones Chromium asks hosts of its maker for updates. Names that end with .test are this machine. */
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--host-resolver-rules=MAP *.test 127.0.0.1",
];

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS, timeout: WAIT_MS });
}

/** The two widths that everything is looked at in: a desk's and a phone's. */
export const WIDTHS = {
  desk: { viewport: { width: 1280, height: 900 } },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
} as const satisfies Readonly<Record<string, BrowserContextOptions>>;

export interface OpenPage {
  readonly page: Page;
  /** Whatever went wrong in the page: its test fails when it looks. */
  readonly problems: string[];
}

/** The real page in a real browser on a real system. */
export interface ConsoleRig extends AsyncDisposable {
  readonly system: TestSystem;
  readonly gateway: GatewayProcess;
  readonly browser: Browser;
  readonly key: string;
  /** A page in a context of its own: nothing is remembered there. */
  open(options?: BrowserContextOptions, url?: string): Promise<OpenPage>;
  /** The same with the key entered. */
  enter(options?: BrowserContextOptions, url?: string): Promise<OpenPage>;
}

export async function startConsole(options: {
  readonly worker: Readonly<Record<string, string>>;
  readonly gateway: Readonly<Record<string, string>>;
}): Promise<ConsoleRig> {
  await mkdir(SCREENSHOTS, { recursive: true });
  const system = await startSystem();
  const [gateway, browser] = await Promise.all([
    startGateway(system, options.gateway),
    launchBrowser(),
    system.startWorker(options.worker),
  ]);
  const key = await addClient(system);
  const open: ConsoleRig["open"] = async (context = WIDTHS.desk, url = gateway.url) => watched(await browser.newContext(context), url);
  return {
    system,
    gateway,
    browser,
    key,
    open,
    enter: async (context, url) => {
      const opened = await open(context, url);
      await enterKey(opened.page, key);
      return opened;
    },
    [Symbol.asyncDispose]: async () => {
      await browser.close();
      await gateway[Symbol.asyncDispose]();
      await system[Symbol.asyncDispose]();
    },
  };
}

/** One more tab. */
export async function watched(context: Awaited<ReturnType<Browser["newContext"]>>, url: string): Promise<OpenPage> {
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  const problems: string[] = [];
  page.on("console", (message) => void (message.type() === "error" && problems.push(message.text())));
  page.on("pageerror", (error) => void problems.push(error.message));
  await page.goto(url);
  return { page, problems };
}

export async function enterKey(page: Page, key: string): Promise<void> {
  await page.getByLabel(/^Key/).fill(key);
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { name: "New request" }).waitFor();
}

export async function fill(page: Page, model: string, values: Readonly<Record<string, string>>): Promise<void> {
  await page.getByLabel("Model").selectOption(model);
  for (const [label, text] of Object.entries(values)) await page.getByLabel(label, { exact: true }).fill(text);
}

export async function submit(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Submit" }).click();
}

export function cardOf(page: Page, title: string): Locator {
  return page.locator("article").filter({ hasText: title });
}

export async function done(card: Locator): Promise<void> {
  await card.getByText(/^Done in/).waitFor();
}

/** Nothing is wider than the window, and nobody has to scroll sideways. */
export async function assertFits(page: Page): Promise<void> {
  const wide = `[...document.querySelectorAll("body *")].filter((each) => each.getBoundingClientRect().right > innerWidth + 0.5 && !each.closest(".unseen, .skip, .joined, pre")).map((each) => each.outerHTML.slice(0, 80))`;
  assert.deepEqual(await page.evaluate(wide), []);
  assert.ok(await page.evaluate<boolean>("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways");
}
