import type { Config } from "../config/config.ts";
import { AppError } from "../protocol/error.ts";
import { readLocalSystem } from "./local-system.ts";

export interface ApiAccess {
  /** Without a trailing slash. */
  readonly url: string;
  readonly key: string;
}

/**
 * The gateway that commands talk to: DRYAPI_URL with DRYAPI_API_KEY, else that of a running `dryapi up`. Null: there is none, Redis is
 * talked to directly. @throws AppError CONFIG_INVALID when one of the two variables is missing
 */
export async function apiAccess(config: Config): Promise<ApiAccess | null> {
  const { apiUrl, apiKey } = config;
  if (apiUrl !== null && apiKey !== null) return { url: apiUrl.replace(/\/+$/, ""), key: apiKey };
  if (apiUrl !== null || apiKey !== null)
    throw new AppError(
      "CONFIG_INVALID",
      `${apiUrl === null ? "DRYAPI_URL" : "DRYAPI_API_KEY"} is unset, and the other one is set: set both, or neither`,
    );
  if (config.redisUrl !== null) return null;
  const local = await readLocalSystem(config.stateDir);
  return local?.apiUrl === undefined || local.apiKey === undefined ? null : { url: local.apiUrl, key: local.apiKey };
}
