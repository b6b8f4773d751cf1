import { FLEET } from "./fleet.ts";
import { GATEWAYS } from "./gateways.ts";
import type { Dashboard, Panel, Variable } from "./panel.ts";
import { WORKERS } from "./workers.ts";

export const DASHBOARDS: readonly Dashboard[] = [FLEET, WORKERS, GATEWAYS];

const COLUMNS = 24;
const STAT_ROWS = 4;
const LINE_ROWS = 8;
/** Grafana's, of the version whose model this follows (10). */
const SCHEMA_VERSION = 39;
/** To the other dashboards, with the same time. */
const LINK = {
  title: "dryapi",
  type: "dashboards",
  tags: ["dryapi"],
  icon: "external link",
  tooltip: "",
  asDropdown: false,
  includeVars: false,
  keepTime: true,
  targetBlank: false,
};
const SOURCE = { type: "prometheus", uid: "${datasource}" };

/** The file that Grafana imports. */
export function dashboardJson({ uid, title, variables, panels }: Dashboard): string {
  const dashboard = {
    title,
    uid,
    schemaVersion: SCHEMA_VERSION,
    version: 1,
    editable: true,
    tags: ["dryapi"],
    links: [LINK],
    time: { from: "now-3h", to: "now" },
    refresh: "30s",
    timezone: "browser",
    annotations: { list: [] },
    templating: {
      list: [{ name: "datasource", type: "datasource", query: "prometheus", label: "Data source" }, ...variables.map(variableJson)],
    },
    panels: placed(panels).map(panelJson),
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

function panelJson({ panel, x, y, rows }: Placed, index: number): object {
  const { title, about, kind, unit, width, queries } = panel;
  return {
    id: index + 1,
    title,
    type: kind,
    description: about,
    datasource: SOURCE,
    gridPos: { x, y, w: width, h: rows },
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    options: kind === "stat" ? { reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false } } : {},
    targets: queries.map(({ expr, legend }, n) => {
      return { refId: String.fromCodePoint(65 + n), datasource: SOURCE, expr, legendFormat: legend, range: true };
    }),
  };
}

function variableJson({ name, label, query }: Variable): object {
  return {
    name,
    type: "query",
    label,
    datasource: SOURCE,
    query: { query, refId: name },
    refresh: 2,
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: ".*",
    current: { text: "All", value: "$__all" },
  };
}

interface Placed {
  readonly panel: Panel;
  readonly x: number;
  readonly y: number;
  readonly rows: number;
}

/** From left to right, in rows of panels of one kind. */
function placed(panels: readonly Panel[]): readonly Placed[] {
  let [x, y, rows] = [0, 0, 0];
  return panels.map((panel) => {
    const height = panel.kind === "stat" ? STAT_ROWS : LINE_ROWS;
    if (x + panel.width > COLUMNS || (rows > 0 && height !== rows)) {
      y += rows;
      x = 0;
    }
    rows = height;
    const at = { panel, x, y, rows };
    x += panel.width;
    return at;
  });
}
