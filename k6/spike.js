// What does a sudden rush do, and is everything as before after it? RATE, then PEAK for a fifth of the time, then RATE again.

import exec from 'k6/execution';

import { checkMessages, options as of, prepare, sendMessages, staged } from './lib/run.js';
import { common, number } from './lib/settings.js';
import { figure, summary } from './lib/summary.js';

const settings = common({ rate: 50, duration: '60s', vus: 100 });
const peak = number('PEAK', 10 * settings.rate, 0.01, 100000, 2);
const [before, during] = [0.3 * settings.durationS, 0.2 * settings.durationS];
const after = settings.durationS - before - during;
const planned = settings.rate * (before + after) + peak * during;
const PHASES = ['before', 'rush', 'after'];

export const options = of(settings, staged([[settings.rate, before], [peak, during], [settings.rate, after]]), planned, {
  errors: ['rate<0.01'],
  'errors{phase:after}': ['rate==0'],
  ...Object.fromEntries(PHASES.map((phase) => [`ingress{phase:${phase}}`, [`p(99)<${settings.p99Ms}`]])),
});

export const setup = () => prepare(settings);
export function send(run) {
  const at = exec.scenario.progress * settings.durationS;
  // The first second after the rush is still part of it: what had queued up has to drain.
  const phase = at < before ? 'before' : at < before + during + 1 ? 'rush' : 'after';
  sendMessages(settings, run, planned, 1, { phase });
}
export const check = () => checkMessages(settings);

export function handleSummary(data) {
  const load = `${settings.rate}/s, ${peak}/s for ${during} s, ${settings.rate}/s`;
  const p99 = (phase) => [`p99 ${phase}`, `${Math.round(figure(data, `ingress{phase:${phase}}`, 'p(99)') * 100) / 100} ms`];
  return summary(data, { name: 'spike', load, settings, more: PHASES.map(p99) });
}
