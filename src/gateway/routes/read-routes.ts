import type { FastifyInstance } from "fastify";
import type { GatewayContext } from "../gateway-context.ts";
import { catalogueRoutes } from "./catalogue-routes.ts";
import { docsRoutes } from "./docs-routes.ts";
import { requestRoutes } from "./request-routes.ts";
import { resultRoutes } from "./result-routes.ts";

export async function readRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  for (const routes of [requestRoutes, catalogueRoutes, resultRoutes, docsRoutes]) await routes(app, context);
}
