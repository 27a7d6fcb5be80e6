// What does a steady, low load cost? The rate is that of the published figures that the result is printed beside.

import { checkMessages, options as of, prepare, sendMessages, steady } from './lib/run.js';
import { common } from './lib/settings.js';
import { REFERENCE, summary } from './lib/summary.js';

const settings = common({ rate: REFERENCE.perSecond, duration: '60s', vus: 10 });
const planned = settings.rate * settings.durationS;

export const options = of(settings, steady(settings), planned);

export const setup = () => prepare(settings);
export const send = (run) => sendMessages(settings, run, planned);
export const check = () => checkMessages(settings);

export function handleSummary(data) {
  const load = `${settings.rate}/s for ${settings.durationS} s`;
  return summary(data, { name: 'baseline', load, settings, reference: true });
}
