// Prints TypeScript that compiles only where the dashboards named as arguments are as @grafana/schema says, down to each panel's
// options. Called by monitoring/check.

import { readFileSync } from 'node:fs';

const KINDS = {
  timeseries: 'TimeSeries',
  stat: 'Stat',
  heatmap: 'Heatmap',
  table: 'Table',
  'state-timeline': 'StateTimeline',
};
const WITHOUT_FIELDS = ['Stat'];

const lines = ["import type { Dashboard } from '@grafana/schema';"];
const moduleOf = (kind) => `@grafana/schema/dist/esm/raw/composable/${kind.replace('-', '')}/panelcfg/x/${KINDS[kind]}PanelCfg_types.gen`;
for (const kind in KINDS) lines.push(`import type * as ${KINDS[kind]} from '${moduleOf(kind)}';`);
// JSON has texts where the schema has enums of texts.
lines.push(`type Plain<T> = T extends string ? \`\${T}\` : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;`);
for (const path of process.argv.slice(2)) {
  const dashboard = JSON.parse(readFileSync(path, 'utf8'));
  const say = (what, value, type) => lines.push(`// ${path} ${what}\n(${JSON.stringify(value)}) satisfies ${type};`);
  say('', dashboard, 'Plain<Dashboard>');
  for (const panel of dashboard.panels.filter((panel) => panel.type !== 'row')) {
    const kind = KINDS[panel.type];
    if (!kind) throw new Error(`${path}: ${panel.title}: no schema is known for a ${panel.type}`);
    say(panel.title, panel.options, `Plain<Partial<${kind}.Options>>`);
    const custom = panel.fieldConfig.defaults.custom;
    if (custom && !WITHOUT_FIELDS.includes(kind)) say(panel.title, custom, `Plain<Partial<${kind}.FieldConfig>>`);
  }
}
console.log(lines.join('\n'));
