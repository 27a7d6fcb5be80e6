// The end of a run: text on stdout, and JSON and a page of HTML in the folder that RESULTS names.

import { SLICES } from './run.js';

// Published by another project for its own router while a worker is killed; on which machine is not known.
export const REFERENCE = { perSecond: 12.46, errorsPercent: 0, p95Ms: 1.89, p99Ms: 3.12 };

// `script` has `name`, `load` (in words) and `settings`; it may have `reference` (whether to compare), `rungs` and `more`
// (figures of its own: [name, text]).
export function summary(data, script) {
  const report = reportOf(data, script);
  const files = { stdout: text(report) };
  const folder = script.settings.results;
  if (folder) {
    files[`${folder}/${script.name}.json`] = `${JSON.stringify(report, null, 2)}\n`;
    files[`${folder}/${script.name}.html`] = html(report);
  }
  return files;
}

// A figure of a metric; 0 where nothing was measured.
export function figure(data, metric, value) {
  const found = data.metrics[metric];
  return (found && found.values[value]) || 0;
}

function trend(data, metric) {
  const value = (name) => round(figure(data, metric, name));
  return { p50: value('med'), p95: value('p(95)'), p99: value('p(99)'), p999: value('p(99.9)'), max: value('max') };
}

function reportOf(data, { name, load, settings, reference, rungs, more }) {
  const thresholds = [];
  for (const [metric, { thresholds: own }] of Object.entries(data.metrics)) {
    for (const [threshold, { ok }] of Object.entries(own || {})) {
      // `max>=0` and the like always hold: they are there to have the figures.
      if (!threshold.endsWith('>=0')) thresholds.push({ metric, threshold, holds: ok });
    }
  }
  const sliceS = settings.durationS / SLICES;
  const slices = [];
  for (let slice = 0; slice < SLICES; slice += 1) {
    const of = (metric, value) => figure(data, `${metric}{slice:${slice}}`, value);
    const sends = of('errors', 'passes') + of('errors', 'fails');
    slices.push({
      fromS: round(slice * sliceS),
      perSecond: round(sends / sliceS),
      errors: of('errors', 'passes'), // a rate's passes are what was true
      p50Ms: round(of('ingress', 'med')),
      p99Ms: round(of('ingress', 'p(99)')),
    });
  }
  const accepted = figure(data, 'accepted', 'count');
  return {
    script: name,
    load,
    passed: thresholds.every(({ holds }) => holds),
    baseUrl: settings.baseUrl,
    channel: settings.channel,
    checkedBy: settings.check,
    durationS: settings.durationS,
    acceptedPerSecond: round(accepted / settings.durationS),
    accepted,
    errors: figure(data, 'errors', 'passes'),
    errorsPercent: round(figure(data, 'errors', 'rate') * 100),
    lost: figure(data, 'loss', 'count'),
    outOfOrder: figure(data, 'order', 'count'),
    repeated: figure(data, 'repeats', 'count'),
    dropped: figure(data, 'dropped_iterations', 'count'),
    ingressMs: trend(data, 'ingress'),
    deliveryMs: trend(data, 'delivery'),
    ...(reference ? { reference: REFERENCE } : {}),
    ...(rungs ? { rungs } : {}),
    ...(more ? { more: Object.fromEntries(more) } : {}),
    thresholds,
    slices,
  };
}

function round(value) {
  return Math.round(value * 100) / 100;
}

// 12,345.6
function grouped(value) {
  const [whole, part] = String(value).split('.');
  return whole.replace(/\B(?=(\d{3})+$)/g, ',') + (part ? `.${part}` : '');
}

function percentiles({ p50, p95, p99, max }) {
  return `p50 ${p50}  p95 ${p95}  p99 ${p99}  max ${max} ms`;
}

