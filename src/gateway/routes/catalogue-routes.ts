import type { FastifyInstance } from "fastify";
import type { GatewayContext } from "../gateway-context.ts";
import { modelsPage, pageQuery } from "../views/models-page.ts";

const MODELS = "/api/v1/client/models";

/** Models, and what the contract says of money: nothing is charged here. */
export async function catalogueRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  app.get<{ Querystring: Readonly<Record<string, unknown>> }>(MODELS, async (request) => {
    const models = (await context.offered.list()).map(({ manifest }) => manifest);
    return modelsPage(models, pageQuery(request.query, `${context.publicUrl()}${MODELS}`));
  });

  app.get("/api/v1/client/balance", async () => ({ data: { balance: context.config.balance } }));
}
