// How much does it bear? Climbs RUNGS steps of RATE, 2 RATE, 3 RATE, … and prints the knee: the highest rate that was held,
// with all below it. What is lost or out of order fails the run, however high it has climbed.

import exec from 'k6/execution';

import { checkMessages, options as of, prepare, sendMessages, staged } from './lib/run.js';
import { common, number } from './lib/settings.js';
import { figure, summary } from './lib/summary.js';

const settings = common({ rate: 500, duration: '80s', vus: 200 });
const count = number('RUNGS', 8, 1, 50);
const rungS = settings.durationS / count;
const rates = Array.from({ length: count }, (_, rung) => settings.rate * (rung + 1));
const planned = rates.reduce((sum, rate) => sum + rate * rungS, 0);
// Held: so much of the rate was sent, with so many errors at most, and p99 below P99_MS.
const SENT_LEAST = 0.98;
const ERRORS_MOST = 0.01;

// Only the first rung must hold; on the others the thresholds are there for the figures.
const rungs = rates.flatMap((_, rung) => [
  [`ingress{rung:${rung}}`, ['max>=0']],
  [`errors{rung:${rung}}`, ['rate>=0']],
]);
export const options = of(settings, staged(rates.map((rate) => [rate, rungS])), planned, {
  ...Object.fromEntries(rungs),
  ingress: ['max>=0'],
  errors: ['rate>=0'],
  dropped_iterations: ['count>=0'],
  'ingress{first:yes}': [`p(99)<${settings.p99Ms}`],
  'errors{first:yes}': [`rate<${ERRORS_MOST}`],
});

export const setup = () => prepare(settings);
export function send(run) {
  const rung = Math.min(count - 1, Math.floor(exec.scenario.progress * count));
  sendMessages(settings, run, planned, 1, { rung: String(rung), ...(rung === 0 ? { first: 'yes' } : {}) });
}
export const check = () => checkMessages(settings);

export function handleSummary(data) {
  const climbed = rates.map((perSecond, rung) => {
    const of = (metric, value) => figure(data, `${metric}{rung:${rung}}`, value);
    const sentPerSecond = Math.round((of('errors', 'passes') + of('errors', 'fails')) / rungS);
    const [errors, p99Ms] = [of('errors', 'rate'), Math.round(of('ingress', 'p(99)') * 100) / 100];
    const held = sentPerSecond >= SENT_LEAST * perSecond && errors < ERRORS_MOST && p99Ms < settings.p99Ms;
    return { perSecond, sentPerSecond, errorsPercent: Math.round(errors * 10000) / 100, p99Ms, held };
  });
  const gaveWay = climbed.findIndex(({ held }) => !held);
  const held = gaveWay < 0 ? count : gaveWay;
  const words = held === 0 ? 'below the first rung' : `${rates[held - 1]}/s held${gaveWay < 0 ? ', and it never gave way: climb higher' : ''}`;
  const load = `${count} rungs of ${rungS} s up to ${rates[count - 1]}/s`;
  return summary(data, { name: 'breakpoint', load, settings, rungs: climbed, more: [['knee', words]] });
}
