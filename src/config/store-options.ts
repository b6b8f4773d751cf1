import type { Config } from "./config.ts";

/** What `openObjectStore` takes besides the URL, from the settings; unset ones are left to the URL and the AWS chain. */
export interface StoreOptions {
  readonly endpoint?: string;
  readonly publicEndpoint?: string;
  readonly forcePathStyle?: boolean;
  readonly region?: string;
}

export function storeOptions(config: Pick<Config, "s3Endpoint" | "s3PublicEndpoint" | "s3ForcePathStyle" | "s3Region">): StoreOptions {
  return {
    ...(config.s3Endpoint !== null && { endpoint: config.s3Endpoint }),
    ...(config.s3PublicEndpoint !== null && { publicEndpoint: config.s3PublicEndpoint }),
    ...(config.s3ForcePathStyle !== null && { forcePathStyle: config.s3ForcePathStyle }),
    ...(config.s3Region !== null && { region: config.s3Region }),
  };
}
