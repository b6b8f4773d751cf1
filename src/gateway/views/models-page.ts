import type { Manifest } from "../../protocol/manifest.ts";
import { TASKS } from "../../protocol/task.ts";
import { limitOf, positiveOf } from "../http/page-query.ts";

export interface PageQuery {
  readonly page: number;
  readonly limit: number;
  /** Null: all. */
  readonly types: readonly string[] | null;
  /** The list's own URL, without a query. */
  readonly path: string;
}

const DEFAULT_LIMIT = 25;

/** `page`, `limit` and `filter[inference_types]` of a query string; limits are clamped. @throws HttpProblem 422 */
export function pageQuery(query: Readonly<Record<string, unknown>>, path: string): PageQuery {
  const filter = query["filter[inference_types]"];
  const types = typeof filter === "string" && filter.trim() !== "" ? filter.split(",").map((type) => type.trim()) : null;
  return { page: positiveOf(query, "page", 1), limit: limitOf(query, DEFAULT_LIMIT), types, path };
}

/** One page of models in the shape of Laravel's paginator. */
export function modelsPage(models: readonly Manifest[], { page, limit, types, path }: PageQuery): Readonly<Record<string, unknown>> {
  const bodies = models.map(modelBody).filter(({ inference_types: own }) => types === null || own.some((type) => types.includes(type)));
  const last = Math.max(1, Math.ceil(bodies.length / limit));
  const data = bodies.slice((page - 1) * limit, page * limit);
  const filter = types === null ? "" : `&filter%5Binference_types%5D=${encodeURIComponent(types.join(","))}`;
  const link = (number: number): string => `${path}?page=${number}&limit=${limit}${filter}`;
  return {
    data,
    links: {
      first: link(1),
      last: link(last),
      prev: page > 1 ? link(Math.min(page - 1, last)) : null,
      next: page < last ? link(page + 1) : null,
    },
    meta: {
      current_page: page,
      last_page: last,
      per_page: limit,
      total: bodies.length,
      from: data.length === 0 ? null : (page - 1) * limit + 1,
      to: data.length === 0 ? null : (page - 1) * limit + data.length,
      path,
    },
  };
}

function modelBody(manifest: Manifest): {
  readonly inference_types: readonly string[];
  readonly [key: string]: unknown;
} {
  const { name, slug, tasks, tags, status, limits, features, defaults } = manifest;
  return {
    name,
    slug,
    inference_types: [...new Set(tasks.map((task) => TASKS[task]))],
    tags,
    status,
    info: { limits, features, defaults },
    loras: null,
    languages: manifest.languages ?? null,
  };
}