// What a run found: [name, text].
function rows(report) {
  const checked = report.checkedBy !== 'none';
  const of = checked ? ` of ${grouped(report.accepted)}` : ' (not checked: CHECK=none)';
  const bySource = { receiver: 'at the receiver', api: 'by the API\'s statuses', none: '' }[report.checkedBy];
  return [
    ['accepted', `${grouped(report.accepted)}, ${grouped(report.acceptedPerSecond)}/s`],
    ['errors', `${grouped(report.errors)}, ${report.errorsPercent} %`],
    ['ingress', percentiles(report.ingressMs)],
    ...(report.accepted > report.lost && checked ? [['to delivery', `${percentiles(report.deliveryMs)}, from accepted`]] : []),
    ['lost', `${grouped(report.lost)}${of}${checked ? `, ${bySource}` : ''}`],
    ['out of order', `${grouped(report.outOfOrder)}${of}`],
    ['repeated', grouped(report.repeated)],
    ['not sent', `${grouped(report.dropped)} for want of a free virtual user`],
    ...Object.entries(report.more || {}),
  ];
}

const RUNG_HEADS = ['rate', 'sent', 'errors', 'p99', 'held'];

function rungCells({ perSecond, sentPerSecond, errorsPercent, p99Ms, held }) {
  return [`${grouped(perSecond)}/s`, `${grouped(sentPerSecond)}/s`, `${errorsPercent} %`, `${p99Ms} ms`, held ? 'yes' : 'no'];
}

function comparison({ acceptedPerSecond, errorsPercent, ingressMs, reference }) {
  return [
    ['', 'here', 'published'],
    ['rate', `${acceptedPerSecond}/s`, `${reference.perSecond}/s`],
    ['errors', `${errorsPercent} %`, `${reference.errorsPercent} %`],
    ['p95', `${ingressMs.p95} ms`, `${reference.p95Ms} ms`],
    ['p99', `${ingressMs.p99} ms`, `${reference.p99Ms} ms`],
  ];
}

function verdict({ thresholds, passed }) {
  const crossed = thresholds.filter(({ holds }) => !holds);
  if (passed) return 'PASSED  every threshold held';
  return `FAILED  ${crossed.map(({ metric, threshold }) => `${metric} (${threshold})`).join(', ')}`;
}

function text(report) {
  const lines = [`k6 ${report.script} · ${report.load} · ${report.channel} · ${report.baseUrl}`, ''];
  lines.push(...rows(report).map(([name, value]) => `  ${name.padEnd(14)} ${value}`));
  const table = (cells) => lines.push(`  ${cells.map((cell) => String(cell).padStart(12)).join('')}`);
  if (report.rungs) ['', RUNG_HEADS, ...report.rungs.map(rungCells)].forEach((cells) => (cells ? table(cells) : lines.push('')));
  if (report.reference) ['', ...comparison(report)].forEach((cells) => (cells ? table(cells) : lines.push('')));
  lines.push('');
  lines.push(...report.thresholds.map(({ metric, threshold, holds }) => `  ${holds ? '✔' : '✘'} ${metric.padEnd(20)} ${threshold}`));
  lines.push('', `  ${verdict(report)}`, '');
  return lines.join('\n');
}

