// Does it bear more than usual for a while? Up to PEAK in four steps of the same length, and back to RATE.

import { checkMessages, options as of, prepare, sendMessages, staged } from './lib/run.js';
import { common, number } from './lib/settings.js';
import { summary } from './lib/summary.js';

const settings = common({ rate: 200, duration: '60s', vus: 100 });
const peak = number('PEAK', 5 * settings.rate, 0.01, 100000, 2);
const rates = [0, 1, 2, 3].map((step) => Math.round(settings.rate + ((peak - settings.rate) * step) / 3)).concat(settings.rate);
const stepS = settings.durationS / rates.length;
const planned = rates.reduce((sum, rate) => sum + rate * stepS, 0);

export const options = of(settings, staged(rates.map((rate) => [rate, stepS])), planned, { errors: ['rate<0.01'] });

export const setup = () => prepare(settings);
export const send = (run) => sendMessages(settings, run, planned);
export const check = () => checkMessages(settings);

export function handleSummary(data) {
  return summary(data, { name: 'stress', load: `${rates.join(', ')}/s for ${stepS} s each`, settings });
}
