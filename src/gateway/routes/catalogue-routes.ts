import type { FastifyInstance } from "fastify";
import { isTask } from "../../protocol/task.ts";
import { readFields } from "../body/read-body.ts";
import { invalid } from "../http/errors.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { modelsPage, pageQuery } from "../views/models-page.ts";
import { TASK_PATHS, TRANSCRIBE_TASKS } from "../submit/resolve-task.ts";

const MODELS = "/api/v1/client/models";

/** Models, and what the contract says of money: nothing is charged here. */
export async function catalogueRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  app.get<{ Querystring: Readonly<Record<string, unknown>> }>(MODELS, async (request) => {
    const models = (await context.offered.list()).map(({ manifest }) => manifest);
    return modelsPage(models, pageQuery(request.query, `${context.publicUrl()}${MODELS}`));
  });

  app.get("/api/v1/client/balance", async () => ({ data: { balance: context.config.balance } }));

  for (const task of TASK_PATHS)
    app.post(`/api/v1/client/${task}/price-calculation`, async (request) => {
      const fields = await readFields(request);
      const tasks = isTask(task) ? [task] : TRANSCRIBE_TASKS;
      const entry = (await context.offered.list()).find(
        ({ slug, manifest }) => slug === fields["model"] && tasks.some((each) => manifest.tasks.includes(each)),
      );
      if (entry === undefined) throw invalid({ model: ["The selected model is invalid."] });
      const prices = entry.manifest.options["prices"];
      const price = typeof prices === "object" && prices !== null ? (prices as Record<string, unknown>)[task] : 0;
      return { data: { price: typeof price === "number" ? price : 0 } };
    });
}
