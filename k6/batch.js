// How fast is it in batches? RATE counts requests, each with BATCH messages of one conversation.

import { checkMessages, options as of, prepare, sendMessages, steady } from './lib/run.js';
import { common, number } from './lib/settings.js';
import { summary } from './lib/summary.js';

const settings = common({ rate: 10, duration: '60s', vus: 20 });
settings.batch = number('BATCH', 100, 1, 1000);
const planned = settings.rate * settings.durationS * settings.batch;

export const options = of(settings, steady(settings), planned);

export const setup = () => prepare(settings);
export const send = (run) => sendMessages(settings, run, planned, settings.batch);
export const check = () => checkMessages(settings);

export function handleSummary(data) {
  const load = `${settings.rate}/s batches of ${settings.batch} for ${settings.durationS} s`;
  return summary(data, { name: 'batch', load, settings });
}
