// Does it hold the load of a usual day?

import { checkMessages, options as of, prepare, sendMessages, steady } from './lib/run.js';
import { common } from './lib/settings.js';
import { summary } from './lib/summary.js';

const settings = common({ rate: 200, duration: '60s', vus: 50 });
const planned = settings.rate * settings.durationS;

export const options = of(settings, steady(settings), planned);

export const setup = () => prepare(settings);
export const send = (run) => sendMessages(settings, run, planned);
export const check = () => checkMessages(settings);

export function handleSummary(data) {
  return summary(data, { name: 'load', load: `${settings.rate}/s for ${settings.durationS} s`, settings });
}