function escape(value) {
  return String(value).replace(/[&<>"]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign]);
}

function htmlTable(lines, head) {
  const row = (cells, tag) => `<tr>${cells.map((cell) => `<${tag}>${escape(cell)}</${tag}>`).join('')}</tr>`;
  return `<table>${head ? row(head, 'th') : ''}${lines.map((cells) => row(cells, 'td')).join('')}</table>`;
}

// Lines over the run. `series` are [name, class, values].
function chart(title, unit, durationS, series) {
  const [width, height, left, bottom] = [720, 180, 56, 24];
  const highest = Math.max(...series.flatMap(([, , values]) => values), 0) || 1;
  const top = niceCeiling(highest);
  const x = (at, count) => left + ((at + 0.5) * (width - left - 8)) / count;
  const y = (value) => 8 + (1 - value / top) * (height - bottom - 8);
  const grid = [0, 0.5, 1].map((part) => {
    const at = y(top * part).toFixed(1);
    return `<line class="grid" x1="${left}" x2="${width - 8}" y1="${at}" y2="${at}"/><text x="${left - 6}" y="${Number(at) + 4}" text-anchor="end">${grouped(round(top * part))}</text>`;
  });
  const times = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const anchor = { 0: 'start', 1: 'end' }[part] || 'middle';
    return `<text x="${left + part * (width - left - 8)}" y="${height - 4}" text-anchor="${anchor}">${round(durationS * part)} s</text>`;
  });
  const lines = series.map(([, kind, values]) => {
    const points = values.map((value, at) => `${x(at, values.length).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
    return `<polyline class="${kind}" points="${points}"/>`;
  });
  const legend = series.map(([name, kind]) => `<span class="key ${kind}">${escape(name)}</span>`).join('');
  return `<figure><figcaption>${escape(title)}, ${escape(unit)}${legend}</figcaption><svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(title)}">${grid.join('')}${times.join('')}${lines.join('')}</svg></figure>`;
}

// The least of 1, 2, 5, 10, 20, … that is not below.
function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * 0.9999);
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5d6b7d; --line: #d9dfe7; --paper: #fff; --one: #0b6bcb; --two: #c2410c; --good: #15803d; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf2; --dim: #9aa7b8; --line: #334050; --paper: #11161d; --one: #5aa9f5; --two: #fb923c; --good: #4ade80; --bad: #f87171; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 760px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; } p { margin: .2rem 0; color: var(--dim); }
.verdict { font-weight: 600; margin-top: .8rem; } .good { color: var(--good); } .bad { color: var(--bad); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); } th { color: var(--dim); font-weight: 500; }
figure { margin: 1.2rem 0; } figcaption { color: var(--dim); } svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--dim); }
.grid { stroke: var(--line); } polyline { fill: none; stroke-width: 2; } polyline.one { stroke: var(--one); } polyline.two { stroke: var(--two); }
.key { margin-left: 1rem; } .key::before { content: ""; display: inline-block; width: .9em; height: .2em; margin-right: .4em; vertical-align: middle; background: currentColor; }
.key.one { color: var(--one); } .key.two { color: var(--two); }
`;

// One page that needs nothing else.
function html(report) {
  const of = (name) => report.slices.map((slice) => slice[name]);
  const kept = report.thresholds.map(({ metric, threshold, holds }) => [holds ? '✔' : '✘', metric, threshold]);
  const parts = [
    `<h1>k6 ${escape(report.script)}</h1>`,
    `<p>${escape(report.load)} · channel ${escape(report.channel)} · ${escape(report.baseUrl)}</p>`,
    `<p class="verdict ${report.passed ? 'good' : 'bad'}">${escape(verdict(report))}</p>`,
    '<h2>Found</h2>',
    htmlTable(rows(report)),
    ...(report.rungs ? ['<h2>Rungs</h2>', htmlTable(report.rungs.map(rungCells), RUNG_HEADS)] : []),
    ...(report.reference ? ['<h2>Beside published figures of another project</h2>', htmlTable(comparison(report).slice(1), comparison(report)[0])] : []),
    '<h2>Over the run</h2>',
    chart('Sends', 'a second', report.durationS, [['sent', 'one', of('perSecond')]]),
    chart('Answer to a send', 'ms', report.durationS, [['p50', 'one', of('p50Ms')], ['p99', 'two', of('p99Ms')]]),
    ...(report.errors > 0 ? [chart('Sends not answered 202', 'count', report.durationS, [['errors', 'two', of('errors')]])] : []),
    '<h2>Thresholds</h2>',
    htmlTable(kept),
  ];
  return `<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>k6 ${escape(report.script)}</title><style>${STYLE}</style><body>${parts.join('\n')}</body></html>\n`;
}
